//! Faults for tests: write N fails, in the way that a test says.
//!
//! After a fault other than [`FaultKind::NoSpace`] the process counts as dead, and the machine
//! as crashed: what was written to packs but not synced is lost in whole
//! ([`FaultKind::Lost`]), in half ([`FaultKind::Torn`]) or not at all ([`FaultKind::Landed`]),
//! as are packs whose directory was not synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex},
};

use crate::disk::Extent;

/// What becomes of the write that fails, and of what was not synced before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It is done, but nobody is told.
    Landed,
    /// It is not done.
    Lost,
    /// Half of it is done.
    Torn,
    /// Half of it is done when the disk is full. The process lives on, and later writes succeed.
    NoSpace,
    /// It waits for [`Faults::release`], and succeeds.
    Held,
}

/// Counts the writes of one store, and makes one of them fail.
#[derive(Debug)]
pub struct Faults {
    nth: u64,
    kind: FaultKind,
    pack_size_max: Option<u64>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    writes: u64,
    dead: bool,
    held: bool,
    released: bool,
    /// Length up to which a file is durable, of each that was written since its last sync.
    unsynced: BTreeMap<PathBuf, u64>,
    created: BTreeSet<PathBuf>,
    /// What was in the place of a file that was put there since the last sync of its directory.
    replaced: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Faults {
    /// Lets write `nth` fail, counted from 0.
    #[must_use]
    pub fn new(nth: u64, kind: FaultKind) -> Self {
        Self {
            nth,
            kind,
            pack_size_max: None,
            inner: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Lets no write fail, but counts them.
    #[must_use]
    pub fn none() -> Self {
        Self::new(u64::MAX, FaultKind::Lost)
    }

    /// Makes packs smaller, so that a test sees many of them.
    #[must_use]
    pub fn with_pack_size(mut self, bytes: u64) -> Self {
        self.pack_size_max = Some(bytes);
        self
    }

    /// Writes so far, the one that failed included.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.inner().writes
    }

    /// Whether the process counts as dead.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.inner().dead
    }

    /// Waits until the write that is to be held is reached.
    pub fn wait_held(&self) {
        let reached = self.changed.wait_while(self.inner(), |inner| !inner.held);
        drop(reached.expect("no panic while it is held"));
    }

    /// Lets the write go on that is held.
    pub fn release(&self) {
        self.inner().released = true;
        self.changed.notify_all();
    }

    fn hold(&self) {
        let mut inner = self.inner();
        inner.held = true;
        self.changed.notify_all();
        let released = self.changed.wait_while(inner, |inner| !inner.released);
        drop(released.expect("no panic while it is held"));
    }

    pub(crate) fn pack_size_max(&self) -> Option<u64> {
        self.pack_size_max
    }

    pub(crate) fn step(&self, does: impl FnOnce(Extent) -> io::Result<()>) -> io::Result<()> {
        let fails = {
            let mut inner = self.inner();
            if inner.dead {
                return Err(dead());
            }
            let fails = inner.writes == self.nth;
            inner.writes += 1;
            inner.dead = fails && !matches!(self.kind, FaultKind::NoSpace | FaultKind::Held);
            fails
        };
        if !fails {
            return does(Extent::Whole);
        }
        match self.kind {
            FaultKind::Held => {
                self.hold();
                return does(Extent::Whole);
            }
            FaultKind::Landed => does(Extent::Whole)?,
            FaultKind::Torn => does(Extent::Half)?,
            FaultKind::Lost => {}
            FaultKind::NoSpace => {
                does(Extent::Half)?;
                return Err(rustix::io::Errno::NOSPC.into());
            }
        }
        self.crash()?;
        Err(dead())
    }

    pub(crate) fn created(&self, path: &Path) {
        self.inner().created.insert(path.to_owned());
    }

    /// Notes that a file is about to be put in the place of another.
    pub(crate) fn replaced(&self, path: &Path) {
        let before = std::fs::read(path).ok();
        let mut inner = self.inner();
        inner.replaced.entry(path.to_owned()).or_insert(before);
    }

    /// Notes a write of bytes that were not durable before.
    pub(crate) fn wrote(&self, path: &Path, offset: u64) {
        let mut inner = self.inner();
        inner.unsynced.entry(path.to_owned()).or_insert(offset);
    }

    pub(crate) fn synced(&self, path: &Path) {
        self.inner().unsynced.remove(path);
    }

    pub(crate) fn dir_synced(&self, path: &Path) {
        let mut inner = self.inner();
        inner.created.retain(|file| file.parent() != Some(path));
        inner.replaced.retain(|file, _| file.parent() != Some(path));
    }

    /// Takes away what a crash of the machine would.
    fn crash(&self) -> io::Result<()> {
        let inner = self.inner();
        if self.kind == FaultKind::Landed {
            return Ok(());
        }
        for (path, durable) in &inner.unsynced {
            let Ok(file) = OpenOptions::new().write(true).open(path) else {
                continue;
            };
            let len = file.metadata()?.len();
            let unsynced = len.saturating_sub(*durable);
            let kept = match self.kind {
                FaultKind::Torn => unsynced / 2,
                _ => 0,
            };
            file.set_len(len - unsynced + kept)?;
        }
        if self.kind == FaultKind::Lost {
            for path in &inner.created {
                std::fs::remove_file(path)?;
            }
            for (path, before) in &inner.replaced {
                match before {
                    Some(before) => std::fs::write(path, before)?,
                    None => std::fs::remove_file(path)?,
                }
            }
        }
        Ok(())
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no panic while it is held")
    }
}

fn dead() -> io::Error {
    io::Error::other("the process is dead, for this test")
}
