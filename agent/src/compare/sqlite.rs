//! A hash of all that a SQLite database holds, however its file is laid out.

use std::path::Path;

use rusqlite::{Connection, types::ValueRef};

use crate::{
    source::{SourceError, sqlite::open_read_only},
    sqlite::{Encoding, LOCK_WAIT, quoted},
};

/// Settings that are part of a database's content.
const SETTINGS: [&str; 5] = [
    "encoding",
    "page_size",
    "auto_vacuum",
    "application_id",
    "user_version",
];

/// Hashes the content of the database at `path`: settings, schema, and of each row of each
/// table the rowid, where it has one, and the type and exact bytes of each value. Two databases with the
/// same hash hold the same data.
///
/// # Errors
/// The database cannot be read.
pub fn content_hash(path: &Path) -> Result<blake3::Hash, SourceError> {
    let connection = open_read_only(path, LOCK_WAIT)?;
    hash(&connection).map_err(|cause| SourceError::Database {
        what: format!("cannot read the SQLite database {}", path.display()),
        cause: Box::new(cause),
    })
}

fn hash(connection: &Connection) -> rusqlite::Result<blake3::Hash> {
    connection.execute_batch("BEGIN")?;
    let mut hasher = blake3::Hasher::new();
    for setting in SETTINGS {
        hash_query(connection, &mut hasher, &format!("PRAGMA main.{setting}"))?;
    }
    let schema = "SELECT type, name, tbl_name, sql FROM main.sqlite_master ORDER BY type, name";
    hash_query(connection, &mut hasher, schema)?;
    let mut stored = connection.prepare(
        "SELECT name FROM main.sqlite_master \
         WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL TABLE%' ORDER BY name",
    )?;
    let names: Vec<String> = stored
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let is_wide = Encoding::of(connection)? != Encoding::Utf8;
    for name in names {
        hash_query(
            connection,
            &mut hasher,
            &rows_query(connection, &name, is_wide)?,
        )?;
    }
    drop(stored);
    connection.execute_batch("COMMIT")?;
    Ok(hasher.finalize())
}

/// All columns, generated ones too, and the rowid if there is one by any name.
fn rows_query(connection: &Connection, name: &str, is_wide: bool) -> rusqlite::Result<String> {
    let table = format!("main.{}", quoted(name));
    let mut info = connection.prepare(&format!("PRAGMA main.table_xinfo({})", quoted(name)))?;
    let names: Vec<String> = info
        .query_map([], |row| row.get("name"))?
        .collect::<Result<_, _>>()?;
    let mut columns: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    if is_wide {
        // As text they would be converted to UTF-8, which not all UTF-16 survives.
        columns = columns
            .iter()
            .map(|c| {
                format!(
                    "typeof({c}), CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END"
                )
            })
            .collect();
    }
    let is_free = |alias: &str| !names.iter().any(|name| name.eq_ignore_ascii_case(alias));
    for alias in ["rowid", "oid", "_rowid_"]
        .into_iter()
        .filter(|a| is_free(a))
    {
        let query = format!(
            "SELECT {alias}, {} FROM {table} ORDER BY {alias}",
            columns.join(", ")
        );
        if connection.prepare(&query).is_ok() {
            return Ok(query);
        }
    }
    Ok(format!(
        "SELECT {} FROM {table} NOT INDEXED",
        columns.join(", ")
    ))
}

fn hash_query(
    connection: &Connection,
    hasher: &mut blake3::Hasher,
    query: &str,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(query)?;
    let width = statement.column_count();
    let mut rows = statement.query([])?;
    let mut count = 0u64;
    while let Some(row) = rows.next()? {
        for index in 0..width {
            hash_value(hasher, row.get_ref(index)?);
        }
        count += 1;
    }
    hasher.update(b"rows").update(&count.to_le_bytes());
    Ok(())
}

fn hash_value(hasher: &mut blake3::Hasher, value: ValueRef<'_>) {
    let mut tagged = |tag: &[u8; 1], bytes: &[u8]| {
        let len = (bytes.len() as u64).to_le_bytes();
        hasher.update(tag).update(&len).update(bytes);
    };
    match value {
        ValueRef::Null => tagged(b"n", b""),
        ValueRef::Integer(integer) => tagged(b"i", &integer.to_le_bytes()),
        ValueRef::Real(real) => tagged(b"r", &real.to_bits().to_le_bytes()),
        ValueRef::Text(text) => tagged(b"t", text),
        ValueRef::Blob(blob) => tagged(b"b", blob),
    }
}
