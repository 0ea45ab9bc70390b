//! While one process exports, others read older snapshots of the same home.

use std::{collections::BTreeSet, fs, process::Child, sync::LazyLock, time::Duration};

use souverain_tests::{
    packs,
    postgres::PostgresServer,
    program::{Ran, Sandbox, noise, note, tree},
};

static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);

fn write(sandbox: &Sandbox, name: &str, seed: u64, mib: u64) {
    fs::create_dir(sandbox.path(name)).expect("creates");
    for n in 0..mib {
        let bytes = noise(seed + n, 1 << 20);
        fs::write(sandbox.path(&format!("{name}/{n}")), bytes).expect("writes");
    }
}

/// Everything that reads; `n` names what is written.
fn read_all(sandbox: &Sandbox, cid: &str, n: u32) {
    let (target, folder, car) = (format!("t{n}"), format!("f{n}"), format!("{n}.car"));
    assert!(sandbox.listed().contains(&cid.to_owned()));
    sandbox.ok(&["show", cid]);
    sandbox.ok(&["verify", cid]);
    sandbox.ok(&["import", cid, "--into", &target]);
    assert_eq!(tree(&sandbox.path(&target)), tree(&sandbox.path("old")));
    sandbox.ok(&["get", cid, &folder]);
    sandbox.ok(&["car", "export", cid, &car]);
    sandbox.ok(&["verify", &car]);
    fs::remove_dir_all(sandbox.path(&target)).expect("removes");
    fs::remove_dir_all(sandbox.path(&folder)).expect("removes");
    fs::remove_file(sandbox.path(&car)).expect("removes");
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().expect("waits").is_none()
}

fn wait_until(child: &mut Child, condition: impl Fn() -> bool) {
    while !condition() {
        assert!(is_running(child), "it ended too early");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn others_read_while_an_export_waits_in_the_middle() {
    let url = SERVER.create_database("readers");
    SERVER.psql(&url, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let sandbox = Sandbox::new();
    write(&sandbox, "old", 0, 3);
    write(&sandbox, "new", 100, 60);
    let cid = sandbox.ok(&["export", "old"]);
    let size = packs::size(&sandbox.home());
    let mut lock = SERVER.connect(&url);
    let export = ["export", "new", &url, "--commit-every", "1"];
    let mut child = sandbox.spawn(&export);
    // Not before: the export asks first how large the database is.
    wait_until(&mut child, || {
        packs::size(&sandbox.home()) > size + (2 << 20)
    });
    let locked = "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE";
    lock.batch_execute(locked).expect("locks");
    let mut watcher = SERVER.connect(&url);
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while watcher.query(waiting, &[]).expect("asks").is_empty() {
        assert!(is_running(&mut child), "it ended too early");
    }
    for n in 0..2 {
        read_all(&sandbox, &cid, n);
    }
    assert_eq!(sandbox.listed(), [cid.as_str()]);
    assert!(is_running(&mut child), "the export waits for the lock");
    let _ = sandbox
        .run(&["export", "old"])
        .failed(1, "in use by process");
    lock.batch_execute("COMMIT").expect("unlocks");
    let ran = Ran::of(child.wait_with_output().expect("ends")).succeeded();
    // Those of one second are listed in any order.
    let listed = BTreeSet::from_iter(sandbox.listed());
    let expected = [cid, ran.stdout.trim().to_owned()];
    assert_eq!(listed, BTreeSet::from(expected));
    sandbox.ok(&["verify", ran.stdout.trim()]);
}

#[test]
fn readers_and_a_busy_export_do_not_disturb_each_other() {
    let sandbox = Sandbox::new();
    write(&sandbox, "old", 0, 3);
    write(&sandbox, "new", 1000, 120);
    let cid = sandbox.ok(&["export", "old"]);
    let export = ["export", "new", "--commit-every", "1"];
    let mut child = sandbox.spawn(&export);
    let mut rounds = 0;
    while is_running(&mut child) {
        read_all(&sandbox, &cid, rounds);
        rounds += 1;
    }
    note(format!("{rounds} rounds of readers"));
    assert!(rounds > 0);
    let ran = Ran::of(child.wait_with_output().expect("ends")).succeeded();
    sandbox.ok(&["verify", ran.stdout.trim()]);
}

#[test]
fn a_reader_outlives_the_export_that_it_asks() {
    let sandbox = Sandbox::new();
    write(&sandbox, "old", 0, 20);
    let cid = sandbox.ok(&["export", "old"]);
    for n in 0..5 {
        // Another folder each time: what a killed export committed is not written again.
        let new = format!("new{n}");
        write(&sandbox, &new, 1000 * (n + 1), 30);
        let size = packs::size(&sandbox.home());
        let mut child = sandbox.spawn(&["export", &new, "--commit-every", "1"]);
        wait_until(&mut child, || {
            packs::size(&sandbox.home()) > size + (2 << 20)
        });
        let target = format!("t{n}");
        let mut command = sandbox.command(&["import", &cid, "--into", &target]);
        let mut reader = command.spawn().expect("starts");
        wait_until(&mut reader, || {
            let names = fs::read_dir(sandbox.path("")).expect("reads");
            let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
            names
                .flatten()
                .map(name)
                .any(|name| name.starts_with(".souverain") || name == target)
        });
        child.kill().expect("kills");
        let _ = child.wait();
        assert!(reader.wait().expect("ends").success());
        assert_eq!(tree(&sandbox.path(&target)), tree(&sandbox.path("old")));
    }
}
