//! What a replica is told, and what it asks for.

use std::collections::BTreeMap;

use super::wire::Message;
use crate::log::{
    checkpoint::{Origin, SignedCheckpoint, UnverifiedCheckpoint},
    cosignature::CosignerKey,
    fork::Fork,
    keys::KeyHistory,
    tree::{Edge, Hash},
};

/// A connected peer. The caller gives each connection's peer a number, and may use it again when the peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// Something that the caller is to do, and to report on once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// What a member of the federation is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its operations are in its log.
    Tenant,
    /// It cosigns checkpoints with this key.
    Witness(Box<CosignerKey>),
    /// It reads what is sealed to auditors.
    Auditor,
}

/// A node of the federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its log.
    pub origin: Origin,
    /// What it is there for.
    pub roles: Vec<Role>,
}

/// What is kept of a log. All of it is durable, and was verified before it became so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its keys, up to the last entry that is kept.
    pub keys: KeyHistory,
    /// The edge of the tree over all entries that are kept.
    pub edge: Edge,
    /// The last checkpoint that was kept with all that it covers, if there was one.
    pub checkpoint: Option<SignedCheckpoint>,
    /// The checkpoint that covers entries beyond those, if there are any.
    pub target: Option<SignedCheckpoint>,
    /// The proof that the log was forked.
    pub fork: Option<Fork>,
}

/// What a replica is made with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Seeds the choice between peers, and the times of exchanges.
    pub seed: u64,
    /// The node's own log.
    pub own: Option<Origin>,
    /// The last checkpoint that the node cosigned of each log, if it is a witness: of every log that it ever
    /// cosigned one of.
    pub cosigned: Option<BTreeMap<Origin, SignedCheckpoint>>,
}

/// A request to cosign, as <https://c2sp.org/tlog-witness> has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness is thought to have cosigned last.
    pub old_size: u64,
    /// That the tree of the checkpoint begins with that one.
    pub proof: Vec<Hash>,
    /// What is to be cosigned.
    pub checkpoint: UnverifiedCheckpoint,
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The old size is larger than the checkpoint's: status 400.
    Shrinks,
    /// The node is no witness of this log: status 404.
    UnknownLog,
    /// The log did not sign it, or the log was forked: status 403.
    Forbidden,
    /// The witness cosigned another size last: status 409.
    Conflict {
        /// The size that it cosigned last.
        size: u64,
    },
    /// The proof does not hold, or the witness cosigned another root of this size: status 422.
    WrongProof,
    /// An earlier checkpoint of the log is being remembered: status 503.
    Busy,
}

/// Entries that were read for a peer, and what proves that they are the log's: see
/// [`super::read_stretch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The entries.
    pub entries: Vec<Vec<u8>>,
    /// As in [`super::Range::grown`].
    pub grown: Vec<Hash>,
    /// As in [`super::Range::rest`].
    pub rest: Vec<Hash>,
    /// As in [`super::Range::changes`].
    pub changes: Vec<Vec<u8>>,
}

/// What is told to [`super::Replica::handle`].
#[derive(Debug)]
pub enum Input {
    /// A log is to be followed, or its member's roles changed. `kept` is what is kept of it, and counts the first
    /// time only. The node's own log is followed so, too.
    Follow {
        /// The member.
        member: Member,
        /// What is kept of its log.
        kept: Option<Box<Kept>>,
    },
    /// A log is not to be followed any more.
    Unfollow {
        /// The log.
        origin: Origin,
    },
    /// The own log grew, or its checkpoint was cosigned; it is durable.
    Grew {
        /// All that there is of it.
        kept: Box<Kept>,
    },
    /// A peer is connected.
    Connected {
        /// The peer.
        peer: Peer,
        /// Whether it was so before, and may have said what was not heard.
        late: bool,
    },
    /// The last connection to a peer is gone.
    Gone {
        /// The peer.
        peer: Peer,
    },
    /// A peer said something: directly, or passed it on as gossip.
    Message {
        /// The peer that it came from.
        peer: Peer,
        /// What it said.
        message: Message,
    },
    /// Answers an [`Effect::Read`]; nothing, if it cannot be read.
    Read {
        /// The question.
        ticket: Ticket,
        /// What was read.
        stretch: Option<Stretch>,
    },
    /// What was to be kept is durable.
    Kept {
        /// Which.
        ticket: Ticket,
    },
    /// It is not, and nothing of it is: the disk is full, say. (If it is not known, the node stops.)
    NotKept {
        /// Which.
        ticket: Ticket,
    },
    /// Somebody wants a checkpoint cosigned.
    AddCheckpoint {
        /// What the answer is to be known by.
        call: u64,
        /// What is wanted.
        request: Box<AddCheckpoint>,
    },
    /// A log signed this, as somebody says who is no peer.
    Seen {
        /// The checkpoint, by a key of the log that counts.
        checkpoint: Box<SignedCheckpoint>,
    },
    /// Others have so many entries of the own log: as [`Effect::Behind`] said before a start, or as somebody says who does not
    /// prove it.
    Owed {
        /// How many.
        size: u64,
    },
    /// The time of the last [`Effect::Wake`] has come.
    Tick,
}

/// What a peer did that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misbehaviour {
    /// It passed on a checkpoint that its log cannot have signed.
    ForgedCheckpoint,
    /// It passed on a fork proof that proves nothing.
    WrongFork,
    /// Its entries or proofs are not those of the checkpoint that it sent with them.
    WrongRange,
    /// It asks or tells more than any may.
    Flood,
    /// It did not answer. It may be slow only.
    Silent,
}

/// What the caller is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Say something to a peer.
    Send {
        /// To whom.
        peer: Peer,
        /// What.
        message: Message,
    },
    /// Gossip something. It may be the same as before, or as others said: the transport sends it once.
    Announce {
        /// An [`Message::Announce`] or [`Message::Fork`].
        message: Message,
    },
    /// Read of what is kept, and answer with [`Input::Read`].
    Read {
        /// The question.
        ticket: Ticket,
        /// What to read.
        wanted: Reading,
    },
    /// Make entries durable, and the checkpoint that covers them, then say [`Input::Kept`]. Entries that no
    /// checkpoint covers exactly are staged: the checkpoint is kept beside them, and does not take the place of
    /// the one before. There may be none, if a checkpoint was cosigned.
    Keep {
        /// What to report on.
        ticket: Ticket,
        /// The log.
        origin: Origin,
        /// Index of the first entry.
        first: u64,
        /// The entries.
        entries: Vec<Vec<u8>>,
        /// The checkpoint; it covers the last entry, or more.
        checkpoint: SignedCheckpoint,
    },
    /// Keep a fork proof for ever, then say [`Input::Kept`].
    KeepFork {
        /// What to report on.
        ticket: Ticket,
        /// The log that it is about.
        origin: Origin,
        /// The proof.
        fork: Box<Fork>,
        /// Whether it is held against the log, which is frozen: see [`crate::log::fork::Blame`].
        frozen: bool,
    },
    /// Remember that a checkpoint is about to be cosigned, in place of the one of its log before, then say
    /// [`Input::Kept`].
    KeepCosigned {
        /// What to report on.
        ticket: Ticket,
        /// The checkpoint.
        checkpoint: SignedCheckpoint,
    },
    /// Cosign a checkpoint, and answer a call with the cosignature.
    Cosign {
        /// The call.
        call: u64,
        /// The checkpoint.
        checkpoint: SignedCheckpoint,
    },
    /// Answer a call with a refusal.
    Refuse {
        /// The call.
        call: u64,
        /// Why.
        because: Refusal,
    },
    /// A log is known to be forked: the proof is durable, and nothing more is taken of it.
    Frozen {
        /// The log.
        origin: Origin,
    },
    /// The own log signed something that it does not have: the disk was rolled back, or its key is used elsewhere.
    /// Nothing may be signed with it until [`Effect::Healed`]. Said again of what is larger.
    Behind {
        /// What others saw of it.
        seen: SignedCheckpoint,
        /// Whether what is missing is fetched. If the log grew here since the start, it is not, as it would not
        /// follow from that.
        heals: bool,
    },
    /// The own log has all again that it was seen to have, and that any peer says it has. All of it is durable.
    Healed,
    /// A peer has no more of the own log than there is. After a start, nothing is to be appended before some peers
    /// said so, and some time has passed, in which they get what they only heard of.
    Agrees {
        /// The peer.
        peer: Peer,
    },
    /// Hold something against a peer.
    Score {
        /// The peer.
        peer: Peer,
        /// What.
        because: Misbehaviour,
    },
    /// Say [`Input::Tick`] at this time, and forget times said before.
    Wake {
        /// The time, on the clock that `handle` is told.
        at_ms: u64,
    },
}

/// What is to be read of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The log.
    pub origin: Origin,
    /// Index of the first entry.
    pub from: u64,
    /// Size of the tree that all of it is to be proven in.
    pub size: u64,
    /// Most entries.
    pub entries_max: u64,
}
