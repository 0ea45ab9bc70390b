//! Brings what is restored to disk while the rest is still being restored.

use std::{cell::Cell, fs::File, io, path::Path, thread};

use crossbeam_channel::{Sender, bounded};
use rustix::fs::syncfs;

/// Bytes after which what was written so far is brought to disk.
const EVERY: u64 = 64 << 20;

/// A thread that syncs the file system of a directory.
#[derive(Debug)]
pub(super) struct WriteBack {
    root: File,
    nudges: Sender<()>,
    thread: thread::JoinHandle<io::Result<()>>,
    unsynced: Cell<u64>,
}

impl WriteBack {
    /// Starts for what is written to the file system of `directory`.
    pub(super) fn on(directory: &Path) -> io::Result<Self> {
        // A file tells of those errors that came after it was opened.
        let root = File::open(directory)?;
        let beside = root.try_clone()?;
        let (nudges, nudged) = bounded::<()>(1);
        let thread = thread::Builder::new().spawn(move || {
            for () in nudged {
                syncfs(&beside)?;
            }
            Ok(())
        })?;
        Ok(Self {
            root,
            nudges,
            thread,
            unsynced: Cell::new(0),
        })
    }

    /// Notes that some bytes were written.
    pub(super) fn wrote(&self, bytes: usize) {
        let unsynced = self.unsynced.get() + bytes as u64;
        let nudged = unsynced >= EVERY && self.nudges.try_send(()).is_ok();
        self.unsynced.set(if nudged { 0 } else { unsynced });
    }

    /// Returns when everything is on disk.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.nudges);
        let beside = self.thread.join();
        beside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        // Cheaper than file by file.
        Ok(syncfs(&self.root)?)
    }
}
