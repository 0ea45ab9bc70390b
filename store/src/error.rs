//! What can go wrong with a store.

use std::{io, path::PathBuf};

use cid::Cid;
use protocol::log::{tile::TileError, tree::TreeError};

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the store. Its user's business; trying later helps.
    #[error("the store is in use by process {pid} ({purpose})")]
    InUse {
        /// The process.
        pid: u32,
        /// What it said that it is doing.
        purpose: String,
    },
    /// There is no store.
    #[error("there is no store in {}", home.display())]
    Missing {
        /// Where it was looked for.
        home: PathBuf,
    },
    /// There is no space left. What was put and set before is kept, and can be committed when there is.
    #[error(
        "no space left for the store: {blocks_durable} blocks are durable, {blocks_pending} more wait for a commit"
    )]
    Full {
        /// Blocks that are durable.
        blocks_durable: u64,
        /// Blocks that were put, and that the next commit makes durable.
        blocks_pending: u64,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// There is no space left for an entry of a log. Nothing of it was kept.
    #[error("no space left for {}", path.display())]
    LogFull {
        /// The file of the log.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// Entries of a log are in an archive that is not where it was written.
    #[error("entries {first} to {last} are in the archive {}, which is not there", path.display())]
    ArchiveMissing {
        /// Its first entry.
        first: u64,
        /// Its last.
        last: u64,
        /// Its root.
        root: Cid,
        /// Where it is read from.
        path: PathBuf,
    },
    /// A log does not have what was asked of it.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A tile is not what its log has.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A file is not what a store leaves, not even in a crash.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The stored copy of a block is not what was put.
    #[error("the stored copy of {cid} is damaged")]
    DamagedBlock {
        /// The block.
        cid: Cid,
    },
    /// The store was written by a version that this one does not know.
    #[error("the store has schema {found}, this program knows {known}")]
    Schema {
        /// What the store says.
        found: String,
        /// What is known.
        known: u32,
    },
    /// The store was opened for reading.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// An earlier write failed in a way that leaves unknown what is on disk.
    #[error("an earlier write to the store failed; open it again")]
    Stopped,
    /// A key or value is too large.
    #[error("{what} of {size} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// Too much was set without a commit.
    #[error("values of more than {limit} bytes wait for a commit")]
    TooMuchPending {
        /// The most that may wait, in bytes.
        limit: usize,
    },
    /// The process that holds the store answers nonsense.
    #[error("the process that holds the store did not answer as it should: {what}")]
    Answer {
        /// What is wrong.
        what: String,
    },
}

/// Whether the system says that the disk, or the user's share of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
