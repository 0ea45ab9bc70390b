//! Random use, against two maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use souverain_store::{Faults, Store, Table};

use crate::{TABLES, block, blocks_in_packs, read, values};

#[derive(Clone, Debug)]
enum Step {
    Put(u32),
    Set(Table, u8, usize),
    Remove(Table, u8),
    Commit,
    Reopen,
}

/// A few blocks and keys, so that steps meet.
fn step() -> impl Strategy<Value = Step> {
    let table = proptest::sample::select(TABLES.as_slice());
    let size = prop_oneof![3 => 0_usize..40, 1 => 4_000_usize..13_000];
    prop_oneof![
        6 => (0_u32..40).prop_map(Step::Put),
        4 => (table.clone(), 0_u8..6, size).prop_map(|(t, k, s)| Step::Set(t, k, s)),
        2 => (table, 0_u8..6).prop_map(|(t, k)| Step::Remove(t, k)),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

type Values = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

#[derive(Clone, Default)]
struct Model {
    blocks: BTreeSet<u32>,
    values: Values,
}

fn test_block(seed: u32) -> protocol::block::Block {
    block(seed, 100 + 300 * seed as usize)
}

fn open(home: &std::path::Path) -> Store {
    let faults = Faults::none().with_pack_size(30_000).into();
    Store::open_with_faults(home, "test", faults).unwrap()
}

fn agrees(store: &Store, staged: &Model, durable: &Model) {
    assert_eq!(values(store), durable.values);
    for seed in 0..40 {
        let block = test_block(seed);
        let found = read(store, &block);
        assert_eq!(found.is_some(), staged.blocks.contains(&seed));
        assert_eq!(store.contains(block.cid()).unwrap(), found.is_some());
    }
    for table in TABLES {
        for key in 0..6 {
            let value = store.value(table, &[key]).unwrap();
            assert_eq!(value.as_ref(), staged.values.get(&(table, vec![key])));
        }
    }
    let count = store.blocks().unwrap();
    assert_eq!(count.count, durable.blocks.len() as u64);
    let size = |seed: &u32| test_block(*seed).bytes().len() as u64;
    assert_eq!(
        count.size_bytes,
        durable.blocks.iter().map(size).sum::<u64>()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn does_what_two_maps_do(steps in proptest::collection::vec(step(), 1..60)) {
        let home = tempfile::tempdir().unwrap();
        let mut store = open(home.path());
        let (mut staged, mut durable) = (Model::default(), Model::default());
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(seed) => {
                    let new = store.put(test_block(seed)).unwrap();
                    prop_assert_eq!(new, staged.blocks.insert(seed));
                }
                Step::Set(table, key, size) => {
                    let value = vec![n as u8; size];
                    store.set(table, &[key], &value).unwrap();
                    staged.values.insert((table, vec![key]), value);
                }
                Step::Remove(table, key) => {
                    store.remove(table, &[key]).unwrap();
                    staged.values.remove(&(table, vec![key]));
                }
                Step::Commit => {
                    store.commit().unwrap();
                    durable = staged.clone();
                    agrees(&store, &staged, &durable);
                }
                Step::Reopen => {
                    drop(store);
                    store = open(home.path());
                    staged = durable.clone();
                    agrees(&store, &staged, &durable);
                }
            }
        }
        agrees(&store, &staged, &durable);
        let stored = blocks_in_packs(home.path());
        prop_assert_eq!(stored.len(), staged.blocks.len());
        prop_assert!(stored.values().all(|times| *times == 1));
    }
}
