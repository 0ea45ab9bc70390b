//! Letting go of the log of a node that is followed no more.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use cid::Cid;
use protocol::log::{checkpoint::Origin, keys::origin_of};
use rustix::fs::{FlockOperation, flock};
use store::{StoreError, log::LogReader};

use super::{LogError, places::followed_dir};
use crate::federation::Federation;

/// What is kept of a log for ever: the proofs that it was forked.
const FORKS: &str = "forks";
/// What says that there is a log: it goes first, and the lock last.
const CHECKPOINT: &str = "checkpoint";
const LOCK: &str = "lock";

/// Why a log is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// There is nothing of it but fork proofs, if those.
    #[error("this home has no log of {0}")]
    Unknown(Origin),
    /// It is followed.
    #[error("{0} is the log of a member of the federation")]
    Followed(Origin),
    /// It cannot be read or removed.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The log of another node, to be forgotten.
#[derive(Debug)]
pub struct Forgotten {
    dir: PathBuf,
    files: Vec<PathBuf>,
    /// How many entries it has, if that can be read.
    pub entries: Option<u64>,
    /// Bytes that its files take.
    pub bytes: u64,
    /// Fork proofs about it, which stay.
    pub forks: usize,
    _lock: File,
}

impl Forgotten {
    /// Finds what there is of a log in a home, by the CID of its first entry. Nobody appends to it from then on.
    ///
    /// # Errors
    /// There is nothing of it, it is followed, or it cannot be read.
    pub fn find(home: &Path, genesis: &Cid) -> Result<Self, ForgetError> {
        let (dir, origin) = (followed_dir(home, genesis), origin_of(genesis));
        let failed = |cause| ForgetError::Log(failed("read", &dir, cause));
        let listed = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(ForgetError::Unknown(origin));
            }
            listed => listed.map_err(failed)?,
        };
        let mut files = Vec::new();
        for file in listed {
            let path = file.map_err(failed)?.path();
            if !path.ends_with(FORKS) && !path.ends_with(LOCK) {
                files.push(path);
            }
        }
        let forks = super::following::forks(&dir)?.len();
        if files.is_empty() && (forks > 0 || !dir.join(LOCK).exists()) {
            return Err(ForgetError::Unknown(origin));
        }
        let unfollowed = || -> Result<(), ForgetError> {
            let federation = Federation::load(home).map_err(LogError::from)?;
            match federation.members().any(|m| m.invite.origin() == origin) {
                true => Err(ForgetError::Followed(origin.clone())),
                false => Ok(()),
            }
        };
        // An agent that follows it may have the lock; and once it is taken, who is to follow it waits for it.
        unfollowed()?;
        let lock = lock(&dir)?;
        unfollowed()?;
        files.sort_by_key(|path| !path.ends_with(CHECKPOINT));
        let sizes = files.iter().map(|path| fs::metadata(path).map(|m| m.len()));
        let entries = LogReader::open(&dir).ok().flatten();
        Ok(Self {
            bytes: sizes.sum::<io::Result<u64>>().map_err(failed)?,
            entries: entries.map(|reader| reader.head().size),
            forks,
            files,
            dir,
            _lock: lock,
        })
    }

    /// Removes it, but for fork proofs. What a crash leaves is found again.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(self) -> Result<(), ForgetError> {
        let lock = self.dir.join(LOCK);
        for path in self.files.iter().chain([&lock]) {
            let removed = match path.is_dir() {
                true => fs::remove_dir_all(path),
                false => fs::remove_file(path),
            };
            removed.map_err(|cause| failed("remove", path, cause))?;
        }
        let parent = self.dir.parent().unwrap_or(&self.dir);
        let synced = match fs::remove_dir(&self.dir) {
            Ok(()) => parent,
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => &self.dir,
            Err(cause) => return Err(failed("remove", &self.dir, cause).into()),
        };
        let synced = File::open(synced).and_then(|dir| dir.sync_all());
        Ok(synced.map_err(|cause| failed("sync", &self.dir, cause))?)
    }
}

/// Keeps others from appending.
fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(LOCK);
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|cause| failed("open", &path, cause))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LogError::Store(StoreError::InUse {
            pid: 0,
            purpose: "appending to the log".to_owned(),
        })),
        Err(errno) => Err(failed("lock", &path, errno.into())),
    }
}

fn failed(what: &'static str, path: &Path, cause: io::Error) -> LogError {
    LogError::Store(StoreError::Io {
        what,
        path: path.to_owned(),
        cause,
    })
}
