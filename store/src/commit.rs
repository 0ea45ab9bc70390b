//! The order in which a commit makes things durable, and what it does when it cannot.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::block::check;

use crate::{
    Blocks, Store, StoreError,
    error::is_full,
    index::{Changes, Value},
    pack::{HEADER, failed, frame_head},
    staged::{OpenPack, Staged, StagedBlock, State, Unsynced},
    store::Writer,
};

/// Free space that a put leaves, so that what was put can still be committed, in bytes.
const PUT_RESERVE: u64 = 32 << 20;
/// Free space below which a commit does not begin, in bytes: sled does not survive a full disk.
const COMMIT_RESERVE: u64 = 8 << 20;
/// Free space is looked at each time that this much was put, in bytes.
const CHECK_EVERY: u64 = 1 << 20;

impl Store {
    /// Refuses a put that would leave too little space for a commit.
    pub(crate) fn check_space(&self, state: &mut State) -> Result<(), StoreError> {
        if state.unchecked > 0 && state.unchecked < CHECK_EVERY {
            return Ok(());
        }
        if self.free_space() < PUT_RESERVE {
            state.unchecked = 0;
            return Err(full(state, rustix::io::Errno::NOSPC.into()));
        }
        state.unchecked = 1;
        Ok(())
    }

    /// Free bytes for this user; as good as unlimited where that is not known.
    fn free_space(&self) -> u64 {
        rustix::fs::statvfs(&self.home)
            .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    /// Makes what is staged durable: all of it, or only the blocks.
    pub(crate) fn commit_staged(&self, writer: &Writer, values: bool) -> Result<(), StoreError> {
        let _turn = writer.turn.lock().expect("no panic while it is held");
        let (staged, unsynced, durable) = {
            let mut state = writer.state();
            if state.stopped {
                return Err(StoreError::Stopped);
            }
            let staged = Arc::new(state.pending.take(values));
            if staged.is_empty() {
                return Ok(());
            }
            state.committing = Some(staged.clone());
            let unsynced = std::mem::take(&mut state.unsynced);
            (staged, unsynced, state.durable)
        };
        let mut total = durable;
        for block in staged.blocks.values().filter(|block| !block.replaces) {
            total.count += 1;
            total.size_bytes += u64::from(block.location.size);
        }
        let done = self.make_durable(&staged, &unsynced, total);
        let mut state = writer.state();
        state.committing = None;
        match done {
            Ok(()) => {
                state.durable = total;
                Ok(())
            }
            Err(failure) => {
                state.pending.put_back(Arc::unwrap_or_clone(staged));
                state.unsynced.put_back(unsynced);
                state.unsynced.suspect |= failure.unsynced;
                let error = explain(&state, failure.what, &failure.path, failure.cause);
                state.stopped |= !matches!(error, StoreError::Full { .. });
                Err(error)
            }
        }
    }

    /// Packs, their directory, the index: what names something comes after it.
    fn make_durable(
        &self,
        staged: &Staged,
        unsynced: &Unsynced,
        total: Blocks,
    ) -> Result<(), CommitFailed> {
        if self.free_space() < COMMIT_RESERVE {
            let cause = rustix::io::Errno::NOSPC.into();
            return Err(CommitFailed::new("write", &self.home, cause));
        }
        for pack in unsynced.packs.values() {
            if unsynced.suspect {
                self.write_again(pack, staged.blocks.values())?;
            }
            self.disk
                .sync(&pack.file, &pack.path)
                .map_err(|e| CommitFailed {
                    unsynced: true,
                    ..CommitFailed::new("sync", &pack.path, e)
                })?;
        }
        if unsynced.dir {
            self.disk
                .sync_dir(&self.packs_dir)
                .map_err(|e| CommitFailed::new("sync", &self.packs_dir, e))?;
        }
        let changes = Changes {
            blocks: staged
                .blocks
                .iter()
                .map(|(multihash, block)| (multihash.as_slice(), block.location))
                .collect(),
            values: staged
                .values
                .iter()
                .map(|((table, key), value)| Value {
                    table: *table,
                    key,
                    value: value.as_deref(),
                })
                .collect(),
            packs: staged.packs.iter().map(|(n, len)| (*n, *len)).collect(),
            total,
        };
        self.catalog
            .commit(&changes)
            .map_err(|e| CommitFailed::new("write", &self.home, e))
    }

    /// Writes blocks of a pack again: after a sync failed, the system takes for clean what it
    /// did not write, so that another sync would succeed without writing it.
    fn write_again<'a>(
        &self,
        pack: &OpenPack,
        blocks: impl Iterator<Item = &'a StagedBlock>,
    ) -> Result<(), CommitFailed> {
        let failed = |e| CommitFailed {
            unsynced: true,
            ..CommitFailed::new("write", &pack.path, e)
        };
        self.disk
            .write(&pack.file, &pack.path, 0, [&HEADER, &[]])
            .map_err(failed)?;
        for block in blocks.filter(|block| block.location.pack == pack.number) {
            let mut bytes = vec![0; block.location.size as usize];
            pack.file
                .read_exact_at(&mut bytes, block.location.offset)
                .map_err(failed)?;
            check(&block.cid, &bytes).map_err(|e| failed(std::io::Error::other(e)))?;
            let head = frame_head(&block.cid, bytes.len());
            let begin = block.location.offset - head.len() as u64;
            self.disk
                .write(&pack.file, &pack.path, begin, [&head, &bytes])
                .map_err(failed)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct CommitFailed {
    what: &'static str,
    path: PathBuf,
    cause: std::io::Error,
    /// A sync failed, or did not come to it: what is pending must be written again.
    unsynced: bool,
}

impl CommitFailed {
    fn new(what: &'static str, path: &Path, cause: std::io::Error) -> Self {
        Self {
            what,
            path: path.to_owned(),
            cause,
            unsynced: false,
        }
    }
}

pub(crate) fn explain(
    state: &State,
    what: &'static str,
    path: &Path,
    cause: std::io::Error,
) -> StoreError {
    if is_full(&cause) {
        full(state, cause)
    } else {
        failed(what, path, cause)
    }
}

fn full(state: &State, cause: std::io::Error) -> StoreError {
    let committing = state.committing.as_ref().map_or(0, |set| set.blocks.len());
    StoreError::Full {
        blocks_durable: state.durable.count,
        blocks_pending: (state.pending.blocks.len() + committing) as u64,
        cause,
    }
}
