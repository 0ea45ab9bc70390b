//! Servers that go away, refuse, or want a password: clear errors, and nothing half done.

use std::error::Error;

use agent::{
    source::{Source, SourceError, postgres::PostgresSource},
    target::{Existing, ImportOptions, Target, TargetError, postgres::PostgresTarget},
};
use souverain_tests::postgres::PostgresServer;

use crate::{
    SERVER,
    streams::{Memory, export, export_watched},
};

const BIG: &str =
    "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 40) AS t FROM generate_series(1, 40000) i";

/// The error with all its causes, and what to do about it.
fn whole(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    let of_source = error
        .downcast_ref::<SourceError>()
        .and_then(SourceError::hint);
    let of_target = error
        .downcast_ref::<TargetError>()
        .and_then(TargetError::hint);
    if let Some(hint) = of_source.or(of_target) {
        assert!(!text.contains(&hint), "a hint is no cause: {text}");
        text = format!("{text}; hint: {hint}");
    }
    text
}

#[test]
fn a_server_that_crashes_ends_export_and_import_cleanly() {
    let server = PostgresServer::start();
    let url = server.create_database("crash");
    server.psql(&url, BIG);
    let good = export(&url).expect("exports");
    let error = export_watched(&url, |seen| {
        if seen == 3 {
            server.crash();
        }
    })
    .expect_err("the server is gone");
    assert!(matches!(error, SourceError::Database { .. }), "{error:?}");
    assert!(
        whole(&error).contains("table public.big") && whole(&error).contains("; hint: "),
        "{}",
        whole(&error)
    );

    server.restart();
    let target = server.create_database("crash target");
    server.psql(&target, "CREATE TABLE mine AS SELECT 7 AS a");
    let mut import = Box::new(PostgresTarget::open(&target).expect("connects"));
    let replace = ImportOptions {
        existing: Existing::Replace,
        ..ImportOptions::default()
    };
    import.begin(&good.meta, replace).expect("begins");
    for stream in &good.streams[..2] {
        let mut content = Memory::whole(stream.bytes.clone());
        import.stream(&stream.meta, &mut content).expect("takes it");
    }
    server.crash();
    let after = &good.streams[2];
    let error = import
        .stream(&after.meta, &mut Memory::whole(after.bytes.clone()))
        .expect_err("the server is gone");
    assert!(matches!(error, TargetError::Database { .. }), "{error:?}");
    import.commit().expect_err("nothing to commit");
    server.restart();
    assert_eq!(server.psql(&target, "SELECT a FROM mine"), "7\n");
    assert_eq!(
        server.psql(&target, "SELECT to_regclass('big') IS NULL"),
        "t\n"
    );
}

#[test]
fn stopping_an_export_is_no_failure_of_the_database() {
    let url = SERVER.create_database("stopped");
    SERVER.psql(&url, BIG);
    let mut source = PostgresSource::open(&url, 0).expect("opens");
    let (send, receive) = crossbeam_channel::bounded(1);
    let cutter = protocol::cut::Cutter::new(&[1; 32]);
    let progress = agent::progress::Progress::default();
    let intake =
        agent::intake::Intake::new(cutter, send, Box::new(|_| None)).with_progress(&progress);
    let stop = progress.stop.clone();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            receive.recv().expect("a first piece");
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            receive.iter().for_each(drop);
        });
        let outcome = source.read(&intake);
        drop(intake);
        outcome
    });
    assert!(
        matches!(outcome, Err(SourceError::Stopped(_))),
        "{outcome:?}"
    );
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND state <> 'idle' AND application_name = 'souverain'";
    assert_eq!(SERVER.psql(&url, left), "0\n");
}

#[test]
fn errors_name_the_table_and_a_way_out() {
    let url = SERVER.create_database("denied");
    SERVER.psql(
        &url,
        "CREATE TABLE open (a int); CREATE TABLE \"Closed\" (a int); CREATE ROLE denied LOGIN;
         GRANT SELECT ON open TO denied",
    );
    let as_denied = url.replace("postgres@", "denied@");
    let error = export(&as_denied).expect_err("denied");
    let text = whole(&error);
    assert!(
        text.contains("public.\"Closed\"") && text.contains("hint: grant SELECT"),
        "{text}"
    );

    SERVER.psql(
        &url,
        "GRANT SELECT ON \"Closed\" TO denied; ALTER TABLE open ENABLE ROW LEVEL SECURITY",
    );
    let text = whole(&export(&as_denied).expect_err("rows are hidden"));
    assert!(
        text.contains("public.open") && text.contains("row-level security"),
        "{text}"
    );
}

#[test]
fn connections_that_fail_say_why_and_keep_the_password() {
    let name = "passwords";
    SERVER.create_database(name);
    SERVER.psql(
        &SERVER.url(name),
        "CREATE ROLE scram LOGIN PASSWORD 'open sesame'",
    );
    let url = SERVER.tcp_url(name);
    let with_password = url.replace("postgres@", "scram:open%20sesame@");
    let source = PostgresSource::open(&with_password, 0).expect("the password is right");
    assert!(!format!("{source:?}").contains("sesame"));
    let wrong = url.replace("postgres@", "scram:shut%20sesame@");
    let none = url.replace("postgres@", "scram@");
    let nowhere = "postgres://me:sesame@127.0.0.1:1/x".to_owned();
    let missing = SERVER.tcp_url("no such database");
    for (url, said) in [
        (wrong, "PGPASSWORD"),
        (none, "password"),
        (nowhere, "hint: is the server running there?"),
        (missing, "createdb"),
    ] {
        let text = whole(&PostgresSource::open(&url, 0).expect_err("fails"));
        assert!(text.contains(said) && !text.contains("sesame"), "{text}");
        let text = whole(&PostgresTarget::open(&url).expect_err("fails"));
        assert!(text.contains(said) && !text.contains("sesame"), "{text}");
    }
}
