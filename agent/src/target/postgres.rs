//! PostgreSQL as a target: everything in one transaction, so that an import happens in whole or not at all.
//!
//! Into an empty database goes what [`crate::source::postgres`] wrote: types and tables, then rows, then
//! indexes, constraints and triggers, so that no order of rows is wrong and no trigger fires. What happens
//! to a database that is not empty:
//!
//! - [`Existing::Refuse`] refuses it.
//! - [`Existing::Merge`] adds rows to tables that are there, have the same columns and are empty. No SQL of
//!   the snapshot is run. Constraints and triggers of the target hold for the rows, as for any COPY;
//!   deferrable constraints are checked at the end.
//! - [`Existing::Replace`] drops all that users made, then restores.
//!
//! With `partial`, all tables are made in an empty database and chosen ones filled, without what comes after
//! the rows. In a database that is not empty, `Merge` is as above, and `Replace` empties the chosen tables
//! and fills them again, leaving all else alone.
//!
//! The SQL of a snapshot runs with all rights of the role that imports it. That role should own the
//! database and no more: be no superuser, if the snapshot does not need one.

mod existing;
mod rows;
mod scripts;

use std::collections::BTreeSet;

use ::postgres::Client;
use protocol::manifest::{Engine, SourceMeta, StreamKind, StreamMeta};

use super::{Content, Existing, ImportOptions, StreamReport, Target, TargetError};
use crate::postgres::{endpoint::Endpoint, failure::Failure, name::TableName, session};

/// A PostgreSQL database to import into.
pub struct PostgresTarget {
    endpoint: Endpoint,
    client: Client,
    state: State,
}

impl std::fmt::Debug for PostgresTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresTarget({})", self.endpoint)
    }
}

enum State {
    Opened,
    Begun(Import),
    /// Something failed, or all is done: the transaction is not to be committed.
    Over,
}

/// An import on its way.
struct Import {
    plan: Plan,
    options: ImportOptions,
    /// Number of the transaction, to notice if SQL of the snapshot ended it.
    transaction: String,
    /// Tables that were there before.
    existing: BTreeSet<TableName>,
    /// Rows were left out, so constraints may fail.
    is_damaged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// The database is empty: run the SQL of the snapshot.
    Restore,
    /// Add rows to tables that are there.
    Fill,
    /// Replace the rows of tables that are there.
    Refill,
}

fn failed<E: Into<Failure>>(what: impl Into<String>) -> impl FnOnce(E) -> TargetError {
    let what = what.into();
    move |failure| TargetError::Database {
        what,
        cause: Box::new(failure.into()),
    }
}

fn hostile(meta: &StreamMeta, what: impl Into<String>) -> TargetError {
    TargetError::Hostile {
        stream: meta.name.clone(),
        what: what.into(),
    }
}

impl PostgresTarget {
    /// Connects to the database of a `postgres://` URL; see [`crate::source::postgres::PostgresSource::open`].
    ///
    /// # Errors
    /// The URL is malformed, or the server cannot be reached.
    pub fn open(url: &str) -> Result<Self, TargetError> {
        let mut endpoint = Endpoint::from_url(url).map_err(failed("cannot read the URL"))?;
        let client = session::connect(&mut endpoint)
            .map_err(failed(format!("cannot connect to {endpoint}")))?;
        Ok(Self {
            endpoint,
            client,
            state: State::Opened,
        })
    }

    /// What is to be done with a database that is empty or not.
    fn plan(&self, options: ImportOptions, is_empty: bool) -> Result<Plan, TargetError> {
        match (options.existing, options.partial) {
            _ if is_empty => Ok(Plan::Restore),
            (Existing::Refuse, _) => Err(TargetError::NotEmpty(format!(
                "database {}",
                self.endpoint.database
            ))),
            (Existing::Merge, _) => Ok(Plan::Fill),
            (Existing::Replace, true) => Ok(Plan::Refill),
            (Existing::Replace, false) => Ok(Plan::Restore),
        }
    }

    fn prepare(&mut self, options: ImportOptions) -> Result<Import, TargetError> {
        let cannot_begin = || failed::<::postgres::Error>("cannot begin the import");
        self.client
            .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            .map_err(cannot_begin())?;
        let row = self
            .client
            .query_one("SELECT txid_current()::text", &[])
            .map_err(cannot_begin())?;
        let transaction = row.try_get(0).map_err(cannot_begin())?;
        let mut existing = existing::relations(&mut self.client)
            .map_err(failed("cannot list what is in the target"))?;
        let plan = self.plan(options, existing.is_empty())?;
        if options.existing == Existing::Replace && !options.partial {
            existing::drop_all(&mut self.client).map_err(failed("cannot empty the target"))?;
            existing.clear();
        }
        if plan != Plan::Restore {
            self.client
                .batch_execute("SET CONSTRAINTS ALL DEFERRED")
                .map_err(cannot_begin())?;
        }
        Ok(Import {
            plan,
            options,
            transaction,
            existing,
            is_damaged: false,
        })
    }

    fn take(
        client: &mut Client,
        import: &mut Import,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        match meta.kind {
            StreamKind::Tree => Err(TargetError::Unsuitable(
                "a file tree does not go into a database".into(),
            )),
            StreamKind::Table => rows::load(client, import, meta, content),
            StreamKind::After if import.options.partial => Ok(StreamReport::default()),
            StreamKind::Before | StreamKind::After if import.plan != Plan::Restore => {
                Ok(StreamReport::default())
            }
            StreamKind::Before | StreamKind::After => {
                let report = scripts::run(client, import.is_damaged, meta, content)?;
                check_transaction(client, &import.transaction, meta)?;
                Ok(report)
            }
        }
    }
}

fn suits(source: &SourceMeta) -> Result<(), TargetError> {
    if source.engine == Engine::Postgres {
        return Ok(());
    }
    Err(TargetError::Unsuitable(format!(
        "{} was not exported from PostgreSQL; import it into a target of its own kind",
        source.name
    )))
}

/// Makes sure that SQL of the snapshot did not end the transaction.
fn check_transaction(
    client: &mut Client,
    begun: &str,
    meta: &StreamMeta,
) -> Result<(), TargetError> {
    let now: String = client
        .query_one("SELECT txid_current()::text", &[])
        .and_then(|row| row.try_get(0))
        .map_err(failed("cannot go on with the import"))?;
    if now == begun {
        return Ok(());
    }
    Err(hostile(meta, "its SQL ends the transaction of the import"))
}

impl Target for PostgresTarget {
    fn check(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        suits(source)?;
        // Ends when the target is dropped, having read the catalog and no more.
        self.client
            .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")
            .map_err(failed("cannot begin the import"))?;
        let existing = existing::relations(&mut self.client)
            .map_err(failed("cannot list what is in the target"))?;
        self.plan(options, existing.is_empty()).map(drop)
    }

    fn begin(&mut self, source: &SourceMeta, options: ImportOptions) -> Result<(), TargetError> {
        suits(source)?;
        self.state = State::Over;
        self.state = State::Begun(self.prepare(options)?);
        Ok(())
    }

    fn stream(
        &mut self,
        meta: &StreamMeta,
        content: &mut dyn Content,
    ) -> Result<StreamReport, TargetError> {
        let State::Begun(mut import) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(TargetError::Unsuitable(
                "the import has not begun, or has failed".into(),
            ));
        };
        let report = Self::take(&mut self.client, &mut import, meta, content)?;
        self.state = State::Begun(import);
        Ok(report)
    }

    fn commit(mut self: Box<Self>) -> Result<(), TargetError> {
        let State::Begun(import) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(TargetError::Unsuitable(
                "the import has not begun, or has failed".into(),
            ));
        };
        let cannot_commit = || failed::<::postgres::Error>("cannot commit the import");
        // Whatever the role or the database says: the answer is to come after the data is durable.
        self.client
            .batch_execute("SET LOCAL synchronous_commit = on; COMMIT")
            .map_err(cannot_commit())?;
        // COMMIT of a transaction that failed is answered as if all were well.
        let row = self
            .client
            .query_one("SELECT txid_status($1::text::int8)", &[&import.transaction])
            .map_err(cannot_commit())?;
        match row.try_get::<_, Option<&str>>(0).map_err(cannot_commit())? {
            Some("committed") => Ok(()),
            _ => Err(failed("cannot commit the import")(Failure::plain(
                "the server rolled it back",
            ))),
        }
    }
}

impl Drop for PostgresTarget {
    fn drop(&mut self) {
        // A lost connection rolls back as well; this way it is done when we return.
        if !self.client.is_closed()
            && let Err(error) = self.client.batch_execute("ROLLBACK")
        {
            tracing::debug!(%error, "cannot roll back");
        }
    }
}
