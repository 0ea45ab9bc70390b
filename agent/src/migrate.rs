//! Migrate: a snapshot from peers into a target in one go, with a signed statement of what was moved.
//!
//! Segments are imported while later ones arrive. What the target then holds is read back from there,
//! hashed as the snapshot is, and both are stated.

mod read_back;
mod statement;

use std::{sync::atomic::Ordering, thread};

use protocol::manifest::Stream;
use store::Store;

use crate::{
    blocks::{Arriving, Blocks, BlocksError},
    import::{self, ImportError, Planned, SourceReport},
    open::OpenSnapshot,
    progress::Progress,
    pull::{Arrivals, PullReport, Puller, PullerError, pull_streams},
    source::SourceError,
    target::ImportOptions,
};

pub use read_back::read_back;
pub use statement::{StatementError, sign, verify};

/// What a migration did.
#[derive(Debug)]
pub struct MigrationReport {
    /// What was restored.
    pub sources: Vec<SourceReport>,
    /// What came from peers.
    pub pulled: PullReport,
}

/// Why a migration failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The snapshot cannot be pulled.
    #[error(transparent)]
    Pull(#[from] PullerError),
    /// It cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The target cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] SourceError),
    /// A list of the snapshot cannot be read any more.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// A list of the snapshot is damaged.
    #[error("{0}")]
    Damaged(String),
}

/// Pulls the streams that were planned, and imports them as they arrive. The target changes when all of
/// them are there and checked; what was pulled is kept in any case.
///
/// # Errors
/// The pull or the import failed.
pub fn pull_and_import(
    puller: &Puller,
    store: &Store,
    snapshot: &OpenSnapshot,
    planned: &[Planned<'_>],
    options: ImportOptions,
    created: &str,
    progress: &Progress,
) -> Result<MigrationReport, MigrateError> {
    let streams: Vec<&Stream> = planned.iter().flat_map(|p| p.streams.clone()).collect();
    let arrivals = Arrivals::default();
    // It has a stop switch of its own: what failed to import needs no more blocks.
    let pulling = Progress::default();
    thread::scope(|threads| {
        let pulled = threads
            .spawn(|| pull_streams(puller, snapshot, &streams, created, &arrivals, &pulling));
        let blocks = Blocks::Arriving(Arriving {
            store,
            arrivals: &arrivals,
            stop: &progress.stop,
        });
        let imported = import::import(&blocks, snapshot, planned, options, progress);
        let is_stopped = imported.is_err() && !pulled.is_finished();
        if is_stopped {
            pulling.stop.store(true, Ordering::Relaxed);
        }
        let pulled = pulled
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (imported, pulled) {
            (Ok(sources), Ok(pulled)) => Ok(MigrationReport { sources, pulled }),
            (Err(error), Err(_)) if is_stopped => Err(error.into()),
            // An import that lacks a block says less than the reason why it did not come.
            (_, Err(error)) => Err(error.into()),
            (Err(error), Ok(_)) => Err(error.into()),
        }
    })
}
