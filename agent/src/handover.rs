//! Handing over: a snapshot as a CAR or as a folder, and a CAR into the store.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    io::{self, Read, Write},
    mem,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use cid::Cid;
use protocol::{
    block::{Block, CODEC_DAG_PB, UnverifiedBlock},
    car::{self, CarError},
    snapshot::{Object, Visit, folder, walk},
};
use store::{Store, StoreError};

use crate::{
    blocks::{Blocks, BlocksError},
    catalog::{self, CatalogError, SnapshotRecord},
    open,
    progress::Progress,
    reading::chain,
};

/// Why a snapshot cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Blocks cannot be read.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// A block is missing or damaged.
    #[error("{path} ({cid}): {reason}")]
    Damaged {
        /// Where, from the root.
        path: String,
        /// Its CID.
        cid: Cid,
        /// What is wrong.
        reason: String,
    },
    /// The folder or the CAR cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The CAR is malformed, or a block in it does not match its CID.
    #[error("cannot read the CAR")]
    Car(#[source] CarError),
    /// The CAR holds no block that could be a root.
    #[error("the CAR names no root")]
    NoRoot,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store is malformed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The folder is not empty.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// What segments are checked by before they are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Their CIDs.
    Cid,
    /// The checksums of the store, if they come out of one: for who checks the CIDs of what it is given.
    Checksum,
}

/// Goes through the wanted blocks of a snapshot, each checked, parents before children.
fn each_block(
    blocks: &Blocks<'_>,
    root: &Cid,
    check: Check,
    progress: &Progress,
    is_wanted: &dyn Fn(&Cid) -> bool,
    mut take: impl FnMut(&str, &Cid, &[u8]) -> Result<(), HandoverError>,
) -> Result<(), HandoverError> {
    let mut buffer = Vec::new();
    let get = &mut |cid: &Cid| Ok(blocks.block(cid)?);
    walk(root, get, &mut |visit| {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(HandoverError::Interrupted);
        }
        let len = match visit {
            Visit::Public { block, .. } if !is_wanted(block.cid()) => 0,
            Visit::Public { path, block } => {
                take(path, block.cid(), block.bytes())?;
                block.bytes().len()
            }
            Visit::Object(object) if !is_wanted(&object.cid()) => 0,
            Visit::Object(object) => {
                let (path, cid) = (path_of(&object), object.cid());
                let damaged = |reason: &str| HandoverError::Damaged {
                    path: path.clone(),
                    cid,
                    reason: reason.to_owned(),
                };
                let bytes = match (check, blocks) {
                    (Check::Checksum, Blocks::Store(store)) => {
                        let read = store.get_checked(&cid, |_| mem::take(&mut buffer));
                        read.map_err(|error| match error {
                            StoreError::DamagedBlock { .. } => damaged("does not match its CID"),
                            error => error.into(),
                        })?
                    }
                    _ => {
                        let block = blocks.block(&cid)?.map(UnverifiedBlock::verify);
                        let block = block.transpose();
                        let block = block.map_err(|_| damaged("does not match its CID"))?;
                        block.map(Block::into_bytes)
                    }
                };
                buffer = bytes.ok_or_else(|| damaged("missing"))?;
                take(&path, &cid, &buffer)?;
                buffer.len()
            }
            Visit::Damage(damage) => {
                return Err(HandoverError::Damaged {
                    reason: chain(&damage.reason),
                    path: damage.path,
                    cid: damage.cid,
                });
            }
        };
        progress.bytes_read.fetch_add(len as u64, Ordering::Relaxed);
        Ok(())
    })
    .map(drop)
}

fn path_of(object: &Object) -> String {
    format!("s/{}/{}", folder(&object.block), object.cid())
}

/// Writes a snapshot as a CARv1 with its root first, and returns its bytes.
///
/// # Errors
/// A block is missing or damaged, or writing failed; what was written is then of no use.
pub fn car_export(
    blocks: &Blocks<'_>,
    root: &Cid,
    out: impl Write,
    name: &Path,
    progress: &Progress,
) -> Result<u64, HandoverError> {
    let failed = |cause| HandoverError::Write {
        path: name.to_owned(),
        cause,
    };
    let mut writer = car::Writer::new(out, &[*root]).map_err(failed)?;
    let take = |cid: &Cid, block: &[u8]| writer.write_checked(cid, block).map_err(failed);
    let (_, bytes) = each_once(blocks, root, Check::Cid, &|_| true, progress, take)?;
    writer
        .finish()
        .and_then(|mut out| out.flush())
        .map_err(failed)?;
    Ok(bytes)
}

/// Goes through the wanted blocks of a snapshot as a CAR has them: the root first, and each once. Returns how many
/// they are, and their bytes.
///
/// # Errors
/// As [`car_export`].
pub(crate) fn each_once(
    blocks: &Blocks<'_>,
    root: &Cid,
    check: Check,
    is_wanted: &dyn Fn(&Cid) -> bool,
    progress: &Progress,
    mut take: impl FnMut(&Cid, &[u8]) -> Result<(), HandoverError>,
) -> Result<(u64, u64), HandoverError> {
    let (mut count, mut bytes) = (0, 0);
    let mut nodes = HashSet::new();
    let take_once = |_: &str, cid: &Cid, block: &[u8]| {
        if cid.codec() != CODEC_DAG_PB || nodes.insert(*cid) {
            count += 1;
            bytes += block.len() as u64;
            take(cid, block)?;
        }
        Ok(())
    };
    each_block(blocks, root, check, progress, is_wanted, take_once)?;
    Ok((count, bytes))
}

/// What was taken in of a CAR.
#[derive(Debug)]
pub struct TakenIn {
    /// The roots that it names; of one that names none, those of the snapshots in it, oldest first.
    pub roots: Vec<Cid>,
    /// Why some of it was left out: the first block that does not match, where it ends early, or that it is no CAR.
    pub damage: Option<HandoverError>,
}

/// Reads a CAR into the store, each block checked, and returns its roots. Durable on return. Blocks
/// whose copy in the store is damaged are replaced.
///
/// # Errors
/// The CAR is malformed or damaged, or the store failed. Undamaged blocks are kept;
/// no snapshot is listed that is not whole.
pub fn car_import(
    store: &Store,
    input: impl Read,
    created: &str,
    progress: &Progress,
) -> Result<Vec<Cid>, HandoverError> {
    let taken = take_in(store, input, progress)?;
    list(store, &taken.roots, created, progress)?;
    taken.damage.map_or(Ok(taken.roots), Err)
}

/// Reads into the store what is undamaged of a CAR. Durable on return. [`list`] then lists its roots.
///
/// # Errors
/// It holds no root, or cannot be read; or the store failed.
pub fn take_in(
    store: &Store,
    input: impl Read,
    progress: &Progress,
) -> Result<TakenIn, HandoverError> {
    let mut reader = match car::Reader::new(input) {
        Ok(reader) => reader,
        Err(error @ CarError::Io(_)) => return Err(HandoverError::Car(error)),
        Err(error) => {
            return Ok(TakenIn {
                roots: Vec::new(),
                damage: Some(HandoverError::Car(error)),
            });
        }
    };
    let mut uncommitted = 0;
    let mut nodes = VecDeque::new();
    let mut damage = None;
    loop {
        let offset = reader.offset();
        let block = match reader.next_unverified() {
            Ok(Some(block)) => block,
            Ok(None) => break,
            Err(error @ CarError::Io(_)) => return Err(HandoverError::Car(error)),
            Err(error) => {
                damage.get_or_insert(error);
                break;
            }
        };
        if progress.stop.load(Ordering::Relaxed) {
            return Err(HandoverError::Interrupted);
        }
        let len = block.bytes.len() as u64;
        progress.bytes_read.fetch_add(len, Ordering::Relaxed);
        let block = match block.verify() {
            Ok(block) => block,
            Err(source) => {
                damage.get_or_insert(CarError::Block { offset, source });
                continue;
            }
        };
        if block.cid().codec() == CODEC_DAG_PB {
            nodes.push_back(*block.cid());
            if nodes.len() > NODES_MAX {
                nodes.pop_front();
            }
        }
        uncommitted += len + COMMIT_COST;
        store.put_checked(block)?;
        if uncommitted >= COMMIT_EVERY {
            store.commit()?;
            uncommitted = 0;
        }
    }
    store.commit()?;
    let mut roots = reader.roots().to_vec();
    if roots.is_empty() {
        roots = snapshots_among(store, nodes);
    }
    match (roots.is_empty(), damage) {
        (true, None) => Err(HandoverError::NoRoot),
        (_, damage) => Ok(TakenIn {
            roots,
            damage: damage.map(HandoverError::Car),
        }),
    }
}

/// Those nodes of a CAR without roots that look like the root of a snapshot; or the last one.
fn snapshots_among(store: &Store, nodes: VecDeque<Cid>) -> Vec<Cid> {
    let blocks = Blocks::Store(store);
    let last = nodes.back().copied();
    let mut seen = HashSet::new();
    let mut roots: Vec<Cid> = nodes
        .into_iter()
        .filter(|node| seen.insert(*node) && open::layout(&blocks, node).is_ok())
        .collect();
    if roots.is_empty() {
        roots.extend(last);
    }
    roots
}

/// Lists those roots that are of snapshots whose blocks are all here, and returns them.
///
/// # Errors
/// The store failed.
pub fn list(
    store: &Store,
    roots: &[Cid],
    created: &str,
    progress: &Progress,
) -> Result<Vec<Cid>, HandoverError> {
    let mut listed = Vec::new();
    for root in roots {
        if list_if_whole(store, root, created, progress)?.is_none() {
            listed.push(*root);
        }
    }
    Ok(listed)
}

/// Most nodes of a CAR that are remembered to find its roots: the last ones.
const NODES_MAX: usize = 1 << 18;
const COMMIT_EVERY: u64 = 64 << 20;
const COMMIT_COST: u64 = 16 << 10;

/// Lists a snapshot whose blocks are all here, unless it is listed. Says what is missing or wrong if
/// it cannot be listed.
pub(crate) fn list_if_whole(
    store: &Store,
    root: &Cid,
    created: &str,
    progress: &Progress,
) -> Result<Option<String>, HandoverError> {
    if catalog::snapshot(store, root)?.is_some() {
        return Ok(None);
    }
    let blocks = Blocks::Store(store);
    let (mut wrong, mut portable) = (None, false);
    let summary = walk(root, &mut |cid| blocks.block(cid), &mut |visit| {
        match visit {
            Visit::Public { path, .. } => portable |= path == protocol::snapshot::CAPSULE,
            Visit::Object(object) => {
                if wrong.is_none() && !store.contains(&object.cid())? {
                    wrong = Some(format!("{} is missing", path_of(&object)));
                }
            }
            Visit::Damage(damage) => {
                wrong.get_or_insert_with(|| format!("{}: {}", damage.path, chain(&damage.reason)));
            }
        }
        Ok::<(), BlocksError>(())
    })?;
    if wrong.is_some() {
        return Ok(wrong);
    }
    if progress.stop.load(Ordering::Relaxed) {
        return Err(HandoverError::Interrupted);
    }
    let mode = if portable {
        protocol::keys::capsule::Mode::Portable
    } else {
        protocol::keys::capsule::Mode::Erasable
    };
    let record = SnapshotRecord {
        created: created.to_owned(),
        mode,
        epoch: 0,
        bytes: 0,
        segments: summary.objects,
        sources: Vec::new(),
    };
    catalog::set_snapshot(store, root, &record)?;
    store.commit()?;
    Ok(None)
}

/// Writes a snapshot as a folder: the sealed files, and the texts that say how to open them.
///
/// # Errors
/// A block is missing or damaged, or the folder cannot be written or is not empty. Nothing is
/// left in that case.
pub fn get(
    blocks: &Blocks<'_>,
    root: &Cid,
    dir: &Path,
    progress: &Progress,
) -> Result<u64, HandoverError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| HandoverError::Write { path, cause }
    };
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(HandoverError::NotEmpty {
            path: dir.to_owned(),
        });
    }
    let parent = dir
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new()
        .prefix(".souverain-get-")
        .tempdir_in(parent)
        .map_err(failed(parent))?;
    let mut bytes = 0;
    let take = |path: &str, cid: &Cid, block: &[u8]| {
        if cid.codec() == CODEC_DAG_PB {
            return Ok(());
        }
        let path = staging.path().join(path);
        let folder = path.parent().expect("below the staging folder");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed(folder))?;
        // A file of several blocks comes in order.
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed(&path))?;
        file.write_all(block).map_err(failed(&path))?;
        bytes += block.len() as u64;
        Ok(())
    };
    each_block(blocks, root, Check::Cid, progress, &|_| true, take)?;
    rustix::fs::syncfs(fs::File::open(staging.path()).map_err(failed(staging.path()))?)
        .map_err(|errno| failed(staging.path())(errno.into()))?;
    let staged = staging.keep();
    fs::rename(&staged, dir).map_err(|cause| {
        let _ = fs::remove_dir_all(&staged);
        HandoverError::Write {
            path: dir.to_owned(),
            cause,
        }
    })?;
    Ok(bytes)
}
