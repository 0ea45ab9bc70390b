//! A directory or a file as a source: one stream, a tar.
//!
//! The tree is walked in the order of the bytes of its names, a directory before what is in it.
//! Runs of entries make *units* that a later export recognises by their metadata alone, so that
//! unchanged files are not even opened.

mod content;
mod header;
mod notes;
mod unit;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use protocol::manifest::{Engine, SourceMeta, StreamKind};
use tar::EntryType;

use self::{
    content::{Copied, Held, LARGE_SIZE_MIN, Opened},
    header::{Head, Sparse},
    notes::Notes,
    unit::Group,
    walk::{Entry, Kind, Meta, Walk},
};
use super::{Source, SourceError};
use crate::{
    archive::{BLOCK_SIZE, Timestamp, dirs::Root, owners::Owners, padding},
    intake::{Intake, StreamDecl, StreamWriter, recovery_file},
};

/// A file that was touched later than this before it is read may be touched again without
/// its times telling.
const RACY_SECONDS: i64 = 2;
/// How often a small file is read again to get a copy from between two writes.
const ATTEMPTS_MAX: u32 = 3;
/// Most entries that are walked for a progress bar.
const HINT_ENTRIES_MAX: usize = 200_000;

/// How a tree is exported.
#[derive(Clone, Debug)]
pub struct TreeOptions {
    /// Directories that are left out with all that is in them.
    pub exclude: Vec<PathBuf>,
    /// Whether what cannot be read is left out with a warning, instead of failing the export.
    pub skip_unreadable: bool,
    /// Tells the time.
    pub clock: fn() -> SystemTime,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            exclude: Vec::new(),
            skip_unreadable: false,
            clock: SystemTime::now,
        }
    }
}

/// A directory or a file.
#[derive(Debug)]
pub struct TreeSource {
    index: u32,
    name: String,
    root: PathBuf,
    /// The file of the root that is all of the source.
    only: Option<Vec<u8>>,
    options: TreeOptions,
}

impl TreeSource {
    /// Opens a directory or a file, itself or through a symlink.
    ///
    /// # Errors
    /// There is nothing, it cannot be read, or it is neither.
    pub fn open(path: &Path, index: u32, options: TreeOptions) -> Result<Self, SourceError> {
        let failed = |cause| SourceError::Io {
            path: path.to_owned(),
            cause,
        };
        let root = fs::canonicalize(path).map_err(failed)?;
        let metadata = fs::metadata(&root).map_err(failed)?;
        let name = root.file_name().unwrap_or_default();
        let mut source = Self {
            index,
            name: match name.to_string_lossy() {
                name if name.is_empty() => "root".to_owned(),
                name => name.into_owned(),
            },
            only: None,
            root: root.clone(),
            options,
        };
        if metadata.is_file() {
            source.only = Some(name.as_encoded_bytes().to_vec());
            source.root = root.parent().unwrap_or(Path::new("/")).to_owned();
        } else if !metadata.is_dir() {
            let path = path.to_owned();
            return Err(SourceError::Special { path });
        }
        Walk::new(
            &source.root,
            source.only.as_deref(),
            &source.options.exclude,
        )
        .map_err(failed)?;
        Ok(source)
    }

    fn walk(&self) -> Result<Walk, SourceError> {
        Walk::new(&self.root, self.only.as_deref(), &self.options.exclude).map_err(|cause| {
            SourceError::Io {
                path: self.root.clone(),
                cause,
            }
        })
    }
}

impl Source for TreeSource {
    fn size_hint(&self) -> Option<u64> {
        let mut walk = self.walk().ok()?;
        let mut notes = Notes::new(&self.root, true);
        let mut size = 0;
        for _ in 0..HINT_ENTRIES_MAX {
            match walk.next(&mut notes).ok()? {
                Some(entry) => size += entry.size_hint(),
                None => return Some(size),
            }
        }
        None
    }

    fn read(&mut self, intake: &Intake) -> Result<SourceMeta, SourceError> {
        let mut walk = self.walk()?;
        let writer = intake.stream(StreamDecl {
            source: self.index,
            position: 0,
            kind: StreamKind::Tree,
            name: self.name.clone(),
            file: recovery_file(self.index, &self.name, "tar"),
            columns: Vec::new(),
        });
        let mut archiver = Archiver::new(self, writer)?;
        let mut group = Group::default();
        while let Some(entry) = walk.next(&mut archiver.notes)? {
            if matches!(entry.kind, Kind::File) && entry.meta.size >= LARGE_SIZE_MIN {
                archiver.unit(group.take())?;
                archiver.unit(vec![entry])?;
            } else if group.push(entry) {
                archiver.unit(group.take())?;
            }
        }
        archiver.unit(group.take())?;
        // Two blocks of zeros end a tar.
        archiver.writer.write(&[0; 2 * BLOCK_SIZE])?;
        archiver.writer.finish(&[])?;
        Ok(SourceMeta {
            engine: Engine::Tree,
            name: self.name.clone(),
            version: None,
            warnings: archiver.notes.finish(),
        })
    }
}

/// Writes units of entries to a stream.
struct Archiver<'a> {
    writer: StreamWriter<'a>,
    root: Root,
    owners: Owners,
    notes: Notes,
    held: Held,
    clock: fn() -> SystemTime,
    /// Files with several names that were left out: a later name cannot be a link to them.
    lost: HashSet<Vec<u8>>,
    headers: Vec<u8>,
}

impl<'a> Archiver<'a> {
    fn new(source: &TreeSource, writer: StreamWriter<'a>) -> Result<Self, SourceError> {
        let root = Root::open(&source.root).map_err(|cause| SourceError::Io {
            path: source.root.clone(),
            cause,
        })?;
        Ok(Self {
            writer,
            root,
            owners: Owners::of_this_machine(),
            notes: Notes::new(&source.root, source.options.skip_unreadable),
            held: Held::default(),
            clock: source.options.clock,
            lost: HashSet::new(),
            headers: Vec::new(),
        })
    }

    fn unit(&mut self, mut entries: Vec<Entry>) -> Result<(), SourceError> {
        if entries.is_empty() {
            return Ok(());
        }
        entries.iter_mut().for_each(|entry| self.find_lost(entry));
        let key = unit::key(&entries, &self.owners);
        if self.writer.unit_begin(&key)? {
            return Ok(());
        }
        let now = timestamp((self.clock)());
        let mut settled = entries.iter().all(|entry| !is_racy(&entry.meta, now));
        for mut entry in entries {
            self.find_lost(&mut entry);
            settled &= self.entry(&entry)?;
        }
        if settled {
            self.writer.unit_end(key)?;
        } else {
            self.writer.unit_abandon()?;
        }
        Ok(())
    }

    /// Makes a file again of a link to a file that was left out.
    fn find_lost(&self, entry: &mut Entry) {
        if matches!(&entry.kind, Kind::Hard(first) if self.lost.contains(first)) {
            entry.kind = Kind::File;
        }
    }

    /// Writes an entry. True if it was as the walk had found it, and stayed so.
    fn entry(&mut self, entry: &Entry) -> Result<bool, SourceError> {
        let (entry_type, link) = match &entry.kind {
            Kind::File => return self.file(entry),
            Kind::Directory => (EntryType::Directory, None),
            Kind::Fifo => (EntryType::Fifo, None),
            Kind::Symlink(target) => (EntryType::Symlink, Some(target.clone())),
            Kind::Hard(first) => (EntryType::Link, Some(name_in_tar(first, false))),
        };
        let directory = entry_type == EntryType::Directory;
        let xattrs = if directory {
            self.directory_xattrs(entry)
        } else {
            Vec::new()
        };
        self.head(&Head {
            name: &name_in_tar(&entry.path, directory),
            entry_type,
            meta: &entry.meta,
            link: link.as_deref().unwrap_or_default(),
            xattrs: &xattrs,
            sparse: None,
            size: 0,
        })?;
        Ok(true)
    }

    fn head(&mut self, head: &Head<'_>) -> Result<(), SourceError> {
        self.headers.clear();
        head.write(&self.owners, &mut self.headers);
        Ok(self.writer.write(&self.headers)?)
    }

    fn directory_xattrs(&mut self, entry: &Entry) -> Vec<(Vec<u8>, Vec<u8>)> {
        let opened = self
            .root
            .parent(&entry.path)
            .and_then(|(dir, name)| crate::archive::dirs::open_list(&dir, name));
        match opened {
            Ok(fd) => content::xattrs(&fd, &entry.path, &mut self.notes),
            // That the directory cannot be read has been said by the walk.
            Err(_) => Vec::new(),
        }
    }

    fn file(&mut self, entry: &Entry) -> Result<bool, SourceError> {
        let opened = match content::open(&mut self.root, entry) {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                self.notes
                    .warn(&entry.path, "vanished before it was read, and is left out");
                self.lose(entry);
                return Ok(false);
            }
            Err(cause) => {
                self.notes.unreadable(&entry.path, cause)?;
                self.lose(entry);
                return Ok(false);
            }
        };
        let as_walked = opened.meta == entry.meta;
        let stayed = if opened.meta.size < LARGE_SIZE_MIN {
            self.small_file(entry, opened)?
        } else {
            self.large_file(entry, &opened)?
        };
        Ok(as_walked && stayed)
    }

    fn lose(&mut self, entry: &Entry) {
        if entry.meta.nlink > 1 {
            self.lost.insert(entry.path.clone());
        }
    }

    /// Writes a file that is held in memory whole, from between two changes if that can be.
    fn small_file(&mut self, entry: &Entry, mut opened: Opened) -> Result<bool, SourceError> {
        let mut attempts = 0;
        let copied = loop {
            attempts += 1;
            self.held.clear(opened.data_size());
            match content::copy(&opened, &mut self.held)? {
                Copied::Failed(cause, _) => {
                    self.notes.unreadable(&entry.path, cause)?;
                    self.lose(entry);
                    return Ok(false);
                }
                copied @ Copied::Changed(_) if attempts < ATTEMPTS_MAX => match opened.again() {
                    Ok(again) if again.meta.size < LARGE_SIZE_MIN => opened = again,
                    _ => break copied,
                },
                copied => break copied,
            }
        };
        self.file_head(entry, &opened)?;
        self.writer.write(self.held.bytes())?;
        self.pad(&opened)?;
        Ok(self.note_change(entry, &copied)? && attempts == 1)
    }

    fn large_file(&mut self, entry: &Entry, opened: &Opened) -> Result<bool, SourceError> {
        self.file_head(entry, opened)?;
        // A file that is written to has new times in its head: the content is not resealed for that.
        self.writer.cut_all()?;
        let copied = content::copy(opened, &mut self.writer)?;
        self.pad(opened)?;
        self.note_change(entry, &copied)
    }

    /// Fills up the last block of a file.
    fn pad(&mut self, opened: &Opened) -> Result<(), SourceError> {
        let zeros = &[0; BLOCK_SIZE][..padding(opened.data_size())];
        Ok(self.writer.write(zeros)?)
    }

    fn file_head(&mut self, entry: &Entry, opened: &Opened) -> Result<(), SourceError> {
        let xattrs = content::xattrs(&opened.fd, &entry.path, &mut self.notes);
        let sparse = opened.is_sparse().then_some(Sparse {
            extents: &opened.extents,
            real_size: opened.meta.size,
        });
        self.head(&Head {
            name: &name_in_tar(&entry.path, false),
            entry_type: match sparse {
                Some(_) => EntryType::GNUSparse,
                None => EntryType::Regular,
            },
            meta: &opened.meta,
            link: &[],
            xattrs: &xattrs,
            sparse,
            size: opened.data_size(),
        })
    }

    fn note_change(&mut self, entry: &Entry, copied: &Copied) -> Result<bool, SourceError> {
        match copied {
            Copied::Whole => return Ok(true),
            Copied::Changed(how) => self.notes.warn(&entry.path, how),
            Copied::Failed(cause, at) => {
                let cause = std::io::Error::new(cause.kind(), cause.to_string());
                self.notes.unreadable_from(&entry.path, *at, cause)?;
            }
        }
        Ok(false)
    }
}

/// The name of an entry: `./` and its path, and a slash after a directory.
fn name_in_tar(path: &[u8], directory: bool) -> Vec<u8> {
    let mut name = b"./".to_vec();
    name.extend_from_slice(path);
    if directory && !path.is_empty() {
        name.push(b'/');
    }
    name
}

fn is_racy(meta: &Meta, now: Timestamp) -> bool {
    meta.ctime.seconds.saturating_add(RACY_SECONDS) >= now.seconds
        || meta.mtime.seconds.abs_diff(now.seconds) <= RACY_SECONDS.unsigned_abs()
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}
