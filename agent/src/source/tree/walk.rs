//! The walk over a tree: its entries, in order, with their metadata.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{self, AtFlags, FileType, Stat};

use super::notes::Notes;
use crate::{
    archive::{
        PATH_SIZE_MAX, Timestamp,
        dirs::{Root, join, names, open_list},
    },
    source::SourceError,
};

/// Directories that are held open on the way down; those above are opened again on the way up.
const OPEN_LEVELS_MAX: usize = 64;

/// An entry of the tree.
#[derive(Debug)]
pub(super) struct Entry {
    /// Below the root; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) meta: Meta,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    /// Another name of the file that was found first at this path.
    Hard(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// What the file system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) nlink: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Bytes that have room on disk.
    pub(super) allocated: u64,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
}

impl Entry {
    /// About how many bytes of the file are read.
    pub(super) fn size_hint(&self) -> u64 {
        match self.kind {
            Kind::File => self.meta.size.min(self.meta.allocated.max(4096)),
            _ => 0,
        }
    }
}

impl Meta {
    #[expect(
        clippy::useless_conversion,
        reason = "the types of the fields differ between architectures"
    )]
    pub(super) fn of(stat: &Stat) -> Self {
        let nanos = |nanos| u32::try_from(nanos).unwrap_or(0);
        Self {
            dev: stat.st_dev.into(),
            ino: stat.st_ino.into(),
            nlink: stat.st_nlink.into(),
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            mtime: Timestamp {
                seconds: stat.st_mtime.into(),
                nanos: nanos(stat.st_mtime_nsec),
            },
            ctime: Timestamp {
                seconds: stat.st_ctime.into(),
                nanos: nanos(stat.st_ctime_nsec),
            },
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Walks a tree, holding no more of it than the names in the directories on the way down, and
/// the first names of files that have several.
pub(super) struct Walk {
    root: Root,
    started: bool,
    levels: Vec<Level>,
    firsts: HashMap<(u64, u64), Vec<u8>>,
    excluded: HashSet<(u64, u64)>,
}

struct Level {
    path: Vec<u8>,
    fd: Option<Rc<OwnedFd>>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

impl Walk {
    /// Begins at a directory; `only` one file of it, if that is given.
    pub(super) fn new(root: &Path, only: Option<&[u8]>, exclude: &[PathBuf]) -> io::Result<Self> {
        let identity = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let mut walk = Self {
            root: Root::open(root)?,
            started: only.is_some(),
            levels: Vec::new(),
            firsts: HashMap::new(),
            excluded: exclude.iter().filter_map(identity).collect(),
        };
        if let Some(name) = only {
            walk.levels.push(Level {
                path: Vec::new(),
                fd: None,
                names: vec![name.into()].into_iter(),
            });
        }
        Ok(walk)
    }

    /// The next entry.
    pub(super) fn next(&mut self, notes: &mut Notes) -> Result<Option<Entry>, SourceError> {
        if !self.started {
            self.started = true;
            let top = self.root.dir(b"").map(|dir| (dir, b".".to_vec()));
            return match top {
                Ok((dir, name)) => self.look(&dir, &name, Vec::new(), notes),
                Err(cause) => notes.unreadable(b"", cause).map(|()| None),
            };
        }
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let dir = match &level.fd {
                Some(fd) => Ok(fd.clone()),
                None => self.root.dir(&level.path),
            };
            let entry = match dir {
                // Names in a tar begin with `./` and may end with a slash.
                Ok(_) if path.len() > PATH_SIZE_MAX - 3 => {
                    notes.unreadable(&path, rustix::io::Errno::NAMETOOLONG.into())?;
                    None
                }
                Ok(dir) => self.look(&dir, &name, path, notes)?,
                Err(cause) => {
                    notes.unreadable(&path, cause)?;
                    None
                }
            };
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }

    fn look(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        notes: &mut Notes,
    ) -> Result<Option<Entry>, SourceError> {
        let meta = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Meta::of(&stat),
            // Gone since the directory was read: as if the walk had come later.
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(cause) => return notes.unreadable(&path, cause.into()).map(|()| None),
        };
        let kind = match meta.file_type() {
            FileType::Directory => {
                if self.excluded.contains(&(meta.dev, meta.ino)) {
                    return Ok(None);
                }
                if let Err(cause) = self.descend(dir, name, &path) {
                    notes.unreadable(&path, cause)?;
                }
                Kind::Directory
            }
            FileType::RegularFile => self.file(&path, &meta),
            FileType::Symlink => match fs::readlinkat(dir, name, Vec::new()) {
                Ok(target) => Kind::Symlink(target.into_bytes()),
                Err(cause) => return notes.unreadable(&path, cause.into()).map(|()| None),
            },
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => {
                notes.warn(&path, "is a socket, and is left out");
                return Ok(None);
            }
            _ => {
                notes.warn(&path, "is a device, and is left out");
                return Ok(None);
            }
        };
        if matches!(kind, Kind::Symlink(_) | Kind::Fifo) && meta.nlink > 1 {
            notes.warn(&path, "has several names: each becomes a file of its own");
        }
        Ok(Some(Entry { path, kind, meta }))
    }

    fn descend(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8]) -> io::Result<()> {
        let fd = open_list(dir, name)?;
        let names = names(&fd)?.into_iter();
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS_MAX) {
            self.levels[above].fd = None;
        }
        self.levels.push(Level {
            path: path.to_vec(),
            fd: Some(Rc::new(fd)),
            names,
        });
        Ok(())
    }

    fn file(&mut self, path: &[u8], meta: &Meta) -> Kind {
        if meta.nlink < 2 {
            return Kind::File;
        }
        let first = self
            .firsts
            .entry((meta.dev, meta.ino))
            .or_insert_with(|| path.to_vec());
        if first == path {
            Kind::File
        } else {
            Kind::Hard(first.clone())
        }
    }
}
