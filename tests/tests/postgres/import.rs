//! What an import does to targets that are empty, and to those that are not.

use agent::target::{Existing, ImportOptions, Target, TargetError, postgres::PostgresTarget};
use protocol::manifest::{Engine, StreamKind};
use souverain_tests::program::Sandbox;

use crate::{
    SERVER,
    same::{assert_same, content, schema},
    streams::{Export, Memory, export, import, import_chosen},
};

const SHOP: &str = "
    CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customer, total numeric(10, 2));
    CREATE INDEX ON orders (customer);
    INSERT INTO customer SELECT i, 'customer ' || i FROM generate_series(1, 1000) i;
    INSERT INTO orders SELECT i, i % 1000 + 1, i * 1.5 FROM generate_series(1, 5000) i;";

fn shop(name: &str) -> (String, Export) {
    let url = SERVER.create_database(name);
    SERVER.psql(&url, SHOP);
    let export = export(&url).expect("exports");
    (url, export)
}

fn options(existing: Existing, partial: bool) -> ImportOptions {
    ImportOptions {
        existing,
        partial,
        ..ImportOptions::default()
    }
}

/// What the database holds, to see that it did not change.
fn state(url: &str) -> (String, String) {
    let rows = content(&mut SERVER.connect(url));
    (schema(url), format!("{rows:?}"))
}

#[test]
fn refuses_a_database_that_is_not_empty() {
    let (_, export) = shop("refuse source");
    let target = SERVER.create_database("refuse target");
    SERVER.psql(&target, "CREATE VIEW mine AS SELECT 1");
    let before = state(&target);
    let error = import(&export, &target, ImportOptions::default()).expect_err("not empty");
    assert!(matches!(error, TargetError::NotEmpty(_)), "{error:?}");
    assert_eq!(state(&target), before);
}

#[test]
fn a_check_refuses_the_same_and_changes_nothing() {
    let (source, export) = shop("check source");
    let target = SERVER.create_database("check target");
    let before = state(&source);
    let check = |url: &str, existing| {
        let mut target = PostgresTarget::open(url).expect("connects");
        let checked = target.check(&export.meta, options(existing, false));
        // A table that is locked could not be dropped.
        SERVER.psql(
            url,
            "SET lock_timeout = '5s'; DROP TABLE IF EXISTS nothing, customer_2",
        );
        checked
    };
    SERVER.psql(&source, "CREATE TABLE customer_2 ()");
    let error = check(&source, Existing::Refuse).expect_err("not empty");
    assert!(matches!(error, TargetError::NotEmpty(_)), "{error:?}");
    check(&source, Existing::Merge).expect("may be filled");
    check(&source, Existing::Replace).expect("may be replaced");
    check(&target, Existing::Refuse).expect("is empty");
    assert_eq!(state(&source), before);
    assert_eq!(state(&target), state(&SERVER.create_database("check none")));
}

#[test]
fn a_directory_says_what_it_cannot_take() {
    let (url, _) = shop("unfit");
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("notes")).expect("creates");
    std::fs::create_dir(sandbox.path("photos")).expect("creates");
    let cid = sandbox.ok(&["export", "notes", &url, "photos"]);
    let ran = sandbox.run(&["import", &cid, "--into", "out"]);
    let ran = ran.failed(1, "a directory cannot take unfit");
    assert!(ran.stderr.contains("directory: notes, photos"), "{ran:#?}");
    assert!(!sandbox.path("out").exists());
    let two = ["--source", "photos", "--source", "notes", "--into", "out"];
    sandbox.ok(&[&["import", &cid][..], &two].concat());
    assert!(sandbox.path("out/photos").is_dir());
    let into_itself = ["import", &cid, "--source", "unfit", "--into", &url];
    let dry = sandbox.run(&[&into_itself[..], &["--dry-run"]].concat());
    let dry = dry.failed(1, "database unfit is not empty");
    assert_eq!(dry.stderr, sandbox.run(&into_itself).stderr);
    let target = SERVER.create_database("unfit target");
    let into_another = ["import", &cid, "--source", "unfit", "--into", &target];
    let would = sandbox.ok(&[&into_another[..], &["--dry-run"]].concat());
    assert!(would.contains("unfit/public.orders"), "{would}");
    sandbox.ok(&into_another);
    assert_eq!(state(&target), state(&url));
}

#[test]
fn replace_drops_what_was_there() {
    let (source, export) = shop("replace source");
    let target = SERVER.create_database("replace target");
    SERVER.psql(
        &target,
        "CREATE EXTENSION hstore; CREATE SCHEMA \"a b\"; CREATE TABLE \"a b\".t (h hstore); CREATE TYPE orders AS (a int);
         CREATE TABLE customer (other text); CREATE MATERIALIZED VIEW m AS SELECT * FROM customer;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT lo_create(99);
         CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()",
    );
    import(&export, &target, options(Existing::Replace, false)).expect("imports");
    assert_same(&source, &target);
    let public = "SELECT nspowner::regrole, nspacl FROM pg_namespace WHERE nspname = 'public'";
    assert_eq!(SERVER.psql(&source, public), SERVER.psql(&target, public));
}

#[test]
fn merge_fills_empty_tables_and_refuses_others() {
    let (source, export) = shop("merge source");
    let target = SERVER.create_database("merge target");
    let script: String = SHOP.split("INSERT").next().expect("the tables").into();
    SERVER.psql(
        &target,
        &format!("{script} CREATE TABLE mine (a int); INSERT INTO mine VALUES (1)"),
    );
    import(&export, &target, options(Existing::Merge, false)).expect("imports");
    assert_eq!(SERVER.psql(&target, "SELECT a FROM mine"), "1\n");
    SERVER.psql(&target, "DROP TABLE mine");
    assert_same(&source, &target);

    let before = state(&target);
    let error =
        import(&export, &target, options(Existing::Merge, false)).expect_err("rows are there");
    assert!(
        matches!(&error, TargetError::NotEmpty(what) if what.contains("public.customer")),
        "{error:?}"
    );
    assert_eq!(state(&target), before);

    SERVER.psql(
        &target,
        "TRUNCATE customer, orders; ALTER TABLE orders ALTER total TYPE text",
    );
    let error =
        import(&export, &target, options(Existing::Merge, false)).expect_err("other columns");
    assert!(
        matches!(&error, TargetError::Unsuitable(what) if what.contains("public.orders")),
        "{error:?}"
    );
    assert_eq!(SERVER.psql(&target, "SELECT count(*) FROM customer"), "0\n");
}

#[test]
fn one_table_can_be_restored_alone() {
    let (source, export) = shop("partial source");
    let only_orders = |s: &crate::streams::Stream| {
        s.meta.kind == StreamKind::Before || s.meta.name == "public.orders"
    };
    let count = "SELECT (SELECT count(*) FROM customer), (SELECT sum(total) FROM orders)";

    let empty = SERVER.create_database("partial empty");
    import_chosen(
        &export,
        &empty,
        options(Existing::Refuse, true),
        only_orders,
    )
    .expect("imports");
    assert_eq!(SERVER.psql(&empty, count), "0|18753750.00\n");

    SERVER.psql(
        &source,
        "DELETE FROM orders WHERE id > 10; UPDATE customer SET name = 'x'",
    );
    import_chosen(
        &export,
        &source,
        options(Existing::Replace, true),
        only_orders,
    )
    .expect("imports");
    assert_eq!(SERVER.psql(&source, count), "1000|18753750.00\n");
    assert_eq!(
        SERVER.psql(&source, "SELECT DISTINCT name FROM customer"),
        "x\n"
    );
}

#[test]
fn a_failed_or_dropped_import_leaves_the_target_as_it_was() {
    let (_, good) = shop("fail source");
    let target = SERVER.create_database("fail target");
    SERVER.psql(
        &target,
        "CREATE TABLE mine AS SELECT generate_series(1, 10)",
    );
    let before = state(&target);
    let replace = options(Existing::Replace, false);

    let mut bad = good.clone();
    let stream = bad.stream("public.orders");
    let at = stream.bytes.len() - 10;
    stream.bytes[at] = b'x';
    let error = import(&bad, &target, replace).expect_err("no number");
    assert!(format!("{error}").contains("public.orders"), "{error:?}");
    assert_eq!(state(&target), before);

    let mut orphans = good.clone();
    let stream = orphans.stream("public.customer");
    let head = stream.meta.head as usize;
    let row = stream.bytes[head..]
        .iter()
        .position(|&b| b == b'\n')
        .expect("a row")
        + 1;
    stream.bytes.drain(head..head + row);
    stream.meta.bytes = stream.bytes.len() as u64;
    let error = import(&orphans, &target, replace).expect_err("a row less than the manifest says");
    assert!(matches!(error, TargetError::Hostile { .. }), "{error:?}");
    orphans.stream("public.customer").meta.rows = Some(999);
    let error = import(&orphans, &target, replace).expect_err("a foreign key fails");
    assert!(matches!(error, TargetError::Database { .. }), "{error:?}");
    assert_eq!(state(&target), before);

    let mut dropped = PostgresTarget::open(&target).expect("connects");
    dropped.begin(&good.meta, replace).expect("begins");
    for stream in &good.streams {
        let mut content = Memory::whole(stream.bytes.clone());
        dropped
            .stream(&stream.meta, &mut content)
            .expect("takes it");
    }
    drop(dropped);
    assert_eq!(state(&target), before);

    let mut other = good.meta.clone();
    other.engine = Engine::Sqlite;
    let error = PostgresTarget::open(&target)
        .expect("connects")
        .begin(&other, replace);
    assert!(
        matches!(error, Err(TargetError::Unsuitable(_))),
        "{error:?}"
    );
}

#[test]
fn hostile_streams_are_refused() {
    let (_, good) = shop("hostile source");
    let target = SERVER.create_database("hostile target");
    let scripts = [
        "COPY customer FROM PROGRAM 'touch /tmp/souverain-was-here';",
        "\\! touch /tmp/souverain-was-here\n",
        "COMMIT; CREATE TABLE evil ();",
        "SELECT 1",
        "SELECT 'unfinished;",
    ];
    for script in scripts {
        let mut bad = good.clone();
        bad.stream("after")
            .bytes
            .extend_from_slice(script.as_bytes());
        let error = import(&bad, &target, ImportOptions::default()).expect_err(script);
        assert!(
            matches!(error, TargetError::Hostile { .. }),
            "{script}: {error:?}"
        );
    }
    let heads = [
        "COPY \"public\".\"orders\" FROM PROGRAM 'id';\n",
        "COPY \"public\".\"orders\" FROM stdin; DROP TABLE customer;\n",
        "\\! id\n",
        "",
    ];
    for head in heads {
        let mut bad = good.clone();
        let stream = bad.stream("public.orders");
        stream
            .bytes
            .splice(..stream.meta.head as usize, head.bytes());
        stream.meta.head = u32::try_from(head.len()).expect("short");
        stream.meta.bytes = stream.bytes.len() as u64;
        let error = import(&bad, &target, ImportOptions::default()).expect_err(head);
        assert!(
            matches!(error, TargetError::Hostile { .. }),
            "{head}: {error:?}"
        );
    }
    assert!(content(&mut SERVER.connect(&target)).is_empty());
    assert!(!std::path::Path::new("/tmp/souverain-was-here").exists());
}

#[test]
fn damaged_rows_can_be_left_out() {
    let url = SERVER.create_database("damaged source");
    SERVER.psql(
        &url,
        "CREATE TABLE big (id int PRIMARY KEY, filler text);
         INSERT INTO big SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, 20000) i;
         CREATE TABLE small (id int PRIMARY KEY, big int REFERENCES big);
         INSERT INTO small SELECT i, i FROM generate_series(1, 20000) i",
    );
    let export = export(&url).expect("exports");
    let pieces = export
        .streams
        .iter()
        .find(|s| s.meta.name == "public.big")
        .expect("big")
        .pieces
        .len();
    assert!(pieces > 3, "too few pieces to lose one in the middle");
    for lost in [0, 1, pieces - 1] {
        let target = SERVER.create_database(&format!("damaged target {lost}"));
        let mut import = Box::new(PostgresTarget::open(&target).expect("connects"));
        let options = ImportOptions {
            skip_damaged: true,
            ..ImportOptions::default()
        };
        import.begin(&export.meta, options).expect("begins");
        let mut skipped = Vec::new();
        for stream in &export.streams {
            let mut content = match stream.meta.name.as_str() {
                "public.big" => Memory::without_piece(stream, lost),
                _ => Memory::whole(stream.bytes.clone()),
            };
            skipped.extend(
                import
                    .stream(&stream.meta, &mut content)
                    .expect("takes it")
                    .skipped,
            );
        }
        import.commit().expect("commits");
        let count: i64 = SERVER
            .psql(&target, "SELECT count(*) FROM big")
            .trim()
            .parse()
            .expect("a number");
        assert!((1..20_000).contains(&count), "{count}");
        assert!(
            skipped[0].starts_with(&format!("public.big: {} rows", 20_000 - count)),
            "{skipped:?}"
        );
        assert!(
            skipped[1].contains("small_big_fkey") && skipped.len() == 2,
            "{skipped:?}"
        );
        assert_eq!(
            SERVER.psql(&target, "SELECT count(*) FROM small"),
            "20000\n"
        );
    }
}
