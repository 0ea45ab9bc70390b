//! Sources: where data is read from.

pub mod postgres;
pub mod sqlite;
pub mod tree;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use protocol::manifest::{Engine, SourceMeta};

use crate::{
    intake::{Intake, Stopped},
    url,
};

/// Something that can be exported.
pub trait Source: Send {
    /// A rough size in bytes, for progress; nothing if that would take long to find out.
    fn size_hint(&self) -> Option<u64>;

    /// Writes all streams of the source to the intake.
    ///
    /// # Errors
    /// The source cannot be read in whole, or the export was stopped.
    fn read(&mut self, intake: &Intake) -> Result<SourceMeta, SourceError>;
}

/// How sources are opened.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// Directories of a tree that are left out with all that is in them.
    pub exclude: Vec<PathBuf>,
    /// Whether files that cannot be read are left out with a warning, instead of failing.
    pub skip_unreadable: bool,
}

/// Opens the source of a path or URL; `index` is its place among the sources of the export.
///
/// # Errors
/// There is no such thing, it cannot be read, or its kind is not known.
pub fn open(
    source: &OsStr,
    index: u32,
    options: &SourceOptions,
) -> Result<Box<dyn Source>, SourceError> {
    let text = source.to_str().unwrap_or_default();
    let path = Path::new(source);
    if url::is_unknown(source) {
        return Err(SourceError::Unknown(url::redact(text)));
    }
    if let Some(path) = url::strip_scheme(source, "sqlite:") {
        return Ok(Box::new(sqlite::SqliteSource::open(
            Path::new(path),
            index,
        )?));
    }
    if url::is_postgres(text) {
        return Ok(Box::new(postgres::PostgresSource::open(text, index)?));
    }
    let options = tree::TreeOptions {
        exclude: options.exclude.clone(),
        skip_unreadable: options.skip_unreadable,
        ..tree::TreeOptions::default()
    };
    Ok(Box::new(tree::TreeSource::open(path, index, options)?))
}

/// Opens what an import of a source of this kind made at a target, to read it back.
pub(crate) fn open_restored(
    target: &OsStr,
    engine: Engine,
) -> Result<Box<dyn Source>, SourceError> {
    Ok(match engine {
        // A target says what it is only where it could be something else.
        Engine::Sqlite => {
            let path = url::strip_scheme(target, "sqlite:").unwrap_or(target);
            Box::new(sqlite::SqliteSource::open(Path::new(path), 0)?)
        }
        Engine::Tree | Engine::Postgres => open(target, 0, &SourceOptions::default())?,
    })
}

/// Why a source cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The export was stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The source is not of a kind that is known.
    #[error("{0:?} is not a source that is known")]
    Unknown(String),
    /// It is a device, a socket or a pipe.
    #[error("{} is neither a directory nor a file", path.display())]
    Special {
        /// Which.
        path: PathBuf,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
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
    /// A value is larger than the scripts of its database can hold.
    #[error("{what}")]
    TooLarge {
        /// What it is.
        what: String,
    },
    /// The source holds something that cannot be exported without loss.
    #[error("{what}")]
    Unsupported {
        /// What it is.
        what: String,
    },
}

impl SourceError {
    /// What a database, or its limits, let one do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Database { cause, .. } => database_hint(cause.as_ref()),
            Self::TooLarge { .. } => Some(
                "keep values of hundreds of megabytes as files, and export these as a directory"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// What a refusal of a database lets one do about it.
pub(crate) fn database_hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(failure) = cause.downcast_ref::<crate::postgres::failure::Failure>() {
        return failure.hint().map(str::to_owned);
    }
    let refusal = cause.downcast_ref::<rusqlite::Error>()?;
    crate::sqlite::hint(refusal).map(str::to_owned)
}
