//! Schemas that stock SQLite cannot make in whole, or writes in other words.

use std::path::Path;

use protocol::manifest::StreamKind;
use rusqlite::Connection;
use souverain_agent::target::ImportOptions;

use crate::flow::{Exported, database, export, import, load_with_stock_client, try_export};

fn text(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).expect("a database");
    let value: rusqlite::types::Value = connection
        .query_row(sql, [], |row| row.get(0))
        .expect("sound SQL");
    match value {
        rusqlite::types::Value::Text(text) => text,
        value => format!("{value:?}"),
    }
}

fn only(exported: &Exported, name: &str) -> (Exported, ImportOptions) {
    let mut part = exported.clone();
    part.streams
        .retain(|s| s.meta.kind != StreamKind::Table || s.meta.name == name);
    let options = ImportOptions {
        partial: true,
        ..ImportOptions::default()
    };
    (part, options)
}

const OBJECTS: &str =
    "SELECT group_concat(name, ' ') FROM (SELECT name FROM sqlite_master ORDER BY name)";

#[test]
fn keywords_of_a_schema_are_read_in_any_case() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(database(
        &path,
        "CREATE TABLE nn(a text); INSERT INTO nn VALUES('x');
         CREATE UNIQUE INDEX i ON nn(a); CREATE VIEW v AS SELECT a FROM nn;
         CREATE TRIGGER t AFTER INSERT ON nn BEGIN SELECT 1; END;
         CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES('word');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql='create table nn(a text CHECK (a
/
2 IS NOT 9))' WHERE name='nn';
         UPDATE sqlite_master SET sql='create unique index i ON nn(a)' WHERE name='i';
         UPDATE sqlite_master SET sql='Create View v as select a from nn' WHERE name='v';
         UPDATE sqlite_master SET sql='create trigger t AFTER INSERT ON nn begin select 1; end' WHERE name='t';
         UPDATE sqlite_master SET sql='create virtual table f using fts5(x)' WHERE name='f';",
    ));
    let exported = export(&path);
    let copy = directory.path().join("copy.db");
    import(&exported, &copy, ImportOptions::default()).expect("own streams");
    let stock = directory.path().join("stock.db");
    load_with_stock_client(&exported.script(), &stock);
    for copy in [&copy, &stock] {
        assert_eq!(text(copy, OBJECTS), text(&path, OBJECTS));
        assert_eq!(text(copy, "SELECT a FROM v"), "x");
        assert_eq!(text(copy, "SELECT x FROM f WHERE f MATCH 'word'"), "word");
    }
}

#[test]
fn tables_that_lack_a_function_or_collation_cost_themselves_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(database(
        &path,
        "CREATE TABLE ok(a UNIQUE); INSERT INTO ok VALUES('kept');
         CREATE TABLE odd(a, b); INSERT INTO odd VALUES(1, 2), (3, 4);
         CREATE INDEX of_odd ON odd(a);
         CREATE TRIGGER on_odd AFTER INSERT ON odd BEGIN DELETE FROM ok; END;
         CREATE TABLE keyed(a UNIQUE); INSERT INTO keyed VALUES('x');
         PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql='CREATE TABLE odd(a, b CHECK (klingon(a
/
2)))' WHERE name='odd';
         UPDATE sqlite_master SET sql='CREATE TABLE keyed(a COLLATE vulcan UNIQUE)' WHERE name='keyed';",
    ));
    let exported = export(&path);
    let warnings = exported.meta.warnings.join("\n");
    assert!(
        warnings.contains("table odd needs a function") && warnings.contains("klingon"),
        "{warnings}"
    );
    assert!(warnings.contains("vulcan"), "{warnings}");
    let copy = directory.path().join("copy.db");
    let reports = import(&exported, &copy, ImportOptions::default()).expect("the rest arrives");
    let skipped: Vec<String> = reports.into_iter().flat_map(|r| r.skipped).collect();
    assert_eq!(
        skipped,
        [
            "table odd: no such function: klingon",
            "table keyed: no such collation sequence: vulcan",
            "2 rows of table odd, which could not be made here",
            "1 rows of table keyed, which could not be made here",
            "index of_odd: no such table: main.odd",
            "trigger on_odd: no such table: main.odd",
        ]
    );
    assert_eq!(text(&copy, "SELECT a FROM ok"), "kept");

    let (part, options) = only(&exported, "ok");
    let alone = directory.path().join("alone.db");
    let reports = import(&part, &alone, options).expect("nothing of it is odd");
    assert!(reports.iter().all(|r| r.skipped.is_empty()), "{reports:?}");
    assert_eq!(text(&alone, "SELECT a FROM ok"), "kept");
}

#[test]
fn one_table_brings_its_indexes_and_no_other_table() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(database(
        &path,
        "CREATE TABLE orders(id INTEGER PRIMARY KEY, a); CREATE TABLE other(a);
         CREATE INDEX by_a ON orders(a); CREATE INDEX other_a ON other(a);
         CREATE VIEW v AS SELECT * FROM other;
         CREATE TRIGGER t AFTER INSERT ON orders BEGIN INSERT INTO other VALUES(1); END;
         CREATE TRIGGER tv INSTEAD OF INSERT ON v BEGIN SELECT 1; END;
         CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO orders VALUES(1, 2);",
    ));
    let exported = export(&path);
    let (part, options) = only(&exported, "orders");
    let copy = directory.path().join("copy.db");
    let reports = import(&part, &copy, options).expect("own streams");
    assert!(reports.iter().all(|r| r.skipped.is_empty()), "{reports:?}");
    assert_eq!(text(&copy, OBJECTS), "by_a orders");
    assert_eq!(text(&copy, "SELECT count(*) FROM orders"), "Integer(1)");
}

#[test]
fn rows_that_a_table_does_not_take_are_left_out_if_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(database(
        &path,
        "CREATE TABLE t(a); INSERT INTO t VALUES(1), (NULL), (3), (NULL);
         PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql='CREATE TABLE t(a NOT NULL)' WHERE name='t';",
    ));
    let exported = export(&path);
    let copy = directory.path().join("copy.db");
    let error = import(&exported, &copy, ImportOptions::default()).expect_err("not null");
    let hint = error.hint().expect("one");
    assert!(hint.contains("--skip-damaged"), "{hint}");
    assert!(!copy.exists());
    let options = ImportOptions {
        skip_damaged: true,
        ..ImportOptions::default()
    };
    let reports = import(&exported, &copy, options).expect("the rest arrives");
    assert_eq!(reports[1].rows, 2);
    assert_eq!(
        reports[1].skipped,
        [
            "NOT NULL constraint failed: t.a",
            "2 rows that table t does not take"
        ]
    );
    assert_eq!(text(&copy, "SELECT sum(a) FROM t"), "Integer(4)");
}

#[test]
fn what_cannot_be_read_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let hint = |path: &Path| {
        let error = try_export(path).expect_err("it cannot be read");
        error.hint().unwrap_or_else(|| panic!("{error:?}"))
    };
    let no_database = directory.path().join("text");
    std::fs::write(&no_database, "no database".repeat(99)).expect("written");
    assert!(hint(&no_database).contains("without `sqlite:`"));

    let locked = directory.path().join("locked.db");
    let writer = database(&locked, "CREATE TABLE t(a); BEGIN EXCLUSIVE;");
    assert!(hint(&locked).contains("another program"));
    drop(writer);

    // A writer that is cut off leaves its journal; a copy of both is what a crash leaves.
    let writer = database(
        &locked,
        "PRAGMA cache_size=1; PRAGMA cache_spill=1; BEGIN;
         INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
         SELECT hex(randomblob(500)) FROM n;",
    );
    let cut_off = directory.path().join("cut-off.db");
    for suffix in ["", "-journal"] {
        let from = directory.path().join(format!("locked.db{suffix}"));
        let to = directory.path().join(format!("cut-off.db{suffix}"));
        std::fs::copy(from, to).expect("copied");
    }
    drop(writer);
    assert!(hint(&cut_off).contains("FILE-journal"));

    let damaged = directory.path().join("damaged.db");
    drop(database(
        &damaged,
        "CREATE TABLE t(a); INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000)
         SELECT hex(randomblob(50)) FROM n;",
    ));
    let mut bytes = std::fs::read(&damaged).expect("read");
    bytes[4096..16384].fill(0xee);
    std::fs::write(&damaged, bytes).expect("written");
    assert!(hint(&damaged).contains(".recover"));
}
