//! Bitswap messages: what they say, and the step from received to verified.
//!
//! The bytes are `wire.rs`'s. A message off the wire is a `Message<Payload>`; hashing makes it a
//! `Message<HashedBlock>`, the only kind that the engine takes.

use bytes::Bytes;
use cid::{Cid, Version};
use protocol::block::{BlockError, CODEC_DAG_PB, HashedBlock};

use super::{
    limits::{
        BLOCK_SIZE_MAX, BLOCKS_PER_MESSAGE_MAX, CID_SIZE_MAX, ENTRIES_PER_MESSAGE_MAX,
        MESSAGE_SIZE_MAX, PRESENCES_PER_MESSAGE_MAX,
    },
    wire,
};

/// A Bitswap message, with its blocks as they are on the wire or as they were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<B> {
    /// What the sender wants, and no longer wants.
    pub wantlist: Wantlist,
    /// Blocks that the receiver asked for.
    pub blocks: Vec<B>,
    /// What the sender has and has not, of what it was asked about.
    pub presences: Vec<Presence>,
    /// Bytes that the sender has queued for the receiver; advice only.
    pub pending_bytes: u32,
}

/// A message before it is encoded, or after it was decoded: its blocks are not checked.
pub type WireMessage = Message<Payload>;
/// A message whose blocks were hashed.
pub type VerifiedMessage = Message<HashedBlock>;

/// A list of wants, or of changes to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wantlist {
    /// The wants and cancels.
    pub entries: Vec<Entry>,
    /// Whether these are all wants of the sender, so that earlier ones are void.
    pub full: bool,
}

/// One want or cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub cid: Cid,
    /// Entries of a higher priority are answered first.
    pub priority: i32,
    /// What is asked.
    pub request: Request,
    /// Whether the absence of the block is to be answered.
    pub send_dont_have: bool,
}

/// What an entry asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The block itself.
    Block,
    /// Whether the block is there.
    Have,
    /// Nothing any more.
    Cancel,
}

/// Whether the sender has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The block.
    pub cid: Cid,
    /// HAVE, or else DONT_HAVE.
    pub have: bool,
}

/// A block's bytes and the form of CID that the sender knows them by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// What the CID is but for the digest, which the bytes give.
    pub prefix: Prefix,
    /// The bytes.
    pub bytes: Bytes,
}

/// A CID without its digest; the hash function is SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// A CIDv0, always of dag-pb.
    V0,
    /// A CIDv1.
    V1 {
        /// Its multicodec.
        codec: u64,
    },
}

/// Why bytes are not a message that this node takes.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It is not the protobuf that Bitswap speaks.
    #[error("malformed Bitswap message: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The message is longer than any may be.
    #[error("message of {size} bytes is larger than the limit of {MESSAGE_SIZE_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// There are more wantlist entries than a message may have.
    #[error("more than {ENTRIES_PER_MESSAGE_MAX} wantlist entries")]
    TooManyEntries,
    /// There are more blocks than a message may have.
    #[error("more than {BLOCKS_PER_MESSAGE_MAX} blocks")]
    TooManyBlocks,
    /// There are more presences than a message may have.
    #[error("more than {PRESENCES_PER_MESSAGE_MAX} presences")]
    TooManyPresences,
    /// A block is larger than any may be.
    #[error("block of {size} bytes is larger than the limit of {BLOCK_SIZE_MAX}")]
    BlockTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// A CID is longer than any may be.
    #[error("CID of {size} bytes is longer than the limit of {CID_SIZE_MAX}")]
    CidTooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// A block is of a hash function that was never asked for.
    #[error("block of hash function {code:#x}, which is not supported")]
    UnsupportedHash {
        /// Its multihash code.
        code: u64,
    },
    /// A block cannot be hashed.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl<B> Default for Message<B> {
    fn default() -> Self {
        Self {
            wantlist: Wantlist::default(),
            blocks: Vec::new(),
            presences: Vec::new(),
            pending_bytes: 0,
        }
    }
}

impl<B> Message<B> {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wantlist.entries.is_empty()
            && !self.wantlist.full
            && self.blocks.is_empty()
            && self.presences.is_empty()
    }
}

impl WireMessage {
    /// Reads a message, without its length prefix. Blocks share its bytes, if it is little more than blocks;
    /// unknown fields are skipped.
    ///
    /// # Errors
    /// It is malformed, or over a limit.
    pub fn decode(bytes: Bytes) -> Result<Self, MessageError> {
        wire::decode(bytes)
    }

    /// Writes the message, without its length prefix, as parts to be sent one after the other:
    /// the bytes of larger blocks are not copied.
    #[must_use]
    pub fn encode(&self) -> Vec<Bytes> {
        wire::encode(self)
    }

    /// The size of what [`WireMessage::encode`] writes, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        wire::encoded_len(self)
    }

    /// Hashes the blocks: about a millisecond for each MiB, so not on a thread that others wait for.
    ///
    /// # Errors
    /// A block is too large.
    pub fn verify(self) -> Result<VerifiedMessage, MessageError> {
        let blocks = self
            .blocks
            .into_iter()
            .map(|payload| HashedBlock::new(payload.bytes))
            .collect::<Result<_, _>>()?;
        Ok(Message {
            wantlist: self.wantlist,
            blocks,
            presences: self.presences,
            pending_bytes: self.pending_bytes,
        })
    }
}

impl Payload {
    /// The payload that carries a block of this CID, which must be of SHA-256.
    #[must_use]
    pub fn new(cid: &Cid, bytes: Bytes) -> Self {
        let prefix = match cid.version() {
            Version::V0 => Prefix::V0,
            Version::V1 => Prefix::V1 { codec: cid.codec() },
        };
        Self { prefix, bytes }
    }
}

impl Prefix {
    /// The multicodec of the block.
    #[must_use]
    pub fn codec(&self) -> u64 {
        match self {
            Self::V0 => CODEC_DAG_PB,
            Self::V1 { codec } => *codec,
        }
    }
}
