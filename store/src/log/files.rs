//! Where things are in the files of a log.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{StoreError, disk::Disk, pack::failed};

/// Entries of a bundle, and hashes of a tile.
pub const BUNDLE_WIDTH: u64 = 256;
/// Largest entry, in bytes: what the two bytes of length before it can say.
pub const ENTRY_SIZE_MAX: usize = u16::MAX as usize;
/// Levels of tiles: eight levels of the tree each, for more entries than there can be.
pub(super) const LEVELS: usize = 8;
/// Largest checkpoint with its signatures, in bytes.
pub(super) const CHECKPOINT_SIZE_MAX: u64 = 1 << 20;
/// Most entries that are staged at a time, and that a crash can have left.
pub(super) const RECOVERED_MAX: usize = 1 << 16;
/// Most bytes of entries that are read at a time.
const SOME_SIZE: u64 = 4 << 20;
/// Most marked entries of a log.
pub(super) const MARKS_MAX: u64 = 1 << 17;
pub(super) const HASH_SIZE: u64 = 32;
pub(super) const OFFSET_SIZE: u64 = 8;

/// The files that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Each entry, behind its length in two bytes: bundles of the C2SP tlog-tiles, one after the other.
    Entries,
    /// Where each bundle begins in it.
    Bundles,
    /// The indices of the entries that are marked.
    Marks,
    /// The hashes of a level of tiles.
    Tree(usize),
}

/// A file that grows, and how long it is as far as it is known.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

pub(super) fn path(dir: &Path, part: Part) -> PathBuf {
    match part {
        Part::Entries => dir.join("entries"),
        Part::Bundles => dir.join("bundles"),
        Part::Marks => dir.join("marks"),
        Part::Tree(level) => dir.join(format!("tree{level}")),
    }
}

/// How many hashes a level of tiles of a tree has.
pub(super) fn hashes_at(level: usize, size: u64) -> u64 {
    size >> (8 * level)
}

/// How many bundles hold so many entries.
pub(super) fn bundles_of(size: u64) -> u64 {
    size.div_ceil(BUNDLE_WIDTH)
}

impl Growing {
    pub(super) fn open(dir: &Path, part: Part) -> Result<Self, StoreError> {
        let path = path(dir, part);
        let file = File::open(&path).map_err(|e| failed("open", &path, e))?;
        Ok(Self { file, path })
    }

    /// Opens it to write. It is made if there is none, which is true of the levels of a small tree.
    pub(super) fn open_to_write(dir: &Path, part: Part, disk: &Disk) -> Result<Self, StoreError> {
        let path = path(dir, part);
        let file = match File::options().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => disk
                .create_file(&path)
                .map_err(|e| failed("create", &path, e))?,
            opened => opened.map_err(|e| failed("open", &path, e))?,
        };
        Ok(Self { file, path })
    }

    pub(super) fn len(&self) -> Result<u64, StoreError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|e| failed("read", &self.path, e))?.len())
    }

    /// The bytes at a place, all of them.
    pub(super) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; size];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => failed("read", &self.path, e),
        })?;
        Ok(bytes)
    }

    pub(super) fn number(&self, index: u64) -> Result<u64, StoreError> {
        let bytes = self.read(index * OFFSET_SIZE, OFFSET_SIZE as usize)?;
        Ok(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    /// Whether there are these bytes at a place.
    pub(super) fn has(&self, begin: u64, bytes: &[u8]) -> bool {
        // Who cannot read them writes them.
        self.read(begin, bytes.len())
            .is_ok_and(|there| there == bytes)
    }

    /// The first entries from a place on, at most so many.
    pub(super) fn some(&self, begin: u64, most: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let left = self.len()?.saturating_sub(begin);
        let size = left.min(most * (2 + ENTRY_SIZE_MAX as u64)).min(SOME_SIZE);
        let bytes = self.read(begin, size as usize)?;
        let (entries, _) = split_entries(&bytes, most);
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// How many entries there are from a place on, up to so many of one bundle, and their bytes.
    pub(super) fn bundle_at(&self, begin: u64, most: u64) -> Result<(u64, u64), StoreError> {
        let left = self.len()?.saturating_sub(begin);
        let size = left.min(most * (2 + ENTRY_SIZE_MAX as u64));
        let bytes = self.read(begin, size as usize)?;
        let (entries, taken) = split_entries(&bytes, most);
        Ok((entries.len() as u64, taken as u64))
    }

    /// The whole entries from a place to the end of the file.
    pub(super) fn tail(&self, begin: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut all, mut at) = (Vec::new(), begin);
        loop {
            let more = self.some(at, BUNDLE_WIDTH)?;
            if more.is_empty() || all.len() > RECOVERED_MAX {
                return Ok(all);
            }
            at += more.iter().map(|entry| entry.len() as u64 + 2).sum::<u64>();
            all.extend(more);
        }
    }

    pub(super) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }
}

/// The entries that bytes begin with, up to `most`, and how many bytes they take. An entry that is cut off
/// is none.
pub(super) fn split_entries(bytes: &[u8], most: u64) -> (Vec<&[u8]>, usize) {
    let mut entries = Vec::new();
    let mut taken = 0;
    while (entries.len() as u64) < most
        && let Some((entry, len)) = first_entry(&bytes[taken..])
    {
        entries.push(entry);
        taken += len;
    }
    (entries, taken)
}

fn first_entry(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    let size = usize::from(u16::from_be_bytes(*size));
    // A crash may leave zeros where nothing was written.
    let entry = rest.get(..size).filter(|entry| !entry.is_empty())?;
    Some((entry, size + 2))
}
