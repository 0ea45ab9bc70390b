//! The lock that one process holds at a time, and that says who.

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

use crate::{StoreError, disk::Disk, pack::failed};

/// Most bytes of the lock file that are read or written.
const HOLDER_SIZE_MAX: usize = 256;
/// How long an empty lock file is taken for one whose holder is just writing its name.
const HOLDER_WAIT: Duration = Duration::from_millis(100);

/// The lock, as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Nothing once it was handed over.
    file: Option<File>,
}

impl Lock {
    /// Takes the lock, without waiting for it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process (or this one) holds it.
    pub(crate) fn take(home: &Path, purpose: &str, disk: &Disk) -> Result<Self, StoreError> {
        let path = home.join("lock");
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| failed("open", &path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(holder(&file)),
            Err(e) => return Err(failed("lock", &path, e.into())),
        }
        Self::signed(file, &path, purpose, disk)
    }

    /// Takes the lock that another process, or another part of this one, handed over.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if it is not the lock of this home, or not held any more.
    pub(crate) fn adopt(
        file: File,
        home: &Path,
        purpose: &str,
        disk: &Disk,
    ) -> Result<Self, StoreError> {
        let path = home.join("lock");
        let read = |e| failed("read", &path, e);
        let (given, own) = (
            file.metadata().map_err(read)?,
            path.metadata().map_err(read)?,
        );
        let same = (given.dev(), given.ino()) == (own.dev(), own.ino());
        // Who has the description of the file has its lock; and it costs nothing to be sure.
        if !same || flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(holder(&file));
        }
        Self::signed(file, &path, purpose, disk)
    }

    /// Gives the lock away: it is held for as long as anybody has this file.
    pub(crate) fn hand_over(mut self) -> Option<File> {
        let file = self.file.take();
        if let Some(file) = &file {
            let _ = file.set_len(0);
        }
        file
    }

    /// Writes into the file who holds it.
    fn signed(file: File, path: &Path, purpose: &str, disk: &Disk) -> Result<Self, StoreError> {
        let purpose: String = purpose
            .chars()
            .filter(|c| !c.is_control())
            .take(HOLDER_SIZE_MAX / 8)
            .collect();
        let lock = Self { file: Some(file) };
        disk.step(|_| {
            let file = lock.file.as_ref().expect("it was not handed over");
            file.set_len(0)?;
            file.write_all_at(format!("{} {purpose}\n", std::process::id()).as_bytes(), 0)
        })
        .map_err(|e| failed("write", path, e))?;
        Ok(lock)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A lock file that names nobody is never mistaken for one whose holder is alive.
            let _ = file.set_len(0);
            let _ = flock(file, FlockOperation::Unlock);
        }
    }
}

fn holder(file: &File) -> StoreError {
    let began = Instant::now();
    loop {
        let mut bytes = [0; HOLDER_SIZE_MAX];
        let len = file.read_at(&mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&bytes[..len]);
        if let Some((pid, purpose)) = text.strip_suffix('\n').and_then(|t| t.split_once(' ')) {
            return StoreError::InUse {
                pid: pid.parse().unwrap_or(0),
                purpose: purpose.to_owned(),
            };
        }
        if began.elapsed() > HOLDER_WAIT {
            return StoreError::InUse {
                pid: 0,
                purpose: "just starting or ending".to_owned(),
            };
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
