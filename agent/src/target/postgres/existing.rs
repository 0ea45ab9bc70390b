//! What is in the target already.

use std::collections::BTreeSet;

use ::postgres::Client;
use protocol::manifest::{Column, StreamMeta};

use super::failed;
use crate::{
    postgres::{
        failure::Failure,
        name::{TableName, quote},
    },
    target::TargetError,
};

const USER_SCHEMA: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Names of tables, views and sequences that users made.
pub(super) fn relations(client: &mut Client) -> Result<BTreeSet<TableName>, Failure> {
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {USER_SCHEMA}
         AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
    );
    let mut found = BTreeSet::new();
    for row in client.query(&sql, &[])? {
        found.insert(TableName {
            schema: row.try_get(0)?,
            table: row.try_get(1)?,
        });
    }
    Ok(found)
}

/// Drops all that users made, and leaves an empty schema `public` as it was.
pub(super) fn drop_all(client: &mut Client) -> Result<(), Failure> {
    let public = client.query_opt(
        "SELECT nspowner::regrole::text, has_schema_privilege('public', oid, 'USAGE'),
                has_schema_privilege('public', oid, 'CREATE')
         FROM pg_namespace WHERE nspname = 'public'",
        &[],
    )?;
    let statements = format!(
        "SELECT 'DROP EVENT TRIGGER ' || quote_ident(evtname) FROM pg_event_trigger e
         WHERE NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid AND d.deptype = 'e')
         UNION ALL
         SELECT 'DROP EXTENSION IF EXISTS ' || quote_ident(extname) || ' CASCADE' FROM pg_extension
         WHERE extname <> 'plpgsql' AND pg_has_role(extowner, 'USAGE')
         UNION ALL
         SELECT 'DROP SCHEMA IF EXISTS ' || quote_ident(nspname) || ' CASCADE' FROM pg_namespace n
         WHERE {USER_SCHEMA}
            AND (pg_has_role(nspowner, 'USAGE') OR NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e'))
         UNION ALL
         SELECT 'DROP SERVER IF EXISTS ' || quote_ident(srvname) || ' CASCADE' FROM pg_foreign_server
         UNION ALL
         SELECT 'DROP FOREIGN DATA WRAPPER IF EXISTS ' || quote_ident(fdwname) || ' CASCADE'
         FROM pg_foreign_data_wrapper
         UNION ALL
         SELECT 'SELECT lo_unlink(' || oid || ')' FROM pg_largeobject_metadata"
    );
    for row in client.query(&statements, &[])? {
        client.batch_execute(row.try_get(0)?)?;
    }
    let Some(row) = public else {
        return Ok(());
    };
    let owner: String = row.try_get(0)?;
    let mut sql =
        "CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'standard public schema';".to_owned();
    for (privilege, index) in [("USAGE", 1), ("CREATE", 2)] {
        if row.try_get(index)? {
            sql.push_str(&format!("GRANT {privilege} ON SCHEMA public TO PUBLIC;"));
        }
    }
    sql.push_str(&format!("ALTER SCHEMA public OWNER TO {owner};"));
    Ok(client.batch_execute(&sql)?)
}

/// Whether rows of the stream can go into the table that is there.
pub(super) fn check_columns(
    client: &mut Client,
    table: &TableName,
    meta: &StreamMeta,
) -> Result<(), TargetError> {
    let sql = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
               ORDER BY attname COLLATE \"C\"";
    let column = |row: &::postgres::Row| {
        Ok(Column {
            name: row.try_get(0)?,
            native_type: row.try_get(1)?,
        })
    };
    let there: Vec<Column> = client
        .query(sql, &[&table.quoted()])
        .and_then(|rows| rows.iter().map(column).collect())
        .map_err(failed(format!("cannot look at table {table}")))?;
    let mut wanted = meta.columns.clone();
    wanted.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    if there == wanted {
        return Ok(());
    }
    Err(TargetError::Unsuitable(format!(
        "table {table} is there already with other columns; import into an empty database, or replace"
    )))
}

/// Whether the table itself has any row.
pub(super) fn has_rows(client: &mut Client, table: &TableName) -> Result<bool, ::postgres::Error> {
    let sql = format!("SELECT EXISTS (SELECT FROM {})", table.quoted());
    client.query_one(&sql, &[])?.try_get(0)
}

/// Empties the table.
pub(super) fn truncate(client: &mut Client, table: &TableName) -> Result<(), ::postgres::Error> {
    let name = format!("{}.{}", quote(&table.schema), quote(&table.table));
    client.batch_execute(&format!("TRUNCATE {name}"))
}

/// Whether the table is partitioned: it takes rows, but not frozen ones.
pub(super) fn is_partitioned(
    client: &mut Client,
    table: &TableName,
) -> Result<bool, ::postgres::Error> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind = 'p')";
    client.query_one(sql, &[&table.quoted()])?.try_get(0)
}
