//! PostgreSQL as a source: the schema as pg_dump writes it, the rows as COPY writes them.
//!
//! All of it is one state of the database: a leader locks the tables against changes of their schema,
//! then takes a snapshot, and further connections and `pg_dump` read under that snapshot. The streams,
//! one after the other, are a script that `psql -v ON_ERROR_STOP=1 -f FILE` loads into an empty database:
//! types and tables; rows; sequence values, large objects, indexes, constraints, triggers.
//!
//! Owners, privileges, settings, tablespaces, publications, subscriptions and security labels belong to a
//! server rather than to the data; they are left out with warnings, so that the script loads on a bare
//! server. What was closed to PUBLIC stays closed, where that needs no role.

mod access;
mod catalog;
mod dump;
mod large_objects;
mod tables;

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ::postgres::Client;
use protocol::manifest::{Engine, SourceMeta, StreamKind};

use super::{Source, SourceError};
use crate::{
    intake::{Intake, StreamDecl, recovery_file},
    postgres::{endpoint::Endpoint, failure::Failure, session},
};
use access::Access;
use catalog::Catalog;
use dump::{Dumper, Section};
use tables::Table;

/// Connections that read tables, beside the one that holds the snapshot.
const READERS_MAX: usize = 4;
/// Attempts to take the schema while others alter it.
const FREEZE_ATTEMPTS_MAX: u32 = 4;
/// Oldest server that is read: it has all of the catalog that is looked at.
const SERVER_VERSION_MIN: u32 = 120_000;

/// A PostgreSQL database to be exported.
#[derive(Debug)]
pub struct PostgresSource {
    endpoint: Endpoint,
    index: u32,
    version: String,
    dumper: Dumper,
    size_bytes: Option<u64>,
}

fn failed(what: impl Into<String>) -> impl FnOnce(Failure) -> SourceError {
    let what = what.into();
    move |failure| SourceError::Database {
        what,
        cause: Box::new(failure),
    }
}

impl PostgresSource {
    /// Connects to the database of a `postgres://` URL and looks whether it can be exported.
    ///
    /// The URL is read as libpq reads it, over the `PG…` environment and `~/.pgpass`. `index` is that
    /// of the source in the snapshot.
    ///
    /// # Errors
    /// The URL is malformed, the server cannot be reached or is too old, or no `pg_dump` is there for it.
    pub fn open(url: &str, index: u32) -> Result<Self, SourceError> {
        let mut endpoint = Endpoint::from_url(url).map_err(failed("cannot read the URL"))?;
        let mut client = session::connect(&mut endpoint)
            .map_err(failed(format!("cannot connect to {endpoint}")))?;
        let (number, version) =
            session::version(&mut client).map_err(failed("cannot read the server's version"))?;
        if number < SERVER_VERSION_MIN {
            return Err(SourceError::Unsupported {
                what: format!("PostgreSQL {version} is too old: 12 and later can be exported"),
            });
        }
        let dumper = Dumper::find(number / 10_000).map_err(failed("cannot export the schema"))?;
        Ok(Self {
            size_bytes: catalog::size_bytes(&mut client),
            endpoint,
            index,
            version,
            dumper,
        })
    }

    /// Takes the snapshot and all of the schema. Somebody who alters a table in between waits for our
    /// leader and pg_dump for them: then both start anew.
    fn freeze(&self, leader: &mut Client) -> Result<Frozen, SourceError> {
        let mut attempts = 1;
        loop {
            let catalog = Catalog::freeze(leader)?;
            let snapshot = catalog::export_snapshot(leader)
                .map_err(failed("cannot export the snapshot of the transaction"))?;
            let dump = |section| {
                self.dumper
                    .run(&self.endpoint, section, &snapshot, &catalog.encoding)
            };
            let (pre_data, post_data) = thread::scope(|scope| {
                let post_data = scope.spawn(|| dump(Section::PostData));
                let pre_data = dump(Section::PreData);
                (pre_data, post_data.join().expect("it does not panic"))
            });
            match pre_data.and_then(|pre_data| Ok((pre_data, post_data?))) {
                Ok((pre_data, post_data)) => {
                    return Ok(Frozen {
                        catalog,
                        snapshot,
                        pre_data,
                        post_data,
                    });
                }
                Err(failure) if failure.is_lock_timeout() && attempts < FREEZE_ATTEMPTS_MAX => {
                    attempts += 1;
                    leader
                        .batch_execute("ROLLBACK")
                        .map_err(|e| failed("cannot start anew")(e.into()))?;
                }
                Err(failure) => return Err(failed("cannot export the schema")(failure)),
            }
        }
    }

    fn decl(&self, position: u32, kind: StreamKind, name: &str) -> StreamDecl {
        StreamDecl {
            source: self.index,
            position,
            kind,
            name: name.to_owned(),
            file: recovery_file(self.index, &self.endpoint.database, "sql"),
            columns: Vec::new(),
        }
    }

    fn script(
        &self,
        intake: &Intake,
        position: u32,
        kind: StreamKind,
        text: &str,
    ) -> Result<(), SourceError> {
        let name = if kind == StreamKind::Before {
            "before"
        } else {
            "after"
        };
        let mut writer = intake.stream(self.decl(position, kind, name));
        writer.write(text.as_bytes())?;
        Ok(writer.finish(b"")?)
    }

    /// Reads all tables, on several connections; what they may not lock at once goes to the leader.
    fn tables(
        &self,
        intake: &Intake,
        leader: &mut Client,
        catalog: &mut Catalog,
        snapshot: &str,
    ) -> Result<(), SourceError> {
        let mut tables = std::mem::take(&mut catalog.tables);
        for (position, table) in (1..).zip(&mut tables) {
            table.position = position;
        }
        tables.sort_by_key(|table| std::cmp::Reverse(table.size_bytes));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = cores.min(READERS_MAX).min(tables.len());
        let work = Work {
            queue: Mutex::new(tables.into()),
            locked: Mutex::default(),
            stop: AtomicBool::new(false),
        };
        let read_all = || {
            let done = self.reader(intake, snapshot, &catalog.encoding, &work);
            if done.is_err() {
                work.stop.store(true, Ordering::Relaxed);
            }
            done
        };
        thread::scope(|scope| {
            let readers: Vec<_> = (0..count).map(|_| scope.spawn(read_all)).collect();
            let mut first = Ok(());
            for reader in readers {
                let done = reader.join().expect("readers do not panic");
                first = worse(first, done);
            }
            first
        })?;
        let locked = std::mem::take(&mut *work.locked.lock().expect("no reader panicked"));
        for table in locked {
            table.read(leader, self.table_decl(&table), intake, &work.stop)?;
        }
        Ok(())
    }

    fn reader(
        &self,
        intake: &Intake,
        snapshot: &str,
        encoding: &str,
        work: &Work,
    ) -> Result<(), SourceError> {
        let mut endpoint = self.endpoint.clone();
        let mut client = session::connect(&mut endpoint).map_err(failed(format!(
            "cannot open a further connection to {endpoint}"
        )))?;
        catalog::join_snapshot(&mut client, snapshot, encoding)
            .map_err(failed("cannot read under the export's snapshot"))?;
        loop {
            let next = work.queue.lock().expect("no reader panicked").pop_front();
            let Some(table) = next else {
                return Ok(());
            };
            if work.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !table.lock_at_once(&mut client)? {
                work.locked.lock().expect("no reader panicked").push(table);
                continue;
            }
            table.read(&mut client, self.table_decl(&table), intake, &work.stop)?;
        }
    }

    fn table_decl(&self, table: &Table) -> StreamDecl {
        StreamDecl {
            columns: table.columns.clone(),
            ..self.decl(table.position, StreamKind::Table, &table.name.to_string())
        }
    }
}

/// The state of the database that is exported.
struct Frozen {
    catalog: Catalog,
    snapshot: String,
    pre_data: String,
    post_data: String,
}

/// Tables that the readers share out among themselves.
struct Work {
    queue: Mutex<VecDeque<Table>>,
    /// Tables for which another session waits with a stronger lock; only the leader passes it by.
    locked: Mutex<Vec<Table>>,
    /// A reader failed.
    stop: AtomicBool,
}

/// Of two outcomes the one that says more.
fn worse(a: Result<(), SourceError>, b: Result<(), SourceError>) -> Result<(), SourceError> {
    match (&a, &b) {
        (Ok(()) | Err(SourceError::Stopped(_)), Err(_)) => b,
        _ => a,
    }
}

impl Source for PostgresSource {
    fn size_hint(&self) -> Option<u64> {
        self.size_bytes
    }

    fn read(&mut self, intake: &Intake) -> Result<SourceMeta, SourceError> {
        let mut leader = session::connect(&mut self.endpoint)
            .map_err(failed(format!("cannot connect to {}", self.endpoint)))?;
        let Frozen {
            mut catalog,
            snapshot,
            pre_data,
            post_data,
        } = self.freeze(&mut leader)?;
        let access = Access::read(&mut leader).map_err(failed("cannot read the privileges"))?;
        let preamble = session::preamble(&catalog.encoding);
        let before = format!("{preamble}{}{pre_data}{}", catalog.roles, access.closings);
        self.script(intake, 0, StreamKind::Before, &before)?;
        drop((before, pre_data));
        let after = u32::try_from(catalog.tables.len()).unwrap_or(u32::MAX - 2) + 1;
        self.tables(intake, &mut leader, &mut catalog, &snapshot)?;
        let decl = self.decl(after, StreamKind::After, "large objects");
        large_objects::read(&mut leader, decl, intake)?;
        let sequences = catalog::sequence_values(&mut leader, &catalog.sequences)?;
        let text = format!("{preamble}{sequences}\n{post_data}");
        self.script(intake, after + 1, StreamKind::After, &text)?;
        // Nothing was written; that the transaction is gone by now does no harm.
        if let Err(error) = leader.batch_execute("COMMIT") {
            tracing::debug!(%error, "cannot end the export's transaction");
        }
        Ok(SourceMeta {
            engine: Engine::Postgres,
            name: self.endpoint.database.clone(),
            version: Some(self.version.clone()),
            warnings: [catalog.warnings, access.warnings].concat(),
        })
    }
}
