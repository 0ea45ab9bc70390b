//! What a store does when nothing goes wrong.

use souverain_store::{KEY_SIZE_MAX, Store, StoreError, Table, VALUE_SIZE_MAX};

use crate::block;

#[test]
fn keeps_what_was_committed_and_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path().join("deeper").join("home");
    let (kept, lost) = (block(1, 1 << 20), block(2, 100));
    {
        let store = Store::open(&home, "test").unwrap();
        assert!(store.put(kept.clone()).unwrap());
        assert!(!store.put(kept.clone()).unwrap());
        store.set(Table::Snapshots, b"one", b"1").unwrap();
        assert_eq!(store.scan(Table::Snapshots).count(), 0);
        assert_eq!(
            store.value(Table::Snapshots, b"one").unwrap().unwrap(),
            b"1"
        );
        store.commit().unwrap();
        assert!(!store.put(kept.clone()).unwrap());
        assert!(store.put(lost.clone()).unwrap());
        assert_eq!(
            store.get(lost.cid()).unwrap().unwrap().verify().unwrap(),
            lost
        );
        store.set(Table::Snapshots, b"two", b"2").unwrap();
        store.remove(Table::Snapshots, b"one").unwrap();
        assert_eq!(store.value(Table::Snapshots, b"one").unwrap(), None);
    }
    let store = Store::open(&home, "test").unwrap();
    assert_eq!(
        store.get(kept.cid()).unwrap().unwrap().verify().unwrap(),
        kept
    );
    assert_eq!(store.block_len(kept.cid()).unwrap(), Some(1 << 20));
    assert!(!store.contains(lost.cid()).unwrap());
    assert_eq!(store.blocks().unwrap().count, 1);
    let snapshots: Result<Vec<_>, _> = store.scan(Table::Snapshots).collect();
    assert_eq!(snapshots.unwrap(), [(b"one".to_vec(), b"1".to_vec())]);
    assert!(store.put(lost).unwrap());
}

#[test]
fn takes_values_up_to_the_limit() {
    let home = tempfile::tempdir().unwrap();
    let (key, value) = (vec![7; KEY_SIZE_MAX], vec![9; VALUE_SIZE_MAX]);
    {
        let store = Store::open(home.path(), "test").unwrap();
        store.set(Table::Units, &key, &value).unwrap();
        store.set(Table::Units, b"", b"").unwrap();
        store.commit().unwrap();
    }
    let store = Store::open(home.path(), "test").unwrap();
    assert_eq!(store.value(Table::Units, &key).unwrap(), Some(value));
    assert_eq!(store.value(Table::Units, b"").unwrap(), Some(vec![]));
    store.set(Table::Units, &key, &[1; 5000]).unwrap();
    store.commit().unwrap();
    let all: Result<Vec<_>, _> = store.scan(Table::Units).collect();
    assert_eq!(
        all.unwrap(),
        [(vec![], vec![]), (key.clone(), vec![1; 5000])]
    );
    assert!(matches!(
        store.set(Table::Units, &[0; KEY_SIZE_MAX + 1], b""),
        Err(StoreError::TooLarge { .. })
    ));
    assert!(matches!(
        store.set(Table::Units, b"", &vec![0; VALUE_SIZE_MAX + 1]),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn scans_a_table_of_many_pages_in_order() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    for n in 0..3_000_u32 {
        store
            .set(Table::Pieces, &n.to_be_bytes(), &[n as u8; 500])
            .unwrap();
        store.set(Table::Units, &n.to_be_bytes(), b"").unwrap();
    }
    store.commit().unwrap();
    let keys: Vec<_> = store
        .scan(Table::Pieces)
        .map(|entry| entry.unwrap().0)
        .collect();
    let expected: Vec<_> = (0..3_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    assert_eq!(keys, expected);
}

#[test]
fn refuses_a_second_owner_and_says_who_is_first() {
    let home = tempfile::tempdir().unwrap();
    let _store = Store::open(home.path(), "export of things").unwrap();
    match Store::open(home.path(), "another") {
        Err(StoreError::InUse { pid, purpose }) => {
            assert_eq!(pid, std::process::id());
            assert_eq!(purpose, "export of things");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_no_store_that_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    assert!(matches!(
        Store::open_read(home.path(), "test"),
        Err(StoreError::Missing { .. })
    ));
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
