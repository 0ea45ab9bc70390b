//! Checking a whole log: each entry and its place, the tree over them, and the checkpoint.

use std::sync::atomic::Ordering;

use protocol::{
    log::{
        chain::{Chain, ChainError},
        checkpoint::{CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
        entry::{Entry, EntryError, UnverifiedEntry},
        keys::Standing,
        tile::{TileError, TileKind, TilePath, UnverifiedTile, parse_bundle, tiles},
        tree::{Edge, Hash, TreeError},
    },
    note::VerifierKey,
};

use super::source::{LogSource, SourceError};
use crate::progress::Progress;

/// Why a log does not hold, or cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A tile or bundle that the checkpoint covers is not there.
    #[error("{path} is missing, which the checkpoint covers")]
    Missing {
        /// The tile.
        path: TilePath,
    },
    /// The checkpoint is none, or not signed by the log.
    #[error("the checkpoint does not hold")]
    Checkpoint(#[source] CheckpointError),
    /// The log has another key than the one that is trusted.
    #[error("the log {found} is not that of the key {expected}")]
    OtherLog {
        /// What the key is of.
        expected: String,
        /// What the log is.
        found: String,
    },
    /// The key that is trusted was never the log's.
    #[error("the log {origin} never had the key that is trusted")]
    OtherKey {
        /// The log.
        origin: String,
    },
    /// An entry is not one.
    #[error("entry {index} is not one")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        #[source]
        reason: EntryError,
    },
    /// An entry is not the next of its log.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A tile or bundle is not what it should be.
    #[error("{path} does not hold")]
    Tile {
        /// The tile.
        path: TilePath,
        /// What is wrong with it.
        #[source]
        reason: TileError,
    },
    /// A tile has other hashes than the entries.
    #[error("{path} is not that of the entries: entry {index} has another hash, or one below it")]
    OtherTile {
        /// The tile.
        path: TilePath,
        /// First entry below the first hash that differs.
        index: u64,
    },
    /// The checkpoint is of another tree than that of the entries.
    #[error("the checkpoint of size {size} has another root than its {size} entries")]
    OtherRoot {
        /// Its size.
        size: u64,
    },
    /// No tree is that large.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The checkpoint covers nothing.
    #[error("the log is empty")]
    Empty,
    /// The user wants to stop.
    #[error("interrupted")]
    Interrupted,
}

impl VerifyError {
    /// Whether the log itself does not hold, in place of being out of reach.
    #[must_use]
    pub fn is_proof(&self) -> bool {
        !matches!(self, Self::Source(_) | Self::Interrupted)
    }
}

/// What was checked of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The checkpoint, which the log signed.
    pub checkpoint: SignedCheckpoint,
    /// The key that signed the checkpoint.
    pub vkey: VerifierKey,
    /// The first key of the log, which its name depends on.
    pub first_vkey: VerifierKey,
    /// How many entries there are.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// How many of them are on record, but signed with a key that was revoked.
    pub revoked: u64,
    /// How many keys the log has had.
    pub keys: u64,
}

/// Checks all of a log, and gives each entry to `each` as it is checked. With a key, only the log of that key
/// holds.
///
/// # Errors
/// The first thing that does not hold, with its index.
pub fn verify(
    source: &LogSource,
    trusted: Option<&VerifierKey>,
    progress: &Progress,
    mut each: impl FnMut(&Entry),
) -> Result<Verified, VerifyError> {
    let note = source.checkpoint()?;
    let checkpoint = UnverifiedCheckpoint::parse(&note).map_err(VerifyError::Checkpoint)?;
    let size = checkpoint.checkpoint_unverified().size();
    progress.bytes_total.store(size, Ordering::Relaxed);
    let mut checking = Checking::default();
    for index in 0..size.div_ceil(256) {
        let path =
            TilePath::at(TileKind::Entries, index, size).ok_or(TreeError::TooLarge { size })?;
        let bytes = source.tile(path)?.ok_or(VerifyError::Missing { path })?;
        checking.bundle(path, &bytes, &mut each)?;
        // Somebody else's log, of which nobody knows how long it goes on, is not read to its end.
        checking.is_of(trusted)?;
        progress
            .bytes_read
            .store(checking.edge.size(), Ordering::Relaxed);
        if progress.stop.load(Ordering::Relaxed) {
            return Err(VerifyError::Interrupted);
        }
    }
    let chain = checking.chain.as_ref().ok_or(VerifyError::Empty)?;
    let keys = chain.keys();
    if trusted.is_some_and(|trusted| !keys.keys().any(|key| key == trusted)) {
        return Err(VerifyError::OtherKey {
            origin: keys.origin().to_string(),
        });
    }
    let mut refused = CheckpointError::Malformed("no key of the log may sign it");
    let mut signed = None;
    for key in keys.checkpoint_keys(size) {
        match checkpoint.clone().verify(key) {
            Ok(checkpoint) => signed = Some((key.clone(), checkpoint)),
            Err(error) => refused = error,
        }
    }
    let (vkey, checkpoint) = signed.ok_or(VerifyError::Checkpoint(refused))?;
    let root = checking.edge.root();
    if root != *checkpoint.checkpoint().root() {
        return Err(VerifyError::OtherRoot { size });
    }
    checking.tiles(source)?;
    let revoked = |index: &u64| keys.standing(*index) != Standing::Vouched;
    Ok(Verified {
        checkpoint,
        vkey,
        first_vkey: keys.keys().next().cloned().ok_or(VerifyError::Empty)?,
        size,
        root,
        revoked: (0..size).filter(revoked).count() as u64,
        keys: keys.keys().count() as u64,
    })
}

/// A log as far as it was checked.
#[derive(Default)]
struct Checking {
    chain: Option<Chain>,
    edge: Edge,
    /// The hashes of each level of tiles, made from the entries.
    levels: [Vec<Hash>; 8],
}

impl Checking {
    fn bundle(
        &mut self,
        path: TilePath,
        bytes: &[u8],
        each: &mut impl FnMut(&Entry),
    ) -> Result<(), VerifyError> {
        let entries = match parse_bundle(path, bytes) {
            // The full one came for one that is not.
            Err(_) if !path.is_full() => parse_bundle(path.full(), bytes),
            parsed => parsed,
        };
        let entries = entries.map_err(|reason| VerifyError::Tile { path, reason })?;
        for entry in entries.into_iter().take(path.width().into()) {
            let index = self.edge.size();
            let entry = UnverifiedEntry::parse(entry)
                .map_err(|reason| VerifyError::Entry { index, reason })?;
            let entry = match &mut self.chain {
                Some(chain) => chain.push(entry)?,
                None => {
                    let (chain, genesis) = Chain::begin(entry)?;
                    self.chain = Some(chain);
                    genesis
                }
            };
            let levels = &mut self.levels;
            self.edge.push_with(entry.leaf_hash(), |level, _, hash| {
                if level % 8 == 0 {
                    levels[usize::from(level / 8)].push(*hash);
                }
            })?;
            each(&entry);
        }
        Ok(())
    }

    /// Checks that the first entry is that of the log of a key.
    fn is_of(&self, trusted: Option<&VerifierKey>) -> Result<(), VerifyError> {
        let (Some(chain), Some(trusted)) = (&self.chain, trusted) else {
            return Ok(());
        };
        let found = chain.keys().origin().as_str();
        if trusted.name() == found {
            return Ok(());
        }
        Err(VerifyError::OtherLog {
            expected: trusted.name().to_owned(),
            found: found.to_owned(),
        })
    }

    /// Checks the tiles of hashes against those of the entries.
    fn tiles(&self, source: &LogSource) -> Result<(), VerifyError> {
        for path in tiles(self.edge.size()) {
            let TileKind::Hashes(level) = path.kind() else {
                continue;
            };
            let first = path.index() as usize * 256;
            let ours = &self.levels[usize::from(level)][first..first + usize::from(path.width())];
            let bytes = source.tile(path)?.ok_or(VerifyError::Missing { path })?;
            let tile = match UnverifiedTile::new(path, &bytes) {
                Err(_) if !path.is_full() => UnverifiedTile::new(path.full(), &bytes),
                parsed => parsed,
            };
            let tile = tile.map_err(|reason| VerifyError::Tile { path, reason })?;
            if let Some(at) = (0..ours.len()).find(|at| ours[*at] != tile.hashes()[*at]) {
                let index = ((first + at) as u64) << (8 * level);
                return Err(VerifyError::OtherTile { path, index });
            }
        }
        Ok(())
    }
}
