//! Targets: where data is restored to.

mod parents;
pub mod postgres;
pub mod sqlite;
pub mod tree;

use std::{
    ffi::OsStr,
    io::BufRead,
    ops::Range,
    path::{Path, PathBuf},
};

use protocol::manifest::{Engine, SourceMeta, StreamMeta};

use crate::url;

/// What to do with a target that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Existing {
    /// Refuse.
    #[default]
    Refuse,
    /// Keep what is there and add to it; what has the same name is replaced (files) or refused (tables with rows).
    Merge,
    /// Replace all of it.
    Replace,
}

/// How an import is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// What to do with a target that is not empty.
    pub existing: Existing,
    /// Only some streams of the source are imported.
    pub partial: bool,
    /// Damaged parts are left out and reported.
    pub skip_damaged: bool,
}

/// The content of a stream: head, rows or tar, tail.
///
/// Pieces of a table that are damaged and skipped are left out (whole rows are missing);
/// those of a tree are filled with zeros.
pub trait Content: BufRead {
    /// Byte ranges, in offsets of the undamaged stream, known so far to be damaged and skipped.
    fn gaps(&self) -> &[Range<u64>];
}

/// What became of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Rows inserted, of a table.
    pub rows: u64,
    /// Files, links and directories made, of a tree.
    pub entries: u64,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Something that one source can be restored to. Dropped without [`Target::commit`], it leaves
/// everything as it was.
pub trait Target {
    /// Checks the target as [`Target::begin`] does, and changes nothing.
    ///
    /// # Errors
    /// As [`Target::begin`].
    fn check(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError>;

    /// Checks the target and makes ready: a staging directory, a transaction.
    ///
    /// # Errors
    /// The target is not empty and `options` do not allow that; or it cannot be reached.
    fn begin(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError>;

    /// Takes one stream to its end.
    ///
    /// # Errors
    /// The content is malformed or hostile, or the target refused it.
    fn stream(
        &mut self,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError>;

    /// Makes everything visible at once, and durable.
    ///
    /// # Errors
    /// The target refused; it is then as it was.
    fn commit(self: Box<Self>) -> Result<(), TargetError>;
}

/// Makes sure that a path or URL could be a target of some kind.
///
/// # Errors
/// It is empty, or its scheme is not known.
pub fn recognise(into: &OsStr) -> Result<(), TargetError> {
    if url::is_unknown(into) {
        let text = into.to_string_lossy();
        return Err(TargetError::Unknown(url::redact(&text)));
    }
    Ok(())
}

/// Opens the target of a path or URL, for what came from `engine`.
///
/// # Errors
/// The target is not of a kind that takes such data.
pub fn open(into: &OsStr, engine: Engine) -> Result<Box<dyn Target>, TargetError> {
    let text = into.to_str().unwrap_or_default();
    let is_postgres = url::is_postgres(text);
    match (engine, url::strip_scheme(into, "sqlite:")) {
        (Engine::Postgres, _) if is_postgres => Ok(Box::new(postgres::PostgresTarget::open(text)?)),
        (Engine::Sqlite, Some(path)) => Ok(Box::new(sqlite::SqliteTarget::open(Path::new(path)))),
        (Engine::Sqlite, None) if !is_postgres => {
            Ok(Box::new(sqlite::SqliteTarget::open(Path::new(into))))
        }
        (Engine::Tree, None) if !is_postgres => {
            Ok(Box::new(tree::TreeTarget::open(Path::new(into))))
        }
        (engine, _) => Err(TargetError::Unsuitable(format!(
            "{} cannot take what came from {}",
            url::redact(&into.to_string_lossy()),
            match engine {
                Engine::Tree => "a directory",
                Engine::Sqlite => "a SQLite database",
                Engine::Postgres => "a PostgreSQL database",
            }
        ))),
    }
}

/// Why a target cannot take the data.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The target is not of a kind that is known.
    #[error("{0:?} is not a target that is known")]
    Unknown(String),
    /// The target does not go with the source.
    #[error("{0}")]
    Unsuitable(String),
    /// There is something in the target.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// A file or directory cannot be written.
    #[error("cannot write {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The content could not be read: it was damaged.
    #[error("cannot read stream {stream}")]
    Content {
        /// Name of the stream.
        stream: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The content says something that it must not.
    #[error("stream {stream} is hostile or malformed: {what}")]
    Hostile {
        /// Name of the stream.
        stream: String,
        /// What it says.
        what: String,
    },
    /// The database refused, or went away.
    #[error("{what}")]
    Database {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TargetError {
    /// What a database lets one do about its refusal.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { cause, .. } => crate::source::database_hint(cause.as_ref()),
            _ => None,
        }
    }
}
