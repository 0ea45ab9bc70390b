//! An export is one state of the database, and a large one is quick.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use agent::target::ImportOptions;

use crate::{
    SERVER,
    same::assert_same,
    streams::{export, export_watched, import},
};

#[test]
fn transfers_during_the_export_keep_the_sum() {
    let url = SERVER.create_database("bank");
    let mut setup = String::new();
    for table in 0..6 {
        setup.push_str(&format!(
            "CREATE TABLE account_{table} (id int PRIMARY KEY, balance int, filler text);
             INSERT INTO account_{table} SELECT i, 1000, repeat('x', 100) FROM generate_series(1, 5000) i;"
        ));
    }
    SERVER.psql(&url, &setup);
    let stop = AtomicBool::new(false);
    let export = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = SERVER.connect(&url);
            let mut transfers = 0u32;
            while !stop.load(Ordering::Relaxed) {
                let (from, to, id) = (transfers % 6, (transfers + 1) % 6, transfers % 5000 + 1);
                client
                    .batch_execute(&format!(
                        "BEGIN; UPDATE account_{from} SET balance = balance - 7 WHERE id = {id};
                         UPDATE account_{to} SET balance = balance + 7 WHERE id = {id}; COMMIT"
                    ))
                    .expect("a transfer");
                transfers += 1;
            }
            transfers
        });
        let before = transfers_seen(&url);
        let export = export(&url);
        let after = transfers_seen(&url);
        stop.store(true, Ordering::Relaxed);
        let transfers = writer.join().expect("the writer does not panic");
        assert!(
            transfers > 0 && after > before,
            "nothing was written while the export ran"
        );
        export.expect("exports")
    });
    let target = SERVER.create_database("bank imported");
    import(&export, &target, ImportOptions::default()).expect("imports");
    let sums: Vec<String> = (0..6)
        .map(|t| format!("(SELECT sum(balance) FROM account_{t})"))
        .collect();
    let sum = SERVER.psql(&target, &format!("SELECT {}", sums.join(" + ")));
    assert_eq!(sum, "30000000\n");
}

/// Row versions written so far.
fn transfers_seen(url: &str) -> i64 {
    let sql = "SELECT txid_snapshot_xmax(txid_current_snapshot())";
    SERVER.psql(url, sql).trim().parse().expect("a number")
}

#[test]
fn a_waiting_alter_table_does_not_stop_the_export() {
    let url = SERVER.create_database("alter");
    SERVER.psql(
        &url,
        "CREATE TABLE a AS SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 20000) i;
         CREATE TABLE b AS SELECT 1 AS x; CREATE TABLE c AS SELECT 1 AS x",
    );
    thread::scope(|scope| {
        let mut alter = None;
        let watched = export_watched(&url, |seen| {
            // After the first piece all tables are locked; then b gets a waiter in front of its readers.
            if seen == 1 {
                let (tell, begun) = std::sync::mpsc::sync_channel(1);
                let own_url = url.clone();
                alter = Some(scope.spawn(move || {
                    let mut client = SERVER.connect(&own_url);
                    let pid: i32 = client
                        .query_one("SELECT pg_backend_pid()", &[])
                        .expect("pid")
                        .get(0);
                    tell.send(pid).expect("told");
                    client
                        .batch_execute("ALTER TABLE b ADD COLUMN y int; DROP TABLE c")
                        .expect("alters");
                }));
                let pid = begun.recv().expect("begun");
                let mut client = SERVER.connect(&url);
                let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)";
                while !client
                    .query_one(waits, &[&pid])
                    .expect("locks")
                    .get::<_, bool>(0)
                {
                    thread::yield_now();
                }
            }
        });
        let mut export = watched.expect("exports");
        assert_eq!(export.stream("public.b").meta.rows, Some(1));
        assert_eq!(export.stream("public.c").meta.rows, Some(1));
        alter.expect("it began").join().expect("it ended");
    });
}

#[test]
fn a_million_rows_come_back() {
    let url = SERVER.create_database("million");
    SERVER.psql(
        &url,
        "CREATE UNLOGGED TABLE events (id bigint, at timestamptz, amount numeric(12, 2), kind smallint, note text);
         INSERT INTO events SELECT i, '2020-01-01'::timestamptz + i * interval '1 second', i * 0.01, i % 7, 'event ' || i
         FROM generate_series(1, 1000000) i;
         ALTER TABLE events ADD PRIMARY KEY (id)",
    );
    let target = SERVER.create_database("million imported");
    let export = export(&url).expect("exports");
    let reports = import(&export, &target, ImportOptions::default()).expect("imports");
    assert_eq!(reports.iter().map(|r| r.rows).sum::<u64>(), 1_000_000);
    assert_same(&url, &target);
}
