//! The files of a log as they grow: what is added to each, and how it becomes durable.

use std::{
    io,
    path::{Path, PathBuf},
};

use protocol::log::tree::{Edge, leaf_hash};

use super::files::{BUNDLE_WIDTH, ENTRY_SIZE_MAX, Growing, LEVELS, Part, path};
use crate::{StoreError, disk::Disk, pack::failed};

/// The files, and how long each is up to what is staged.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) entries: (Growing, u64),
    pub(super) bundles: (Growing, u64),
    pub(super) marks: (Growing, u64),
    pub(super) tree: Vec<(Growing, u64)>,
}

/// What is added to each file.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) entries: Vec<u8>,
    pub(super) bundles: Vec<u8>,
    pub(super) marks: Vec<u8>,
    pub(super) tree: [Vec<u8>; LEVELS],
}

impl Added {
    /// Adds an entry; `end` is where the file of entries ends without what was added.
    pub(super) fn entry(
        &mut self,
        entry: &[u8],
        end: u64,
        edge: &mut Edge,
        is_marked: fn(&[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let len = u16::try_from(entry.len()).ok().filter(|len| *len > 0);
        let len = len.ok_or(StoreError::TooLarge {
            what: "an entry",
            size: entry.len(),
            limit: ENTRY_SIZE_MAX,
        })?;
        let seq = edge.size();
        if seq.is_multiple_of(BUNDLE_WIDTH) {
            let begin = end + self.entries.len() as u64;
            self.bundles.extend_from_slice(&begin.to_be_bytes());
        }
        if is_marked(entry) {
            self.marks.extend_from_slice(&seq.to_be_bytes());
        }
        self.entries.extend_from_slice(&len.to_be_bytes());
        self.entries.extend_from_slice(entry);
        edge.push_with(leaf_hash(entry), |level, _, hash| {
            if level % 8 == 0 {
                self.tree[usize::from(level / 8)].extend_from_slice(hash);
            }
        })?;
        Ok(())
    }
}

/// Which file could not be written, and why.
pub(super) type Failure = (PathBuf, io::Error);

impl Files {
    pub(super) fn open(dir: &Path, disk: &Disk) -> Result<Self, StoreError> {
        let open = |part| Growing::open_to_write(dir, part, disk).map(|file| (file, 0));
        let missing = !path(dir, Part::Tree(LEVELS - 1)).exists();
        let files = Self {
            entries: open(Part::Entries)?,
            bundles: open(Part::Bundles)?,
            marks: open(Part::Marks)?,
            tree: (0..LEVELS)
                .map(|level| open(Part::Tree(level)))
                .collect::<Result<_, _>>()?,
        };
        if missing {
            disk.sync_dir(dir).map_err(|e| failed("sync", dir, e))?;
        }
        Ok(files)
    }

    fn derived(&mut self) -> impl Iterator<Item = &mut (Growing, u64)> {
        [&mut self.bundles, &mut self.marks]
            .into_iter()
            .chain(&mut self.tree)
    }

    /// Appends to all files, entries first, and makes them durable.
    pub(super) fn append(&mut self, added: &Added, disk: &Disk) -> Result<(), Failure> {
        let parts = [
            (&mut self.entries, &added.entries),
            (&mut self.bundles, &added.bundles),
            (&mut self.marks, &added.marks),
        ];
        let parts = parts
            .into_iter()
            .chain(self.tree.iter_mut().zip(&added.tree));
        let mut grown = Vec::new();
        for ((file, len), bytes) in parts {
            if bytes.is_empty() {
                continue;
            }
            // Entries that a crash left are not written again, so that another crash cannot take them.
            if !file.has(*len, bytes) {
                disk.write(&file.file, &file.path, *len, [&[], bytes])
                    .map_err(|cause| (file.path.clone(), cause))?;
            }
            disk.sync(&file.file, &file.path)
                .map_err(|cause| (file.path.clone(), cause))?;
            grown.push((len, bytes.len() as u64));
        }
        // The lengths count only when all of it is there.
        for (len, by) in grown {
            *len += by;
        }
        Ok(())
    }

    /// Appends to the files that follow from the entries, which are there.
    pub(super) fn append_derived(&mut self, added: &mut Added, disk: &Disk) -> Result<(), Failure> {
        self.entries.1 += std::mem::take(&mut added.entries).len() as u64;
        self.append(added, disk)
    }

    /// Takes back what is behind the lengths.
    pub(super) fn cut(&mut self, disk: &Disk) -> Result<(), StoreError> {
        cut(&mut self.entries, disk)?;
        self.cut_derived(disk)
    }

    pub(super) fn cut_derived(&mut self, disk: &Disk) -> Result<(), StoreError> {
        self.derived().try_for_each(|file| cut(file, disk))
    }

    pub(super) fn forget(&mut self) {
        self.entries.1 = 0;
        self.derived().for_each(|file| file.1 = 0);
    }
}

fn cut((file, len): &mut (Growing, u64), disk: &Disk) -> Result<(), StoreError> {
    if file.len()? > *len {
        disk.truncate(&file.file, *len)
            .map_err(|e| failed("truncate", &file.path, e))?;
    }
    Ok(())
}
