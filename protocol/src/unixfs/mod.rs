//! Public nodes: UnixFS directories and files, as dag-pb blocks.
//!
//! Owns the codec and the shapes. What it builds has the CIDs of the
//! `unixfs-v1-2025` profile (IPIP-499): CIDv1, SHA-256, raw leaves of 1 MiB,
//! files 1,024 wide, directories sharded above 256 KiB. Which names a snapshot
//! has is [`crate::snapshot`]'s.

use cid::Cid;

mod directory;
mod file;
mod folder;
mod node;
mod wire;

pub use directory::directory;
pub use file::file;
pub use folder::folder;
pub use node::{File, Node, Part, Slot};

use directory::slot_index;
pub(crate) use directory::{basic_len, link_len, name_hash};

/// Largest directory block, in bytes; a directory that needs more is sharded.
pub const DIRECTORY_SIZE_MAX: usize = 256 << 10;
/// Longest name of an entry, in bytes.
pub const NAME_LEN_MAX: usize = 255;
/// Slots of a shard.
pub const FANOUT: usize = 256;
/// Levels of shards: as many as the 64-bit hash of a name has bytes.
pub const SHARD_DEPTH_MAX: usize = 8;
/// Parts of a file node.
pub const FILE_WIDTH: usize = 1024;

/// A block with all that is under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The block.
    pub cid: Cid,
    /// Its size and that of all blocks under it, in bytes (dag-pb's Tsize).
    pub tsize: u64,
}

/// A named link of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name within the directory.
    pub name: String,
    /// The block.
    pub cid: Cid,
    /// Its size and that of all blocks under it, in bytes (dag-pb's Tsize).
    pub tsize: u64,
}

/// The slot that a name has in a shard that is this many shards below the first one; nothing below
/// [`SHARD_DEPTH_MAX`], where no shard is.
#[must_use]
pub fn slot_of(name: &str, depth: usize) -> Option<u8> {
    (depth < SHARD_DEPTH_MAX).then(|| slot_index(name_hash(name), depth))
}

/// Why a directory or a file cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A name is empty, too long, a dot name, or has a slash or NUL in it.
    #[error("{name:?} cannot be the name of a directory entry")]
    Name {
        /// The name.
        name: String,
    },
    /// Two entries have one name.
    #[error("two entries are named {name:?}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Two names of a sharded directory have one 64-bit hash.
    #[error("the names {first:?} and {second:?} collide")]
    Collision {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// A file has no leaves.
    #[error("a file needs a leaf, of no bytes if there are none")]
    NoLeaves,
    /// Sizes add up to more than 64 bits hold.
    #[error("the sizes of the parts are more than can be added up")]
    Overflow,
}

/// Why a block is not a UnixFS node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Neither a raw block nor a dag-pb one.
    #[error("codec {codec:#x} is neither raw nor dag-pb")]
    Codec {
        /// The codec in the CID.
        codec: u64,
    },
    /// The protobuf is cut off, not canonical, or has unknown fields.
    #[error("malformed dag-pb: {what}")]
    Wire {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The protobuf is well-formed, and says what no UnixFS node says.
    #[error("not a UnixFS node: {what}")]
    Shape {
        /// What is wrong with it.
        what: &'static str,
    },
}

pub(crate) fn total_size(own: usize, links: impl Iterator<Item = u64>) -> Option<u64> {
    links
        .into_iter()
        .try_fold(own as u64, |sum, tsize| sum.checked_add(tsize))
}

#[cfg(test)]
mod tests;
