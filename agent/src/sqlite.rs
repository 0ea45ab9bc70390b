//! How a SQLite database is written as a script that `sqlite3` loads, and read back.
//!
//! The script has one line per row. Everything in it is chosen such that SQLite reads
//! back the same bytes, whatever its version: see [`literal`] and [`real`].

pub mod literal;
pub mod real;
pub mod script;
pub mod table;

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, ffi};

/// Longest statement that `sqlite3` reads, in bytes; so the longest line of a row.
pub const SQL_LEN_MAX: usize = 1_000_000_000;

/// How long to wait for somebody else's lock.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Opens a database for reading only, and makes sure that it is one.
pub(crate) fn connect_read_only(path: &Path, wait: Duration) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(wait)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    Ok(connection)
}

/// Opens a database whose schema is not trusted.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    // SQLite would take a relative path for a URI if it began with `file:`.
    let path =
        std::path::absolute(path).map_err(|_| rusqlite::Error::InvalidPath(path.to_owned()))?;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(LOCK_WAIT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.execute_batch("PRAGMA mmap_size=0; PRAGMA cell_size_check=ON")?;
    Ok(connection)
}

/// What SQLite said, without the statement that it said it of.
pub(crate) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

/// What to do about a refusal of SQLite.
pub(crate) fn hint(error: &rusqlite::Error) -> Option<&'static str> {
    let extended = match error.sqlite_error() {
        Some(error) => error.extended_code,
        None => return None,
    };
    Some(match (error.sqlite_error_code()?, extended) {
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => {
            "another program uses the database; run again when that is done"
        }
        (_, ffi::SQLITE_READONLY_ROLLBACK) => {
            "a program that wrote to it was cut off, and what it left (FILE-journal) must be undone first: \
             open the database once with that program, or run `sqlite3 FILE .schema` as who may write"
        }
        (ErrorCode::CannotOpen, _)
        | (
            _,
            ffi::SQLITE_READONLY_CANTINIT
            | ffi::SQLITE_READONLY_RECOVERY
            | ffi::SQLITE_READONLY_DIRECTORY,
        ) => {
            "run as who may read it and write to its directory, where a database in WAL mode keeps files; \
             or copy it with its FILE-wal to another directory and take the copy"
        }
        (ErrorCode::ReadOnly, _) => "run as who may write to the database and its directory",
        (ErrorCode::NotADatabase, _) => {
            "if it is any other file, name it without `sqlite:`; if it is encrypted, its own program can export it"
        }
        (ErrorCode::DatabaseCorrupt, _) => {
            "the database is damaged: `sqlite3 FILE .recover` writes what can be saved as SQL; load that into a new one"
        }
        (ErrorCode::DiskFull, _) => {
            "make room and run the same command again; the target is as it was"
        }
        (ErrorCode::ConstraintViolation, _) => {
            "`--skip-damaged` leaves out the rows that a table does not take, and says how many"
        }
        _ => return None,
    })
}

/// How a database stores text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, little endian.
    Utf16le,
    /// UTF-16, big endian.
    Utf16be,
}

impl Encoding {
    /// The encoding of an open database.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let name: String = connection.query_row("PRAGMA main.encoding", [], |row| row.get(0))?;
        Self::from_name(&name).ok_or(rusqlite::Error::InvalidQuery)
    }

    /// The encoding that SQLite calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Utf8, Self::Utf16le, Self::Utf16be]
            .into_iter()
            .find(|encoding| encoding.name() == name)
    }

    /// The bytes of a text in this encoding.
    #[must_use]
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf16le => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Self::Utf16be => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        }
    }

    /// The text that the bytes are in this encoding; nothing if they are not well-formed.
    #[must_use]
    pub fn decode(self, bytes: &[u8]) -> Option<String> {
        let unit: fn([u8; 2]) -> u16 = match self {
            Self::Utf8 => return std::str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Utf16le => u16::from_le_bytes,
            Self::Utf16be => u16::from_be_bytes,
        };
        let pairs = bytes.chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return None;
        }
        let units = pairs.map(|pair| unit([pair[0], pair[1]]));
        char::decode_utf16(units).collect::<Result<_, _>>().ok()
    }

    /// SQLite's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16le => "UTF-16le",
            Self::Utf16be => "UTF-16be",
        }
    }
}

/// Quotes an identifier.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        for (code, said) in [
            (ffi::SQLITE_BUSY, "another program"),
            (ffi::SQLITE_LOCKED, "another program"),
            (ffi::SQLITE_READONLY_ROLLBACK, "FILE-journal"),
            (ffi::SQLITE_READONLY_CANTINIT, "FILE-wal"),
            (ffi::SQLITE_READONLY_DIRECTORY, "FILE-wal"),
            (ffi::SQLITE_CANTOPEN, "FILE-wal"),
            (ffi::SQLITE_READONLY, "may write"),
            (ffi::SQLITE_NOTADB, "without `sqlite:`"),
            (ffi::SQLITE_CORRUPT, ".recover"),
            (ffi::SQLITE_FULL, "make room"),
            (ffi::SQLITE_CONSTRAINT_NOTNULL, "--skip-damaged"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let hint = hint(&error).unwrap_or_default();
            assert!(hint.contains(said), "{error}: {hint}");
        }
        assert_eq!(hint(&rusqlite::Error::InvalidQuery), None);
    }
}
