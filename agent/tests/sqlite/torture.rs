//! Databases with everything in them that SQLite allows.

use std::path::Path;

use rusqlite::{Connection, params};

use crate::flow::{database, export, export_while, hash, import, round_trip};

const SCHEMA: &str = include_str!("torture.sql");

/// All storage classes and their edges, as SQL.
const VALUES: [&str; 48] = [
    "NULL",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    "0.0",
    "-0.0",
    "1.0",
    "0.1",
    "0.1+0.2",
    "1.0/3",
    "-1e15",
    "1e22",
    "1e23",
    "123456789012345678.0",
    "9223372036854775807.0",
    "-9223372036854775808.0",
    "1.7976931348623157e308",
    "2.2250738585072014e-308",
    "2.2250738585072011e-308",
    "4.9e-324",
    "1e-300",
    "1e-290",
    "3.14159e-200",
    "9e999",
    "-9e999",
    "9e999-9e999",
    "''",
    "'1'",
    "'1.0'",
    "'abc'",
    "' 12 '",
    "'1e400'",
    "'it''s \"quoted\" [x] `y` \\n \\\\ % ; -- /*'",
    "char(10)",
    "char(13,10)||'x'||char(13)||'y'||char(9)",
    "'a'||char(0)||'b'",
    "char(0)",
    "char(128512)||'é'||char(65279)||char(65533)",
    "char(65534,65535)",
    "CAST(X'FF00FE' AS TEXT)",
    "CAST(X'F09F98' AS TEXT)",
    "X''",
    "X'00'",
    "X'3132'",
    "X'0D0A00FF27'",
    "CAST('12' AS BLOB)",
];

fn insert_values(connection: &Connection, table: &str, columns: usize) {
    for value in VALUES {
        let values = vec![value; columns].join(",");
        connection
            .execute(&format!("INSERT INTO {table} VALUES({values})"), [])
            .expect("any value fits");
    }
}

fn torture(path: &Path, settings: &str) -> Connection {
    let connection = database(path, settings);
    connection.execute_batch(SCHEMA).expect("sound SQL");
    insert_values(&connection, "every_affinity", 9);
    insert_values(&connection, "\"select\"", 2);
    for (row, value) in VALUES.iter().enumerate() {
        let sql = format!("INSERT OR IGNORE INTO pairs(a, b, c) VALUES({value}, {row}, {value})");
        connection.execute(&sql, []).expect("any value fits");
    }
    let mut insert = connection
        .prepare("INSERT INTO prose(title, body) VALUES(?1, ?2)")
        .expect("a virtual table");
    for i in 0..500 {
        let body = format!("word{i} common wörter 'quoted'\nnext line {}", i * 7);
        insert
            .execute(params![format!("title {i}"), body])
            .expect("text");
    }
    drop(insert);
    connection
}

#[test]
fn everything_round_trips() {
    let directory = tempfile::tempdir().expect("a directory");
    for (number, settings) in [
        "",
        "PRAGMA encoding='UTF-16le'; PRAGMA page_size=512;",
        "PRAGMA encoding='UTF-16be'; PRAGMA auto_vacuum=1; PRAGMA page_size=65536;",
        "PRAGMA journal_mode=WAL; PRAGMA auto_vacuum=2;",
    ]
    .iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.db"));
        let connection = torture(&path, settings);
        let exported = round_trip(&path);
        // Export is a function of the content.
        let again = directory.path().join(format!("{number}-again.db"));
        import(&exported, &again, Default::default()).expect("own streams");
        let second = export(&again);
        for table in exported.streams.iter().filter(|s| s.meta.rows.is_some()) {
            let mut twins = second
                .streams
                .iter()
                .filter(|s| s.meta.name == table.meta.name);
            let twin = twins.next().expect("the same tables");
            assert!(table.bytes() == twin.bytes(), "{}", table.meta.name);
        }
        drop(connection);
    }
}

#[test]
fn what_was_restored_works() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(torture(&path, ""));
    let exported = export(&path);
    let ours = directory.path().join("ours.db");
    let stock = directory.path().join("stock.db");
    import(&exported, &ours, Default::default()).expect("own streams");
    crate::flow::load_with_stock_client(&exported.script(), &stock);
    for copy in [ours, stock] {
        let connection = Connection::open(copy).expect("a database");
        let count =
            |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).expect(sql) };
        assert_eq!(
            count("SELECT count(*) FROM prose WHERE prose MATCH 'word77'"),
            1
        );
        assert_eq!(
            count("SELECT count(*) FROM prose WHERE prose MATCH 'common'"),
            500
        );
        assert_eq!(
            count("SELECT id FROM boxes WHERE minx <= 2 AND maxx >= 2"),
            1
        );
        assert_eq!(
            count("SELECT count(*) FROM fired"),
            2,
            "triggers were silent"
        );
        connection
            .execute_batch(
                "INSERT INTO prose(title, body) VALUES('new', 'unheard');
                 INSERT INTO prose(prose) VALUES('integrity-check');
                 INSERT INTO numbered(name) VALUES('next');
                 INSERT INTO watched VALUES(9);
                 INSERT INTO watched_view VALUES(10)",
            )
            .expect("all in working order");
        assert_eq!(
            count("SELECT count(*) FROM prose WHERE prose MATCH 'unheard'"),
            1
        );
        assert_eq!(count("SELECT max(id) FROM numbered"), 1001);
        assert_eq!(count("SELECT count(*) FROM fired"), 5);
        let broken = connection.execute("INSERT INTO once(a) VALUES('x')", []);
        assert!(broken.is_err(), "a partial unique index holds");
    }
}

#[test]
fn reads_one_state_while_others_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let writer = database(
        &path,
        "PRAGMA journal_mode=WAL; CREATE TABLE a(x); CREATE TABLE b(x); INSERT INTO b VALUES(1);",
    );
    let mut insert = writer
        .prepare("INSERT INTO a VALUES(?1)")
        .expect("sound SQL");
    for _ in 0..20 {
        insert.execute(["x".repeat(1 << 20)]).expect("it fits");
    }
    drop(insert);
    let before = hash(&path);
    let exported = export_while(&path, move || {
        let change = "DELETE FROM a; INSERT INTO b VALUES(2); CREATE TABLE c(x);";
        writer
            .execute_batch(change)
            .expect("nobody blocks a writer");
    });
    let copy = directory.path().join("copy.db");
    import(
        &exported.expect("a sound database"),
        &copy,
        Default::default(),
    )
    .expect("own streams");
    assert_eq!(hash(&copy), before);
    assert_ne!(hash(&path), before);
}

#[test]
fn an_empty_database_round_trips() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    drop(database(
        &path,
        "PRAGMA user_version=7; CREATE TABLE x(a); DROP TABLE x;",
    ));
    round_trip(&path);
}

#[test]
fn large_values_round_trip() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let connection = database(&path, "CREATE TABLE t(a, b)");
    let blob: Vec<u8> = (0..100_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    connection
        .execute(
            "INSERT INTO t VALUES(?1, ?2)",
            params![blob, "x''".repeat(3_000_000)],
        )
        .expect("it fits");
    drop(connection);
    let exported = export(&path);
    let copy = directory.path().join("copy.db");
    import(&exported, &copy, Default::default()).expect("own streams");
    assert_eq!(hash(&copy), hash(&path));
    let stock = directory.path().join("stock.db");
    crate::flow::load_with_stock_client(&exported.script(), &stock);
    assert_eq!(hash(&stock), hash(&path));
}

#[test]
fn a_missing_collation_costs_the_index_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.db");
    let connection = database(&path, "CREATE TABLE t(a)");
    connection
        .execute_batch(
            "INSERT INTO t VALUES('x');
             CREATE INDEX plain ON t(a);
             PRAGMA writable_schema=ON;
             UPDATE sqlite_master SET sql='CREATE INDEX plain ON t(a COLLATE klingon)' WHERE name='plain';",
        )
        .expect("sound SQL");
    drop(connection);
    let exported = export(&path);
    assert!(exported.meta.warnings[0].contains("klingon"));
    let copy = directory.path().join("copy.db");
    let reports = import(&exported, &copy, Default::default()).expect("the rows arrive");
    let skipped = &reports.last().expect("some").skipped;
    assert!(skipped[0].contains("index plain"), "{skipped:?}");
    let rows: i64 = Connection::open(copy)
        .and_then(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0)))
        .expect("a database");
    assert_eq!(rows, 1);
}

#[test]
fn the_sample_shop_round_trips() {
    let directory = tempfile::tempdir().expect("a directory");
    let sample = souverain_agent::sample::write(directory.path()).expect("an empty directory");
    round_trip(&sample.shop);
}
