//! State that no crash leaves is refused, and never repaired.

use std::{fs::OpenOptions, os::unix::fs::FileExt, path::Path};

use souverain_store::{Store, StoreError, Table};

use crate::{block, blocks_in_packs};

fn filled() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    for seed in 0..3 {
        store.put(block(seed, 10_000)).unwrap();
    }
    store.commit().unwrap();
    home
}

/// What is wrong, which stays wrong however often the store is opened.
fn refused(home: &Path) -> String {
    let attempts = [
        Store::open(home, "test"),
        Store::open_read(home, "test"),
        Store::open(home, "test"),
    ];
    let [what, again, still] = attempts.map(|attempt| match attempt {
        Err(StoreError::Damaged { what, .. }) => what,
        other => panic!("{other:?}"),
    });
    assert_eq!(what, again);
    assert_eq!(what, still);
    what
}

fn pack(home: &Path) -> std::path::PathBuf {
    home.join("packs/00000000.car")
}

#[test]
fn refuses_a_pack_that_is_shorter_than_what_was_durable() {
    let home = filled();
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    let file = file.unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 1).unwrap();
    assert!(refused(home.path()).contains(&format!("{}", len - 1)));
    assert_eq!(file.metadata().unwrap().len(), len - 1);
}

#[test]
fn refuses_a_pack_that_is_missing() {
    let home = filled();
    std::fs::remove_file(pack(home.path())).unwrap();
    assert_eq!(refused(home.path()), "it is missing");
    assert!(!pack(home.path()).exists());
}

#[test]
fn refuses_a_pack_that_is_none() {
    let home = filled();
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    file.unwrap().write_all_at(b"x", 3).unwrap();
    assert_eq!(refused(home.path()), "it is not a pack");
}

#[test]
fn refuses_packs_without_their_index() {
    let home = filled();
    std::fs::remove_dir_all(home.path().join("index")).unwrap();
    match Store::open(home.path(), "test") {
        Err(StoreError::Damaged { what, .. }) => assert!(what.contains("is missing")),
        other => panic!("{other:?}"),
    }
    assert_eq!(blocks_in_packs(home.path()).len(), 3);
}

#[test]
fn refuses_an_old_copy_of_the_index() {
    let home = filled();
    let (index, copy) = (home.path().join("index"), home.path().join("copy"));
    std::fs::create_dir(&copy).unwrap();
    for file in ["db", "conf"] {
        std::fs::copy(index.join(file), copy.join(file)).unwrap();
    }
    {
        let store = Store::open(home.path(), "test").unwrap();
        store.put(block(9, 10_000)).unwrap();
        store.commit().unwrap();
    }
    std::fs::remove_dir_all(&index).unwrap();
    std::fs::rename(&copy, &index).unwrap();
    assert_eq!(refused(home.path()), "it knows 1 commits, there were 2");
    assert_eq!(blocks_in_packs(home.path()).len(), 4);
}

/// sled takes a damaged place for the end of its log, and so forgets commits.
#[test]
fn refuses_an_index_that_forgot_commits() {
    let mut refused = 0;
    for n in 0..12 {
        let home = filled();
        {
            let store = Store::open(home.path(), "test").unwrap();
            for key in 0..20 {
                store.set(Table::Pieces, &[key], &[key; 200]).unwrap();
                store.commit().unwrap();
            }
        }
        let db = home.path().join("index/db");
        let db = OpenOptions::new().read(true).write(true).open(db).unwrap();
        let (at, mut byte) = (200 + n * 1_001, [0]);
        db.read_exact_at(&mut byte, at).unwrap();
        db.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        match Store::open(home.path(), "test") {
            Ok(store) => {
                assert_eq!(store.scan(Table::Pieces).count(), 20, "byte {at}");
                assert_eq!(store.blocks().unwrap().count, 3, "byte {at}");
            }
            Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => refused += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
        assert_eq!(blocks_in_packs(home.path()).len(), 3, "byte {at}");
    }
    assert!(refused > 6, "{refused}");
}

#[test]
fn removes_what_was_never_committed() {
    let home = filled();
    let len = std::fs::metadata(pack(home.path())).unwrap().len();
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    file.unwrap().write_all_at(b"half a frame", len).unwrap();
    std::fs::write(home.path().join("packs/00000001.car"), b"").unwrap();
    std::fs::write(home.path().join("packs/note.txt"), b"not ours").unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    assert_eq!(store.blocks().unwrap().count, 3);
    assert_eq!(std::fs::metadata(pack(home.path())).unwrap().len(), len);
    assert!(!home.path().join("packs/00000001.car").exists());
    assert!(home.path().join("packs/note.txt").exists());
}

#[test]
fn bytes_that_changed_do_not_verify() {
    let home = filled();
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    file.unwrap().write_all_at(b"x", 5_000).unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    let verifies = |seed| {
        let found = store.get(block(seed, 10_000).cid()).unwrap().unwrap();
        found.verify().is_ok()
    };
    assert_eq!([0, 1, 2].map(verifies), [false, true, true]);
}

#[test]
fn bytes_that_changed_are_not_given_away() {
    let home = filled();
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    file.unwrap().write_all_at(b"x", 5_000).unwrap();
    let writer = Store::open(home.path(), "test").unwrap();
    let reader = Store::open_read(home.path(), "test").unwrap();
    writer.put(block(3, 10_000)).unwrap();
    let is_given = |store: &Store, seed| match store
        .get_checked(block(seed, 10_000).cid(), |_| vec![7; 20_000])
    {
        Ok(Some(bytes)) => {
            assert_eq!(bytes, block(seed, 10_000).bytes());
            true
        }
        Err(StoreError::DamagedBlock { cid }) => {
            assert_eq!(cid, *block(seed, 10_000).cid());
            false
        }
        other => panic!("{other:?}"),
    };
    for store in [&writer, &reader] {
        let given = [0, 1, 2].map(|seed| is_given(store, seed));
        assert_eq!(given, [false, true, true]);
    }
    assert!(is_given(&writer, 3), "it is pending");
    assert_eq!(
        reader
            .get_checked(block(3, 10_000).cid(), Vec::with_capacity)
            .unwrap(),
        None
    );
}

#[test]
fn a_good_copy_takes_the_place_of_a_damaged_one() {
    let home = filled();
    let good = block(0, 10_000);
    let file = OpenOptions::new().write(true).open(pack(home.path()));
    file.unwrap().write_all_at(b"x", 5_000).unwrap();
    let store = Store::open(home.path(), "test").unwrap();
    let sound = |store: &Store| store.get(good.cid()).unwrap().unwrap().verify().is_ok();
    let key = good.cid().hash().to_bytes();
    store.set(Table::Damaged, &key, &[]).unwrap();
    store.commit().unwrap();
    assert!(!store.put(good.clone()).unwrap());
    assert!(!sound(&store), "a put believes the index");
    assert!(store.put_checked(good.clone()).unwrap());
    assert!(sound(&store));
    assert!(!store.put_checked(good.clone()).unwrap(), "one is enough");
    store.commit().unwrap();
    let counted = store.blocks().unwrap();
    assert_eq!((counted.count, counted.size_bytes), (3, 30_000));
    drop(store);
    let store = Store::open(home.path(), "test").unwrap();
    assert!(sound(&store));
    assert_eq!(store.value(Table::Damaged, &key).unwrap(), None);
    assert_eq!(store.blocks().unwrap(), counted);
}

#[test]
fn what_a_kill_left_of_the_indexs_own_snapshot_is_in_nobodys_way() {
    for (name, content) in [
        ("snap.FFFFFFFFFFFFFFFF.generating", &b""[..]),
        ("snap.0000000000000000.generating", &[7; 100]),
    ] {
        let home = filled();
        let path = home.path().join("index").join(name);
        std::fs::write(&path, content).unwrap();
        let store = Store::open_read(home.path(), "test").unwrap();
        assert_eq!(store.blocks().unwrap().count, 3);
        drop(store);
        assert!(!path.exists());
        std::fs::write(&path, content).unwrap();
        let store = Store::open(home.path(), "test").unwrap();
        store.put(block(9, 10)).unwrap();
        store.commit().unwrap();
        assert_eq!(store.blocks().unwrap().count, 4);
    }
}
