//! Reads what the checkpoint of a log covers, also while another process appends.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use protocol::log::{
    checkpoint::UnverifiedCheckpoint,
    tile::{TileKind, TilePath, UnverifiedTile, read_node},
    tree::{Hash, TreeError},
};

use super::files::{
    BUNDLE_WIDTH, CHECKPOINT_SIZE_MAX, Growing, HASH_SIZE, LEVELS, MARKS_MAX, OFFSET_SIZE, Part,
    hashes_at, split_entries,
};
use crate::{StoreError, pack::failed};

/// The checkpoint of a log as it is stored, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The signed note.
    pub note: Vec<u8>,
    /// How many entries it covers.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

impl Head {
    pub(super) fn parse(note: Vec<u8>) -> Result<Self, String> {
        let checkpoint = UnverifiedCheckpoint::parse(&note).map_err(|e| e.to_string())?;
        let checkpoint = checkpoint.checkpoint_unverified();
        Ok(Self {
            size: checkpoint.size(),
            root: *checkpoint.root(),
            note,
        })
    }

    /// The head of the log in a directory, if it has one.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = dir.join("checkpoint");
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| failed("open", &path, e))?,
        };
        let mut note = Vec::new();
        file.take(CHECKPOINT_SIZE_MAX)
            .read_to_end(&mut note)
            .map_err(|e| failed("read", &path, e))?;
        let head = Self::parse(note).map_err(|what| StoreError::Damaged { path, what })?;
        Ok(Some(head))
    }
}

/// A log, to read. It says what its head covered when it was opened or refreshed last.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    pub(super) entries: Growing,
    pub(super) bundles: Growing,
    pub(super) marks: Growing,
    pub(super) tree: Vec<Growing>,
    head: Head,
}

impl LogReader {
    /// Opens the log in a directory; nothing if there is none, or none with a checkpoint yet.
    ///
    /// # Errors
    /// A file cannot be read, or the checkpoint is damaged.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let Some(head) = Head::load(dir)? else {
            return Ok(None);
        };
        let mut reader = Self {
            dir: dir.to_owned(),
            entries: Growing::open(dir, Part::Entries)?,
            bundles: Growing::open(dir, Part::Bundles)?,
            marks: Growing::open(dir, Part::Marks)?,
            tree: Vec::new(),
            head,
        };
        reader.open_levels()?;
        Ok(Some(reader))
    }

    /// Opens the levels that the tree has, which get more as it grows.
    fn open_levels(&mut self) -> Result<(), StoreError> {
        while self.tree.len() < LEVELS && hashes_at(self.tree.len(), self.head.size) > 0 {
            let level = Part::Tree(self.tree.len());
            self.tree.push(Growing::open(&self.dir, level)?);
        }
        Ok(())
    }

    /// Takes in what was appended meanwhile. True if something was.
    ///
    /// # Errors
    /// As [`LogReader::open`]; or the log has become smaller.
    pub fn refresh(&mut self) -> Result<bool, StoreError> {
        let head = Head::load(&self.dir)?;
        let head = head.filter(|head| head.size >= self.head.size);
        let head = head.ok_or_else(|| StoreError::Damaged {
            path: self.dir.join("checkpoint"),
            what: "it covers less than it did".to_owned(),
        })?;
        let grew = head.size > self.head.size;
        self.head = head;
        self.open_levels()?;
        Ok(grew)
    }

    /// The checkpoint.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// A tile of hashes.
    ///
    /// # Errors
    /// The tree does not have it, or it cannot be read.
    pub fn tile(&self, path: TilePath) -> Result<UnverifiedTile, StoreError> {
        let TileKind::Hashes(level) = path.kind() else {
            return Err(self.beyond(path.index()));
        };
        let file = self.tree.get(usize::from(level));
        let file = file.filter(|_| path.is_in(self.head.size));
        let file = file.ok_or_else(|| self.beyond(path.index()))?;
        let offset = path.index() * BUNDLE_WIDTH * HASH_SIZE;
        let bytes = file.read(offset, usize::from(path.width()) * HASH_SIZE as usize)?;
        Ok(UnverifiedTile::new(path, &bytes)?)
    }

    /// A complete node of the tree.
    ///
    /// # Errors
    /// The tree does not have it, or it cannot be read.
    pub fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        read_node(level, index, self.head.size, |path| self.tile(path))
    }

    /// The bytes of a bundle, as they are served.
    ///
    /// # Errors
    /// The log does not have it, or it cannot be read.
    pub fn bundle(&self, path: TilePath) -> Result<Vec<u8>, StoreError> {
        if path.kind() != TileKind::Entries || !path.is_in(self.head.size) {
            return Err(self.beyond(path.index()));
        }
        self.whole_bundle(path.index(), u64::from(path.width()))
    }

    /// Entries that follow each other, of one bundle or of several.
    ///
    /// # Errors
    /// The log does not have them, or they cannot be read.
    pub fn entries(&self, wanted: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        if wanted.end > self.head.size {
            return Err(self.beyond(wanted.end));
        }
        let mut found = Vec::new();
        let mut next = wanted.start;
        while next < wanted.end {
            let bundle = next / BUNDLE_WIDTH;
            let first = bundle * BUNDLE_WIDTH;
            let last = wanted.end.min(first + BUNDLE_WIDTH);
            let bytes = self.whole_bundle(bundle, last - first)?;
            let (entries, _) = split_entries(&bytes, last - first);
            let skipped = (next - first) as usize;
            found.extend(entries[skipped..].iter().map(|entry| entry.to_vec()));
            next = last;
        }
        Ok(found)
    }

    /// One entry.
    ///
    /// # Errors
    /// As [`LogReader::entries`].
    pub fn entry(&self, seq: u64) -> Result<Vec<u8>, StoreError> {
        let end = seq.checked_add(1).ok_or_else(|| self.beyond(seq))?;
        let mut found = self.entries(seq..end)?;
        found.pop().ok_or_else(|| self.beyond(seq))
    }

    /// The indices of the marked entries, in order.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn marks(&self) -> Result<Vec<u64>, StoreError> {
        let count = self.marks.len()? / OFFSET_SIZE;
        if count > MARKS_MAX {
            return Err(self.marks.damaged("it is longer than any"));
        }
        let bytes = self.marks.read(0, (count * OFFSET_SIZE) as usize)?;
        let (marks, _) = bytes.as_chunks();
        let marks = marks.iter().map(|mark| u64::from_be_bytes(*mark));
        Ok(marks.filter(|mark| *mark < self.head.size).collect())
    }

    /// The bytes of so many entries that a bundle begins with.
    fn whole_bundle(&self, bundle: u64, width: u64) -> Result<Vec<u8>, StoreError> {
        let place = self.place_of(bundle)?;
        let size = (place.end - place.start) as usize;
        let mut bytes = self.entries.read(place.start, size)?;
        // It may be taken out while it is read, too.
        if (bytes.starts_with(&[0; 2]) || bytes.ends_with(&[0; 8]))
            && let Some(archived) = self.archived_bundle(bundle)?
        {
            bytes = archived;
        }
        let (entries, taken) = split_entries(&bytes, width);
        if entries.len() as u64 != width {
            return Err(self.entries.damaged("it ends within a bundle"));
        }
        bytes.truncate(taken);
        Ok(bytes)
    }

    /// Where a bundle begins in the file of entries, and where the next one does, or the end of the file.
    pub(super) fn place_of(&self, bundle: u64) -> Result<Range<u64>, StoreError> {
        let begin = self.bundles.number(bundle)?;
        let known = self.head.size.div_ceil(BUNDLE_WIDTH);
        let end = if bundle + 1 < known {
            self.bundles.number(bundle + 1)?
        } else {
            let most = BUNDLE_WIDTH * (2 + u64::from(u16::MAX));
            self.entries.len()?.min(begin.saturating_add(most))
        };
        let size = end.checked_sub(begin);
        let size = size.filter(|size| *size <= BUNDLE_WIDTH * (2 + u64::from(u16::MAX)));
        match size {
            Some(_) => Ok(begin..end),
            None => Err(self.bundles.damaged("a bundle has no size")),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn beyond(&self, index: u64) -> StoreError {
        let size = self.head.size;
        StoreError::Tree(TreeError::BeyondTree { index, size })
    }
}
