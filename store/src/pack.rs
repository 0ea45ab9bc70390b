//! Packs: append-only files of blocks, each a valid CAR without roots.
//!
//! A pack that is not in the index was never promised to anybody.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use cid::Cid;
use protocol::block::{Block, FOREIGN_BLOCK_SIZE_MAX};

use crate::{
    StoreError,
    disk::Disk,
    index::{Location, checksum},
    staged::{PENDING_BLOCKS_MAX, StagedBlock},
};

/// Size at which a pack is full and the next one is begun, in bytes.
pub const PACK_SIZE_MAX: u64 = 1 << 30;
/// What each pack begins with: the header of a CARv1, `{roots: [], version: 1}`.
pub(crate) const HEADER: [u8; 18] = *b"\x11\xa2\x65roots\x80\x67version\x01";
/// Longest CID in a frame, in bytes.
const CID_SIZE_MAX: usize = 128;
/// Most packs that are kept open for reading.
const OPEN_PACKS_MAX: usize = 16;
/// Most files that a directory of packs may hold.
const PACKS_MAX: usize = 1 << 20;

pub(crate) fn pack_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:08}.car"))
}

/// What stands before a block's bytes: the length of what follows, and the CID.
pub(crate) fn frame_head(cid: &Cid, size: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut buffer = unsigned_varint::encode::u64_buffer();
    let mut head = unsigned_varint::encode::u64((cid.len() + size) as u64, &mut buffer).to_vec();
    head.extend_from_slice(&cid);
    head
}

/// What becomes of bytes that no commit covers.
#[derive(Debug)]
pub(crate) enum Leftovers<'a> {
    /// They stay where they are: who only reads does not look at them.
    Stay,
    /// They are removed.
    Remove,
    /// The whole blocks among them stay, and are told, to be committed with what comes next.
    Salvage(&'a mut Vec<Salvaged>),
}

/// Blocks at the end of a pack that no commit covers.
#[derive(Debug)]
pub(crate) struct Salvaged {
    pub(crate) pack: u32,
    /// Length of the pack up to the last of them.
    pub(crate) len: u64,
    pub(crate) blocks: Vec<StagedBlock>,
}

/// Checks every pack against its durable length, and does with what is beyond it, and with packs that
/// the index does not know, as is said.
///
/// # Errors
/// A pack is missing, shorter than its durable length, or not a pack; or there is one
/// that no crash can have left.
pub(crate) fn recover(
    dir: &Path,
    durable: &BTreeMap<u32, u64>,
    disk: &Disk,
    mut beyond: Leftovers<'_>,
) -> Result<(), StoreError> {
    for (expected, (&number, &len)) in (0..).zip(durable) {
        let path = pack_path(dir, number);
        if expected != number {
            return Err(damaged(
                &pack_path(dir, expected),
                "the index does not know it, but later ones".to_owned(),
            ));
        }
        cut(&path, number, len, disk, &mut beyond)?;
    }
    let next = durable.keys().next_back().map_or(0, |last| last + 1);
    let mut whole = true;
    for (expected, path) in (next..).zip(leftovers(dir, next)?) {
        match &mut beyond {
            Leftovers::Stay => continue,
            Leftovers::Remove => {}
            // Packs are numbered without gaps.
            Leftovers::Salvage(found) if whole && path == pack_path(dir, expected) => {
                if salvage_pack(&path, expected, disk, found)? {
                    continue;
                }
                whole = false;
            }
            Leftovers::Salvage(_) => {}
        }
        tracing::info!(path = %path.display(), "uncommitted pack removed");
        disk.remove(&path).map_err(|e| failed("remove", &path, e))?;
    }
    Ok(())
}

/// Keeps the whole blocks of a pack that the index does not know. False if there are none.
fn salvage_pack(
    path: &Path,
    number: u32,
    disk: &Disk,
    found: &mut Vec<Salvaged>,
) -> Result<bool, StoreError> {
    let begin = HEADER.len() as u64;
    let file = File::options().read(true).write(true).open(path);
    let file = file.map_err(|e| failed("open", path, e))?;
    let mut header = [0; HEADER.len()];
    if file.read_exact_at(&mut header, 0).is_err() || header != HEADER {
        return Ok(false);
    }
    let salvaged = salvage(&file, number, begin);
    let len = salvaged.len;
    if len == begin {
        return Ok(false);
    }
    found.push(salvaged);
    disk.truncate(&file, len)
        .map_err(|e| failed("truncate", path, e))?;
    Ok(true)
}

fn cut(
    path: &Path,
    number: u32,
    mut len: u64,
    disk: &Disk,
    beyond: &mut Leftovers<'_>,
) -> Result<(), StoreError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => damaged(path, "it is missing".to_owned()),
            _ => failed("open", path, e),
        })?;
    let found = file.metadata().map_err(|e| failed("read", path, e))?.len();
    if found < len {
        return Err(damaged(
            path,
            format!("it has {found} bytes, {len} were durable"),
        ));
    }
    let mut header = [0; HEADER.len()];
    file.read_exact(&mut header)
        .map_err(|e| failed("read", path, e))?;
    if header != HEADER {
        return Err(damaged(path, "it is not a pack".to_owned()));
    }
    if let Leftovers::Salvage(all) = beyond
        && found > len
    {
        let salvaged = salvage(&file, number, len);
        if salvaged.len > len {
            len = salvaged.len;
            all.push(salvaged);
        }
    }
    if found > len && !matches!(beyond, Leftovers::Stay) {
        tracing::info!(path = %path.display(), bytes = found - len, "uncommitted bytes removed");
        disk.truncate(&file, len)
            .map_err(|e| failed("truncate", path, e))?;
    }
    Ok(())
}

/// Finds the whole blocks from an offset on, up to the first that is cut off or damaged.
fn salvage(file: &File, pack: u32, offset: u64) -> Salvaged {
    let mut salvaged = Salvaged {
        pack,
        len: offset,
        blocks: Vec::new(),
    };
    while salvaged.blocks.len() < PENDING_BLOCKS_MAX
        && let Some((block, next)) = frame(file, salvaged.len)
    {
        let size = u32::try_from(block.bytes().len()).expect("a block is at most 2 MiB");
        let location = Location {
            pack,
            offset: next - u64::from(size),
            size,
            codec: block.cid().codec(),
            checksum: Some(checksum(block.bytes())),
        };
        let cid = *block.cid();
        salvaged.blocks.push(StagedBlock {
            cid,
            location,
            replaces: false,
        });
        salvaged.len = next;
    }
    salvaged
}

/// The block of the frame at an offset, and where the next frame is.
fn frame(file: &File, offset: u64) -> Option<(Block, u64)> {
    let mut start = [0; 10];
    let mut filled = 0;
    while filled < start.len() {
        match file
            .read_at(&mut start[filled..], offset + filled as u64)
            .ok()?
        {
            0 => break,
            read => filled += read,
        }
    }
    let (len, rest) = unsigned_varint::decode::usize(&start[..filled]).ok()?;
    if len > FOREIGN_BLOCK_SIZE_MAX + CID_SIZE_MAX {
        return None;
    }
    let begin = offset + (filled - rest.len()) as u64;
    let mut body = vec![0; len];
    file.read_exact_at(&mut body, begin).ok()?;
    let mut bytes = body.as_slice();
    let cid = Cid::read_bytes(&mut bytes).ok()?;
    let block = Block::verify(cid, bytes.to_vec()).ok()?;
    Some((block, begin + len as u64))
}

/// The packs from number `next` on.
fn leftovers(dir: &Path, next: u32) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)
        .map_err(|e| failed("read", dir, e))?
        .take(PACKS_MAX)
    {
        let entry = entry.map_err(|e| failed("read", dir, e))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".car"))
            .and_then(|digits| digits.parse::<u32>().ok());
        if number.is_some_and(|number| number >= next) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a directory holds any pack.
pub(crate) fn any(dir: &Path) -> Result<bool, StoreError> {
    Ok(!leftovers(dir, 0)?.is_empty())
}

/// Reads blocks from packs, a few of which are kept open.
#[derive(Debug)]
pub(crate) struct PackFiles {
    dir: PathBuf,
    open: Mutex<VecDeque<(u32, Arc<File>)>>,
}

impl PackFiles {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            open: Mutex::default(),
        }
    }

    /// The bytes at a location, in a buffer that is asked for by their size.
    ///
    /// # Errors
    /// The pack cannot be read, or ends before the block.
    pub(crate) fn read(
        &self,
        location: &Location,
        buffer: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let path = pack_path(&self.dir, location.pack);
        let size = location.size as usize;
        if size > FOREIGN_BLOCK_SIZE_MAX {
            return Err(damaged(
                &path,
                format!("the index places a block of {size} bytes in it"),
            ));
        }
        let file = self.file(location.pack)?;
        let mut bytes = buffer(size);
        bytes.resize(size, 0);
        file.read_exact_at(&mut bytes, location.offset)
            .map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => damaged(
                    &path,
                    format!(
                        "the index places a block at {}, behind its end",
                        location.offset
                    ),
                ),
                _ => failed("read", &path, e),
            })?;
        Ok(bytes)
    }

    fn file(&self, number: u32) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock().expect("no panic while it is held");
        if let Some(place) = open.iter().position(|(n, _)| *n == number) {
            let found = open.remove(place).expect("it was just found");
            open.push_front(found);
        } else {
            let path = pack_path(&self.dir, number);
            let file = File::open(&path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => damaged(&path, "it is missing".to_owned()),
                _ => failed("open", &path, e),
            })?;
            open.truncate(OPEN_PACKS_MAX - 1);
            open.push_front((number, Arc::new(file)));
        }
        Ok(open[0].1.clone())
    }
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        what,
    }
}

pub(crate) fn failed(what: &'static str, path: &Path, cause: io::Error) -> StoreError {
    StoreError::Io {
        what,
        path: path.to_owned(),
        cause,
    }
}
