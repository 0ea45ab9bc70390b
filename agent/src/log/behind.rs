//! The rollback guard: what makes a node stop signing, for as long as it holds.
//!
//! `HOME/log/own/behind` is a checkpoint of the own log that others have and this home has not; an agent fetches what is missing, and
//! takes it away then.
//! `HOME/log/own/forked` is a proof that the log has two histories.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use protocol::log::{
    checkpoint::{SignedCheckpoint, UnverifiedCheckpoint},
    fork::Fork,
};
use store::StoreError;

use super::{LogError, places::own_dir};
use crate::durable_file;

/// Largest checkpoint that is read, in bytes.
const NOTE_SIZE_MAX: u64 = 1 << 20;

/// Remembers what others saw of the own log.
///
/// # Errors
/// It cannot be written.
pub(super) fn remember(home: &Path, seen: &SignedCheckpoint) -> Result<(), LogError> {
    write(&own_dir(home).join("behind"), &seen.to_string())
}

/// Forgets it: all of it is here.
///
/// # Errors
/// It cannot be taken away.
pub(super) fn forget(home: &Path) -> Result<(), LogError> {
    let path = own_dir(home).join("behind");
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, e)),
        _ => Ok(()),
    }
}

/// Remembers that the own log was forked.
///
/// # Errors
/// It cannot be written.
pub(super) fn remember_fork(home: &Path, proof: &Fork) -> Result<(), LogError> {
    write(&forked_file(home), &proof.to_string())
}

/// What others saw of the own log, if it was more than was here.
///
/// # Errors
/// It cannot be read.
pub(super) fn seen(home: &Path) -> Result<Option<UnverifiedCheckpoint>, LogError> {
    let path = own_dir(home).join("behind");
    let mut note = Vec::new();
    match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened
            .and_then(|file| file.take(NOTE_SIZE_MAX).read_to_end(&mut note))
            .map_err(|cause| failed("read", &path, cause))?,
    };
    Ok(Some(UnverifiedCheckpoint::parse(&note)?))
}

/// The proof that the own log was forked, if there is one.
pub(super) fn forked(home: &Path) -> Option<PathBuf> {
    Some(forked_file(home)).filter(|path| path.exists())
}

/// Where the proof is that the own log was forked, if it was.
pub(super) fn forked_file(home: &Path) -> PathBuf {
    own_dir(home).join("forked")
}

fn write(path: &Path, text: &str) -> Result<(), LogError> {
    durable_file::replace(path, text.as_bytes()).map_err(|cause| failed("write", path, cause))
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> LogError {
    LogError::Store(StoreError::Io {
        what,
        path: path.to_owned(),
        cause,
    })
}
