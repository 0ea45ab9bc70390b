//! Directories below a root, opened one component at a time so that no symlink is followed.

use std::{io, os::fd::OwnedFd, path::Path, rc::Rc};

use rustix::fs::{self, AtFlags, Mode, OFlags, Stat};

/// A directory, and the one below it that was used last.
#[derive(Debug)]
pub(crate) struct Root {
    fd: Rc<OwnedFd>,
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Root {
    /// Opens a directory; `path` itself may be, or go through, a symlink.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = Rc::new(fs::open(path, flags, Mode::empty())?);
        Ok(Self { fd, last: None })
    }

    /// Opens the directory at `path` below the root, for use as the place of others only.
    pub(crate) fn dir(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.fd.clone());
        }
        let (mut fd, below) = self.nearest(path);
        if below.is_empty() {
            return Ok(fd);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in below.split(|&b| b == b'/') {
            fd = Rc::new(fs::openat(&*fd, name, flags, Mode::empty())?);
        }
        self.last = Some((path.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// The open directory that is nearest above `path`, and the way from there.
    fn nearest<'p>(&self, path: &'p [u8]) -> (Rc<OwnedFd>, &'p [u8]) {
        if let Some((last, fd)) = &self.last
            && let Some(below) = path.strip_prefix(last.as_slice())
        {
            match below.split_first() {
                None => return (fd.clone(), below),
                Some((b'/', below)) => return (fd.clone(), below),
                Some(_) => {}
            }
        }
        (self.fd.clone(), path)
    }

    /// Opens the directory that holds `path`, and gives the name of `path` in it.
    pub(crate) fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(Rc<OwnedFd>, &'p [u8])> {
        let (parent, name) = split(path);
        let name = if name.is_empty() { b"." } else { name };
        Ok((self.dir(parent)?, name))
    }

    /// What is at `path`, a symlink not followed.
    pub(crate) fn stat(&mut self, path: &[u8]) -> io::Result<Stat> {
        let (dir, name) = self.parent(path)?;
        Ok(fs::statat(&*dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The names in the directory at `path`, sorted by their bytes.
    pub(crate) fn names(&mut self, path: &[u8]) -> io::Result<Vec<Box<[u8]>>> {
        let (dir, name) = self.parent(path)?;
        names(&open_list(&dir, name)?)
    }
}

/// Opens a directory for reading what is in it.
pub(crate) fn open_list(dir: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(fs::openat(dir, name, flags, Mode::empty())?)
}

/// The names in an open directory, sorted by their bytes.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.into()),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Splits a path below a root into its directory and its name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// The path of `name` in `dir`.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + 1 + name.len());
    if !dir.is_empty() {
        path.extend_from_slice(dir);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
