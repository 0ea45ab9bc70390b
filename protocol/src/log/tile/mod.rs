//! Tiles: how a log is cut into files that never change, as C2SP's `tlog-tiles` has it.
//!
//! Paths, which tiles a tree has, and what is in them. Reading and serving them is up to others.
//! See <https://c2sp.org/tlog-tiles>.

mod bundle;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use bundle::{bundle_block, encode_bundle, parse_bundle, received_bundle_block};

use super::{
    entry::EntryError,
    tree::{Hash, TREE_SIZE_MAX, TreeError, node_over},
};
use crate::block::{Block, CODEC_RAW};

/// Levels of the tree that a tile spans.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes of a full tile, and entries of a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Highest level of a tile: no tree is so large that one is above it.
pub const TILE_LEVEL_MAX: u8 = 7;
/// Size of a full tile in bytes.
pub const TILE_SIZE_MAX: usize = TILE_WIDTH as usize * 32;
/// Largest entry that a bundle holds, in bytes: what two bytes can count.
pub const BUNDLED_ENTRY_SIZE_MAX: usize = u16::MAX as usize;
/// Largest bundle in bytes.
pub const BUNDLE_SIZE_MAX: usize = TILE_WIDTH as usize * (2 + BUNDLED_ENTRY_SIZE_MAX);
/// Longest path that is read, in bytes.
const PATH_SIZE_MAX: usize = 64;

/// Why a path, a tile or a bundle is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// A path is not one of a tile.
    #[error("not the path of a tile")]
    Path,
    /// A tile or a bundle does not hold as much as its path says.
    #[error("{path} does not hold {} hashes or entries", path.width)]
    Width {
        /// The path.
        path: TilePath,
    },
    /// A path is of a bundle where one of hashes is needed, or the other way round.
    #[error("{path} is of the other kind")]
    Kind {
        /// The path.
        path: TilePath,
    },
    /// A node is not in a tile.
    #[error("{path} does not hold node {index} of level {level}")]
    Node {
        /// The path of the tile.
        path: TilePath,
        /// Level of the node.
        level: u8,
        /// Index of the node.
        index: u64,
    },
    /// A tile does not have the hash that the tile above says.
    #[error("{path} has another hash than the tile above says")]
    OtherHash {
        /// The path.
        path: TilePath,
    },
    /// There are more entries than a bundle holds, or none.
    #[error("{count} entries are no bundle, which has 1 to {TILE_WIDTH}")]
    EntryCount {
        /// How many.
        count: usize,
    },
    /// An entry of a bundle is none.
    #[error("an entry of the bundle is none")]
    Entry(#[source] EntryError),
    /// An entry is too long for a bundle.
    #[error("an entry of {size} bytes is longer than {BUNDLED_ENTRY_SIZE_MAX}")]
    EntrySize {
        /// Its size in bytes.
        size: usize,
    },
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of nodes, of the level of the tree that is this times [`TILE_HEIGHT`].
    Hashes(u8),
    /// Entries.
    Entries,
}

/// The path of a tile below the prefix of its log: `tile/0/x001/234` or `tile/entries/000.p/7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl TilePath {
    /// The tile with some node in it, as it is in a tree of `size` leaves; none if the node is not
    /// complete there.
    #[must_use]
    pub fn of_node(level: u8, index: u64, size: u64) -> Option<Self> {
        let tile_level = level / TILE_HEIGHT;
        if tile_level > TILE_LEVEL_MAX || size > TREE_SIZE_MAX || index >= size >> level {
            return None;
        }
        let first = index << (level % TILE_HEIGHT);
        Self::at(TileKind::Hashes(tile_level), first >> TILE_HEIGHT, size)
    }

    /// The bundle with some entry in it, as it is in a tree of `size` leaves; none if it is not
    /// there.
    #[must_use]
    pub fn of_entry(index: u64, size: u64) -> Option<Self> {
        let bundle = Self::at(TileKind::Entries, index >> TILE_HEIGHT, size);
        bundle.filter(|_| index < size)
    }

    /// The tile of a kind and index as it is in a tree of `size` leaves.
    #[must_use]
    pub fn at(kind: TileKind, index: u64, size: u64) -> Option<Self> {
        let wide = kind.wide(size)?;
        let before = index.checked_mul(TILE_WIDTH.into())?;
        let width = wide.checked_sub(before)?.min(TILE_WIDTH.into()) as u16;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// What the tile holds.
    #[must_use]
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its index among those of its kind.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, from 1 to [`TILE_WIDTH`].
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it can hold no more, and so never changes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Whether a tree of `size` leaves has this tile, at this width or at a larger one.
    #[must_use]
    pub fn is_in(&self, size: u64) -> bool {
        Self::at(self.kind, self.index, size).is_some_and(|tile| tile.width >= self.width)
    }

    /// The full tile of this index.
    #[must_use]
    pub fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }
}

impl TileKind {
    /// Those that a log of no more than [`TREE_SIZE_MAX`] entries has.
    fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Entries).chain((0..=TILE_LEVEL_MAX).map(Self::Hashes))
    }

    /// How many hashes or entries of the kind a tree has; nothing if no tree has any.
    fn wide(self, size: u64) -> Option<u64> {
        match self {
            _ if size > TREE_SIZE_MAX => None,
            Self::Entries => Some(size),
            Self::Hashes(level) if level > TILE_LEVEL_MAX => None,
            Self::Hashes(level) => Some(size >> (level * TILE_HEIGHT)),
        }
    }
}

/// All tiles and bundles of a tree of `size` leaves.
pub fn tiles(size: u64) -> impl Iterator<Item = TilePath> {
    tiles_grown(0, size)
}

/// The tiles and bundles that are new, or hold more, when a tree grows from one size to another:
/// bundles first, then hashes from the leaves up, each kind from left to right.
///
/// A log writes them in any order and signs a checkpoint after.
pub fn tiles_grown(from: u64, to: u64) -> impl Iterator<Item = TilePath> {
    TileKind::all().flat_map(move |kind| {
        let grown = match (kind.wide(from), kind.wide(to)) {
            (Some(before), Some(after)) if before < after => {
                before >> TILE_HEIGHT..after.div_ceil(TILE_WIDTH.into())
            }
            _ => 0..0,
        };
        grown.filter_map(move |index| TilePath::at(kind, index, to))
    })
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}")?,
            TileKind::Entries => write!(f, "tile/entries")?,
        }
        let mut above = 1;
        while self.index / above >= 1000 {
            above *= 1000;
        }
        while above > 1 {
            write!(f, "/x{:03}", self.index / above % 1000)?;
            above /= 1000;
        }
        write!(f, "/{:03}", self.index % 1000)?;
        if !self.is_full() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = TileError;

    /// Reads a path, and refuses one that is not written like this, and one of a tile that no tree
    /// has.
    fn from_str(text: &str) -> Result<Self, TileError> {
        let path = parse_path(text).filter(|path| path.to_string() == text);
        let path = path.filter(|path| path.is_in(TREE_SIZE_MAX));
        path.ok_or(TileError::Path)
    }
}

/// Takes a path apart, whether or not it is written as it should be.
fn parse_path(text: &str) -> Option<TilePath> {
    if text.len() > PATH_SIZE_MAX {
        return None;
    }
    let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes(level.parse().ok()?),
    };
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok().filter(|width| *width > 0)?),
        None => (rest, TILE_WIDTH),
    };
    let index = index.split('/').try_fold(0_u64, |index, digits| {
        let digits = digits.strip_prefix('x').unwrap_or(digits);
        let digits: u64 = digits.parse().ok()?;
        index.checked_mul(1000)?.checked_add(digits)
    });
    Some(TilePath {
        kind,
        index: index?,
        width,
    })
}

/// Hashes that are said to be a tile's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedTile {
    path: TilePath,
    hashes: Vec<Hash>,
}

impl UnverifiedTile {
    /// Takes the bytes of a tile, which are its hashes.
    ///
    /// # Errors
    /// The path is of a bundle, or there are more or fewer hashes than it says.
    pub fn new(path: TilePath, bytes: &[u8]) -> Result<Self, TileError> {
        if path.kind == TileKind::Entries {
            return Err(TileError::Kind { path });
        }
        match bytes.as_chunks() {
            (hashes, []) if hashes.len() == usize::from(path.width) => Ok(Self {
                path,
                hashes: hashes.to_vec(),
            }),
            _ => Err(TileError::Width { path }),
        }
    }

    /// Where it is said to be.
    #[must_use]
    pub fn path(&self) -> TilePath {
        self.path
    }

    /// Its hashes.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.hashes.as_flattened()
    }

    /// The raw block that it is.
    #[must_use]
    pub fn block(&self) -> Block {
        Block::log(CODEC_RAW, self.bytes().to_vec())
    }

    /// Reads a node of the tree out of the tile: one of its hashes, or one up to seven levels above.
    ///
    /// # Errors
    /// The node is in another tile, or not in this one yet.
    pub fn node(&self, level: u8, index: u64) -> Result<Hash, TileError> {
        let found = || {
            let above = level % TILE_HEIGHT;
            let first = index.checked_mul(1 << above)?;
            let ours = TileKind::Hashes(level / TILE_HEIGHT) == self.path.kind
                && first >> TILE_HEIGHT == self.path.index;
            let first = (first % u64::from(TILE_WIDTH)) as usize;
            let hashes = self.hashes.get(first..first + (1 << above))?;
            ours.then(|| node_over(hashes))
        };
        found().ok_or(TileError::Node {
            path: self.path,
            level,
            index,
        })
    }

    /// Checks a full tile against its hash in the tile above, at its index modulo [`TILE_WIDTH`].
    ///
    /// # Errors
    /// The hash is another, or the tile is not full.
    pub fn verify(&self, above: &Hash) -> Result<(), TileError> {
        if !self.path.is_full() {
            return Err(TileError::Width {
                path: self.path.full(),
            });
        }
        if node_over(&self.hashes) != *above {
            return Err(TileError::OtherHash { path: self.path });
        }
        Ok(())
    }
}

/// Reads a node of a tree of `size` leaves out of its tiles: what the proofs of
/// [`super::tree`] ask for.
///
/// # Errors
/// The tree does not have the node, or the tile cannot be had.
pub fn read_node<E: From<TreeError> + From<TileError>>(
    level: u8,
    index: u64,
    size: u64,
    tile: impl FnOnce(TilePath) -> Result<UnverifiedTile, E>,
) -> Result<Hash, E> {
    let path = TilePath::of_node(level, index, size);
    let path = path.ok_or(TreeError::BeyondTree { index, size })?;
    Ok(tile(path)?.node(level, index)?)
}
