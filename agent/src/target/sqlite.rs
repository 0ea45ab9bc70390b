//! A SQLite database as a target: built aside and then put in place, or filled within one
//! transaction.
//!
//! Nothing of a snapshot is run as it comes. Rows are read as literals and bound to a
//! statement of our own; of the statements around them, only those that make a schema
//! are run, and SQLite asks about each thing that they do.
//!
//! What needs a function or collation that only the source's program has is left out and reported;
//! a table with its rows. Of single tables, their indexes are made as well, but no triggers and views:
//! these may speak of tables that are not there.

mod place;
mod rows;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use protocol::manifest::{Engine, SourceMeta, StreamKind, StreamMeta};
use rusqlite::Connection;

use crate::{
    sqlite::Encoding,
    target::{Content, ImportOptions, StreamReport, Target, TargetError},
};
use place::Place;

/// A SQLite database to restore to.
#[derive(Debug)]
pub struct SqliteTarget {
    path: PathBuf,
    load: Option<Load>,
}

impl SqliteTarget {
    /// A database at `path`. Nothing is done before [`Target::begin`].
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            load: None,
        }
    }

    fn load(&mut self) -> Result<&mut Load, TargetError> {
        self.load
            .as_mut()
            .ok_or_else(|| TargetError::Unsuitable("the import was not begun".to_owned()))
    }
}

impl Target for SqliteTarget {
    fn check(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        suits(source)?;
        Place::check(&self.path, options.existing)
    }

    fn begin(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        suits(source)?;
        let (place, connection) = Place::find(&self.path, options.existing)?;
        self.load = Some(Load {
            connection,
            options,
            place,
            encoding: Encoding::Utf8,
            writes_wal: false,
            scratch: None,
            lost_rows: false,
            pending: BTreeMap::new(),
            absent: BTreeSet::new(),
            lacks_objects: false,
        });
        Ok(())
    }

    fn stream(
        &mut self,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        let load = self.load()?;
        match meta.kind {
            StreamKind::Before | StreamKind::After => load.schema(meta, content),
            StreamKind::Table => load.rows(meta, content),
            StreamKind::Tree => Err(hostile(&meta.name, "a tree in a database")),
        }
    }

    fn commit(mut self: Box<Self>) -> Result<(), TargetError> {
        self.load()?;
        match self.load.take() {
            Some(load) => load.commit(),
            None => Ok(()),
        }
    }
}

/// An import that has begun. Fields drop in order: the connection before the file.
#[derive(Debug)]
struct Load {
    connection: Connection,
    scratch: Option<Connection>,
    place: Place,
    options: ImportOptions,
    encoding: Encoding,
    writes_wal: bool,
    lost_rows: bool,
    /// Statements that make tables, by their names: of some tables only those are made that get rows.
    pending: BTreeMap<String, String>,
    /// Tables that could not be made here.
    absent: BTreeSet<String>,
    /// Something of the schema was left out.
    lacks_objects: bool,
}

impl Load {
    fn is_merge(&self) -> bool {
        matches!(self.place, Place::Within(_))
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> TargetError + use<> {
        failed(self.place.path())
    }

    fn begin_transaction(&self) -> Result<(), TargetError> {
        if self.connection.is_autocommit() {
            let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(self.failed())?;
        }
        Ok(())
    }

    fn commit(self) -> Result<(), TargetError> {
        let failed = self.failed();
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("COMMIT").map_err(&failed)?;
        }
        if self.writes_wal {
            self.connection
                .query_row("PRAGMA main.journal_mode=WAL", [], |_| Ok(()))
                .map_err(&failed)?;
        }
        self.connection
            .close()
            .map_err(|(_, cause)| failed(cause))?;
        self.place.publish()
    }
}

fn suits(source: &SourceMeta) -> Result<(), TargetError> {
    if source.engine == Engine::Sqlite {
        return Ok(());
    }
    Err(TargetError::Unsuitable(format!(
        "{} is not a SQLite database: it cannot be restored to one",
        source.name
    )))
}

fn failed(path: &Path) -> impl Fn(rusqlite::Error) -> TargetError + use<> {
    let what = format!("cannot write the SQLite database {}", path.display());
    move |cause| TargetError::Database {
        what: what.clone(),
        cause: Box::new(cause),
    }
}

fn hostile(stream: &str, what: impl Into<String>) -> TargetError {
    TargetError::Hostile {
        stream: stream.to_owned(),
        what: what.into(),
    }
}
