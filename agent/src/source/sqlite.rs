//! A SQLite database as a source: read in one transaction, written as a script.
//!
//! The streams, one after the other, are what `sqlite3 new.db < script.sql` loads:
//! settings and tables, the rows of each table, then indexes, views, triggers and
//! virtual tables. The tables in which a virtual table keeps its content travel as what
//! they are, tables; the virtual table itself is declared around them at the end.

mod rows;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::manifest::{Engine, SourceMeta, StreamKind};
use rusqlite::{Connection, config::DbConfig};

use crate::{
    intake::{Intake, StreamDecl, recovery_file},
    source::{Source, SourceError},
    sqlite::{
        Encoding, LOCK_WAIT, connect_read_only, literal, message,
        script::{STATEMENT_LEN_MAX, creates_virtual, scripted},
        table::Table,
    },
};

/// Collations that every SQLite has.
const COLLATIONS: [&str; 3] = ["BINARY", "NOCASE", "RTRIM"];

/// A SQLite database to export.
#[derive(Debug)]
pub struct SqliteSource {
    connection: Connection,
    path: PathBuf,
    name: String,
    index: u32,
}

impl SqliteSource {
    /// Opens the database at `path`, read-only, as source number `index`.
    ///
    /// # Errors
    /// There is no database at `path`, or it cannot be read.
    pub fn open(path: &Path, index: u32) -> Result<Self, SourceError> {
        let connection = open_read_only(path, LOCK_WAIT)?;
        let name = path.file_stem().unwrap_or(path.as_os_str());
        Ok(Self {
            connection,
            path: path.to_owned(),
            name: name.to_string_lossy().into_owned(),
            index,
        })
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> SourceError {
        let what = format!("cannot read the SQLite database {}", self.path.display());
        move |cause| database(what.clone(), cause)
    }

    fn read_streams(&self, intake: &Intake) -> Result<SourceMeta, SourceError> {
        let objects = Object::all(&self.connection).map_err(self.failed())?;
        let encoding = Encoding::of(&self.connection).map_err(self.failed())?;
        let script = Script::new(&self.connection, encoding, &objects).map_err(self.failed())?;
        if let Some(long) = script.too_long {
            return Err(SourceError::Unsupported {
                what: format!("the statement that declares {long} is too long"),
            });
        }
        let mut decl = StreamDecl {
            source: self.index,
            position: 0,
            kind: StreamKind::Before,
            name: self.name.clone(),
            file: recovery_file(self.index, &self.name, "sql"),
            columns: Vec::new(),
        };
        let mut before = intake.stream(decl.clone());
        before.write(script.before.as_bytes())?;
        before.finish(b"")?;
        for name in tables(&objects) {
            let table = Table::read(&self.connection, name).map_err(self.failed())?;
            decl.position += 1;
            decl.kind = StreamKind::Table;
            decl.name = name.to_owned();
            decl.columns = table.columns.clone();
            let stream = intake.stream(decl.clone());
            rows::write(&self.connection, &table, encoding, stream)
                .map_err(|error| error.of(&self.path, name))?;
        }
        decl.position += 1;
        decl.kind = StreamKind::After;
        decl.name = self.name.clone();
        decl.columns = Vec::new();
        let mut after = intake.stream(decl);
        after.write(script.after.as_bytes())?;
        after.finish(b"")?;
        Ok(SourceMeta {
            engine: Engine::Sqlite,
            name: self.name.clone(),
            version: Some(rusqlite::version().to_owned()),
            warnings: script.warnings,
        })
    }
}

impl Source for SqliteSource {
    fn size_hint(&self) -> Option<u64> {
        std::fs::metadata(&self.path).ok().map(|file| file.len())
    }

    fn read(&mut self, intake: &Intake) -> Result<SourceMeta, SourceError> {
        self.connection
            .execute_batch("BEGIN; SELECT 1 FROM sqlite_master LIMIT 1")
            .map_err(self.failed())?;
        let done = self.read_streams(intake);
        let ended = self.connection.execute_batch("COMMIT");
        let meta = done?;
        ended.map_err(self.failed())?;
        Ok(meta)
    }
}

/// Opens a database for reading only, and makes sure that it is one.
pub(crate) fn open_read_only(path: &Path, wait: Duration) -> Result<Connection, SourceError> {
    let io = |cause| SourceError::Io {
        path: path.to_owned(),
        cause,
    };
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(SourceError::Unsupported {
            what: format!("{} is not a SQLite database: not a file", path.display()),
        });
    }
    connect_read_only(path, wait).map_err(|cause| {
        let what = format!("cannot open {} as a SQLite database", path.display());
        database(what, cause)
    })
}

fn database(what: String, cause: rusqlite::Error) -> SourceError {
    SourceError::Database {
        what,
        cause: Box::new(cause),
    }
}

/// An entry of the schema.
#[derive(Debug)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: String,
}

impl Object {
    fn all(connection: &Connection) -> rusqlite::Result<Vec<Self>> {
        connection
            .prepare(
                "SELECT type, name, tbl_name, sql FROM main.sqlite_master \
                 WHERE sql IS NOT NULL ORDER BY rowid",
            )?
            .query_map([], |row| {
                Ok(Self {
                    kind: row.get(0)?,
                    name: row.get(1)?,
                    table: row.get(2)?,
                    sql: row.get(3)?,
                })
            })?
            .collect()
    }

    fn is_virtual(&self) -> bool {
        self.kind == "table" && creates_virtual(&self.sql)
    }

    /// SQLite makes these itself, and refuses to have them made without a switch.
    fn is_internal(&self) -> bool {
        self.name
            .get(..7)
            .is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
    }
}

/// The tables that have rows, `sqlite_sequence` last: inserting into others changes it.
fn tables(objects: &[Object]) -> impl Iterator<Item = &str> {
    let stored = objects
        .iter()
        .filter(|o| o.kind == "table" && !o.is_virtual())
        .map(|o| o.name.as_str());
    let is_sequence = |name: &&str| *name == "sqlite_sequence";
    let last = stored.clone().filter(is_sequence);
    stored.filter(move |name| !is_sequence(name)).chain(last)
}

/// The script around the rows.
#[derive(Debug, Default)]
struct Script {
    before: String,
    after: String,
    warnings: Vec<String>,
    too_long: Option<String>,
}

impl Script {
    fn new(
        connection: &Connection,
        encoding: Encoding,
        objects: &[Object],
    ) -> rusqlite::Result<Self> {
        let mut script = Self::default();
        script.settings(connection, encoding)?;
        let internal = |o: &&Object| o.kind == "table" && o.is_internal();
        if objects.iter().any(|o| internal(&o)) {
            script.before.push_str("PRAGMA writable_schema=ON;\n");
            let all = objects.iter().filter(internal);
            all.for_each(|object| script.before.push_str(&scripted(&object.sql).text));
            script.before.push_str("PRAGMA writable_schema=OFF;\n");
        }
        let mut fixes = String::new();
        for object in objects.iter().filter(|o| !internal(o) && !o.is_virtual()) {
            let statement = scripted(&object.sql);
            if statement.text.len() > STATEMENT_LEN_MAX {
                script.too_long = Some(object.name.clone());
            }
            if !statement.exact {
                fixes.push_str(&object.text_fix(encoding));
            }
            if object.kind == "table" {
                script.before.push_str(&statement.text);
            }
        }
        for kind in ["index", "view", "trigger"] {
            for object in objects.iter().filter(|o| o.kind == kind) {
                script.after.push_str(&scripted(&object.sql).text);
            }
        }
        for object in objects.iter().filter(|o| o.is_virtual()) {
            fixes.push_str(&object.declaration(encoding));
        }
        if !fixes.is_empty() {
            let _ = write!(
                script.after,
                "PRAGMA writable_schema=ON;\n{fixes}PRAGMA writable_schema=OFF;\n"
            );
        }
        script.after.push_str("COMMIT;\n");
        let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
        if journal == "wal" {
            script.after.push_str("PRAGMA journal_mode=WAL;\n");
        }
        script.warn_of_collations(connection, objects)?;
        script.warn_of_functions(objects)?;
        Ok(script)
    }

    fn settings(&mut self, connection: &Connection, encoding: Encoding) -> rusqlite::Result<()> {
        let _ = writeln!(self.before, "PRAGMA encoding='{}';", encoding.name());
        for name in ["page_size", "auto_vacuum", "application_id", "user_version"] {
            let value: i64 =
                connection.query_row(&format!("PRAGMA main.{name}"), [], |row| row.get(0))?;
            let _ = writeln!(self.before, "PRAGMA {name}={value};");
        }
        self.before
            .push_str("PRAGMA foreign_keys=OFF;\nPRAGMA ignore_check_constraints=ON;\nBEGIN;\n");
        Ok(())
    }

    /// Makes the tables and indexes in memory, as a restore would, to see what they lack.
    fn warn_of_functions(&mut self, objects: &[Object]) -> rusqlite::Result<()> {
        let scratch = Connection::open_in_memory()?;
        scratch.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        for kind in ["table", "index"] {
            let own = objects
                .iter()
                .filter(|o| o.kind == kind && !o.is_internal() && !o.is_virtual());
            for object in own {
                let made = scratch
                    .prepare(&object.sql)
                    .and_then(|mut statement| statement.raw_execute());
                let Err(cause) = made else { continue };
                if cause.to_string().contains("no such function") {
                    self.warnings.push(format!(
                        "{kind} {} needs a function that stock SQLite has not ({}): it can only \
                         be restored where that is registered",
                        object.name,
                        message(&cause)
                    ));
                }
            }
        }
        Ok(())
    }

    fn warn_of_collations(
        &mut self,
        connection: &Connection,
        objects: &[Object],
    ) -> rusqlite::Result<()> {
        let mut indexes =
            connection.prepare("SELECT name FROM main.sqlite_master WHERE type = 'index'")?;
        let names: Vec<String> = indexes
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for name in names {
            let pragma = format!("PRAGMA main.index_xinfo({})", crate::sqlite::quoted(&name));
            let mut info = connection.prepare(&pragma)?;
            let mut rows = info.query([])?;
            while let Some(row) = rows.next()? {
                let collation: Option<String> = row.get("coll")?;
                let Some(collation) = collation else { continue };
                if !COLLATIONS.contains(&collation.to_uppercase().as_str()) {
                    self.warnings.push(format!(
                        "index {name} needs the collation {collation}, which stock SQLite has not: \
                         it can only be restored where that is registered"
                    ));
                }
            }
        }
        let modules = objects.iter().filter(|o| o.is_virtual());
        self.warnings.extend(modules.filter_map(|object| {
            let module = module(&object.sql)?;
            let known = ["fts3", "fts4", "fts5", "rtree", "rtree_i32"];
            (!known.contains(&module.to_lowercase().as_str())).then(|| {
                format!(
                    "table {} is kept by the module {module}: what that stores outside of \
                     the database is not part of the snapshot",
                    object.name
                )
            })
        }));
        Ok(())
    }
}

/// The word after `USING`.
fn module(sql: &str) -> Option<&str> {
    let mut tokens = crate::sqlite::script::significant(sql).skip(4);
    tokens.find(|token| token.eq_ignore_ascii_case("using"))?;
    tokens.next()
}

impl Object {
    /// Declares a virtual table around tables that are already filled.
    fn declaration(&self, encoding: Encoding) -> String {
        let table = Table::schema();
        let texts = [&self.kind, &self.name, &self.table].map(|text| text_literal(text, encoding));
        let (sql, suffix) = (text_literal(&self.sql, encoding), Table::SUFFIX);
        format!("{}{},0,{sql}{suffix}", table.prefix(), texts.join(","))
    }

    /// Restores the text of a statement that had to be changed to pass.
    fn text_fix(&self, encoding: Encoding) -> String {
        let [sql, kind, name] =
            [&self.sql, &self.kind, &self.name].map(|text| text_literal(text, encoding));
        format!("UPDATE sqlite_master SET sql={sql} WHERE type={kind} AND name={name};\n")
    }
}

fn text_literal(text: &str, encoding: Encoding) -> String {
    let mut out = Vec::new();
    match literal::put_text(&mut out, &encoding.encode(text), encoding) {
        Ok(()) => {}
    }
    String::from_utf8(out).expect("a literal of text is text")
}
