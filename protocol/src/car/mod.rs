//! CAR files: blocks one after another, to be carried by disk or mail.
//!
//! CARv1 is written and read, CARv2 read (its index is passed over). Both
//! directions hold one block at a time. What is read is checked against its
//! CID before anyone sees it, or comes as [`UnverifiedBlock`].
//!
//! [`UnverifiedBlock`]: crate::block::UnverifiedBlock

use cid::Cid;

use crate::block::{BlockError, FOREIGN_BLOCK_SIZE_MAX};

mod header;
mod read;
mod write;

pub use header::header_bytes;
pub use read::Reader;
pub use write::{Writer, section_bytes};

/// Length of the header of a CARv1 whose only root is a CIDv1 of SHA-256, in bytes.
pub const HEADER_LEN_ONE_ROOT: usize = 59;
/// Longest header that is read, in bytes: room for some 1,500 roots.
pub const HEADER_SIZE_MAX: usize = 64 << 10;
/// Longest CID that is read, in bytes: four varints and a digest of 64 bytes.
pub const CID_LEN_MAX: usize = 4 * 10 + 64;
/// Longest section that is read, in bytes.
pub const SECTION_SIZE_MAX: usize = FOREIGN_BLOCK_SIZE_MAX + CID_LEN_MAX;

/// Why bytes are not a CAR, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum CarError {
    /// The bytes cannot be read.
    #[error("cannot read the CAR")]
    Io(#[source] std::io::Error),
    /// The file ends within the header or a block.
    #[error("the CAR is cut off after byte {offset}")]
    CutOff {
        /// Where what is cut off begins.
        offset: u64,
    },
    /// The header is not that of a CAR.
    #[error("not the header of a CAR: {what}")]
    Header {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The header says another version.
    #[error("CAR version {version} is not known, only 1 and 2 are")]
    Version {
        /// The version.
        version: u64,
    },
    /// A section is empty or too long, or does not begin with a length and a CID.
    #[error("malformed section at byte {offset} of the CAR: {what}")]
    Section {
        /// Where it begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A block does not match its CID.
    #[error("bad block at byte {offset} of the CAR")]
    Block {
        /// Where its section begins.
        offset: u64,
        /// What is wrong with it.
        #[source]
        source: BlockError,
    },
}

/// A CID and the rest of the bytes that it was at the beginning of.
fn take_cid(bytes: &[u8]) -> Option<(Cid, &[u8])> {
    let mut rest = bytes;
    let cid = Cid::read_bytes(&mut rest).ok()?;
    let taken = &bytes[..bytes.len() - rest.len()];
    (cid.to_bytes() == taken).then_some((cid, rest))
}

#[cfg(test)]
mod tests;
