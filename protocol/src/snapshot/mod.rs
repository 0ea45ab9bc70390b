//! The snapshot directory: which names it has, how it is put together and checked.
//!
//! ```text
//! ROOT/
//!   RECOVER.md  recover.sh        constant texts, a raw block each
//!   capsule.age                   in portable mode only
//!   manifest.age
//!   s/XX/CID                      sealed segments and lists, XX the last two characters of CID
//! ```
//!
//! Nothing here holds a key: [`assemble`] takes sealed bytes, [`Layout`] finds
//! the two that are opened first, [`walk`] checks everything public.

use cid::{Cid, Version};

use crate::{
    block::{BLOCK_SIZE_MAX, BlockError, HASH_SHA2_256, digest_of},
    unixfs::NodeError,
};

mod assemble;
mod fetch;
mod layout;
mod walk;

pub use assemble::{Object, Parts, assemble};
pub use layout::Layout;
pub use walk::{Summary, Visit, walk};

/// Name of the sealed class identities.
pub const CAPSULE: &str = "capsule.age";
/// Name of the sealed manifest.
pub const MANIFEST: &str = "manifest.age";
/// Name of the folder of segments and lists.
pub const OBJECTS: &str = "s";

/// Largest `RECOVER.md` or `recover.sh`, in bytes.
pub const TEXT_SIZE_MAX: u64 = 64 << 10;
/// Largest `capsule.age`, in bytes.
pub const CAPSULE_FILE_SIZE_MAX: u64 = 4 << 20;
/// Largest `manifest.age`, in bytes: the largest manifest, incompressible and padded.
pub const MANIFEST_FILE_SIZE_MAX: u64 = 80 << 20;
/// Most segments and lists of a snapshot.
pub const OBJECTS_MAX: u64 = 1 << 24;
/// Most directory blocks of a snapshot.
pub const DIRECTORIES_MAX: u64 = OBJECTS_MAX / 2;

const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why a snapshot cannot be assembled.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A capsule or manifest is larger than readers accept.
    #[error("{name} has {size} bytes, more than the {max} that it may have")]
    FileSize {
        /// Its name.
        name: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// A segment or list is empty or larger than a block.
    #[error("{cid} is said to have {len} bytes, it may have from 1 to {BLOCK_SIZE_MAX}")]
    ObjectSize {
        /// The object.
        cid: Cid,
        /// Its size in bytes.
        len: u32,
    },
    /// One segment or list is named with two sizes.
    #[error("{cid} is said to have both {first} and {second} bytes")]
    TwoSizes {
        /// The object.
        cid: Cid,
        /// One size in bytes.
        first: u32,
        /// The other.
        second: u32,
    },
    /// There are more segments and lists than readers accept.
    #[error("{count} segments and lists are more than the limit of {OBJECTS_MAX}")]
    TooMany {
        /// How many there are.
        count: u64,
    },
}

/// A block of a snapshot that is not there or not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{path} is damaged ({cid})")]
pub struct Damage {
    /// Where it is, from the root; `.` is the root.
    pub path: String,
    /// The CID that is linked there.
    pub cid: Cid,
    /// What is wrong with it.
    #[source]
    pub reason: Reason,
}

/// What is wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Nobody has it.
    #[error("the block is missing")]
    Missing,
    /// Its bytes do not match its CID.
    #[error(transparent)]
    Mismatch(BlockError),
    /// It is not a node that anyone should have written.
    #[error(transparent)]
    Malformed(NodeError),
    /// It is a fine node, which no snapshot has in this place.
    #[error("unexpected: {what}")]
    Unexpected {
        /// What it is.
        what: &'static str,
    },
}

/// The folder in `s/` that an object with this digest is in.
#[must_use]
pub fn folder(digest: &[u8; 32]) -> String {
    // 288 bits in base32: the last two of 58 characters are the last byte, and two zero bits.
    let last = digest[31];
    [last >> 3, (last & 7) << 2]
        .map(|index| char::from(BASE32[usize::from(index)]))
        .iter()
        .collect()
}

/// The SHA-256 digest of a CID as snapshots use them: version 1, of this codec.
fn own_digest(cid: &Cid, codec: u64) -> Option<[u8; 32]> {
    let own =
        cid.version() == Version::V1 && cid.codec() == codec && cid.hash().code() == HASH_SHA2_256;
    own.then(|| digest_of(cid)).flatten()
}

#[cfg(test)]
mod tests;
