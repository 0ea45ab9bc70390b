//! A file system that is really full, where the system lets a test mount one.

use std::process::Command;

use souverain_store::{Store, StoreError, Table};

use crate::{
    block,
    child::{self, Process},
    read,
};

/// Runs in a name space of its own, on a file system of 64 MiB.
#[test]
#[ignore = "run by other tests as another process"]
fn fills_a_disk() {
    let dir = child::home();
    let home = dir.join("home");
    let store = Store::open(&home, "test").unwrap();
    let mut put = 0;
    let (durable, pending) = loop {
        store
            .set(Table::Snapshots, &u32::to_be_bytes(put), b"value")
            .unwrap();
        match store.put(block(put, 1 << 20)) {
            Ok(true) => put += 1,
            Ok(false) => panic!("block {put} is not new"),
            Err(StoreError::Full {
                blocks_durable,
                blocks_pending,
                ..
            }) => break (blocks_durable, blocks_pending),
            Err(error) => panic!("{error}"),
        }
        if put == 5 {
            store.commit().unwrap();
        }
    };
    assert_eq!((durable, pending), (5, u64::from(put) - 5));

    // Somebody else takes the rest: not even a commit begins.
    let filler = dir.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    assert!(std::io::copy(&mut std::io::repeat(1), &mut file).is_err());
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    assert!(matches!(
        store.put(block(put, 1 << 20)),
        Err(StoreError::Full { .. })
    ));
    for seed in 0..put {
        assert!(read(&store, &block(seed, 1 << 20)).is_some());
    }
    drop(file);
    std::fs::remove_file(&filler).unwrap();

    // What was put before the disk was full can be committed, since a put leaves room for that.
    store.commit().unwrap();
    drop(store);
    let store = Store::open(&home, "test").unwrap();
    assert_eq!(store.blocks().unwrap().count, u64::from(put));
    for seed in 0..put {
        assert!(read(&store, &block(seed, 1 << 20)).is_some());
    }
    child::say("survived");
}

#[test]
fn a_disk_that_is_full_is_said_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=64m none \"$0\"";
    let name_space = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg(format!("{mount} && {then}")).arg(dir.path());
        command
    };
    if !name_space("true").status().is_ok_and(|s| s.success()) {
        // Not allowed here; the injected faults cover the same steps.
        return;
    }
    let mut command = name_space("exec \"$@\"");
    command.arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "full::fills_a_disk"]);
    let mut process = Process::spawn(command, dir.path());
    assert_eq!(process.hear().as_deref(), Some("survived"));
    process.end();
}
