//! Unpacks a tar into a new directory that nobody else can enter.
//!
//! No symlink is made before everything else is there, so that no path of the tar can lead
//! through one; whatever is made must be new, so that nothing is written twice.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    self as sys, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use tempfile::TempDir;

use super::{
    leftovers,
    reader::{Attributes, Entry, Kind, Reader},
    skipped::Skipped,
    writeback::WriteBack,
};
use crate::{
    archive::{
        dirs::{open_list, split},
        owners::Owners,
    },
    target::{StreamReport, TargetError},
};

/// What the name of a staging directory begins with.
pub(super) const PREFIX: &str = ".souverain-import-";
/// Most bytes of paths and attributes of directories and symlinks, which are held to the end.
const HELD_SIZE_MAX: usize = 1 << 30;
const HELD_OVERHEAD: usize = 256;
/// Sets the owner, and runs as somebody else: only root restores these.
const SETID_BITS: u32 = 0o6000;

/// A new directory, with the tree in `new` and room for what it replaces in `old`.
#[derive(Debug)]
pub(super) struct Staging {
    base: Option<TempDir>,
    /// Its lock says that it is in use.
    _held: OwnedFd,
    write_back: Option<WriteBack>,
    new: OwnedFd,
    directories: HashMap<Vec<u8>, Option<Attributes>>,
    /// In order, so that two imports do the same.
    symlinks: BTreeMap<Vec<u8>, (Vec<u8>, Attributes)>,
    held: usize,
    privileged: bool,
    owners: Owners,
    skipped: Skipped,
}

impl Staging {
    /// Makes a staging directory in `parent`.
    pub(super) fn in_directory(parent: &Path) -> io::Result<Self> {
        leftovers::remove(parent);
        // What is restored is nobody's business before it is in its place.
        let base = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(parent)?;
        let held = leftovers::hold(base.path())?;
        let new = base.path().join("new");
        fs::create_dir(&new)?;
        fs::create_dir(base.path().join("old"))?;
        Ok(Self {
            new: sys::open(
                &new,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
            write_back: Some(WriteBack::on(base.path())?),
            base: Some(base),
            _held: held,
            directories: HashMap::from([(Vec::new(), None)]),
            symlinks: BTreeMap::new(),
            held: 0,
            privileged: rustix::process::geteuid().is_root(),
            owners: Owners::of_this_machine(),
            skipped: Skipped::default(),
        })
    }

    /// Where all of it is.
    pub(super) fn path(&self) -> &Path {
        self.base.as_ref().expect("taken only when dropped").path()
    }

    /// The tree.
    pub(super) fn new_path(&self) -> PathBuf {
        self.path().join("new")
    }

    /// What the tree replaces.
    pub(super) fn old_path(&self) -> PathBuf {
        self.path().join("old")
    }

    /// Returns when all of it is on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write_back.take().map_or(Ok(()), WriteBack::finish)
    }

    /// Leaves all of it where it is.
    pub(super) fn keep(mut self) {
        if let Some(base) = self.base.take() {
            let _path = base.keep();
        }
    }

    /// Removes it, with what was replaced.
    pub(super) fn remove(mut self) -> Result<(), TargetError> {
        let Some(base) = self.base.take() else {
            return Ok(());
        };
        let path = base.keep();
        remove_tree(&path).map_err(|cause| TargetError::Io { path, cause })
    }

    /// Whether the tar said what the root is like.
    pub(super) fn has_root(&self) -> bool {
        matches!(self.directories.get(&b""[..]), Some(Some(_)))
    }

    /// Gives `directory` the attributes of the root of the tree.
    pub(super) fn dress_root(&mut self, directory: &OwnedFd) -> io::Result<()> {
        match self.directories.remove(&b""[..]) {
            Some(Some(attributes)) => self.dress(directory, b"", &attributes),
            _ => Ok(()),
        }
    }

    /// Unpacks all entries.
    pub(super) fn unpack(&mut self, reader: &mut Reader<'_>) -> Result<StreamReport, TargetError> {
        let mut report = StreamReport::default();
        while let Some(entry) = reader.next()? {
            let path = entry.path.clone();
            match self.place(entry, reader) {
                Ok(true) => report.entries += 1,
                Ok(false) => {}
                // After damage, content may have been taken for headers, and links have lost their files.
                Err(TargetError::Hostile { what, .. }) if reader.was_damaged() => {
                    self.skipped.entry(&path, &format!("is left out: {what}"));
                }
                Err(error) => return Err(error),
            }
        }
        self.make_symlinks()?;
        self.dress_directories()?;
        report.skipped = reader.skipped.take();
        report.skipped.extend(self.skipped.take());
        Ok(report)
    }

    fn place(&mut self, entry: Entry, reader: &mut Reader<'_>) -> Result<bool, TargetError> {
        if self.symlinks.contains_key(&entry.path) {
            return Err(reader.hostile(twice(&entry.path)));
        }
        self.make_parents(&entry.path, reader)?;
        match &entry.kind {
            Kind::File => return self.file(&entry, reader),
            Kind::Directory => self.directory(entry, reader)?,
            Kind::Hard(first) => self.hard_link(first, &entry.path, reader)?,
            Kind::Symlink(_) => self.symlink(entry, reader)?,
            Kind::Fifo => self.fifo(&entry, reader)?,
        }
        Ok(true)
    }

    fn make_parents(&mut self, path: &[u8], reader: &Reader<'_>) -> Result<(), TargetError> {
        let (parent, _) = split(path);
        if self.directories.contains_key(parent) {
            return Ok(());
        }
        self.make_parents(parent, reader)?;
        if self.symlinks.contains_key(parent) {
            let path = String::from_utf8_lossy(path);
            return Err(reader.hostile(format!("{path} is below a symlink")));
        }
        self.make_directory(parent, reader)?;
        self.directories.insert(parent.to_vec(), None);
        self.hold(parent.len(), reader)
    }

    fn make_directory(&self, path: &[u8], reader: &Reader<'_>) -> Result<(), TargetError> {
        let made = sys::mkdirat(&self.new, path, Mode::RWXU);
        made.map_err(|cause| self.not_made(path, cause.into(), reader))
    }

    fn directory(&mut self, entry: Entry, reader: &Reader<'_>) -> Result<(), TargetError> {
        match self.directories.get(&entry.path) {
            Some(Some(_)) => return Err(reader.hostile(twice(&entry.path))),
            // Made for what is in it.
            Some(None) => {}
            None => self.make_directory(&entry.path, reader)?,
        }
        self.hold(entry.path.len() + entry.attributes.size(), reader)?;
        self.directories.insert(entry.path, Some(entry.attributes));
        Ok(())
    }

    fn symlink(&mut self, entry: Entry, reader: &Reader<'_>) -> Result<(), TargetError> {
        let Kind::Symlink(target) = entry.kind else {
            return Ok(());
        };
        if sys::statat(&self.new, &*entry.path, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(reader.hostile(twice(&entry.path)));
        }
        self.hold(
            entry.path.len() + target.len() + entry.attributes.size(),
            reader,
        )?;
        self.symlinks.insert(entry.path, (target, entry.attributes));
        Ok(())
    }

    fn hard_link(&self, first: &[u8], path: &[u8], reader: &Reader<'_>) -> Result<(), TargetError> {
        let stat = sys::statat(&self.new, first, AtFlags::SYMLINK_NOFOLLOW);
        let is_file = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
        if !stat.is_ok_and(|stat| is_file(stat.st_mode)) {
            let (path, first) = (
                String::from_utf8_lossy(path),
                String::from_utf8_lossy(first),
            );
            return Err(reader.hostile(format!("{path} is a link to {first}, no file before it")));
        }
        let linked = sys::linkat(&self.new, first, &self.new, path, AtFlags::empty());
        linked.map_err(|cause| self.not_made(path, cause.into(), reader))
    }

    fn fifo(&mut self, entry: &Entry, reader: &Reader<'_>) -> Result<(), TargetError> {
        let (path, attributes) = (&*entry.path, &entry.attributes);
        sys::mkfifoat(&self.new, path, Mode::RUSR | Mode::WUSR)
            .map_err(|cause| self.not_made(path, cause.into(), reader))?;
        let (uid, gid) = self.ids(attributes);
        let owned =
            !self.privileged || sys::chownat(&self.new, path, uid, gid, AtFlags::empty()).is_ok();
        let mode = self.mode(attributes, owned);
        sys::chmodat(&self.new, path, mode, AtFlags::empty())
            .and_then(|()| {
                sys::utimensat(
                    &self.new,
                    path,
                    &times(attributes),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
            })
            .map_err(|cause| self.failed(path, cause.into()))?;
        self.note_owner(path, owned);
        Ok(())
    }

    /// Writes a file. False if it was damaged, and is left out.
    fn file(&mut self, entry: &Entry, reader: &mut Reader<'_>) -> Result<bool, TargetError> {
        let path = &*entry.path;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = sys::openat(&self.new, path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|cause| self.not_made(path, cause.into(), reader))?;
        let file = File::from(file);
        let intact = reader.body(entry, &mut |offset, bytes| {
            file.write_all_at(bytes, offset)
                .map_err(|cause| self.failed(path, cause))?;
            if let Some(write_back) = &self.write_back {
                write_back.wrote(bytes.len());
            }
            Ok(())
        })?;
        if !intact {
            sys::unlinkat(&self.new, path, AtFlags::empty())
                .map_err(|cause| self.failed(path, cause.into()))?;
            self.skipped.entry(path, "is damaged, and is left out");
            return Ok(false);
        }
        let end = entry
            .extents
            .last()
            .map_or(0, |last| last.offset + last.len);
        if end < entry.size {
            file.set_len(entry.size)
                .map_err(|cause| self.failed(path, cause))?;
        }
        self.dress(&file, path, &entry.attributes)
            .map_err(|cause| self.failed(path, cause))?;
        Ok(true)
    }

    fn make_symlinks(&mut self) -> Result<(), TargetError> {
        for (path, (target, attributes)) in std::mem::take(&mut self.symlinks) {
            let made = sys::symlinkat(&*target, &self.new, &*path);
            made.map_err(|cause| self.failed(&path, cause.into()))?;
            let (uid, gid) = self.ids(&attributes);
            let owned = !self.privileged
                || sys::chownat(&self.new, &*path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            sys::utimensat(
                &self.new,
                &*path,
                &times(&attributes),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|cause| self.failed(&path, cause.into()))?;
            self.note_owner(&path, owned);
        }
        Ok(())
    }

    /// Gives directories their attributes, the deepest first: making entries touches the one above.
    fn dress_directories(&mut self) -> Result<(), TargetError> {
        let root = self.directories.remove(&b""[..]).flatten();
        let mut directories: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
        directories.sort_unstable_by(|(a, _), (b, _)| (b.len(), b).cmp(&(a.len(), a)));
        for (path, attributes) in directories {
            let dressed = open_list(&self.new, &path).and_then(|fd| match attributes {
                Some(attributes) => self.dress(&fd, &path, &attributes),
                None => Ok(sys::fchmod(&fd, Mode::from_raw_mode(0o755))?),
            });
            dressed.map_err(|cause| self.failed(&path, cause))?;
        }
        if let Some(attributes) = &root {
            let fd = open_list(&self.new, b".").map_err(|cause| self.failed(b"", cause))?;
            self.dress(&fd, b"", attributes)
                .map_err(|cause| self.failed(b"", cause))?;
        }
        self.directories.insert(Vec::new(), root);
        Ok(())
    }

    /// Gives a file or directory its attributes.
    fn dress(&mut self, fd: impl AsFd, path: &[u8], attributes: &Attributes) -> io::Result<()> {
        let (uid, gid) = self.ids(attributes);
        let owned = !self.privileged || sys::fchown(&fd, uid, gid).is_ok();
        sys::fchmod(&fd, self.mode(attributes, owned))?;
        for (name, value) in &attributes.xattrs {
            // A capability is as good as the setuid bit.
            let dangerous = !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_");
            if dangerous && !(self.privileged && name == b"security.capability") {
                self.skipped
                    .entry(path, "has an extended attribute that is not restored");
            } else if sys::fsetxattr(&fd, &**name, value, XattrFlags::empty()).is_err() {
                self.skipped.entry(
                    path,
                    "has an extended attribute that cannot be restored here",
                );
            }
        }
        sys::futimens(&fd, &times(attributes))?;
        self.note_owner(path, owned);
        Ok(())
    }

    fn note_owner(&mut self, path: &[u8], owned: bool) {
        if !owned {
            self.skipped.entry(path, "cannot be given its owner here");
        }
    }

    fn ids(&self, attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
        let uid = self.owners.user_id(&attributes.owner_name, attributes.uid);
        let gid = self.owners.group_id(&attributes.group_name, attributes.gid);
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn mode(&self, attributes: &Attributes, owned: bool) -> Mode {
        let mode = if self.privileged && owned {
            attributes.mode
        } else {
            attributes.mode & !SETID_BITS
        };
        Mode::from_raw_mode(mode)
    }

    fn hold(&mut self, size: usize, reader: &Reader<'_>) -> Result<(), TargetError> {
        self.held += size + HELD_OVERHEAD;
        if self.held > HELD_SIZE_MAX {
            return Err(reader.hostile("there are too many directories and symlinks"));
        }
        Ok(())
    }

    fn failed(&self, path: &[u8], cause: io::Error) -> TargetError {
        use std::os::unix::ffi::OsStrExt;
        TargetError::Io {
            path: self.new_path().join(std::ffi::OsStr::from_bytes(path)),
            cause,
        }
    }

    fn not_made(&self, path: &[u8], cause: io::Error, reader: &Reader<'_>) -> TargetError {
        match cause.kind() {
            io::ErrorKind::AlreadyExists => reader.hostile(twice(path)),
            _ => self.failed(path, cause),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(base) = self.base.take() {
            let path = base.keep();
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "a staging directory is left behind");
            }
        }
    }
}

impl Attributes {
    fn size(&self) -> usize {
        let names = self.owner_name.len() + self.group_name.len();
        let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 64;
        names + self.xattrs.iter().map(xattr).sum::<usize>()
    }
}

fn twice(path: &[u8]) -> String {
    format!("{} is there twice", String::from_utf8_lossy(path))
}

fn times(attributes: &Attributes) -> Timestamps {
    let time = Timespec {
        tv_sec: attributes.mtime.seconds,
        tv_nsec: attributes.mtime.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Removes a tree, its directories that forbid it included.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
            allow_removal(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn allow_removal(directory: &Path) -> io::Result<()> {
    sys::chmod(directory, Mode::RWXU)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            allow_removal(&entry.path())?;
        }
    }
    Ok(())
}
