//! Streams that no export writes are refused, and leave nothing behind.

use std::path::Path;

use protocol::manifest::StreamKind;
use souverain_agent::target::{ImportOptions, TargetError};

use crate::flow::{Exported, database, export, import};

fn sample(directory: &Path) -> Exported {
    let path = directory.join("source.db");
    drop(database(
        &path,
        "CREATE TABLE t(a, b TEXT); INSERT INTO t VALUES(1, 'x'), (2, 'it''s');
         CREATE INDEX i ON t(a); CREATE VIRTUAL TABLE f USING fts5(x);",
    ));
    export(&path)
}

fn refused(exported: &Exported, directory: &Path, what: &str) {
    let path = directory.join("target.db");
    let error = import(exported, &path, ImportOptions::default()).expect_err(what);
    assert!(
        matches!(error, TargetError::Hostile { .. }),
        "{what}: {error}"
    );
    let mut left = std::fs::read_dir(directory).expect("a directory");
    let only = left
        .next()
        .expect("the source")
        .expect("readable")
        .file_name();
    assert_eq!(only, "source.db");
    assert!(left.next().is_none(), "{what} left a file");
}

#[test]
fn statements_that_do_not_make_a_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = sample(directory.path());
    for statement in [
        "ATTACH 'other.db' AS other;",
        "DETACH main;",
        "VACUUM INTO 'other.db';",
        "SELECT load_extension('x');",
        "SELECT writefile('other', 'x');",
        "SELECT 1;",
        "INSERT INTO t VALUES(9, 9);",
        "DELETE FROM t;",
        "DROP TABLE t;",
        "PRAGMA temp_store_directory='/';",
        "PRAGMA journal_mode=MEMORY;",
        "PRAGMA user_version=1 ;",
        "PRAGMA writable_schema=1;",
        "PRAGMA foreign_keys=ON;",
        "PRAGMA user_version;",
        "CREATE TEMP TABLE x(a);",
        "CREATE TEMP VIEW x AS SELECT 1;",
        "CREATE TABLE temp.x(a);",
        "CREATE TABLE x AS SELECT 1;",
        "CREATE VIRTUAL TABLE x USING fts5(a);",
        "CREATE VIRTUAL TABLE x USING dbstat(main);",
        "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END;",
        "EXPLAIN CREATE TABLE x(a);",
        "REINDEX;",
        "ALTER TABLE t RENAME TO u;",
        ".shell touch other",
        "INSERT INTO \"sqlite_master\"(\"type\",\"name\",\"tbl_name\",\"rootpage\",\"sql\") VALUES('table','x','x',0,'CREATE TABLE x(a)');",
        "INSERT INTO \"sqlite_master\"(\"type\",\"name\",\"tbl_name\",\"rootpage\",\"sql\") VALUES('table','x','t',0,'CREATE VIRTUAL TABLE x USING fts5(a)');",
        "INSERT INTO \"sqlite_master\"(\"type\",\"name\",\"tbl_name\",\"rootpage\",\"sql\") VALUES('table','x','x',2,'CREATE VIRTUAL TABLE x USING fts5(a)');",
        "INSERT INTO \"sqlite_master\"(\"type\",\"name\",\"tbl_name\",\"rootpage\",\"sql\") VALUES('table','x','x',0,'CREATE VIRTUAL TABLE y USING fts5(a)');",
        "UPDATE sqlite_master SET sql='CREATE TABLE t(a, c TEXT)' WHERE type='table' AND name='t';",
        "UPDATE sqlite_master SET sql='' WHERE type='table' AND name='t';",
        "UPDATE sqlite_master SET sql='x' WHERE type='table' AND name='t' OR 1;",
        "",
        "CREATE TABLE unfinished(a)",
    ] {
        for kind in [StreamKind::Before, StreamKind::After] {
            let mut bad = good.clone();
            let stream = bad.streams.iter_mut().find(|s| s.meta.kind == kind);
            let bytes = format!("{statement}\n").into_bytes();
            stream.expect("there is one").pieces.push(bytes);
            refused(&bad, directory.path(), statement);
        }
    }
}

#[test]
fn functions_that_reach_outside() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = sample(directory.path());
    for function in [
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
    ] {
        let mut bad = good.clone();
        let last = bad.streams.last_mut().expect("there is one");
        let index = format!("CREATE INDEX x ON t({function}(a, b));\n").into_bytes();
        last.pieces.push(index);
        let path = directory.path().join(function);
        match import(&bad, &path, ImportOptions::default()) {
            // What is not there at all costs the index only.
            Ok(reports) => assert_eq!(reports.last().expect("some").skipped.len(), 1),
            Err(error) => assert!(!path.exists(), "{error}"),
        }
    }
}

#[test]
fn rows_that_are_not_literals() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = sample(directory.path());
    let row =
        |values: &str| format!("INSERT INTO \"t\"(\"rowid\",\"a\",\"b\") VALUES({values});\n");
    let lines = [
        row("3,load_extension('x'),NULL"),
        row("3,(SELECT 1),NULL"),
        row("3,1"),
        row("3,1,2,3"),
        row("3,1,NULL),(4,1,NULL"),
        row("3,1,'a';DROP TABLE t"),
        row("3,1,NULL").replace(";\n", "; DROP TABLE t;\n"),
        row("3,1,NULL").replace(";\n", ";"),
        row("3,1,NULL").replace("\"t\"", "t"),
        row("3,1,NULL").replace("\"t\"", "\"f_config\""),
        row("3,1,NULL").replace("INSERT", "insert"),
        row("3,1,NULL").replace("\"a\",\"b\"", "\"b\",\"a\""),
        "ATTACH 'other.db' AS other;\n".to_owned(),
        "\n".to_owned(),
    ];
    for line in lines {
        let mut bad = good.clone();
        let table = bad.stream("t");
        table.pieces.push(line.clone().into_bytes());
        table.meta.rows = table.meta.rows.map(|rows| rows + 1);
        refused(&bad, directory.path(), &line);
    }
}

#[test]
fn streams_that_do_not_fit_the_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = sample(directory.path());
    let mut fewer = good.clone();
    fewer.stream("t").meta.rows = Some(3);
    refused(&fewer, directory.path(), "a row too few");
    let mut renamed = good.clone();
    renamed.stream("t").meta.columns[1].name = "z".to_owned();
    refused(&renamed, directory.path(), "another column");
    let mut elsewhere = good.clone();
    elsewhere.stream("t").meta.name = "sqlite_master".to_owned();
    refused(&elsewhere, directory.path(), "the schema as a table");
    let mut unknown = good.clone();
    unknown.stream("t").meta.name = "u".to_owned();
    refused(&unknown, directory.path(), "no such table");
    let mut tree = good;
    tree.stream("t").meta.kind = StreamKind::Tree;
    refused(&tree, directory.path(), "a tree");
}
