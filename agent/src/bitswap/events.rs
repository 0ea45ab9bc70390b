//! What the engine is told, and what it asks for.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::Block;

use super::{
    bucket::SharedBucket,
    message::{MessageError, VerifiedMessage, WireMessage},
    rate::Rates,
};

/// The protocol names that are spoken, the preferred one first.
pub const PROTOCOLS: [&str; 2] = ["/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0"];

/// The time of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since a moment that the caller chose once; it never goes back.
    pub elapsed: Duration,
    /// The local time of day in minutes, 0 to 1439, which rate schedules go by.
    pub minute_of_day: u16,
}

/// A session: some blocks that are wanted from some peers. The caller chooses the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A message that was handed out to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub(super) u64);

/// A question that the caller is to answer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// The version of Bitswap that a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 1.1.0, which has neither HAVE nor DONT_HAVE.
    V1_1,
    /// 1.2.0.
    V1_2,
}

/// What an engine is made with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Seeds the choice between peers that are equally good.
    pub seed: u64,
    /// How fast blocks are sent and asked for.
    pub rates: Rates,
    /// What is drawn on for blocks that are sent.
    pub uploads: SharedBucket,
    /// What is drawn on for blocks that are asked for.
    pub downloads: SharedBucket,
    /// Whether an earlier run of this node was killed, so that its peers may still send what it asked for.
    pub after_kill: bool,
}

/// A block that a session wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its CID, of SHA-256 or identity; others are refused.
    pub cid: Cid,
    /// Its size in bytes, if it is known: then the bytes in flight are exact.
    pub size: Option<u32>,
}

/// What is told to [`super::Engine::handle`].
#[derive(Debug)]
pub enum Input {
    /// A peer is connected, or its protocol version became known.
    Connected {
        /// The peer.
        peer: PeerId,
        /// What it speaks.
        protocol: Protocol,
    },
    /// The last connection to a peer is gone, with all that was sent and not taken.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A message came, and its blocks were hashed.
    Message {
        /// Who sent it.
        peer: PeerId,
        /// The message.
        message: VerifiedMessage,
    },
    /// What came was no message.
    Malformed {
        /// Who sent it.
        peer: PeerId,
        /// Why.
        error: MessageError,
    },
    /// Bytes of a message came that is not whole yet: the peer is slow, not silent.
    Receiving {
        /// The peer.
        peer: PeerId,
    },
    /// The transport took bytes of a message, and not all: the peer is slow, not stalled.
    Sending {
        /// The peer.
        peer: PeerId,
    },
    /// The transport took all bytes of a message.
    Sent {
        /// To whom.
        peer: PeerId,
        /// Which.
        message: MessageId,
    },
    /// A message was lost with its stream, wholly or in part.
    SendFailed {
        /// To whom.
        peer: PeerId,
        /// Which.
        message: MessageId,
    },
    /// Answers an [`Effect::Lookup`]: one answer for each CID, in order.
    Found {
        /// The question.
        ticket: Ticket,
        /// The answers; missing ones mean absent.
        answers: Vec<Answer>,
    },
    /// Answers an [`Effect::Load`]: one item for each CID, in order. The bytes must be those of the
    /// CID: a peer that gets others drops this node. `None` is what is not there any more, or not
    /// for this peer any more.
    Loaded {
        /// The question.
        ticket: Ticket,
        /// The bytes; missing ones mean none.
        blocks: Vec<Option<Bytes>>,
    },
    /// Blocks may have come into the store, or may be had by more peers: those who wait are looked up again.
    Changed,
    /// Begins a session, or changes nothing if there is one of this number.
    OpenSession {
        /// Its number.
        session: SessionId,
    },
    /// Adds a peer to those that a session asks, now or as soon as it is connected.
    AddPeer {
        /// The session.
        session: SessionId,
        /// The peer.
        peer: PeerId,
    },
    /// Adds blocks to those that a session wants, to be asked for in this order.
    Want {
        /// The session.
        session: SessionId,
        /// The blocks.
        wants: Vec<Wanted>,
    },
    /// Takes blocks off those that a session wants.
    Unwant {
        /// The session.
        session: SessionId,
        /// The blocks.
        cids: Vec<Cid>,
    },
    /// Stops asking for more blocks, or goes on, because whoever takes them is behind.
    Hold {
        /// The session.
        session: SessionId,
        /// Whether to stop.
        held: bool,
    },
    /// Ends a session; nothing more is delivered to it.
    CloseSession {
        /// The session.
        session: SessionId,
    },
    /// Changes how fast blocks are sent and asked for.
    SetRates {
        /// The new rates.
        rates: Rates,
    },
    /// [`super::Engine::deadline`] has come.
    Tick,
}

/// What a look-up found, for the peer that asked. On the wire the last two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The block is here, the peer may have it, and this is its size in bytes.
    Here(u32),
    /// The block is not here.
    Absent,
    /// The peer may not have the block, whether it is here or not.
    Denied,
}

/// What the caller is to do; taken with [`super::Engine::effect`].
#[derive(Debug)]
pub enum Effect {
    /// Send a message, then say [`Input::Sent`] or [`Input::SendFailed`]. Messages to a peer may
    /// go over any streams and connections, in any order; those with wants best in theirs, as the first of
    /// a connection voids what the peer knew before.
    Send {
        /// To whom.
        peer: PeerId,
        /// By what name to report on it.
        id: MessageId,
        /// What to send.
        message: WireMessage,
        /// Whether it asks again because the peer was silent: a new stream, or another transport,
        /// may do better than the last.
        again: bool,
    },
    /// Say of each CID whether this peer may have it, and then whether it is here and how large.
    Lookup {
        /// To be answered with [`Input::Found`].
        ticket: Ticket,
        /// Who asks.
        peer: PeerId,
        /// What for: all of SHA-256.
        cids: Vec<Cid>,
    },
    /// Read blocks that a peer may have.
    Load {
        /// To be answered with [`Input::Loaded`].
        ticket: Ticket,
        /// Who they are for.
        peer: PeerId,
        /// Which: a message full at most.
        cids: Vec<Cid>,
    },
    /// A block that a session wanted has come; it is delivered once.
    Block {
        /// The session.
        session: SessionId,
        /// Who sent it; `None` if its bytes are in its CID.
        peer: Option<PeerId>,
        /// The block, under the CID that was wanted.
        block: Block,
    },
    /// A block cannot be added to those that a session wants.
    Refused {
        /// The session.
        session: SessionId,
        /// The block.
        cid: Cid,
        /// Why not.
        because: RefusedBecause,
    },
    /// All connected peers of the session said that they have not these blocks: they stay wanted, are
    /// asked for again from time to time, and of peers that are added. Said once, until a peer is added.
    Missing {
        /// The session.
        session: SessionId,
        /// The blocks.
        cids: Vec<Cid>,
    },
    /// A peer owes answers and has been silent; its blocks are asked for again. Said once each time.
    Silent {
        /// The peer.
        peer: PeerId,
    },
    /// A peer has taken nothing of what it was sent for [`super::limits::STALLED_AFTER`]: its connections
    /// are to be closed, to have back the memory. Said again if that does not happen.
    Stalled {
        /// The peer.
        peer: PeerId,
    },
    /// A peer broke the rules: it is to be disconnected and recorded. The engine forgets it and ignores
    /// it from now on. Said once.
    Misbehaved {
        /// The peer.
        peer: PeerId,
        /// What it did.
        reason: Misbehaviour,
    },
}

/// Why a want is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBecause {
    /// There is no such session, or there are too many.
    #[error("no such session")]
    NoSession,
    /// The session wants as many blocks as it may.
    #[error(
        "the session wants {} blocks already",
        super::limits::WANTS_PER_SESSION_MAX
    )]
    TooMany,
    /// The CID is of a hash function other than SHA-256 and identity.
    #[error("its hash function is not supported")]
    UnsupportedHash,
}

/// What a peer did that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaviour {
    /// It owed blocks, and sent one that it was not asked for.
    #[error("sent a block that is none of those it was asked for")]
    WrongBlock,
    /// It owed nothing, and sent a block.
    #[error("sent a block that was not asked for")]
    UnsolicitedBlock,
    /// It sent bytes that are no message.
    #[error("sent a malformed or oversized message")]
    Malformed,
    /// It keeps sending what it was not asked for, or has sent before.
    #[error("floods this node with duplicates or answers to nothing")]
    Flood,
}

/// What went to and came from a peer since it connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Bytes of blocks that the transport took.
    pub sent_bytes: u64,
    /// Blocks that the transport took.
    pub sent_blocks: u64,
    /// Bytes of blocks that came and were wanted.
    pub received_bytes: u64,
    /// Blocks that came and were wanted.
    pub received_blocks: u64,
    /// Bytes of blocks that came and were not wanted any more.
    pub duplicate_bytes: u64,
    /// Blocks that came and were not wanted any more.
    pub duplicate_blocks: u64,
    /// Wants that were answered as absent because the peer may not have them.
    pub denied: u64,
    /// Wants that were dropped because there were too many.
    pub overflowed: u64,
}

/// What an engine holds at a moment, each bounded by [`super::limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Peers that are connected.
    pub peers: usize,
    /// Wants of all peers, and answers to them that are not sent.
    pub served_wants: usize,
    /// Bytes for all peers that are being loaded, or sent and not taken.
    pub untaken_bytes: usize,
    /// Look-ups under way.
    pub lookups: usize,
    /// Loads under way.
    pub loads: usize,
    /// Blocks that sessions want.
    pub wants: usize,
    /// Bytes of blocks that peers were asked for.
    pub in_flight_bytes: u64,
    /// Wantlist entries for all peers that are not sent.
    pub unsent_entries: usize,
}
