//! Puts a staged tree in place.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as sys, AtFlags, FileType, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags},
    io::Errno,
};

use super::staging::Staging;
use crate::{
    archive::dirs::{Root, join},
    target::{Existing, TargetError, parents::MadeParents},
};

/// A place for a tree, and what may be done there.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    parent: PathBuf,
    existing: Existing,
    found: Found,
    _made: MadeParents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A directory.
    Empty,
    /// A directory with something in it.
    Full,
    /// No directory.
    File,
}

impl Found {
    fn allow(self, path: &Path, existing: Existing) -> Result<(), TargetError> {
        let path = path.display();
        match (self, existing) {
            (Self::Full, Existing::Refuse) => Err(TargetError::NotEmpty(path.to_string())),
            (Self::File, Existing::Refuse | Existing::Merge) => Err(TargetError::Unsuitable(
                format!("{path} is not a directory"),
            )),
            _ => Ok(()),
        }
    }
}

impl Place {
    /// Looks at a place and makes nothing.
    pub(super) fn check(path: &Path, existing: Existing) -> Result<(), TargetError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| TargetError::Io { path, cause }
        };
        if let Err(cause) = fs::symlink_metadata(path) {
            if cause.kind() != io::ErrorKind::NotFound {
                return Err(failed(path)(cause));
            }
            let absolute = std::path::absolute(path).map_err(failed(path))?;
            let parent = absolute.parent().unwrap_or(Path::new("/"));
            return MadeParents::check(parent).map_err(failed(parent));
        }
        let path = fs::canonicalize(path).map_err(failed(path))?;
        let found = look(&path).map_err(failed(&path))?;
        found.allow(&path, existing)?;
        let parent = path.parent().unwrap_or(&path);
        match MadeParents::check(parent) {
            Err(_) if matches!(found, Found::Empty | Found::Full) => MadeParents::check(&path),
            beside => beside,
        }
        .map_err(failed(parent))
    }

    /// Looks at a place.
    pub(super) fn find(path: &Path, existing: Existing) -> Result<Self, TargetError> {
        let failed = |cause| TargetError::Io {
            path: path.to_owned(),
            cause,
        };
        let mut made = MadeParents::default();
        let (path, found) = match fs::symlink_metadata(path) {
            // A symlink is followed here, and nowhere below.
            Ok(_) => {
                let path = fs::canonicalize(path).map_err(failed)?;
                let found = look(&path).map_err(failed)?;
                (path, found)
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let absolute = std::path::absolute(path).map_err(failed)?;
                let name = absolute.file_name().ok_or(cause).map_err(failed)?;
                let parent = absolute.parent().unwrap_or(Path::new("/"));
                let parent = made.make(parent).map_err(|cause| TargetError::Io {
                    path: parent.to_owned(),
                    cause,
                })?;
                (parent.join(name), Found::Nothing)
            }
            Err(cause) => return Err(failed(cause)),
        };
        found.allow(&path, existing)?;
        let parent = path.parent().unwrap_or(&path).to_owned();
        Ok(Self {
            path,
            parent,
            existing,
            found,
            _made: made,
        })
    }

    /// Makes a staging directory on the file system of the place: beside it, or in it.
    pub(super) fn stage(&self) -> Result<Staging, TargetError> {
        let is_directory = matches!(self.found, Found::Empty | Found::Full);
        let beside = if is_directory && is_mount_point(&self.path) {
            Err(Errno::XDEV.into())
        } else {
            Staging::in_directory(&self.parent)
        };
        match beside {
            Err(_) if is_directory => Staging::in_directory(&self.path),
            beside => beside,
        }
        .map_err(|cause| TargetError::Io {
            path: self.parent.clone(),
            cause,
        })
    }

    /// Puts the tree in place, and on disk.
    pub(super) fn commit(self, mut staging: Staging) -> Result<(), TargetError> {
        let failed = |cause| TargetError::Io {
            path: self.path.clone(),
            cause,
        };
        staging.sync().map_err(failed)?;
        let merge = self.found == Found::Full && self.existing == Existing::Merge;
        if merge || staging.path().parent() == Some(&self.path) {
            return self.move_into(staging, merge);
        }
        match self.found {
            Found::Nothing | Found::Empty => self.rename(&staging),
            Found::Full | Found::File => self.exchange(&staging),
        }
        .and_then(|()| File::open(&self.parent)?.sync_all())
        .map_err(failed)?;
        staging.remove()
    }

    fn rename(&self, staging: &Staging) -> io::Result<()> {
        let new = staging.new_path();
        if self.found == Found::Empty && !staging.has_root() {
            fs::set_permissions(&new, fs::metadata(&self.path)?.permissions())?;
        }
        // Onto an empty directory, but nothing else, that is there.
        movable(&new, || fs::rename(&new, &self.path), &self.path)
    }

    fn exchange(&self, staging: &Staging) -> io::Result<()> {
        let (new, old) = (staging.new_path(), staging.old_path().join("0"));
        let exchanged = movable(
            &new,
            || {
                Ok(sys::renameat_with(
                    sys::CWD,
                    &new,
                    sys::CWD,
                    &self.path,
                    RenameFlags::EXCHANGE,
                )?)
            },
            &self.path,
        );
        match exchanged.as_ref().map_err(Errno::from_io_error) {
            // Not every file system can.
            Err(Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) => {
                fs::rename(&self.path, &old)?;
                self.rename(staging).inspect_err(|_| {
                    if let Err(error) = fs::rename(&old, &self.path) {
                        tracing::error!(%error, old = %old.display(), "the target could not be put back");
                    }
                })
            }
            _ => exchanged,
        }
    }

    /// Moves entries into a directory one by one, and all of them back if one cannot be moved.
    fn move_into(&self, mut staging: Staging, merge: bool) -> Result<(), TargetError> {
        let failed = |cause| TargetError::Io {
            path: self.path.clone(),
            cause,
        };
        let mut mover = Mover::new(&staging, &self.path).map_err(failed)?;
        let plan = match (merge, self.found) {
            (true, _) => mover.plan_merge()?,
            (false, found) => mover
                .plan_replace(found == Found::Full, staging.path())
                .map_err(failed)?,
        };
        if let Err((cause, undone)) = mover.run(&plan) {
            if !undone {
                let kept = staging.path().display().to_string();
                staging.keep();
                let what = format!("{cause}; what could not be moved back is in {kept}");
                return Err(failed(io::Error::new(cause.kind(), what)));
            }
            return Err(failed(cause));
        }
        if !merge {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            sys::open(&self.path, flags, Mode::empty())
                .map_err(io::Error::from)
                .and_then(|directory| staging.dress_root(&directory))
                .map_err(failed)?;
        }
        sync(&self.path).map_err(failed)?;
        // Removing the staging directory touches the root.
        let times = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        staging.remove()?;
        if let (false, Ok(mtime)) = (merge, times) {
            File::open(&self.path)
                .and_then(|root| root.set_modified(mtime))
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// A move from one tree into the other.
#[derive(Debug)]
enum Step {
    /// Out of the target, out of the way.
    Away(Vec<u8>),
    /// Into the target.
    In(Vec<u8>),
}

struct Mover {
    new: Root,
    old: Root,
    target: Root,
    target_path: PathBuf,
    aside: usize,
}

impl Mover {
    fn new(staging: &Staging, target: &Path) -> io::Result<Self> {
        Ok(Self {
            new: Root::open(&staging.new_path())?,
            old: Root::open(&staging.old_path())?,
            target: Root::open(target)?,
            target_path: target.to_owned(),
            aside: 0,
        })
    }

    /// Everything there out, everything new in.
    fn plan_replace(&mut self, full: bool, staging: &Path) -> io::Result<Vec<Step>> {
        let mut steps = Vec::new();
        let base = staging.file_name().unwrap_or_default().as_encoded_bytes();
        if full {
            let there = self.target.names(b"")?;
            let there = there.into_iter().filter(|name| **name != *base);
            steps.extend(there.map(|name| Step::Away(name.into())));
        }
        let new = self.new.names(b"")?;
        steps.extend(new.into_iter().map(|name| Step::In(name.into())));
        Ok(steps)
    }

    /// Directories are united, files replaced; nothing is done before all of it is known to fit.
    fn plan_merge(&mut self) -> Result<Vec<Step>, TargetError> {
        let (mut steps, mut todo) = (Vec::new(), vec![Vec::new()]);
        while let Some(directory) = todo.pop() {
            let names = self.new.names(&directory);
            for name in names.map_err(|cause| self.failed(&directory, cause))? {
                let path = join(&directory, &name);
                let new = is_directory(&mut self.new, &path);
                let there = is_directory(&mut self.target, &path);
                let failed = |cause| self.failed(&path, cause);
                match (new.map_err(failed)?, there.map_err(failed)?) {
                    (_, None) => steps.push(Step::In(path)),
                    (Some(true), Some(true)) => todo.push(path),
                    (Some(true), Some(false)) => {
                        return Err(self.unsuitable(&path, "is in the place of a directory"));
                    }
                    (_, Some(true)) => {
                        return Err(self.unsuitable(&path, "is a directory in the place of a file"));
                    }
                    (_, Some(false)) => {
                        steps.extend([Step::Away(path.clone()), Step::In(path)]);
                    }
                }
            }
        }
        Ok(steps)
    }

    fn failed(&self, path: &[u8], cause: io::Error) -> TargetError {
        let path = self.target_path.join(OsStr::from_bytes(path));
        TargetError::Io { path, cause }
    }

    fn unsuitable(&self, path: &[u8], what: &str) -> TargetError {
        let path = self.target_path.join(OsStr::from_bytes(path));
        TargetError::Unsuitable(format!("{} {what}", path.display()))
    }

    /// Takes all steps, or none: false if some of those taken could not be taken back.
    fn run(&mut self, steps: &[Step]) -> Result<(), (io::Error, bool)> {
        for (taken, step) in steps.iter().enumerate() {
            if let Err(cause) = self.take(step) {
                let undone = steps[..taken].iter().rev().map(|step| self.take_back(step));
                // Each is tried, whatever becomes of the others.
                let failures = undone.filter(Result::is_err).count();
                return Err((cause, failures == 0));
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Away(path) => {
                let name = self.aside.to_string().into_bytes();
                rename(&mut self.target, path, &mut self.old, &name)?;
                self.aside += 1;
                Ok(())
            }
            Step::In(path) => rename(&mut self.new, path, &mut self.target, path),
        }
    }

    fn take_back(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Away(path) => {
                self.aside -= 1;
                let name = self.aside.to_string().into_bytes();
                rename(&mut self.old, &name, &mut self.target, path)
            }
            Step::In(path) => rename(&mut self.target, path, &mut self.new, path),
        }
    }
}

/// Whether there is a directory, something else, or nothing.
fn is_directory(root: &mut Root, path: &[u8]) -> io::Result<Option<bool>> {
    match root.stat(path) {
        Ok(stat) => Ok(Some(
            FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
        )),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Renames onto nothing.
fn rename(from: &mut Root, path: &[u8], to: &mut Root, new_path: &[u8]) -> io::Result<()> {
    let stat = from.stat(path)?;
    let (from_dir, from_name) = from.parent(path)?;
    let (to_dir, to_name) = to.parent(new_path)?;
    let moved = || -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        match sys::renameat_with(&*from_dir, from_name, &*to_dir, to_name, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                Ok(sys::renameat(&*from_dir, from_name, &*to_dir, to_name)?)
            }
            result => Ok(result?),
        }
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !directory || mode.contains(Mode::WUSR) {
        return moved();
    }
    // A directory is changed when it moves, and says who may.
    sys::chmodat(&*from_dir, from_name, mode | Mode::WUSR, AtFlags::empty())?;
    let result = moved();
    let (dir, name) = match result {
        Ok(()) => (&to_dir, to_name),
        Err(_) => (&from_dir, from_name),
    };
    sys::chmodat(&**dir, name, mode, AtFlags::empty())?;
    result
}

/// Moves a directory to `to` though it may not be written to.
fn movable(path: &Path, rename: impl FnOnce() -> io::Result<()>, to: &Path) -> io::Result<()> {
    let permissions = fs::metadata(path)?.permissions();
    let mode = Mode::from_raw_mode(std::os::unix::fs::PermissionsExt::mode(&permissions));
    sys::chmod(path, mode | Mode::WUSR)?;
    let result = rename();
    fs::set_permissions(if result.is_ok() { to } else { path }, permissions)?;
    result
}

fn look(path: &Path) -> io::Result<Found> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(Found::File);
    }
    Ok(match fs::read_dir(path)?.next() {
        None => Found::Empty,
        Some(_) => Found::Full,
    })
}

/// Whether something is mounted there: nothing can be renamed onto it.
fn is_mount_point(path: &Path) -> bool {
    let statx = sys::statx(sys::CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
    statx.is_ok_and(|statx| statx.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Waits until all of a file system is on disk: cheaper than file by file.
fn sync(path: &Path) -> io::Result<()> {
    Ok(sys::syncfs(File::open(path)?)?)
}
