//! What is in the database: tables to read, sequences, and what will not travel.

use std::{collections::BTreeMap, fmt::Write as _};

use ::postgres::{Client, Row, types::FromSql};
use protocol::manifest::Column;

use super::{failed, tables::Table};
use crate::{
    postgres::{
        failure::Failure,
        name::{CopyHead, TableName, literal, quote},
    },
    source::SourceError,
};

/// Attempts to lock all tables while others create and drop some.
const FREEZE_ATTEMPTS_MAX: u32 = 8;
/// How long to wait for one lock.
const LOCK_TIMEOUT_MS: u32 = 60_000;
/// Tables locked by one statement, sequences read by one.
const BATCH: usize = 100;

/// What the export's snapshot holds.
pub(super) struct Catalog {
    /// Tables with rows of their own, by name.
    pub(super) tables: Vec<Table>,
    pub(super) sequences: Vec<TableName>,
    /// Encoding that scripts and rows are in.
    pub(super) encoding: String,
    /// Statements that make roles that policies and user mappings name, where they are missing.
    pub(super) roles: String,
    /// What will not travel.
    pub(super) warnings: Vec<String>,
}

/// Relations of users: in no schema of the system, temporary in none, and made by no extension,
/// unless that says that their rows are its user's.
const RELATIONS: &str = "
    SELECT c.oid, n.nspname, c.relname, c.relkind::text, cfg.condition, c.oid::oid AS table_oid
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN (
        SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension
    ) cfg ON cfg.oid = c.oid
    WHERE c.relkind IN ('r', 'p', 'S', 'f')
        AND c.relpersistence <> 't'
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND (cfg.oid IS NOT NULL OR NOT EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'))
    ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\"";

/// One row of [`RELATIONS`].
#[derive(PartialEq)]
struct Relation {
    oid: u32,
    name: TableName,
    kind: String,
    /// `WHERE …` over the rows that an extension gives away.
    condition: Option<String>,
}

/// A column of a result, with an error instead of a panic where it is no UTF-8.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Failure> {
    Ok(row.try_get(index)?)
}

fn relations(client: &mut Client) -> Result<Vec<Relation>, Failure> {
    let row = |row: &Row| {
        let condition: Option<String> = get(row, 4)?;
        Ok(Relation {
            oid: get(row, 0)?,
            name: TableName {
                schema: get(row, 1)?,
                table: get(row, 2)?,
            },
            kind: get(row, 3)?,
            condition: condition.filter(|text| !text.is_empty()),
        })
    };
    client.query(RELATIONS, &[])?.iter().map(row).collect()
}

/// Takes the snapshot of the export in a transaction of `client`: locks first, so that what the
/// catalog says when the snapshot is taken stays true until the transaction ends.
impl Catalog {
    pub(super) fn freeze(client: &mut Client) -> Result<Self, SourceError> {
        let cannot_list = || failed("cannot list the tables");
        for _ in 0..FREEZE_ATTEMPTS_MAX {
            let seen = relations(client).map_err(cannot_list())?;
            check_privileges(client).map_err(cannot_list())?;
            client
                .batch_execute(&format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"
                ))
                .map_err(|e| cannot_list()(e.into()))?;
            let lockable: Vec<&Relation> = seen.iter().filter(|r| r.is_table()).collect();
            let mut gone = false;
            for batch in lockable.chunks(BATCH) {
                match lock(client, batch) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) => gone = true,
                    Err(error) => return Err(failed("cannot lock a table")(error.into())),
                }
                if gone {
                    break;
                }
            }
            if !gone && relations(client).map_err(cannot_list())? == seen {
                return Self::read(client, seen).map_err(failed("cannot read the catalog"));
            }
            client
                .batch_execute("ROLLBACK")
                .map_err(|e| cannot_list()(e.into()))?;
        }
        Err(failed("cannot list the tables")(Failure::new(
            "tables are created and dropped all the time",
            "export at a quieter time",
        )))
    }

    fn read(client: &mut Client, relations: Vec<Relation>) -> Result<Self, Failure> {
        client.batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL synchronize_seqscans = off")?;
        let encoding: String = get(&client.query_one("SHOW server_encoding", &[])?, 0)?;
        let encoding = match encoding.as_str() {
            "SQL_ASCII" => encoding,
            _ => "UTF8".to_owned(),
        };
        client.batch_execute(&format!("SET client_encoding = {}", literal(&encoding)))?;
        let warnings = warnings(client, &relations)?;
        let named = |kind: &'static str| relations.iter().filter(move |r| r.kind == kind);
        let oids: Vec<u32> = named("r").map(|r| r.oid).collect();
        let mut columns = columns(client, &oids)?;
        let mut sizes = sizes(client, &oids)?;
        let mut roots = unsafe_hash_roots(client)?;
        let table = |relation: &Relation| {
            let columns = columns.remove(&relation.oid).unwrap_or_default();
            Table {
                position: 0,
                size_bytes: sizes.remove(&relation.oid).unwrap_or_default(),
                head: CopyHead {
                    table: roots
                        .remove(&relation.oid)
                        .unwrap_or_else(|| relation.name.clone()),
                    columns: columns.iter().map(|c| c.name.clone()).collect(),
                },
                name: relation.name.clone(),
                columns,
                condition: relation.condition.clone(),
            }
        };
        Ok(Self {
            tables: named("r").map(table).collect(),
            sequences: named("S").map(|r| r.name.clone()).collect(),
            encoding,
            roles: roles(client)?,
            warnings,
        })
    }
}

impl Relation {
    fn is_table(&self) -> bool {
        self.kind == "r" || self.kind == "p"
    }
}

/// Names the first table that may not be read: COPY and LOCK would do so without its schema.
fn check_privileges(client: &mut Client) -> Result<(), Failure> {
    let sql = format!(
        "SELECT nspname, relname FROM ({RELATIONS}) r
         WHERE CASE relkind WHEN 'S' THEN NOT has_sequence_privilege(table_oid, 'SELECT')
                            WHEN 'f' THEN false
                            ELSE NOT has_table_privilege(table_oid, 'SELECT') END LIMIT 1"
    );
    let Some(row) = client.query_opt(&sql, &[])? else {
        return Ok(());
    };
    let name = TableName {
        schema: get(&row, 0)?,
        table: get(&row, 1)?,
    };
    Err(Failure::new(
        format!("permission denied for {name}"),
        "grant SELECT on it to the role, or export as its owner",
    ))
}

fn lock(client: &mut Client, tables: &[&Relation]) -> Result<(), ::postgres::Error> {
    let names: Vec<String> = tables
        .iter()
        .map(|r| format!("ONLY {}", r.name.quoted()))
        .collect();
    client.batch_execute(&format!(
        "LOCK TABLE {} IN ACCESS SHARE MODE",
        names.join(", ")
    ))
}

fn is_gone(error: &::postgres::Error) -> bool {
    use ::postgres::error::SqlState;
    let gone = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|code| gone.contains(code))
}

/// Names the snapshot of the transaction, for others to read under.
pub(super) fn export_snapshot(client: &mut Client) -> Result<String, Failure> {
    get(&client.query_one("SELECT pg_export_snapshot()", &[])?, 0)
}

/// Begins a transaction that sees what the leader's does.
pub(super) fn join_snapshot(
    client: &mut Client,
    snapshot: &str,
    encoding: &str,
) -> Result<(), Failure> {
    Ok(client.batch_execute(&format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {};
         SET LOCAL synchronize_seqscans = off; SET client_encoding = {}",
        literal(snapshot),
        literal(encoding)
    ))?)
}

/// A rough size of all tables; nothing if it cannot be found out.
pub(super) fn size_bytes(client: &mut Client) -> Option<u64> {
    let sql =
        format!("SELECT sum(pg_table_size(oid))::int8 FROM ({RELATIONS}) r WHERE relkind = 'r'");
    let size: Option<i64> = client.query_one(&sql, &[]).ok()?.try_get(0).ok()?;
    u64::try_from(size?).ok()
}

fn columns(client: &mut Client, oids: &[u32]) -> Result<BTreeMap<u32, Vec<Column>>, Failure> {
    let sql = "SELECT attrelid, attname, format_type(atttypid, atttypmod) FROM pg_attribute
               WHERE attrelid = ANY($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
               ORDER BY attrelid, attnum";
    let mut found: BTreeMap<u32, Vec<Column>> = BTreeMap::new();
    for row in client.query(sql, &[&oids])? {
        let column = Column {
            name: get(&row, 1)?,
            native_type: get(&row, 2)?,
        };
        found.entry(get(&row, 0)?).or_default().push(column);
    }
    Ok(found)
}

fn sizes(client: &mut Client, oids: &[u32]) -> Result<BTreeMap<u32, u64>, Failure> {
    let sql = "SELECT oid, coalesce(pg_table_size(oid), 0) FROM unnest($1::oid[]) oid";
    let mut found = BTreeMap::new();
    for row in client.query(sql, &[&oids])? {
        let size: i64 = get(&row, 1)?;
        found.insert(get(&row, 0)?, u64::try_from(size).unwrap_or_default());
    }
    Ok(found)
}

/// Leaves of hash partitions over enums, with their roots: an enum hashes to another value in another
/// database, so these rows are loaded through the root.
fn unsafe_hash_roots(client: &mut Client) -> Result<BTreeMap<u32, TableName>, Failure> {
    let sql = "
        WITH RECURSIVE tree AS (
            SELECT c.oid AS root, c.oid, n.nspname, c.relname FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'p' AND NOT c.relispartition
            UNION ALL
            SELECT tree.root, i.inhrelid, tree.nspname, tree.relname FROM tree
            JOIN pg_inherits i ON i.inhparent = tree.oid
        )
        SELECT oid, nspname, relname FROM tree WHERE root IN (
            SELECT tree.root FROM tree JOIN pg_partitioned_table p ON p.partrelid = tree.oid
            WHERE p.partstrat = 'h' AND EXISTS (
                SELECT FROM pg_opclass o WHERE o.oid = ANY(p.partclass) AND o.opcname = 'enum_ops'))";
    let mut found = BTreeMap::new();
    for row in client.query(sql, &[])? {
        let root = TableName {
            schema: get(&row, 1)?,
            table: get(&row, 2)?,
        };
        found.insert(get(&row, 0)?, root);
    }
    Ok(found)
}

/// The statements that give sequences the values they have; those only grow, whatever the snapshot.
pub(super) fn sequence_values(
    client: &mut Client,
    sequences: &[TableName],
) -> Result<String, SourceError> {
    let mut out = String::new();
    for batch in sequences.chunks(BATCH) {
        let selects: Vec<String> = batch
            .iter()
            .zip(0..)
            .map(|(name, i)| {
                format!(
                    "SELECT {i} AS i, last_value, is_called FROM {}",
                    name.quoted()
                )
            })
            .collect();
        let sql = format!("{} ORDER BY i", selects.join(" UNION ALL "));
        let rows = client
            .query(&sql, &[])
            .map_err(|e| failed("cannot read the sequences")(e.into()))?;
        for (name, row) in batch.iter().zip(&rows) {
            let value = get::<i64>(row, 1).and_then(|v| Ok((v, get::<bool>(row, 2)?)));
            let (last, is_called) =
                value.map_err(failed(format!("cannot read sequence {name}")))?;
            let name = literal(&name.quoted());
            writeln!(
                out,
                "SELECT pg_catalog.setval({name}, {last}, {is_called});"
            )
            .expect("writing to a string");
        }
    }
    Ok(out)
}

fn roles(client: &mut Client) -> Result<String, Failure> {
    let sql = "
        SELECT rolname FROM pg_roles WHERE oid IN (
            SELECT unnest(polroles) FROM pg_policy UNION SELECT umuser FROM pg_user_mappings)
        AND rolname !~ '^pg_' ORDER BY rolname COLLATE \"C\"";
    let mut out = String::new();
    for row in client.query(sql, &[])? {
        let role: String = get(&row, 0)?;
        let body = format!(
            "BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN CREATE ROLE {}; END IF; END",
            literal(&role),
            quote(&role)
        );
        writeln!(out, "DO {};", literal(&body)).expect("writing to a string");
    }
    Ok(out)
}

fn warnings(client: &mut Client, relations: &[Relation]) -> Result<Vec<String>, Failure> {
    let foreign = relations.iter().filter(|r| r.kind == "f");
    let mut warnings: Vec<String> = foreign
        .map(|r| {
            format!(
                "foreign table {}: its rows are elsewhere and were left out",
                r.name
            )
        })
        .collect();
    let sql = "
        SELECT 'publication ' || pubname || ' was left out' FROM pg_publication
        UNION ALL
        SELECT 'subscriptions were left out' WHERE EXISTS (
            SELECT FROM pg_stat_subscription s JOIN pg_database d ON d.datname = current_database()
            WHERE s.subid IS NOT NULL)
        UNION ALL
        SELECT 'security labels were left out' WHERE EXISTS (SELECT FROM pg_seclabel)";
    for row in client.query(sql, &[])? {
        warnings.push(get(&row, 0)?);
    }
    Ok(warnings)
}
