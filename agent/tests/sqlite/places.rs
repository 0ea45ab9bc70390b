//! What is at the target already, what is damaged, and what is not a database.

use std::{fs, path::Path};

use protocol::manifest::StreamKind;
use rusqlite::Connection;
use souverain_agent::{
    source::SourceError,
    target::{Existing, ImportOptions, TargetError},
};

use crate::flow::{
    Exported, check_integrity, database, export, hash, import, import_damaged, try_export,
};

const SHOP: &str = "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, x);
    CREATE TABLE b(x REFERENCES a(id));
    CREATE INDEX i ON a(x); CREATE VIEW v AS SELECT x FROM a;
    INSERT INTO a(x) VALUES(1), (2), (3); INSERT INTO b VALUES(1), (2); ANALYZE;";

fn shop(directory: &Path) -> Exported {
    let path = directory.join("shop.db");
    drop(database(&path, SHOP));
    export(&path)
}

fn with(existing: Existing) -> ImportOptions {
    ImportOptions {
        existing,
        ..ImportOptions::default()
    }
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).expect("a database");
    let query = format!("SELECT count(*) FROM {table}");
    connection
        .query_row(&query, [], |row| row.get(0))
        .expect("a table")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_database_with_tables_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    let target = directory.path().join("target.db");
    drop(database(&target, "CREATE TABLE other(x)"));
    let before = fs::read(&target).expect("readable");
    let error = import(&exported, &target, with(Existing::Refuse)).expect_err("not empty");
    assert!(matches!(error, TargetError::NotEmpty(_)), "{error}");
    fs::write(
        directory.path().join("text"),
        "not a database, but long enough to be one".repeat(99),
    )
    .expect("written");
    let error = import(
        &exported,
        &directory.path().join("text"),
        with(Existing::Refuse),
    );
    assert!(matches!(error, Err(TargetError::NotEmpty(_))));
    assert_eq!(fs::read(&target).expect("readable"), before);
    assert_eq!(names(directory.path()), ["shop.db", "target.db", "text"]);
}

#[test]
fn an_empty_database_or_file_is_filled() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    for existing in [Existing::Refuse, Existing::Merge, Existing::Replace] {
        let file = directory.path().join(format!("file-{existing:?}"));
        fs::write(&file, "").expect("written");
        let base = directory.path().join(format!("base-{existing:?}"));
        drop(database(&base, "PRAGMA user_version=3"));
        for target in [file, base] {
            import(&exported, &target, with(existing)).expect("nothing is there");
            assert_eq!(hash(&target), hash(&directory.path().join("shop.db")));
        }
    }
}

#[test]
fn replaced_with_what_lies_beside_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    let target = directory.path().join("target.db");
    let old = database(
        &target,
        "PRAGMA journal_mode=WAL; CREATE TABLE other(x); INSERT INTO other VALUES(1)",
    );
    // While somebody uses it, it is left alone.
    let error = import(&exported, &target, with(Existing::Replace)).expect_err("in use");
    assert!(matches!(error, TargetError::Database { .. }), "{error}");
    assert_eq!(count(&target, "other"), 1);
    drop(old);
    fs::write(directory.path().join("target.db-wal"), "left over").expect("written");
    import(&exported, &target, with(Existing::Replace)).expect("replaced");
    assert_eq!(hash(&target), hash(&directory.path().join("shop.db")));
    assert_eq!(names(directory.path()), ["shop.db", "target.db"]);
}

#[test]
fn a_link_is_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    fs::create_dir(directory.path().join("elsewhere")).expect("made");
    let real = directory.path().join("elsewhere/real.db");
    drop(database(&real, "CREATE TABLE other(x)"));
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&real, &link).expect("made");
    import(&exported, &link, with(Existing::Replace)).expect("replaced");
    assert!(link.is_symlink());
    assert_eq!(hash(&real), hash(&directory.path().join("shop.db")));
}

#[test]
fn merged_beside_other_tables() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    let target = directory.path().join("target.db");
    drop(database(
        &target,
        "CREATE TABLE other(id INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO other VALUES(70);
         CREATE TABLE b(x REFERENCES a(id)); ANALYZE;",
    ));
    import(&exported, &target, with(Existing::Merge)).expect("b is empty");
    check_integrity(&target);
    assert_eq!(
        (
            count(&target, "a"),
            count(&target, "b"),
            count(&target, "v")
        ),
        (3, 2, 3)
    );
    let connection = Connection::open(&target).expect("a database");
    connection
        .execute_batch("INSERT INTO a(x) VALUES(9); INSERT INTO other DEFAULT VALUES")
        .expect("sound");
    let max = |table| -> i64 {
        let query = format!("SELECT max(id) FROM {table}");
        connection
            .query_row(&query, [], |row| row.get(0))
            .expect("a table")
    };
    assert_eq!((max("a"), max("other")), (4, 71));
    assert_eq!(count(&target, "sqlite_sequence"), 2);
}

#[test]
fn not_merged_over_other_content() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    for (number, (sql, complaint)) in [
        (
            "PRAGMA foreign_keys=OFF; CREATE TABLE b(x REFERENCES a(id)); INSERT INTO b VALUES(5)",
            "table b of",
        ),
        ("CREATE TABLE B(x INTEGER)", "other columns"),
        ("CREATE TABLE b(x, y)", "other columns"),
        ("CREATE TABLE z(x); CREATE VIEW v AS SELECT 1", "is another"),
        (
            "PRAGMA encoding='UTF-16'; CREATE TABLE z(x)",
            "stores text as UTF-16le",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let target = directory.path().join(format!("{number}.db"));
        drop(database(&target, sql));
        let before = hash(&target);
        let error = import(&exported, &target, with(Existing::Merge)).expect_err(sql);
        assert!(error.to_string().contains(complaint), "{error}");
        assert_eq!(hash(&target), before);
    }
    fs::write(directory.path().join("text"), "not a database".repeat(99)).expect("written");
    let error = import(
        &exported,
        &directory.path().join("text"),
        with(Existing::Merge),
    );
    assert!(matches!(error, Err(TargetError::Unsuitable(_))));
}

#[test]
fn one_table_of_several() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut exported = shop(directory.path());
    exported
        .streams
        .retain(|s| s.meta.kind == StreamKind::Before || s.meta.name == "b");
    let target = directory.path().join("target.db");
    let options = ImportOptions {
        partial: true,
        ..ImportOptions::default()
    };
    import(&exported, &target, options).expect("own streams");
    assert_eq!(count(&target, "b"), 2);
    assert_eq!(count(&target, "sqlite_master WHERE name = 'a'"), 0);
}

#[test]
fn what_is_undamaged_is_restored() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("source.db");
    let connection = database(
        &path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x); CREATE TABLE r(t REFERENCES t(id));
         CREATE TABLE \"odd\nname\"(x);",
    );
    for id in 0..40 {
        // Most rows are far smaller than a piece, some span several.
        let len = if id % 10 == 5 { 3_000_000 } else { 100_000 };
        let insert = "INSERT INTO t VALUES(?1, ?2)";
        let text = format!("{id}-").repeat(len / 3);
        connection.execute(insert, (id, text)).expect("it fits");
        connection
            .execute("INSERT INTO r VALUES(?1)", [id])
            .expect("it fits");
        connection
            .execute("INSERT INTO \"odd\nname\" VALUES(?1)", [id])
            .expect("it fits");
    }
    drop(connection);
    let mut exported = export(&path);
    let pieces = exported.stream("t").pieces.len();
    assert!(pieces > 15);
    for damaged in 0..pieces {
        let target = directory.path().join(format!("{damaged}.db"));
        let damage = |name: &str| if name == "t" { vec![damaged] } else { vec![] };
        let options = ImportOptions {
            skip_damaged: true,
            ..ImportOptions::default()
        };
        let reports = import_damaged(&exported, &target, options, damage).expect("some of it");
        let rows = count(&target, "t");
        assert!(
            (25..40).contains(&rows),
            "{rows} rows without piece {damaged}"
        );
        let report = &reports[1];
        assert_eq!(report.skipped, [format!("{} rows", 40 - rows)]);
        let dangling = &reports.last().expect("some").skipped;
        assert_eq!(
            *dangling,
            [format!("{} references to rows that are missing", 40 - rows)]
        );
        let connection = Connection::open(&target).expect("a database");
        connection
            .execute("ATTACH ?1 AS source", [path.to_str()])
            .expect("readable");
        let strange: i64 = connection
            .query_row(
                "SELECT count(*) FROM (SELECT * FROM t EXCEPT SELECT * FROM source.t)",
                [],
                |row| row.get(0),
            )
            .expect("comparable");
        assert_eq!(strange, 0, "a row is whole or not there");
    }
    let target = directory.path().join("head.db");
    let options = ImportOptions {
        skip_damaged: true,
        ..ImportOptions::default()
    };
    let damage = |name: &str| {
        if name == "t" || name.starts_with("odd") {
            vec![0]
        } else {
            vec![]
        }
    };
    import_damaged(&exported, &target, options, damage).expect("some of it");
    assert_eq!(count(&target, "\"odd\nname\""), 0);
}

#[test]
fn sources_that_are_no_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("text"), "not a database".repeat(99)).expect("written");
    fs::create_dir(at("directory")).expect("made");
    drop(database(&at("cut"), SHOP));
    let whole = fs::read(at("cut")).expect("readable");
    fs::write(at("cut"), &whole[..whole.len() / 2]).expect("written");
    assert!(matches!(
        try_export(&at("missing")),
        Err(SourceError::Io { .. })
    ));
    assert!(matches!(
        try_export(&at("directory")),
        Err(SourceError::Unsupported { .. })
    ));
    for name in ["text", "cut"] {
        let error = try_export(&at(name)).expect_err("not a database");
        assert!(matches!(error, SourceError::Database { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(!at("missing").exists());
}

#[test]
fn a_locked_source_is_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let holder = database(&path, SHOP);
    holder.execute_batch("BEGIN EXCLUSIVE").expect("it is ours");
    let error = try_export(&path).expect_err("locked");
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("database is locked"));
}

#[test]
fn directories_above_are_made_and_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    let target = directory.path().join("new/er/target.db");
    let mut bad = exported.clone();
    bad.streams[0].pieces.push(b"SELECT 1;\n".to_vec());
    import(&bad, &target, ImportOptions::default()).expect_err("hostile");
    assert_eq!(names(directory.path()), ["shop.db"]);
    import(&exported, &target, ImportOptions::default()).expect("own streams");
    assert_eq!(hash(&target), hash(&directory.path().join("shop.db")));
}

#[test]
fn a_target_that_cannot_be_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let exported = shop(directory.path());
    let below_a_file = directory.path().join("shop.db/target.db");
    let error = import(&exported, &below_a_file, ImportOptions::default()).expect_err("a file");
    assert!(matches!(error, TargetError::Io { .. }), "{error}");
    let error = import(&exported, directory.path(), ImportOptions::default());
    assert!(matches!(error, Err(TargetError::Unsuitable(_))));
    let mut tree = exported;
    tree.meta.engine = protocol::manifest::Engine::Tree;
    let error = import(
        &tree,
        &directory.path().join("x.db"),
        ImportOptions::default(),
    );
    assert!(matches!(error, Err(TargetError::Unsuitable(_))));
    assert_eq!(names(directory.path()), ["shop.db"]);
}
