//! Export: sources in, sealed blocks and a root CID out.
//!
//! Four kinds of threads, joined by bounded channels: one reads and cuts
//! ([`crate::intake`]), as many as there are cores seal (`seal`), one gathers
//! lists and the manifest (`gather`), one makes durable.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use cid::Cid;
use crossbeam_channel::{Receiver, Sender, bounded};
use protocol::{
    block::Block,
    cut::Cutter,
    manifest::{SnapshotMeta, SourceMeta},
    seal::SealError,
    snapshot::SnapshotError,
    unixfs::BuildError,
};
use store::{Store, StoreError};

use crate::{
    catalog::{self, CatalogError, Kept},
    home::ClassSecrets,
    intake::Intake,
    keyring::ExportKeys,
    names,
    progress::Progress,
    source::{Source, SourceError},
};

mod gather;
mod seal;

/// Pieces that wait to be sealed, and sealed ones that wait to be gathered.
const QUEUE: usize = 4;
/// Default of [`ExportOptions::commit_every`], in bytes.
const COMMIT_EVERY: u64 = 64 << 20;
/// What a block counts beside its bytes: many small ones wait for a commit no longer than large ones.
const COMMIT_COST: u64 = 16 << 10;

/// Where the blocks of an export go.
pub enum Destination<'a> {
    /// The node's own store; unchanged pieces are reused from it.
    Store(&'a Store),
    /// A CAR, without a store. Nothing is reused.
    Car(&'a mut (dyn FnMut(&Block) -> io::Result<()> + Send)),
    /// Nowhere: says what would be written, to a few bytes. Looks for what is there in the store, if there is one.
    DryRun(Option<&'a Store>),
}

impl std::fmt::Debug for Destination<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Store(_) => "Store",
            Self::Car(_) => "Car",
            Self::DryRun(_) => "DryRun",
        })
    }
}

impl<'a> Destination<'a> {
    fn known(&self) -> Option<&'a Store> {
        match self {
            Self::Store(store) => Some(store),
            Self::Car(_) => None,
            Self::DryRun(store) => *store,
        }
    }
}

/// How an export is done.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// zstd level.
    pub level: i32,
    /// Whether sealed sizes are padded (Padmé).
    pub padded: bool,
    /// Sealed bytes after which what is there is made durable while the export goes on.
    pub commit_every: u64,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            level: protocol::seal::LEVEL_DEFAULT,
            padded: false,
            commit_every: COMMIT_EVERY,
        }
    }
}

/// What an export did.
#[derive(Clone, Debug, Default)]
pub struct ExportReport {
    /// The root; nothing after a dry run.
    pub root: Option<Cid>,
    /// Bytes of all streams.
    pub bytes: u64,
    /// Bytes read from sources.
    pub bytes_read: u64,
    /// Bytes of new blocks, public nodes included.
    pub bytes_written: u64,
    /// Segments and lists of the snapshot.
    pub segments: u64,
    /// Those that were in the store already.
    pub segments_reused: u64,
    /// Number of streams.
    pub streams: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// What could not be kept as it was.
    pub warnings: Vec<String>,
}

/// Why an export failed. What was durable is kept, and reused by the next one.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A piece cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store is malformed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The CAR cannot be written.
    #[error("cannot write the CAR")]
    Car(#[source] io::Error),
    /// The snapshot cannot be assembled.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A directory of the snapshot cannot be built.
    #[error("cannot build the snapshot's directory")]
    Directory(#[from] BuildError),
    /// The manifest would be larger than any reader accepts.
    #[error(
        "the manifest of {size} bytes is larger than the limit of {}",
        protocol::manifest::MANIFEST_SIZE_MAX
    )]
    ManifestTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Exports sources and returns what was done.
///
/// Returns only when the snapshot is durable. A failure leaves no snapshot, and what was
/// sealed until then in the store.
///
/// # Errors
/// A source, the sealing, or the destination failed; or it was stopped.
pub fn export(
    sources: Vec<Box<dyn Source>>,
    keys: &ExportKeys,
    secrets: &ClassSecrets,
    destination: Destination<'_>,
    snapshot: SnapshotMeta,
    options: &ExportOptions,
    progress: &Progress,
) -> Result<ExportReport, ExportError> {
    let sealing = seal::Sealing::new(destination.known(), keys, secrets, options);
    let (pieces, cut) = bounded(QUEUE);
    let (sealed, outcomes) = bounded(QUEUE);
    let stop = Stop {
        flag: progress.stop.clone(),
    };
    let was_stopped_by_user = || progress.stop.load(Ordering::Relaxed);
    let store = destination.known();
    thread::scope(|scope| {
        let intake = Intake::new(Cutter::new(&secrets.cut), pieces, unit_lookup(store, keys))
            .with_progress(progress);
        let reader = scope.spawn(|| {
            let _guard = stop.on_panic();
            read_all(sources, intake)
        });
        let workers: Vec<_> = (0..workers())
            .map(|_| {
                let (cut, sealed) = (cut.clone(), sealed.clone());
                let (sealing, stop) = (&sealing, &stop);
                scope.spawn(move || {
                    let _guard = stop.on_panic();
                    sealing.work(&cut, &sealed).inspect_err(|_| stop.now())
                })
            })
            .collect();
        drop((cut, sealed));
        let gathered = gather::Gather::new(&sealing, destination, progress).run(&outcomes, scope);
        if gathered.is_err() {
            stop.now();
        }
        drop(outcomes);
        // The first cause wins: a source or worker that failed made everything after it stop.
        let metas = join(reader);
        for worker in workers {
            join(worker)?;
        }
        let (metas, finish) = match (metas, gathered) {
            (Err(ExportError::Source(SourceError::Stopped(_))), Err(err)) | (Ok(_), Err(err)) => {
                return Err(err);
            }
            (Err(ExportError::Source(SourceError::Stopped(_))), Ok(_)) => {
                return Err(ExportError::Interrupted);
            }
            (Err(err), _) => return Err(err),
            (Ok(metas), Ok(finish)) => (metas, finish),
        };
        if was_stopped_by_user() {
            return Err(ExportError::Interrupted);
        }
        finish.snapshot(metas, snapshot, keys)
    })
}

/// Sealing threads: one a core. They wait for nothing but work.
fn workers() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(64)
}

fn read_all(
    sources: Vec<Box<dyn Source>>,
    intake: Intake<'_>,
) -> Result<Vec<SourceMeta>, ExportError> {
    let mut metas = Vec::with_capacity(sources.len());
    for mut source in sources {
        metas.push(source.read(&intake)?);
    }
    names::make_distinct(&mut metas);
    Ok(metas)
}

/// Finds the segments of a unit if all of them are in the store and can be opened later.
fn unit_lookup<'a>(
    store: Option<&'a Store>,
    keys: &'a ExportKeys,
) -> Box<crate::intake::UnitLookup<'a>> {
    Box::new(move |key| {
        let found = catalog::unit(store?, key).ok().flatten()?;
        found
            .iter()
            .all(|kept| is_usable(store, keys, kept))
            .then_some(found)
    })
}

fn is_usable(store: Option<&Store>, keys: &ExportKeys, kept: &Kept) -> bool {
    keys.reusable.iter().any(|epoch| epoch.number == kept.epoch)
        && store.is_some_and(|s| catalog::is_sound(s, &kept.segment.cid()).unwrap_or(false))
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Stops every thread of the export when one of them failed.
struct Stop {
    flag: Arc<AtomicBool>,
}

impl Stop {
    fn now(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    fn on_panic(&self) -> StopGuard<'_> {
        StopGuard(self)
    }
}

struct StopGuard<'a>(&'a Stop);

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.now();
        }
    }
}

type Pieces = Receiver<crate::intake::Message>;
type Outcomes = Sender<seal::Outcome>;
