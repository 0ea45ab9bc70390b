//! Word of blocks that arrive, for who reads them while they do.

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cid::Cid;
use protocol::block::UnverifiedBlock;
use store::{Store, StoreError};

/// How long to wait for word: a running agent that pulls gives none.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether blocks may still arrive.
#[derive(Debug, Default)]
pub struct Arrivals {
    ended: Mutex<bool>,
    came: Condvar,
}

/// No more blocks arrive once this is dropped.
#[derive(Debug)]
pub(crate) struct EndOnDrop<'a>(&'a Arrivals);

impl Arrivals {
    /// Says that a block is in the store.
    pub(crate) fn notify(&self) {
        self.came.notify_all();
    }

    /// Says that no more blocks arrive, when what is returned is dropped.
    pub(crate) fn end_on_drop(&self) -> EndOnDrop<'_> {
        EndOnDrop(self)
    }

    /// The block of a CID, as soon as it is in the store; nothing if it does not arrive any more.
    pub(crate) fn wait(
        &self,
        store: &Store,
        cid: &Cid,
        stop: &AtomicBool,
    ) -> Result<Option<UnverifiedBlock>, StoreError> {
        loop {
            let ended = *self.ended.lock().expect("no panic while it is held");
            let found = store.get(cid)?;
            if found.is_some() || ended || stop.load(Ordering::Relaxed) {
                return Ok(found);
            }
            let ended = self.ended.lock().expect("no panic while it is held");
            if !*ended {
                // What came between the look and this is found at the next look.
                drop(self.came.wait_timeout(ended, LOOK_EVERY));
            }
        }
    }
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.ended.lock().expect("no panic while it is held") = true;
        self.0.came.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use protocol::block::{Block, raw_cid, sha256};

    use super::*;

    #[test]
    fn a_block_is_waited_for_until_none_arrives_any_more() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path(), "test").expect("opens");
        let arrivals = Arrivals::default();
        let never = AtomicBool::new(false);
        let cid = |text: &[u8]| raw_cid(&sha256(text));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| arrivals.wait(&store, &cid(b"one"), &never));
            let absent = scope.spawn(|| arrivals.wait(&store, &cid(b"two"), &never));
            let end = arrivals.end_on_drop();
            let block = Block::verify(cid(b"one"), b"one".to_vec()).expect("its own hash");
            store.put_checked(block).expect("keeps");
            arrivals.notify();
            let found = waits.join().expect("no panic").expect("reads");
            assert_eq!(found.expect("it came").bytes, b"one");
            drop(end);
            assert!(absent.join().expect("no panic").expect("reads").is_none());
        });
        let stopped = AtomicBool::new(true);
        let arrivals = Arrivals::default();
        let found = arrivals.wait(&store, &cid(b"two"), &stopped);
        assert!(found.expect("reads").is_none());
    }
}
