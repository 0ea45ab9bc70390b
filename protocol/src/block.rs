//! Blocks: the only thing that a store keeps and a peer is given.
//!
//! A [`Block`] can be made from sealed bytes, by the codec of public nodes,
//! from the constant files of a snapshot, from the entries and hashes of a log, or
//! from received bytes that were checked against their CID. There is no other
//! way, so plaintext cannot be published by mistake.

use bytes::Bytes;
use cid::Cid;
use multihash::Multihash;
use sha2::{Digest, Sha256};

use crate::seal::Sealed;

/// Multicodec of opaque bytes.
pub const CODEC_RAW: u64 = 0x55;
/// Multicodec of dag-pb nodes.
pub const CODEC_DAG_PB: u64 = 0x70;
/// Multicodec of DAG-CBOR: entries of a log.
pub const CODEC_DAG_CBOR: u64 = 0x71;
/// Multihash code of SHA-256.
pub const HASH_SHA2_256: u64 = 0x12;
/// Multihash code of bytes that stand for themselves.
pub const HASH_IDENTITY: u64 = 0x00;
/// Largest block that is written, in bytes.
pub const BLOCK_SIZE_MAX: usize = 1 << 20;
/// Largest block that is accepted from elsewhere, in bytes (Bitswap's own limit).
pub const FOREIGN_BLOCK_SIZE_MAX: usize = 2 << 20;

/// A content-addressed block whose bytes match its CID.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    cid: Cid,
    bytes: Bytes,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.bytes.len())
    }
}

/// Why bytes are not the block that a CID names.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The bytes hash to something else.
    #[error("block does not match its CID {cid}")]
    HashMismatch {
        /// The CID that was promised.
        cid: Cid,
    },
    /// The CID names a hash function that is not SHA-256 or identity.
    #[error("CID {cid} uses hash function {code:#x}, which is not supported")]
    UnsupportedHash {
        /// The CID.
        cid: Cid,
        /// Its multihash code.
        code: u64,
    },
    /// The block is larger than any block may be.
    #[error("block of {size} bytes is larger than the limit of {FOREIGN_BLOCK_SIZE_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

impl Block {
    /// Makes a raw block of sealed bytes (or of a piece of them).
    #[must_use]
    pub fn sealed(sealed: Sealed) -> Self {
        let bytes = sealed.into_bytes();
        Self {
            cid: cid_of(CODEC_RAW, &bytes),
            bytes: bytes.into(),
        }
    }

    /// Makes a dag-pb block of an encoded public node.
    #[must_use]
    pub(crate) fn node(bytes: Vec<u8>) -> Self {
        Self {
            cid: cid_of(CODEC_DAG_PB, &bytes),
            bytes: bytes.into(),
        }
    }

    /// Makes a block of what a log shows everyone: an entry, entries, or hashes.
    #[must_use]
    pub(crate) fn log(codec: u64, bytes: Vec<u8>) -> Self {
        Self {
            cid: cid_of(codec, &bytes),
            bytes: bytes.into(),
        }
    }

    /// Makes a raw block of a text that is the same in every snapshot.
    #[must_use]
    pub(crate) fn constant(text: &'static str) -> Self {
        Self {
            cid: cid_of(CODEC_RAW, text.as_bytes()),
            bytes: Bytes::from_static(text.as_bytes()),
        }
    }

    /// Checks received bytes against the CID that they are said to have.
    ///
    /// # Errors
    /// The bytes are too large, do not match, or use an unknown hash function.
    pub fn verify(cid: Cid, bytes: Vec<u8>) -> Result<Self, BlockError> {
        check(&cid, &bytes)?;
        let bytes = bytes.into();
        Ok(Self { cid, bytes })
    }

    /// The block's CID.
    #[must_use]
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// The block's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The block's bytes, by value; they are copied only if somebody else has them too.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into()
    }
}

/// Bytes that are said to have a CID, and that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedBlock {
    /// The CID that was promised.
    pub cid: Cid,
    /// The bytes that came.
    pub bytes: Vec<u8>,
}

impl UnverifiedBlock {
    /// Checks the bytes.
    ///
    /// # Errors
    /// As [`Block::verify`].
    pub fn verify(self) -> Result<Block, BlockError> {
        Block::verify(self.cid, self.bytes)
    }
}

/// Bytes that came without a CID, and the SHA-256 that they have.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedBlock {
    digest: [u8; 32],
    bytes: Bytes,
}

impl std::fmt::Debug for HashedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cid = raw_cid(&self.digest);
        write!(f, "HashedBlock({cid}, {} bytes)", self.bytes.len())
    }
}

impl HashedBlock {
    /// Hashes received bytes, which may be a part of what was received.
    ///
    /// # Errors
    /// There are more than a block may have.
    pub fn new(bytes: Bytes) -> Result<Self, BlockError> {
        if bytes.len() > FOREIGN_BLOCK_SIZE_MAX {
            return Err(BlockError::TooLarge { size: bytes.len() });
        }
        Ok(Self {
            digest: sha256(&bytes),
            bytes,
        })
    }

    /// The SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The block of the CID that was wanted, without hashing again.
    ///
    /// # Errors
    /// The CID is of other bytes, or of another hash function than SHA-256.
    pub fn into_block(self, wanted: &Cid) -> Result<Block, BlockError> {
        match digest_of(wanted) {
            Some(digest) if digest == self.digest => Ok(Block {
                cid: *wanted,
                bytes: self.bytes,
            }),
            Some(_) => Err(BlockError::HashMismatch { cid: *wanted }),
            None => Err(BlockError::UnsupportedHash {
                cid: *wanted,
                code: wanted.hash().code(),
            }),
        }
    }
}

/// Checks bytes against a CID without taking them.
///
/// # Errors
/// As [`Block::verify`].
pub fn check(cid: &Cid, bytes: &[u8]) -> Result<(), BlockError> {
    if bytes.len() > FOREIGN_BLOCK_SIZE_MAX {
        return Err(BlockError::TooLarge { size: bytes.len() });
    }
    let matches = match cid.hash().code() {
        HASH_SHA2_256 => cid.hash().digest() == sha256(bytes),
        HASH_IDENTITY => cid.hash().digest() == bytes,
        code => return Err(BlockError::UnsupportedHash { cid: *cid, code }),
    };
    if matches {
        Ok(())
    } else {
        Err(BlockError::HashMismatch { cid: *cid })
    }
}

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The CIDv1 of a raw block with this SHA-256 digest.
#[must_use]
pub fn raw_cid(digest: &[u8; 32]) -> Cid {
    Cid::new_v1(CODEC_RAW, sha2_256(digest))
}

/// The SHA-256 digest in a CID, if that is its hash function.
#[must_use]
pub fn digest_of(cid: &Cid) -> Option<[u8; 32]> {
    (cid.hash().code() == HASH_SHA2_256)
        .then(|| cid.hash().digest().try_into().ok())
        .flatten()
}

fn sha2_256(digest: &[u8; 32]) -> Multihash<64> {
    Multihash::wrap(HASH_SHA2_256, digest).expect("a 32-byte digest fits in 64 bytes")
}

pub(crate) fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    Cid::new_v1(codec, sha2_256(&sha256(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_bytes_that_do_not_match() {
        let cid = cid_of(CODEC_RAW, b"one");
        assert!(Block::verify(cid, b"one".to_vec()).is_ok());
        assert!(matches!(
            Block::verify(cid, b"two".to_vec()),
            Err(BlockError::HashMismatch { .. })
        ));
        assert!(matches!(
            Block::verify(cid, vec![0; FOREIGN_BLOCK_SIZE_MAX + 1]),
            Err(BlockError::TooLarge { .. })
        ));
    }

    #[test]
    fn rejects_a_hash_function_it_does_not_know() {
        let cid = Cid::new_v1(CODEC_RAW, Multihash::wrap(0x1e, &[0; 32]).expect("fits"));
        assert!(matches!(
            Block::verify(cid, vec![]),
            Err(BlockError::UnsupportedHash { code: 0x1e, .. })
        ));
    }

    #[test]
    fn hashed_bytes_become_the_block_of_their_own_hash_only() {
        let hashed = HashedBlock::new(b"one".to_vec().into()).expect("small");
        let v0 = Cid::new_v0(sha2_256(hashed.digest())).expect("sha2-256");
        let block = hashed.clone().into_block(&v0).expect("its own hash");
        assert_eq!((block.cid(), block.bytes()), (&v0, &b"one"[..]));
        assert!(matches!(
            hashed.clone().into_block(&cid_of(CODEC_RAW, b"two")),
            Err(BlockError::HashMismatch { .. })
        ));
        let identity = Cid::new_v1(CODEC_RAW, Multihash::wrap(0, b"one").expect("fits"));
        assert!(matches!(
            hashed.into_block(&identity),
            Err(BlockError::UnsupportedHash { code: 0, .. })
        ));
        assert!(matches!(
            HashedBlock::new(vec![0; FOREIGN_BLOCK_SIZE_MAX + 1].into()),
            Err(BlockError::TooLarge { .. })
        ));
    }

    #[test]
    fn accepts_identity_and_cid_v0() {
        let identity = Cid::new_v1(CODEC_RAW, Multihash::wrap(0, b"hi").expect("fits"));
        assert!(Block::verify(identity, b"hi".to_vec()).is_ok());
        let v0 = Cid::new_v0(sha2_256(&sha256(b"x"))).expect("sha2-256");
        assert!(Block::verify(v0, b"x".to_vec()).is_ok());
        assert_eq!(digest_of(&v0), Some(sha256(b"x")));
        assert_eq!(digest_of(&identity), None);
    }
}
