//! Whether two databases hold the same: rows by hash, all else by what pg_dump says.

use std::collections::BTreeMap;

use postgres::Client;

use crate::SERVER;

/// The settings under which values are compared; not those of the code under test.
const PINNED: &str = "SET extra_float_digits = 3; SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'; SET lc_monetary = 'C'; SET row_security = off";

/// Rows and hash of the ordered rows, per table and materialized view. Hash partitions are taken as one:
/// an enum does not hash to the same partition in another database.
pub(crate) fn content(client: &mut Client) -> BTreeMap<String, (i64, Option<String>)> {
    client.batch_execute(PINNED).expect("settings");
    let tables = client
        .query(
            "SELECT CASE WHEN hashed.partrelid IS NULL THEN 'ONLY ' ELSE '' END || format('%I.%I', n.nspname, c.relname)
             FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
             LEFT JOIN pg_partitioned_table hashed ON hashed.partrelid = c.oid AND partstrat = 'h'
             WHERE (relkind IN ('r', 'm') OR hashed.partrelid IS NOT NULL) AND relispopulated
             AND n.nspname !~ '^(pg_|information_schema)'
             AND NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = inhparent
                             WHERE inhrelid = c.oid AND p.partstrat = 'h')",
            &[],
        )
        .expect("tables");
    let hash = |row: postgres::Row| {
        let name: String = row.get(0);
        let sql = format!(
            "SELECT count(*), md5(string_agg(md5(t::text), ',' ORDER BY md5(t::text) COLLATE \"C\")) FROM {name} t"
        );
        let row = client.query_one(&sql, &[]).expect("a hash");
        (name, (row.get(0), row.get(1)))
    };
    tables.into_iter().map(hash).collect()
}

/// All that pg_dump knows but for the rows.
pub(crate) fn schema(url: &str) -> String {
    let output = SERVER
        .tool("pg_dump")
        .args(["--schema-only", "--no-owner", "--no-privileges", "-d", url])
        .output()
        .expect("pg_dump starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .lines()
        .filter(|l| !l.starts_with("\\restrict ") && !l.starts_with("\\unrestrict "));
    lines.collect::<Vec<_>>().join("\n")
}

/// Sequences and where they stand; how they are set up is in the schema.
fn sequences(client: &mut Client) -> Vec<String> {
    let sql = "SELECT format('SELECT %L || last_value || is_called FROM %I.%I', relname, nspname, relname)
               FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'S' ORDER BY 1";
    let queries = client.query(sql, &[]).expect("sequences");
    let state = |row: &postgres::Row| {
        let sql: String = row.get(0);
        client.query_one(&sql, &[]).expect("a sequence").get(0)
    };
    queries.iter().map(state).collect()
}

fn large_objects(client: &mut Client) -> Vec<(u32, String)> {
    let sql = "SELECT oid, md5(lo_get(oid)) || coalesce(obj_description(oid, 'pg_largeobject'), '')
               FROM pg_largeobject_metadata ORDER BY oid";
    let rows = client.query(sql, &[]).expect("large objects");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Fails unless both databases hold the same.
pub(crate) fn assert_same(left: &str, right: &str) {
    let (mut a, mut b) = (SERVER.connect(left), SERVER.connect(right));
    let (rows_a, rows_b) = (content(&mut a), content(&mut b));
    assert!(!rows_a.is_empty(), "there is nothing to compare");
    assert_eq!(rows_a, rows_b);
    assert_eq!(sequences(&mut a), sequences(&mut b));
    assert_eq!(large_objects(&mut a), large_objects(&mut b));
    let (schema_a, schema_b) = (schema(left), schema(right));
    for (line_a, line_b) in schema_a.lines().zip(schema_b.lines()) {
        assert_eq!(line_a, line_b);
    }
    assert_eq!(schema_a.len(), schema_b.len());
}
