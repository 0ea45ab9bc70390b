//! Where a database is built, and how it gets to where it belongs.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use tempfile::TempPath;

use super::failed;
use crate::{
    sqlite::{LOCK_WAIT, connect, connect_read_only},
    target::{Existing, TargetError, parents::MadeParents},
};

/// Files that SQLite keeps beside a database. Left over from another one, they would damage it.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Where the data goes.
#[derive(Debug)]
pub(super) enum Place {
    /// Into a new file, which then takes the place of what is at the path.
    Staged {
        /// The new file.
        file: TempPath,
        /// What it replaces.
        path: PathBuf,
        /// What is there.
        found: Found,
        /// Directories above it that were not there.
        made: MadeParents,
    },
    /// Into the database at the path.
    Within(PathBuf),
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    EmptyFile,
    EmptyDatabase,
    Database,
    OtherFile,
}

impl Place {
    /// Says why the data could not go there, and makes nothing.
    pub(super) fn check(path: &Path, existing: Existing) -> Result<(), TargetError> {
        let (path, _) = Self::look(path, existing)?;
        MadeParents::check(directory(&path)).map_err(|cause| cannot_write(&path, cause))
    }

    /// Finds out what is at a path, and whether the data may go there.
    fn look(path: &Path, existing: Existing) -> Result<(PathBuf, Found), TargetError> {
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                std::path::absolute(path).map_err(|cause| cannot_write(path, cause))?
            }
            Err(cause) => return Err(cannot_write(path, cause)),
        };
        let found = Found::at(&path)?;
        match (found, existing) {
            (Found::Database | Found::OtherFile, Existing::Refuse) => {
                Err(TargetError::NotEmpty(path.display().to_string()))
            }
            (Found::OtherFile, Existing::Merge) => Err(TargetError::Unsuitable(format!(
                "{} is not a SQLite database",
                path.display()
            ))),
            _ => Ok((path, found)),
        }
    }

    /// Decides where the data goes, and opens a database there.
    pub(super) fn find(path: &Path, existing: Existing) -> Result<(Self, Connection), TargetError> {
        let (path, found) = Self::look(path, existing)?;
        if (found, existing) == (Found::Database, Existing::Merge) {
            let connection = open(&path).and_then(|connection| {
                connection.execute_batch("BEGIN IMMEDIATE")?;
                Ok(connection)
            });
            let connection = connection.map_err(failed(&path))?;
            return Ok((Self::Within(path), connection));
        }
        let mut made = MadeParents::default();
        made.make(directory(&path))
            .map_err(|cause| cannot_write(&path, cause))?;
        let file = tempfile::Builder::new()
            .prefix(".souverain-")
            .suffix(".sqlite")
            .permissions(permissions(&path))
            .tempfile_in(directory(&path))
            .map_err(|cause| cannot_write(&path, cause))?
            .into_temp_path();
        let connection = open(&file).and_then(|connection| {
            connection.execute_batch(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF",
            )?;
            Ok(connection)
        });
        let connection = connection.map_err(failed(&path))?;
        let staged = Self::Staged {
            file,
            path,
            found,
            made,
        };
        Ok((staged, connection))
    }

    /// The path as it was given.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Staged { path, .. } | Self::Within(path) => path,
        }
    }

    /// Puts a finished and closed database where it belongs.
    pub(super) fn publish(self) -> Result<(), TargetError> {
        let Self::Staged {
            file,
            path,
            found,
            made: _made,
        } = self
        else {
            return Ok(());
        };
        let io = |cause| cannot_write(&path, cause);
        File::open(&file).and_then(|f| f.sync_all()).map_err(io)?;
        // Held until the new file is there, so that nobody writes to the old one meanwhile.
        let _old = match found {
            Found::Database | Found::EmptyDatabase => Some(take(&path).map_err(failed(&path))?),
            _ => None,
        };
        remove_beside(&path).map_err(io)?;
        let placed = match found {
            Found::Nothing => file.persist_noclobber(&path),
            _ => file.persist(&path),
        };
        placed.map_err(|error| io(error.error))?;
        File::open(directory(&path))
            .and_then(|directory| directory.sync_all())
            .map_err(io)
    }
}

impl Found {
    fn at(path: &Path) -> Result<Self, TargetError> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(cause) => return Err(cannot_write(path, cause)),
        };
        if !metadata.is_file() {
            return Err(TargetError::Unsuitable(format!(
                "{} is not a file: a SQLite database is one",
                path.display()
            )));
        }
        if metadata.len() == 0 {
            return Ok(Self::EmptyFile);
        }
        let has_objects = connect_read_only(path, LOCK_WAIT).and_then(|connection| {
            connection
                .prepare("SELECT 1 FROM sqlite_master")?
                .exists([])
        });
        match has_objects {
            Ok(true) => Ok(Self::Database),
            Ok(false) => Ok(Self::EmptyDatabase),
            Err(cause) if cause.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                Ok(Self::OtherFile)
            }
            Err(cause) => Err(failed(path)(cause)),
        }
    }
}

/// Opens a database to load into: nothing is checked, nothing fires.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    for off in [
        DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE,
        DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE,
    ] {
        connection.set_db_config(off, false)?;
    }
    connection.execute_batch("PRAGMA ignore_check_constraints=ON; PRAGMA cache_size=-32768")?;
    Ok(connection)
}

/// Makes sure that nobody uses a database, and that it is all in its one file.
fn take(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    Ok(connection)
}

fn remove_beside(path: &Path) -> io::Result<()> {
    for suffix in BESIDE {
        let mut beside = OsString::from(path);
        beside.push(suffix);
        match fs::remove_file(beside) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    Ok(())
}

/// Those of the file that is replaced, or what SQLite gives a new one.
fn permissions(path: &Path) -> Permissions {
    fs::metadata(path).map_or_else(|_| Permissions::from_mode(0o644), |m| m.permissions())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn cannot_write(path: &Path, cause: io::Error) -> TargetError {
    TargetError::Io {
        path: path.to_owned(),
        cause,
    }
}
