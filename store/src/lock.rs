//! The lock that one process holds at a time, and that says who.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
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
    file: File,
}

impl Lock {
    /// Takes the lock, without waiting for it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process (or this one) holds it.
    pub(crate) fn take(home: &Path, purpose: &str, disk: &Disk) -> Result<Self, StoreError> {
        let path = home.join("lock");
        let mut file = File::options()
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
        let purpose: String = purpose
            .chars()
            .filter(|c| !c.is_control())
            .take(HOLDER_SIZE_MAX / 8)
            .collect();
        disk.step(|_| {
            file.set_len(0)?;
            writeln!(file, "{} {purpose}", std::process::id())
        })
        .map_err(|e| failed("write", &path, e))?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock file that names nobody is never mistaken for one whose holder is alive.
        let _ = self.file.set_len(0);
        let _ = flock(&self.file, FlockOperation::Unlock);
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
