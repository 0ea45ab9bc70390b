//! Checking a whole log: each entry and its place, the tree over them, and the checkpoint.
//!
//! Bundles are read and looked at by all cores, and put together in order.

use std::{sync::atomic::Ordering, thread};

use protocol::{
    log::{
        chain::{Chain, ChainError, read_ahead},
        checkpoint::{CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
        entry::{EntryError, UnverifiedEntry},
        tile::{TileError, TileKind, TilePath, UnverifiedTile, parse_bundle, tiles},
        tree::{Edge, Hash, TreeError, leaf_hash, node_over},
    },
    note::{PublicKey, VerifierKey},
};

use super::{
    in_order::InOrder,
    own::may_be_control,
    source::{LogSource, SourceError},
};
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

/// What is checked of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its tree, its checkpoint, and the entries that change its keys: that the entries are those over which the log
    /// signed the checkpoint.
    Tree,
    /// Each entry too: its form, its signature, its link to the one before.
    Entries,
}

/// Checks all of a log. With a key, only the log of that key holds.
///
/// # Errors
/// The first thing that does not hold, with its index.
pub fn verify(
    source: &LogSource,
    depth: Depth,
    trusted: Option<&VerifierKey>,
    progress: &Progress,
) -> Result<Verified, VerifyError> {
    let note = source.checkpoint()?;
    let checkpoint = UnverifiedCheckpoint::parse(&note).map_err(VerifyError::Checkpoint)?;
    let size = checkpoint.checkpoint_unverified().size();
    progress.bytes_total.store(size, Ordering::Relaxed);
    let checking = entries(source, depth, size, trusted, progress)?;
    let chain = checking.chain.as_ref().ok_or(VerifyError::Empty)?;
    let keys = chain.keys();
    if trusted.is_some_and(|trusted| !keys.keys().any(|key| key == trusted)) {
        return Err(VerifyError::OtherKey {
            origin: keys.origin().to_string(),
        });
    }
    let (vkey, checkpoint) = keys.verify(&checkpoint).map_err(VerifyError::Checkpoint)?;
    // Tiles first: of them it can be told which entry is another.
    if let Some(reason) = checking.tile {
        return Err(reason);
    }
    tiles_above(source, &checking.levels, size)?;
    let root = checking.edge.root();
    if root != *checkpoint.checkpoint().root() {
        return Err(VerifyError::OtherRoot { size });
    }
    Ok(Verified {
        checkpoint,
        vkey: vkey.clone(),
        first_vkey: keys.keys().next().cloned().ok_or(VerifyError::Empty)?,
        size,
        root,
        revoked: keys.revoked_of(size),
        keys: keys.keys().count() as u64,
    })
}

/// Checks the bundles of a log.
fn entries(
    source: &LogSource,
    depth: Depth,
    size: u64,
    trusted: Option<&VerifierKey>,
    progress: &Progress,
) -> Result<Checking, VerifyError> {
    let mut checking = Checking::new(depth);
    let read = |(index, key)| read(source, depth, size, index, key);
    if size > 0 {
        // Somebody else's log, of which nobody knows how long it goes on, is not read to its end.
        checking.take(read((0, None))?)?;
        checking.is_of(trusted)?;
    }
    thread::scope(|scope| {
        let mut parts = InOrder::start(scope, &read);
        for index in 1..size.div_ceil(256) {
            let key = checking.chain.as_ref().map(|c| *c.keys().key().public());
            if let Some(read) = parts.give((index, key)) {
                checking.take(read?)?;
            }
            progress
                .bytes_read
                .store(checking.edge.size(), Ordering::Relaxed);
            if progress.stop.load(Ordering::Relaxed) {
                return Err(VerifyError::Interrupted);
            }
        }
        while let Some(read) = parts.next() {
            checking.take(read?)?;
        }
        Ok(checking)
    })
}

/// What can be told of a bundle without those before.
struct PartRead {
    leaves: Vec<Hash>,
    /// The node over them, if there are 256.
    node: Option<Hash>,
    /// Why the tile of their hashes does not hold, if it does not.
    tile: Option<VerifyError>,
    /// Those that are looked at, by their number in the bundle.
    entries: Vec<(usize, Result<UnverifiedEntry, EntryError>)>,
}

/// Reads a bundle and the tile of its hashes; `key` is one that the log had before it.
fn read(
    source: &LogSource,
    depth: Depth,
    size: u64,
    index: u64,
    key: Option<PublicKey>,
) -> Result<PartRead, VerifyError> {
    let path = |kind| TilePath::at(kind, index, size).ok_or(TreeError::TooLarge { size });
    let (path, tile) = (path(TileKind::Entries)?, path(TileKind::Hashes(0))?);
    let bytes = source.tile(path)?.ok_or(VerifyError::Missing { path })?;
    let entries = match parse_bundle(path, &bytes) {
        // The full one came for one that is not.
        Err(_) if !path.is_full() => parse_bundle(path.full(), &bytes),
        parsed => parsed,
    };
    let mut entries = entries.map_err(|reason| VerifyError::Tile { path, reason })?;
    entries.truncate(path.width().into());
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let node = path.is_full().then(|| node_over(&leaves));
    let is_wanted = |at: &usize| {
        let first = path.index() == 0 && *at == 0;
        depth == Depth::Entries || first || may_be_control(entries[*at])
    };
    let wanted: Vec<usize> = (0..entries.len()).filter(is_wanted).collect();
    let read = read_ahead(wanted.iter().map(|at| entries[*at]), key);
    Ok(PartRead {
        entries: wanted.iter().copied().zip(read).collect(),
        tile: hold(source, tile, &leaves).err(),
        leaves,
        node,
    })
}

/// A log as far as it was checked.
struct Checking {
    depth: Depth,
    chain: Option<Chain>,
    edge: Edge,
    /// Why the first tile of hashes of entries does not hold that does not.
    tile: Option<VerifyError>,
    /// The hashes of each level of tiles above, made from the entries.
    levels: [Vec<Hash>; 7],
}

impl Checking {
    fn new(depth: Depth) -> Self {
        Self {
            depth,
            chain: None,
            edge: Edge::new(),
            tile: None,
            levels: Default::default(),
        }
    }

    /// Goes on with the next bundle.
    fn take(&mut self, read: PartRead) -> Result<(), VerifyError> {
        let first = self.edge.size();
        for (at, entry) in read.entries {
            let index = first + at as u64;
            let entry = entry.map_err(|reason| VerifyError::Entry { index, reason })?;
            match (&mut self.chain, self.depth) {
                (None, _) => self.chain = Some(Chain::begin(entry)?.0),
                (Some(chain), Depth::Entries) => drop(chain.push(entry)?),
                (Some(_), Depth::Tree) if entry.draft_unverified().control.is_none() => {}
                (Some(chain), Depth::Tree) => drop(chain.skip_to(index, entry)?),
            }
        }
        self.tile = self.tile.take().or(read.tile);
        let levels = &mut self.levels;
        let completed = |level: u8, _, hash: &Hash| {
            if level.is_multiple_of(8) {
                levels[usize::from(level / 8) - 1].push(*hash);
            }
        };
        match read.node {
            Some(node) => self.edge.push_node_with(8, node, completed)?,
            // They are less than a tile, and complete none.
            None => (read.leaves.iter()).try_for_each(|leaf| self.edge.push(*leaf))?,
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
}

/// Checks all tiles above those of entries' hashes.
fn tiles_above(source: &LogSource, levels: &[Vec<Hash>; 7], size: u64) -> Result<(), VerifyError> {
    for path in tiles(size) {
        if let TileKind::Hashes(level @ 1..) = path.kind() {
            let first = path.index() as usize * 256;
            let ours = &levels[usize::from(level) - 1][first..];
            hold(source, path, &ours[..usize::from(path.width())])?;
        }
    }
    Ok(())
}

/// Checks a tile of hashes against those of the entries.
fn hold(source: &LogSource, path: TilePath, ours: &[Hash]) -> Result<(), VerifyError> {
    let TileKind::Hashes(level) = path.kind() else {
        return Ok(());
    };
    let bytes = source.tile(path)?.ok_or(VerifyError::Missing { path })?;
    let tile = match UnverifiedTile::new(path, &bytes) {
        Err(_) if !path.is_full() => UnverifiedTile::new(path.full(), &bytes),
        parsed => parsed,
    };
    let tile = tile.map_err(|reason| VerifyError::Tile { path, reason })?;
    let mut hashes = ours.iter().zip(tile.hashes());
    match hashes.position(|(ours, found)| ours != found) {
        None => Ok(()),
        Some(at) => {
            let index = (path.index() * 256 + at as u64) << (8 * level);
            Err(VerifyError::OtherTile { path, index })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use protocol::log::{
        chain::ChainReason, entry::Action, entry::EntryError, keys::KeyError, tile::TILE_WIDTH,
    };

    use super::*;
    use crate::{
        home::{Home, InitOptions},
        log::{Event, OwnLog},
    };

    const SESSION: [u8; 16] = [0x70, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    /// More bundles than are read ahead by 64 cores.
    const SIZE: u64 = 140 * TILE_WIDTH as u64 + 9;

    /// A log of two keys, of which the second signs from an index within a bundle on.
    fn log(dir: &Path) -> u64 {
        let home = Home::init(dir, &InitOptions::default()).expect("a home");
        let log = OwnLog::new(&home, SESSION);
        let mut events = vec![Event::of(Action::EXPORT); 3333];
        log.record(1, &events).expect("records");
        let rotated = log.rotate(1).expect("rotates").size;
        events.resize((SIZE - rotated) as usize, Event::of(Action::PULL));
        assert_eq!(log.record(2, &events).expect("records").size, SIZE);
        rotated
    }

    fn checked(dir: &Path, depth: Depth) -> Result<Verified, VerifyError> {
        let source = LogSource::folder(&dir.join("log/own")).expect("a log");
        verify(&source, depth, None, &Progress::default())
    }

    /// Changes the last byte of an entry, which is of its session.
    fn change(dir: &Path, index: u64) {
        let reader = crate::log::open_own(dir).expect("reads").expect("a log");
        let own = dir.join("log/own/entries");
        let before = reader.entries(0..index + 1).expect("reads");
        let end: usize = before.iter().map(|entry| entry.len() + 2).sum();
        let mut bytes = fs::read(&own).expect("reads");
        bytes[end - 1] ^= 1;
        fs::write(&own, bytes).expect("writes");
    }

    #[test]
    fn a_log_of_many_bundles_and_two_keys_holds_and_the_first_entry_that_does_not_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = &dir.path().join("home");
        let rotated = log(dir);
        for depth in [Depth::Tree, Depth::Entries] {
            let verified = checked(dir, depth).expect("holds");
            assert_eq!((verified.size, verified.keys), (SIZE, 2));
        }
        for index in [SIZE - 1, 20_000, 9_000, rotated] {
            change(dir, index);
            let found = match checked(dir, Depth::Entries).expect_err("refused") {
                VerifyError::Chain(error) => {
                    let wrong = KeyError::Entry(EntryError::WrongSignature);
                    assert_eq!(error.reason, ChainReason::Keys(wrong));
                    error.index
                }
                VerifyError::Entry { index, .. } => index,
                error => panic!("{error}"),
            };
            assert_eq!(found, index);
            match checked(dir, Depth::Tree).expect_err("refused") {
                VerifyError::OtherTile { index: found, .. } => assert_eq!(found, index),
                error => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_change_of_keys_that_does_not_hold_is_refused_by_the_tree_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = &dir.path().join("home");
        let rotated = log(dir);
        change(dir, rotated - 1);
        for depth in [Depth::Tree, Depth::Entries] {
            match checked(dir, depth).expect_err("refused") {
                VerifyError::Chain(error) => assert_eq!(error.index, rotated - 1),
                error => panic!("{error}"),
            }
        }
    }
}
