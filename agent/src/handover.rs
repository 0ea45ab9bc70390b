//! Handing over: a snapshot as a CAR or as a folder, and a CAR into the store.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use cid::Cid;
use protocol::{
    block::{Block, CODEC_DAG_PB},
    car::{self, CarError},
    snapshot::{Object, Visit, folder, walk},
};
use store::{Store, StoreError};

use crate::{
    blocks::{Blocks, BlocksError},
    catalog::{self, CatalogError, SnapshotRecord},
    progress::Progress,
    reading,
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

/// Goes through all blocks of a snapshot, each checked, parents before children.
fn each_block(
    blocks: &Blocks<'_>,
    root: &Cid,
    progress: &Progress,
    take: &mut dyn FnMut(&str, &Block) -> Result<(), HandoverError>,
) -> Result<(), HandoverError> {
    let get = &mut |cid: &Cid| Ok(blocks.block(cid)?);
    walk(root, get, &mut |visit| {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(HandoverError::Interrupted);
        }
        let len = match visit {
            Visit::Public { path, block } => {
                take(path, block)?;
                block.bytes().len()
            }
            Visit::Object(object) => {
                let (path, cid) = (path_of(&object), object.cid());
                let damaged = |reason: &str| HandoverError::Damaged {
                    path: path.clone(),
                    cid,
                    reason: reason.to_owned(),
                };
                let block = blocks.block(&cid)?.ok_or_else(|| damaged("missing"))?;
                let block = block
                    .verify()
                    .map_err(|_| damaged("does not match its CID"))?;
                take(&path, &block)?;
                block.bytes().len()
            }
            Visit::Damage(damage) => {
                return Err(HandoverError::Damaged {
                    reason: reading::chain(&damage.reason),
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
    let mut bytes = 0;
    let mut written = std::collections::HashSet::new();
    each_block(blocks, root, progress, &mut |_, block| {
        if block.cid().codec() != CODEC_DAG_PB || written.insert(*block.cid()) {
            bytes += block.bytes().len() as u64;
            writer.write(block).map_err(failed)?;
        }
        Ok(())
    })?;
    writer
        .finish()
        .and_then(|mut out| out.flush())
        .map_err(failed)?;
    Ok(bytes)
}

/// Reads a CAR into the store, each block checked, and returns its roots. Durable on return. Blocks
/// whose copy in the store is damaged are replaced.
///
/// # Errors
/// The CAR is malformed or damaged, or the store failed. Blocks read until then may be kept;
/// no snapshot is listed that is not whole.
pub fn car_import(
    store: &Store,
    input: impl Read,
    created: &str,
    progress: &Progress,
) -> Result<Vec<Cid>, HandoverError> {
    let mut reader = car::Reader::new(input).map_err(HandoverError::Car)?;
    let mut uncommitted = 0;
    while let Some(block) = reader.next_block().map_err(HandoverError::Car)? {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(HandoverError::Interrupted);
        }
        let len = block.bytes().len() as u64;
        progress.bytes_read.fetch_add(len, Ordering::Relaxed);
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
        roots.extend(reader.last_node());
    }
    if roots.is_empty() {
        return Err(HandoverError::NoRoot);
    }
    for root in &roots {
        list_if_whole(store, root, created, progress)?;
    }
    Ok(roots)
}

const COMMIT_EVERY: u64 = 64 << 20;
const COMMIT_COST: u64 = 16 << 10;

/// Lists a snapshot whose blocks are all here and not listed yet. A root that is no snapshot is no error.
fn list_if_whole(
    store: &Store,
    root: &Cid,
    created: &str,
    progress: &Progress,
) -> Result<(), HandoverError> {
    if catalog::snapshot(store, root)?.is_some() {
        return Ok(());
    }
    let blocks = Blocks::Store(store);
    let (mut whole, mut portable) = (true, false);
    let summary = walk(root, &mut |cid| blocks.block(cid), &mut |visit| {
        match visit {
            Visit::Public { path, .. } => portable |= path == protocol::snapshot::CAPSULE,
            Visit::Object(object) => whole &= store.contains(&object.cid())?,
            Visit::Damage(_) => whole = false,
        }
        Ok::<(), BlocksError>(())
    })?;
    if !whole || progress.stop.load(Ordering::Relaxed) {
        return Ok(());
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
    Ok(store.commit()?)
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
    each_block(blocks, root, progress, &mut |path, block| {
        if block.cid().codec() == CODEC_DAG_PB {
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
        file.write_all(block.bytes()).map_err(failed(&path))?;
        bytes += block.bytes().len() as u64;
        Ok(())
    })?;
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
