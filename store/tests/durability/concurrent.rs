//! Threads that put, set, commit and read at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use souverain_store::{FaultKind, Faults, Store, Table};

use crate::{block, blocks_in_packs, read, values};

#[test]
fn threads_put_set_and_commit_at_once() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 40;
    let home = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::none().with_pack_size(300_000));
    let store = Store::open_with_faults(home.path(), "test", faults).unwrap();
    let new = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, new) = (&store, &new);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    // One block of its own, and one that all others put too.
                    let own = block(1_000 + thread * ROUNDS + round, 9_000);
                    for block in [own.clone(), block(round, 4_000)] {
                        let was_new = store.put(block.clone()).unwrap();
                        new.fetch_add(usize::from(was_new), Ordering::Relaxed);
                        assert_eq!(read(store, &block), Some(block));
                    }
                    let key = (thread * ROUNDS + round).to_be_bytes();
                    store
                        .set(Table::Pieces, &key, &own.cid().to_bytes())
                        .unwrap();
                    if round % 4 == thread {
                        store.commit().unwrap();
                        let all = values(store);
                        assert!(all.contains_key(&(Table::Pieces, key.to_vec())));
                        assert!(store.blocks().unwrap().count > u64::from(round));
                    }
                }
            });
        }
    });
    store.commit().unwrap();
    drop(store);
    let unique = (THREADS * ROUNDS + ROUNDS) as usize;
    assert_eq!(new.into_inner(), unique);
    let store = Store::open(home.path(), "test").unwrap();
    assert_eq!(store.blocks().unwrap().count, unique as u64);
    let stored = blocks_in_packs(home.path());
    assert_eq!(stored.len(), unique);
    for (cid, times) in stored {
        assert_eq!(times, 1);
        store.get(&cid).unwrap().unwrap().verify().unwrap();
    }
    assert_eq!(values(&store).len(), (THREADS * ROUNDS) as usize);
}

/// Holds each write of a commit in turn, and uses the store meanwhile.
#[test]
fn nobody_waits_for_the_sync_of_a_commit() {
    let clean = Arc::new(Faults::none());
    let first_of_commit = {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open_with_faults(home.path(), "test", clean.clone()).unwrap();
        store.put(block(1, 50_000)).unwrap();
        let before = clean.writes();
        store.commit().unwrap();
        before
    };
    assert_eq!(
        clean.writes() - first_of_commit,
        4,
        "pack, directory, index, head"
    );
    for nth in first_of_commit..clean.writes() {
        let home = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::new(nth, FaultKind::Held));
        let store = Store::open_with_faults(home.path(), "test", faults.clone()).unwrap();
        store.put(block(1, 50_000)).unwrap();
        store.set(Table::Config, b"key", b"first").unwrap();
        std::thread::scope(|scope| {
            let commit = scope.spawn(|| store.commit().unwrap());
            faults.wait_held();
            assert!(!store.put(block(1, 50_000)).unwrap());
            assert!(store.put(block(2, 50_000)).unwrap());
            assert!(read(&store, &block(1, 50_000)).is_some());
            assert!(read(&store, &block(2, 50_000)).is_some());
            let value = || store.value(Table::Config, b"key").unwrap().unwrap();
            assert_eq!(value(), b"first");
            store.set(Table::Config, b"key", b"second").unwrap();
            assert_eq!(value(), b"second");
            // Who looks at what is durable sees nothing of it: no answer, or an empty one.
            let (sender, scanned) = std::sync::mpsc::sync_channel(1);
            let store = &store;
            scope.spawn(move || sender.send(values_of(store)));
            let seen = scanned.recv_timeout(Duration::from_millis(100));
            faults.release();
            commit.join().unwrap();
            assert!(seen.is_err() || seen == Ok(vec![]), "write {nth}: {seen:?}");
        });
        assert_eq!(store.blocks().unwrap().count, 1);
        let committed: Vec<_> = values_of(&store);
        assert_eq!(committed, [b"first".to_vec()]);
        store.commit().unwrap();
        assert_eq!(store.blocks().unwrap().count, 2);
        assert_eq!(values_of(&store), [b"second".to_vec()]);
    }
}

fn values_of(store: &Store) -> Vec<Vec<u8>> {
    store
        .scan(Table::Config)
        .map(|entry| entry.unwrap().1)
        .collect()
}

#[test]
fn more_blocks_than_may_wait_become_durable_without_the_values() {
    let home = tempfile::tempdir().unwrap();
    let count = souverain_store::PENDING_BLOCKS_MAX as u32 + 1;
    {
        let store = Store::open(home.path(), "test").unwrap();
        store.set(Table::Config, b"key", b"value").unwrap();
        for seed in 0..count {
            store.put(block(seed, 8)).unwrap();
        }
    }
    let store = Store::open(home.path(), "test").unwrap();
    assert_eq!(store.blocks().unwrap().count, u64::from(count) - 1);
    assert_eq!(store.value(Table::Config, b"key").unwrap(), None);
}

#[test]
fn more_values_than_may_wait_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    let value = vec![1; souverain_store::VALUE_SIZE_MAX];
    let mut set = 0_u8;
    while store.set(Table::Units, &[set], &value).is_ok() {
        set += 1;
    }
    // A value that replaces another one takes no more room.
    store.set(Table::Units, &[0], &value[1..]).unwrap();
    store.commit().unwrap();
    assert_eq!(values(&store).len(), usize::from(set));
    store.set(Table::Units, &[set], &value).unwrap();
}
