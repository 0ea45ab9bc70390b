//! The content of files: opening, holes, copying, and noticing that a file changes meanwhile.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use rustix::{
    fs::{self, Advice, FileType, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    notes::Notes,
    walk::{Entry, Meta},
};
use crate::{
    archive::{EXTENTS_MAX, Extent, dirs::Root},
    intake::{Stopped, StreamWriter},
};

/// Files of this size and more are not held in memory, and are units of their own.
pub(super) const LARGE_SIZE_MIN: u64 = 1 << 20;
/// Most bytes of extended attributes of one file.
const XATTRS_SIZE_MAX: usize = 512 << 10;
/// Most bytes of one extended attribute, or of the names of all: what Linux takes.
const XATTR_SIZE_MAX: usize = 64 << 10;

/// A file that is being read.
pub(super) struct Opened {
    pub(super) fd: OwnedFd,
    pub(super) meta: Meta,
    /// Where its data are.
    pub(super) extents: Vec<Extent>,
}

/// Opens a file; nothing if it is gone.
pub(super) fn open(root: &mut Root, entry: &Entry) -> io::Result<Option<Opened>> {
    // A fifo that took the file's place must not block.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = root
        .parent(&entry.path)
        .and_then(|(dir, name)| Ok(fs::openat(&*dir, name, flags, Mode::empty())?));
    match opened {
        Ok(fd) => Opened::new(fd).map(Some),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

impl Opened {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let meta = Meta::of(&fs::fstat(&fd)?);
        if meta.file_type() != FileType::RegularFile {
            return Err(io::Error::other("it is no longer a file"));
        }
        let extents = extents(&fd, &meta);
        Ok(Self { fd, meta, extents })
    }

    /// The same file as it is now.
    pub(super) fn again(&self) -> io::Result<Self> {
        Self::new(self.fd.try_clone()?)
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.data_size() != self.meta.size
    }

    /// Bytes that are not in holes.
    pub(super) fn data_size(&self) -> u64 {
        self.extents.iter().map(|extent| extent.len).sum()
    }
}

/// Finds the data between the holes of a file.
fn extents(fd: &OwnedFd, meta: &Meta) -> Vec<Extent> {
    let size = meta.size;
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let rest = Extent {
            offset: at,
            len: size - at,
        };
        if meta.allocated >= size || extents.len() == EXTENTS_MAX - 2 {
            extents.push(rest);
            break;
        }
        let start = match fs::seek(fd, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(_) => {
                extents.push(rest);
                break;
            }
        };
        let end = fs::seek(fd, SeekFrom::Hole(start)).map_or(size, |end| end.min(size));
        if end <= start {
            // It changes under our feet; what is left is read as it is.
            extents.push(rest);
            break;
        }
        extents.push(Extent {
            offset: start,
            len: end - start,
        });
        at = end;
    }
    extents
}

/// How copying went. In each case as many bytes were handed over as the extents say.
pub(super) enum Copied {
    /// The file stayed as it was.
    Whole,
    /// It changed, in the way told.
    Changed(String),
    /// It could not be read from some byte on.
    Failed(io::Error, u64),
}

/// What content is read into.
pub(super) trait Sink {
    /// Room for what comes next: some bytes.
    fn room(&mut self) -> Result<&mut [u8], Stopped>;

    /// Takes the first `len` bytes of the room.
    fn wrote(&mut self, len: usize);
}

impl Sink for StreamWriter<'_> {
    fn room(&mut self) -> Result<&mut [u8], Stopped> {
        StreamWriter::room(self)
    }

    fn wrote(&mut self, len: usize) {
        StreamWriter::wrote(self, len);
    }
}

/// A small file, held in memory.
#[derive(Default)]
pub(super) struct Held {
    /// Its size is that of the largest file that fits.
    bytes: Vec<u8>,
    len: usize,
}

impl Held {
    /// Forgets what was taken, and makes room for `size` bytes.
    pub(super) fn clear(&mut self, size: u64) {
        let size = usize::try_from(size.min(LARGE_SIZE_MIN)).expect("at most 1 MiB");
        self.bytes.resize(self.bytes.len().max(size), 0);
        self.len = 0;
    }

    /// What was taken.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Sink for Held {
    fn room(&mut self) -> Result<&mut [u8], Stopped> {
        Ok(&mut self.bytes[self.len..])
    }

    fn wrote(&mut self, len: usize) {
        self.len += len;
    }
}

/// Copies the data of a file, filled up with zeros where the file has less than it had.
pub(super) fn copy(opened: &Opened, sink: &mut impl Sink) -> Result<Copied, Stopped> {
    let mut left = opened.data_size();
    let file = match opened.fd.try_clone() {
        Ok(fd) => File::from(fd),
        Err(cause) => {
            zeros(left, sink)?;
            return Ok(Copied::Failed(cause, 0));
        }
    };
    if opened.meta.size >= LARGE_SIZE_MIN {
        let _only_faster = fs::fadvise(&file, 0, None, Advice::Sequential);
    }
    let mut short = None;
    for extent in &opened.extents {
        let (mut at, end) = (extent.offset, extent.offset + extent.len);
        while at < end {
            let room = bounded(sink.room()?, end - at);
            let len = match file.read_at(room, at) {
                Ok(0) => {
                    short.get_or_insert(at);
                    room.fill(0);
                    room.len()
                }
                Ok(len) => len,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) => {
                    zeros(left, sink)?;
                    return Ok(Copied::Failed(cause, at));
                }
            };
            sink.wrote(len);
            at += len as u64;
            left -= len as u64;
        }
    }
    Ok(compare(opened, &file, short))
}

fn zeros(mut left: u64, sink: &mut impl Sink) -> Result<(), Stopped> {
    while left > 0 {
        let room = bounded(sink.room()?, left);
        room.fill(0);
        let len = room.len();
        sink.wrote(len);
        left -= len as u64;
    }
    Ok(())
}

fn bounded(room: &mut [u8], len_max: u64) -> &mut [u8] {
    let len = usize::try_from(len_max).map_or(room.len(), |max| max.min(room.len()));
    &mut room[..len]
}

/// Compares a file with what it was when it was opened.
fn compare(opened: &Opened, file: &File, short: Option<u64>) -> Copied {
    let before = &opened.meta;
    if let Some(at) = short {
        return Copied::Changed(format!(
            "shrank to {at} bytes while it was read, and is filled up with zeros to {}",
            before.size
        ));
    }
    let after = match fs::fstat(file) {
        Ok(stat) => Meta::of(&stat),
        Err(cause) => return Copied::Failed(cause.into(), before.size),
    };
    let more = match file.read_at(&mut [0], before.size) {
        Ok(len) => len > 0,
        Err(cause) => return Copied::Failed(cause, before.size),
    };
    if more {
        return Copied::Changed(format!(
            "grew while it was read; only the first {} bytes are kept",
            before.size
        ));
    }
    if after.size != before.size || after.mtime != before.mtime || after.ctime != before.ctime {
        return Copied::Changed("changed while it was read".to_owned());
    }
    Copied::Whole
}

/// The extended attributes of an open file that mean something elsewhere.
pub(super) fn xattrs(fd: &OwnedFd, path: &[u8], notes: &mut Notes) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut xattrs = Vec::new();
    let Ok(1..) = fs::flistxattr_query(fd) else {
        // None, or a file system that has none.
        return xattrs;
    };
    let mut list = vec![0; XATTR_SIZE_MAX];
    let len = fs::flistxattr(fd, &mut list[..]).unwrap_or(0);
    let mut names: Vec<&[u8]> = list[..len].split(|&b| b == 0).collect();
    names.sort_unstable();
    let mut size = 0;
    if names.iter().any(|name| name.starts_with(b"trusted.")) {
        notes.warn(path, "has trusted extended attributes, which are not kept");
    }
    for name in names.into_iter().filter(|name| is_kept(name)) {
        let mut value = vec![0; XATTR_SIZE_MAX];
        let Ok(len) = fs::fgetxattr(fd, name, &mut value[..]) else {
            notes.warn(path, "has an extended attribute that cannot be read");
            continue;
        };
        size += name.len() + len;
        if size > XATTRS_SIZE_MAX {
            notes.warn(path, "has more extended attributes than are kept");
            break;
        }
        value.truncate(len);
        xattrs.push((name.to_vec(), value));
    }
    xattrs
}

/// Users' attributes, capabilities, access lists; not labels of this machine's policy.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}
