//! Staging directories of imports that were killed.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::fs::{self as sys, FlockOperation, Mode, OFlags};

use super::staging::{PREFIX, remove_tree};

/// A directory that is younger may be about to be locked.
const AGE_MIN: Duration = Duration::from_secs(60);

/// Opens a staging directory and keeps others from taking it for a leftover.
pub(super) fn hold(staging: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = sys::open(staging, flags, Mode::empty())?;
    sys::flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
    Ok(directory)
}

/// Removes what killed imports left in `parent`: restored data, which a snapshot still has.
///
/// What was moved out of a target stays where it is.
pub(super) fn remove(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) || !is_leftover(&path) {
            continue;
        }
        match hold(&path).and_then(|_held| remove_tree(&path)) {
            Ok(()) => tracing::info!(path = %path.display(), "leftover of a killed import removed"),
            Err(error) => tracing::debug!(path = %path.display(), %error, "leftover stays"),
        }
    }
}

fn is_leftover(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return false;
    };
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    let replaced_nothing = fs::read_dir(path.join("old")).is_ok_and(|mut old| old.next().is_none());
    metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && age.is_some_and(|age| age >= AGE_MIN)
        && replaced_nothing
}
