//! Several processes use one home.

use std::os::unix::fs::PermissionsExt;

use souverain_store::{Store, StoreError, Table};

use crate::{
    block,
    child::{self, Process},
    read, values,
};

/// Holds the store, and commits each number that it is told.
#[test]
#[ignore = "run by other tests as another process"]
fn writer() {
    let store = Store::open(&child::home(), "writing").unwrap();
    child::say("ready");
    while let Some(line) = child::listen() {
        let (what, number) = line.split_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        store.put(block(number, 5_000)).unwrap();
        store
            .set(Table::Snapshots, &number.to_be_bytes(), &[7; 6_000])
            .unwrap();
        if what == "commit" {
            store.commit().unwrap();
        }
        child::say("done");
    }
}

/// Reads the store, and goes on when a writer takes over.
#[test]
#[ignore = "run by other tests as another process"]
fn reader() {
    let store = Store::open_read(&child::home(), "reading").unwrap();
    child::say("ready");
    while let Some(number) = child::listen() {
        let block = block(number.parse().unwrap(), 5_000);
        let found = read(&store, &block).is_some();
        child::say(if found { "found" } else { "missing" });
    }
}

fn started(test: &str, home: &std::path::Path) -> Process {
    let mut process = Process::start(test, home);
    assert_eq!(process.hear().unwrap(), "ready");
    process
}

#[test]
fn reads_what_another_process_commits_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = started("processes::writer", home.path());
    let reader = Store::open_read(home.path(), "test").unwrap();
    assert_eq!(read(&reader, &block(1, 5_000)), None);
    assert_eq!(reader.blocks().unwrap().count, 0);

    writer.tell("put 1");
    assert_eq!(writer.hear().unwrap(), "done");
    assert_eq!(read(&reader, &block(1, 5_000)), None);
    assert!(values(&reader).is_empty());

    writer.tell("commit 2");
    assert_eq!(writer.hear().unwrap(), "done");
    for number in [1_u32, 2] {
        assert!(read(&reader, &block(number, 5_000)).is_some());
        let value = reader.value(Table::Snapshots, &number.to_be_bytes());
        assert_eq!(value.unwrap().unwrap(), [7; 6_000]);
    }
    assert_eq!(values(&reader).len(), 2);
    assert_eq!(reader.blocks().unwrap().count, 2);

    assert!(matches!(reader.commit(), Err(StoreError::ReadOnly)));
    match Store::open(home.path(), "test") {
        Err(StoreError::InUse { pid, purpose }) => {
            assert_eq!(pid, writer.child.id());
            assert_eq!(purpose, "writing");
        }
        other => panic!("{other:?}"),
    }
    writer.end();
}

#[test]
fn goes_on_reading_when_the_writer_ends_or_dies() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = started("processes::writer", home.path());
    writer.tell("commit 1");
    writer.hear().unwrap();
    let reader = Store::open_read(home.path(), "test").unwrap();
    let second = Store::open_read(home.path(), "test").unwrap();
    assert!(read(&reader, &block(1, 5_000)).is_some());
    assert!(read(&second, &block(1, 5_000)).is_some());
    writer.tell("put 2");
    writer.hear().unwrap();
    writer.kill();

    // One of them takes hold of the store, the other asks it.
    assert_eq!(read(&reader, &block(2, 5_000)), None);
    assert!(read(&second, &block(1, 5_000)).is_some());
    drop(reader);
    assert!(read(&second, &block(1, 5_000)).is_some());
    drop(second);

    let mut writer = started("processes::writer", home.path());
    let reader = Store::open_read(home.path(), "test").unwrap();
    writer.tell("commit 2");
    writer.hear().unwrap();
    assert!(read(&reader, &block(2, 5_000)).is_some());
    writer.end();
    assert!(read(&reader, &block(2, 5_000)).is_some());
}

#[test]
fn a_reader_hands_over_to_a_writer_and_goes_on_reading() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), "test").unwrap());
    let mut reader = started("processes::reader", home.path());
    let second = Store::open_read(home.path(), "test").unwrap();
    for number in 1..=5_u32 {
        // The reader holds the store when it was the first to ask after the last writer.
        reader.tell("0");
        assert_eq!(reader.hear().unwrap(), "missing");
        let store = Store::open(home.path(), "test").unwrap();
        let holder = std::fs::read_to_string(home.path().join("lock")).unwrap();
        assert_eq!(holder, format!("{} test\n", std::process::id()));
        assert!(store.put(block(number, 5_000)).unwrap());
        reader.tell(&number.to_string());
        assert_eq!(reader.hear().unwrap(), "missing");
        store.commit().unwrap();
        reader.tell(&number.to_string());
        assert_eq!(reader.hear().unwrap(), "found");
        assert!(read(&second, &block(number, 5_000)).is_some());
    }
    reader.end();
    assert_eq!(second.blocks().unwrap().count, 5);
}

#[test]
fn a_reader_of_the_same_process_hands_over_too() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), "test").unwrap());
    let reader = Store::open_read(home.path(), "test").unwrap();
    assert_eq!(reader.blocks().unwrap().count, 0);
    let writer = Store::open(home.path(), "test").unwrap();
    writer.put(block(1, 5_000)).unwrap();
    writer.commit().unwrap();
    assert!(read(&reader, &block(1, 5_000)).is_some());
    assert!(matches!(
        Store::open(home.path(), "test"),
        Err(StoreError::InUse { .. })
    ));
    drop(writer);
    assert_eq!(reader.blocks().unwrap().count, 1);
}

#[test]
fn takes_turns_with_readers_that_ask_all_the_time() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), "test").unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let store = Store::open_read(home.path(), "test").unwrap();
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let now = store.blocks().unwrap().count;
                        assert!(now >= count, "what was durable is gone");
                        count = now;
                    }
                    count
                })
            })
            .collect();
        for number in 1..=20 {
            let mut writer = started("processes::writer", home.path());
            writer.tell(&format!("commit {number}"));
            assert_eq!(writer.hear().unwrap(), "done");
            if number % 2 == 0 {
                writer.end();
            } else {
                writer.kill();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for ask in asks {
            assert!(ask.join().unwrap() <= 20);
        }
    });
    assert_eq!(store.blocks().unwrap().count, 20);
}

#[test]
fn a_reader_that_is_killed_leaves_the_store_free() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), "test").unwrap());
    for number in 1..=5 {
        let mut reader = started("processes::reader", home.path());
        reader.tell("0");
        assert_eq!(reader.hear().unwrap(), "missing");
        reader.kill();
        let store = Store::open(home.path(), "test").unwrap();
        assert!(store.put(block(number, 5_000)).unwrap());
        store.commit().unwrap();
    }
}

#[test]
fn a_socket_that_a_dead_process_left_is_no_obstacle() {
    let home = tempfile::tempdir().unwrap();
    started("processes::writer", home.path()).kill();
    assert!(home.path().join("store.sock").exists());
    let reader = Store::open_read(home.path(), "test").unwrap();
    assert_eq!(reader.blocks().unwrap().count, 0);
    drop(reader);
    assert!(!home.path().join("store.sock").exists());
    Store::open(home.path(), "test").unwrap();
}

#[test]
fn serves_a_home_whose_path_is_longer_than_a_socket_takes() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("x".repeat(200));
    let mut writer = started("processes::writer", &home);
    writer.tell("commit 1");
    writer.hear().unwrap();
    let reader = Store::open_read(&home, "test").unwrap();
    assert!(read(&reader, &block(1, 5_000)).is_some());
    writer.end();
}

#[test]
fn only_the_owner_can_enter_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let store = Store::open(&home, "test").unwrap();
    store.put(block(1, 10)).unwrap();
    store.commit().unwrap();
    for (path, expected) in [
        ("", 0o700),
        ("packs", 0o700),
        ("index", 0o700),
        ("lock", 0o600),
        ("store.sock", 0o600),
        ("packs/00000000.car", 0o600),
    ] {
        let mode = std::fs::metadata(home.join(path)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, expected, "{path}");
    }
}

#[test]
fn blocks_that_a_killed_writer_put_are_there_for_who_wants_them() {
    let home = tempfile::tempdir().unwrap();
    let mut writer = started("processes::writer", home.path());
    for what in ["commit 1", "put 2", "put 3"] {
        writer.tell(what);
        assert_eq!(writer.hear().unwrap(), "done");
    }
    writer.kill();
    let pack = home.path().join("packs/00000000.car");
    // A frame that was cut off comes last.
    let mut bytes = std::fs::read(&pack).unwrap();
    let whole = bytes.len();
    bytes.extend_from_within(18..2_000);
    std::fs::write(&pack, &bytes).unwrap();

    // Who only reads neither sees nor removes them.
    let reader = Store::open_read(home.path(), "test").unwrap();
    assert_eq!(reader.blocks().unwrap().count, 1);
    assert_eq!(read(&reader, &block(2, 5_000)), None);
    let (store, found) = Store::open_salvaging(home.path(), "test").unwrap();
    assert_eq!(found, 2);
    assert_eq!(std::fs::metadata(&pack).unwrap().len(), whole as u64);
    for number in [1, 2, 3] {
        assert!(read(&store, &block(number, 5_000)).is_some());
        assert!(!store.put(block(number, 5_000)).unwrap());
    }
    assert_eq!(read(&reader, &block(2, 5_000)), None);
    assert_eq!(values(&store).len(), 1, "values without a commit are gone");
    assert!(store.put(block(4, 5_000)).unwrap());
    store.commit().unwrap();
    drop(store);
    assert_eq!(reader.blocks().unwrap().count, 4);
    for number in 1..=4 {
        assert!(read(&reader, &block(number, 5_000)).is_some());
    }
    drop(reader);

    let mut writer = started("processes::writer", home.path());
    writer.tell("put 5");
    writer.hear().unwrap();
    writer.kill();
    let store = Store::open(home.path(), "test").unwrap();
    assert_eq!(read(&store, &block(5, 5_000)), None);
    assert_eq!(store.blocks().unwrap().count, 4);
}

#[test]
fn packs_that_no_commit_knows_are_salvaged_up_to_the_first_gap() {
    let home = tempfile::tempdir().unwrap();
    drop(Store::open(home.path(), "test").unwrap());
    let other = tempfile::tempdir().unwrap();
    for number in [0_u32, 1, 3] {
        let store = Store::open(other.path(), "test").unwrap();
        store.put(block(number, 5_000)).unwrap();
        store.commit().unwrap();
        drop(store);
        std::fs::rename(
            other.path().join("packs/00000000.car"),
            home.path().join(format!("packs/{number:08}.car")),
        )
        .unwrap();
        for dir in ["packs", "index"] {
            std::fs::remove_dir_all(other.path().join(dir)).unwrap();
        }
        std::fs::remove_file(other.path().join("head")).unwrap();
    }
    let (store, found) = Store::open_salvaging(home.path(), "test").unwrap();
    assert_eq!(found, 2);
    store.put(block(7, 5_000)).unwrap();
    store.commit().unwrap();
    drop(store);
    let store = Store::open(home.path(), "test").unwrap();
    for (number, there) in [(0, true), (1, true), (3, false), (7, true)] {
        assert_eq!(read(&store, &block(number, 5_000)).is_some(), there);
    }
    assert!(!home.path().join("packs/00000003.car").exists());
}
