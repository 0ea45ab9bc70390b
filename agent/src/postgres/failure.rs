//! What a server said when it refused, and what to do about it.

use postgres::error::SqlState;

/// A refusal of the server, the loss of it, or a setting that cannot work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(crate) fn plain(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Whether somebody held a lock for too long, as pg_dump says it.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.message.contains("due to lock timeout")
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let detail = db.detail().map(|d| format!(" ({d})")).unwrap_or_default();
            return Self {
                message: format!("{}{detail}", db.message()),
                hint: hint(db.code()).or(db.hint()).map(str::to_owned),
            };
        }
        if error.is_closed() {
            return Self::new(
                "the server closed the connection",
                "see the server's log, then run again",
            );
        }
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        let mut hint = None;
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                hint = Some(connection_hint(io.kind()).to_owned());
            }
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self { message, hint }
    }
}

fn connection_hint(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
            "is the server running there? the URL names its host and port, or the directory of its socket"
        }
        _ => "the connection was lost: see that the server runs and can be reached, then run again",
    }
}

impl From<std::io::Error> for Failure {
    /// COPY hands over the server's errors inside of I/O errors.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<postgres::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::plain(error.to_string()),
        }
    }
}

fn hint(code: &SqlState) -> Option<&'static str> {
    let table = [
        (
            &SqlState::INSUFFICIENT_PRIVILEGE,
            "grant the role what it lacks, or connect as the owner",
        ),
        (
            &SqlState::LOCK_NOT_AVAILABLE,
            "another session holds a lock; run again when its ALTER, VACUUM FULL or the like is done",
        ),
        (
            &SqlState::SNAPSHOT_TOO_OLD,
            "raise old_snapshot_threshold on the server, or export at a quieter time",
        ),
        (
            &SqlState::T_R_SERIALIZATION_FAILURE,
            "a standby cancels long reads: raise max_standby_streaming_delay, or export from the primary",
        ),
        (
            &SqlState::OUT_OF_MEMORY,
            "raise max_locks_per_transaction on the server if it ran out of shared memory",
        ),
        (
            &SqlState::INVALID_PASSWORD,
            "give the password in PGPASSWORD or in ~/.pgpass",
        ),
        (
            &SqlState::INVALID_CATALOG_NAME,
            "create the database first: createdb NAME",
        ),
        (
            &SqlState::TOO_MANY_CONNECTIONS,
            "an export takes up to five connections; raise max_connections or free some",
        ),
        (
            &SqlState::ADMIN_SHUTDOWN,
            "the server was stopped; run again when it is back",
        ),
        (
            &SqlState::CRASH_SHUTDOWN,
            "the server crashed; run again when it is back",
        ),
        (
            &SqlState::CANNOT_CONNECT_NOW,
            "the server is starting or stopping; run again in a moment",
        ),
        (
            &SqlState::DISK_FULL,
            "free space on the server, then run again",
        ),
        (
            &SqlState::UNDEFINED_FILE,
            "install the missing extension or library on the server",
        ),
        (
            &SqlState::FEATURE_NOT_SUPPORTED,
            "if an extension is not available, install its package on the server",
        ),
    ];
    table
        .into_iter()
        .find(|(known, _)| *known == code)
        .map(|(_, hint)| hint)
}
