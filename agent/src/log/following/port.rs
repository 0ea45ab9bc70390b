//! Where the thread that follows logs and the node meet: what each tells the other.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId};
use protocol::log::{
    checkpoint::SignedCheckpoint,
    replica::{Message, Misbehaviour},
};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::{
    federation::FederationError,
    log::LogError,
    log::witnessing::{Call, Witnessing},
};

/// Calls for cosignatures that wait to be taken in.
const CALLS_MAX: usize = 16;
/// Messages to the node that wait.
const SAYS_MAX: usize = 1024;

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A member is connected.
    Connected {
        /// Which.
        peer: PeerId,
        /// Whether it was connected before it was a member.
        late: bool,
    },
    /// The last connection to a member is gone.
    Gone(PeerId),
    /// A member said something.
    Said {
        /// Who.
        peer: PeerId,
        /// What.
        message: Box<Message>,
        /// How the node knows it, if it was gossip.
        gossip: Option<GossipId>,
        /// What it takes of the room for messages.
        room: OwnedSemaphorePermit,
    },
    /// A member said what is no message.
    Nonsense(PeerId),
    /// Somebody wants a checkpoint cosigned.
    Cosign(Call),
    /// The own log grew.
    Grew,
    /// A witness shows what it cosigned of the own log, which is not here.
    Shown(Box<SignedCheckpoint>),
    /// A witness says that the own log is not what it saw, and does not show that.
    Doubted(LogError),
    /// The federation may have changed; the answer comes when the change holds.
    Federation(oneshot::Sender<Result<(), FederationError>>),
    /// End.
    Stop,
}

/// Names a gossiped message: a hash of what it says.
pub(crate) type GossipId = [u8; 20];

/// The name of a gossiped message.
pub(crate) fn gossip_id(bytes: &[u8]) -> GossipId {
    let mut id = [0; 20];
    id.copy_from_slice(&Sha256::digest(bytes)[..20]);
    id
}

/// What the node is to do.
#[derive(Debug)]
pub(crate) enum Say {
    /// Say something to a member.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Gossip something new.
    Publish(Vec<u8>),
    /// Pass gossip on, or not; it came from this member.
    Judge {
        /// Which.
        gossip: GossipId,
        /// From whom.
        from: PeerId,
        /// What is known of it.
        verdict: Verdict,
    },
    /// These are the members, and where they are reached.
    Members(HashMap<PeerId, Vec<Multiaddr>>),
    /// A member did what it should not.
    Blame(PeerId, Misbehaviour),
}

/// What is known of gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is true, and kept.
    True,
    /// Nothing.
    Unknown,
    /// It is a lie, of whoever passed it on.
    Lie,
}

/// Where the thread and the node meet.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) told: mpsc::UnboundedSender<Told>,
    pub(crate) says: mpsc::Receiver<Say>,
    pub(crate) witnessing: Witnessing,
}

/// Whether the own log may be appended to, after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A member has no more of it than there is.
    Agreed,
    /// One has more, which is being fetched.
    Behind,
    /// All of that is here.
    Healed,
    /// It was forked, or what is missing cannot be had.
    Stopped,
}

/// Its ends of all channels, before it runs.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(super) told: mpsc::UnboundedReceiver<Told>,
    pub(super) says: mpsc::Sender<Say>,
}

/// A thread's and a node's ends of what connects them. Must be called within a runtime.
pub(crate) fn port() -> (Ends, Port) {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is in it is bounded: messages by their room, all else by connections"
    )]
    let (told, receiver) = mpsc::unbounded_channel();
    let (sender, says) = mpsc::channel(SAYS_MAX);
    let ends = Ends {
        told: receiver,
        says: sender,
    };
    let witnessing = witnessing(told.clone());
    let port = Port {
        told,
        says,
        witnessing,
    };
    (ends, port)
}

/// The way to the thread for who wants something cosigned.
fn witnessing(told: mpsc::UnboundedSender<Told>) -> Witnessing {
    let (calls, mut called) = mpsc::channel(CALLS_MAX);
    tokio::spawn(async move {
        while let Some(call) = called.recv().await {
            if told.send(Told::Cosign(call)).is_err() {
                return;
            }
        }
    });
    Witnessing { calls }
}
