//! Each write fails in each way; what was acknowledged is there afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use souverain_store::{FaultKind, Faults, Store, StoreError, Table};

use crate::{block, blocks_in_packs, read, values};

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u32, usize),
    Set(Table, u8, usize),
    Remove(Table, u8),
    Commit,
}

use Step::{Commit, Put, Remove, Set};

/// Rolls packs (of 100 kB), replaces and removes values of one and of several parts.
const SCRIPT: &[Step] = &[
    Put(1, 40_000),
    Put(2, 40_000),
    Set(Table::Snapshots, 1, 10),
    Set(Table::Units, 1, 20_000),
    Commit,
    Put(3, 40_000),
    Put(1, 40_000),
    Put(4, 90_000),
    Commit,
    Set(Table::Units, 1, 5_000),
    Set(Table::Snapshots, 2, 10),
    Remove(Table::Snapshots, 1),
    Put(5, 4),
    Commit,
    Set(Table::Snapshots, 3, 0),
    Commit,
    Put(6, 95_000),
    Put(7, 95_000),
    Set(Table::Units, 1, 100),
    Commit,
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    blocks: BTreeSet<(u32, usize)>,
    values: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl Model {
    fn apply(&mut self, step: Step) {
        match step {
            Put(seed, size) => {
                self.blocks.insert((seed, size));
            }
            Set(table, key, size) => {
                self.values.insert((table, vec![key]), vec![key; size]);
            }
            Remove(table, key) => {
                self.values.remove(&(table, vec![key]));
            }
            Commit => {}
        }
    }

    /// What the store holds of the script.
    fn of(store: &Store) -> Self {
        let mut blocks = BTreeSet::new();
        for step in SCRIPT {
            if let Put(seed, size) = *step
                && read(store, &block(seed, size)).is_some()
            {
                blocks.insert((seed, size));
            }
        }
        let values = values(store);
        Self { blocks, values }
    }
}

fn apply(store: &Store, step: Step) -> Result<(), StoreError> {
    match step {
        Put(seed, size) => store.put(block(seed, size)).map(drop),
        Set(table, key, size) => store.set(table, &[key], &vec![key; size]),
        Remove(table, key) => store.remove(table, &[key]),
        Commit => store.commit(),
    }
}

fn faults(nth: u64, kind: FaultKind) -> Arc<Faults> {
    Arc::new(Faults::new(nth, kind).with_pack_size(100_000))
}

fn finished() -> Model {
    let mut model = Model::default();
    SCRIPT.iter().for_each(|step| model.apply(*step));
    model
}

/// Runs the script once without a fault, and returns how many writes it takes.
fn writes() -> u64 {
    let home = tempfile::tempdir().unwrap();
    let faults = faults(u64::MAX, FaultKind::Lost);
    let store = Store::open_with_faults(home.path(), "test", faults.clone()).unwrap();
    for step in SCRIPT {
        apply(&store, *step).unwrap();
    }
    assert_eq!(Model::of(&store), finished());
    faults.writes()
}

/// After the fault: all that was acknowledged, and of the commit that was under way all or nothing.
fn check(home: &Path, acknowledged: &Model, attempted: &Model, context: &str) {
    let store = Store::open(home, "check").unwrap();
    let found = Model::of(&store);
    assert!(
        found == *acknowledged || found == *attempted,
        "{context}: {found:?}"
    );
    assert_eq!(
        store.blocks().unwrap().count,
        found.blocks.len() as u64,
        "{context}"
    );
    assert_eq!(
        blocks_in_packs(home).len(),
        found.blocks.len(),
        "{context}: uncommitted bytes are left"
    );
    for step in SCRIPT {
        apply(&store, *step).unwrap();
    }
    drop(store);
    let store = Store::open(home, "check").unwrap();
    assert_eq!(Model::of(&store), finished(), "{context}");
}

#[test]
fn no_fault_loses_or_halves_what_was_committed() {
    let writes = writes();
    assert!(writes > 30, "{writes}");
    for kind in [FaultKind::Landed, FaultKind::Lost, FaultKind::Torn] {
        for nth in 0..writes {
            let home = tempfile::tempdir().unwrap();
            let faults = faults(nth, kind);
            let (mut acknowledged, mut attempted) = (Model::default(), Model::default());
            let mut failed = false;
            if let Ok(store) = Store::open_with_faults(home.path(), "test", faults.clone()) {
                for step in SCRIPT {
                    attempted.apply(*step);
                    if let Err(error) = apply(&store, *step) {
                        assert!(faults.is_dead(), "{error}");
                        failed = true;
                        assert!(store.put(block(99, 10)).is_err());
                        let _ = store.set(Table::Config, b"late", b"");
                        assert!(store.commit().is_err());
                        break;
                    }
                    if matches!(step, Commit) {
                        acknowledged = attempted.clone();
                    }
                }
            }
            // A fault may hit what is not needed (the socket), but then nothing later succeeds.
            assert!(faults.is_dead());
            assert!(failed || acknowledged == Model::default());
            check(
                home.path(),
                &acknowledged,
                &attempted,
                &format!("write {nth} {kind:?}"),
            );
        }
    }
}

#[test]
fn a_full_disk_is_said_and_survived_at_every_write() {
    let mut full = 0;
    for nth in 0..writes() {
        let home = tempfile::tempdir().unwrap();
        let faults = faults(nth, FaultKind::NoSpace);
        let open = || Store::open_with_faults(home.path(), "test", faults.clone());
        let store = open().or_else(|_| open()).unwrap();
        let (mut model, mut durable) = (Model::default(), Model::default());
        for step in SCRIPT {
            if let Err(error) = apply(&store, *step) {
                let StoreError::Full {
                    blocks_durable,
                    blocks_pending,
                    ..
                } = error
                else {
                    panic!("write {nth}: {error:?}");
                };
                full += 1;
                assert_eq!(blocks_durable, durable.blocks.len() as u64);
                assert_eq!(
                    blocks_pending,
                    (model.blocks.len() - durable.blocks.len()) as u64
                );
                for &(seed, size) in &model.blocks {
                    assert!(read(&store, &block(seed, size)).is_some());
                }
                apply(&store, *step).unwrap();
            }
            model.apply(*step);
            if matches!(step, Commit) {
                durable = model.clone();
            }
        }
        assert_eq!(Model::of(&store), finished(), "write {nth}");
        drop(store);
        let stored = blocks_in_packs(home.path());
        assert_eq!(stored.len(), finished().blocks.len(), "write {nth}");
        let store = Store::open(home.path(), "check").unwrap();
        assert_eq!(Model::of(&store), finished(), "write {nth}");
    }
    assert!(full > 15, "{full}");
}

#[test]
fn an_interrupted_recovery_is_done_again() {
    for kind in [FaultKind::Landed, FaultKind::Lost, FaultKind::Torn] {
        for nth in 0.. {
            let home = tempfile::tempdir().unwrap();
            {
                let store =
                    Store::open_with_faults(home.path(), "test", faults(u64::MAX, kind)).unwrap();
                store.put(block(1, 40_000)).unwrap();
                store.commit().unwrap();
                for seed in 2..6 {
                    store.put(block(seed, 40_000)).unwrap();
                }
            }
            assert_eq!(blocks_in_packs(home.path()).len(), 5);
            let faults = faults(nth, kind);
            let opened = Store::open_with_faults(home.path(), "test", faults.clone());
            if !faults.is_dead() {
                assert!(nth > 3, "recovery truncates one pack and removes others");
                break;
            }
            drop(opened);
            let store = Store::open(home.path(), "check").unwrap();
            assert!(read(&store, &block(1, 40_000)).is_some());
            assert_eq!(blocks_in_packs(home.path()).len(), 1);
        }
    }
}

/// After a failed sync the system takes for clean what it did not write.
#[test]
fn what_a_failed_sync_left_is_written_again() {
    let (home, clean) = (tempfile::tempdir().unwrap(), Arc::new(Faults::none()));
    let store = Store::open_with_faults(home.path(), "test", clean.clone()).unwrap();
    store.put(block(1, 40_000)).unwrap();
    store.put(block(2, 40_000)).unwrap();
    let sync = clean.writes();

    let home = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::new(sync, FaultKind::NoSpace));
    let store = Store::open_with_faults(home.path(), "test", faults.clone()).unwrap();
    store.put(block(1, 40_000)).unwrap();
    store.put(block(2, 40_000)).unwrap();
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    let before = faults.writes();
    store.commit().unwrap();
    // The header and both blocks; pack, directory, index and head.
    assert_eq!(faults.writes() - before, 3 + 4);
    assert_eq!(blocks_in_packs(home.path()).len(), 2);
}

#[test]
fn a_put_that_was_written_in_part_is_taken_back() {
    let (home, clean) = (tempfile::tempdir().unwrap(), Arc::new(Faults::none()));
    let store = Store::open_with_faults(home.path(), "test", clean.clone()).unwrap();
    store.put(block(1, 40_000)).unwrap();
    let second = clean.writes();

    let home = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::new(second, FaultKind::NoSpace));
    let store = Store::open_with_faults(home.path(), "test", faults).unwrap();
    store.put(block(1, 40_000)).unwrap();
    assert!(matches!(
        store.put(block(2, 40_000)),
        Err(StoreError::Full { .. })
    ));
    assert!(!store.contains(block(2, 40_000).cid()).unwrap());
    // The pack is a whole CAR at once, not only after the next put or open.
    assert_eq!(blocks_in_packs(home.path()).len(), 1);
    store.commit().unwrap();
    assert_eq!(store.blocks().unwrap().count, 1);
}
