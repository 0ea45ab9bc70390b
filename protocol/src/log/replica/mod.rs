//! Replicas of logs: following the logs of others, and telling of one's own.
//!
//! [`Replica`] decides, and does no I/O: it takes an [`Input`] and the time, and gives [`Effect`]s. What it
//! hears is verified before it acts on it, and durable before it tells of it: see `docs/log.md`, section 13.
//! Connections, gossip, timers, files and secret keys are its caller's, the node.

mod events;
mod fetch;
mod follow;
mod forks;
pub mod limits;
mod log;
mod peers;
mod serve;
mod stretch;
#[cfg(test)]
mod tests;
mod wire;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use events::{
    AddCheckpoint, Config, Effect, Input, Kept, Member, Misbehaviour, Peer, Reading, Refusal, Role,
    Stretch, Ticket,
};
pub use stretch::read_stretch;
pub use wire::{Frontiers, Message, MessageError, Range, Request};

use self::{
    fetch::Asked,
    limits::{ORIGINS_MAX, PEERS_MAX, WITNESSES_MAX},
    log::Log,
    peers::{PeerState, Random},
    stretch::Longer,
    witness::Witness,
};
use super::{
    checkpoint::{Origin, SignedCheckpoint},
    cosignature::CosignerKey,
    fork::{Fork, UnverifiedFork},
    keys::KeyHistory,
};

/// What was read, when it is.
#[derive(Debug)]
enum Reads {
    /// To answer a request.
    Serve {
        peer: Peer,
        id: u64,
        checkpoint: SignedCheckpoint,
    },
    /// To see whether a checkpoint goes with what is kept.
    Compare {
        origin: Origin,
        smaller: SignedCheckpoint,
        held: SignedCheckpoint,
    },
}

/// What is so, when it is durable.
#[derive(Debug)]
enum Keeping {
    Longer {
        origin: Origin,
        longer: Box<Longer>,
    },
    Cosigned {
        origin: Origin,
        checkpoint: SignedCheckpoint,
    },
    Fork {
        origin: Origin,
        fork: Box<Fork>,
        frozen: bool,
    },
    Memory {
        call: u64,
        checkpoint: SignedCheckpoint,
    },
}

/// A node's view of the logs that it follows, without its I/O.
///
/// What it holds in memory is, for each log, its keys, the edge of its tree and its checkpoint, and is bounded by
/// [`limits`].
#[derive(Debug)]
pub struct Replica {
    own: Option<Origin>,
    /// Whether nothing may be signed with the own log's key any more.
    stopped: bool,
    /// How many entries the own log has to have before anything is signed, if that is more than it has.
    owed: u64,
    /// Whether the own log grew here since the start.
    signs: bool,
    logs: BTreeMap<Origin, Log>,
    peers: BTreeMap<Peer, PeerState>,
    /// Of the members that are witnesses.
    witnesses: Vec<CosignerKey>,
    /// Witnesses that are proven to have cosigned both sides of a fork.
    accused: Vec<CosignerKey>,
    /// Proofs by keys that are not known yet.
    unjudged: VecDeque<(Origin, UnverifiedFork)>,
    requests: BTreeMap<u64, Asked>,
    /// Logs that some peer has more of.
    hungry: BTreeSet<Origin>,
    reads: BTreeMap<Ticket, Reads>,
    keeps: BTreeMap<Ticket, Keeping>,
    witness: Option<Witness>,
    names: u64,
    random: Random,
    exchange_at_ms: Option<u64>,
    exchanged_ms: u64,
    woken_ms: Option<u64>,
    out: Vec<Effect>,
}

impl Replica {
    /// A replica that follows nothing yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            own: config.own,
            stopped: false,
            owed: 0,
            signs: false,
            logs: BTreeMap::new(),
            peers: BTreeMap::new(),
            witnesses: Vec::new(),
            accused: Vec::new(),
            unjudged: VecDeque::new(),
            requests: BTreeMap::new(),
            hungry: BTreeSet::new(),
            reads: BTreeMap::new(),
            keeps: BTreeMap::new(),
            witness: config.cosigned.map(Witness::new),
            names: 0,
            random: Random(config.seed),
            exchange_at_ms: None,
            exchanged_ms: 0,
            woken_ms: None,
            out: Vec::new(),
        }
    }

    /// Takes in something that happened, and says what is to be done, in order. Inputs about peers, logs and
    /// tickets that are unknown change nothing. `now_ms` never goes back.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        self.take(now_ms, input);
        self.ask(now_ms);
        self.heal();
        let deadline = self.deadline();
        if deadline != self.woken_ms {
            self.woken_ms = deadline;
            self.out
                .extend(deadline.map(|at_ms| Effect::Wake { at_ms }));
        }
        std::mem::take(&mut self.out)
    }

    /// The last checkpoint of a log that was kept with all that it covers.
    #[must_use]
    pub fn checkpoint(&self, origin: &Origin) -> Option<&SignedCheckpoint> {
        self.logs.get(origin)?.checkpoint.as_ref()
    }

    /// The keys of a log, as far as it is kept.
    #[must_use]
    pub fn keys(&self, origin: &Origin) -> Option<&KeyHistory> {
        self.logs.get(origin)?.keys.as_ref()
    }

    /// The proof that a log was forked, if it is known to be.
    #[must_use]
    pub fn fork(&self, origin: &Origin) -> Option<&Fork> {
        self.logs.get(origin)?.fork.as_ref()
    }

    /// Witnesses that are proven to have cosigned both sides of a fork.
    #[must_use]
    pub fn accused(&self) -> &[CosignerKey] {
        &self.accused
    }

    /// Whether the own log grew here since the start: then what others have more of it is not fetched.
    #[must_use]
    pub fn has_grown(&self) -> bool {
        self.signs
    }

    fn take(&mut self, now: u64, input: Input) {
        match input {
            Input::Follow { member, kept } => self.follow(member, kept),
            Input::Unfollow { origin } => {
                self.logs.remove(&origin);
                self.hungry.remove(&origin);
                self.collect_witnesses();
            }
            Input::Grew { kept } => self.grew(*kept),
            Input::Connected { peer, late } => self.connected(now, peer, late),
            Input::Gone { peer } => self.gone(peer),
            Input::Message { peer, message } => {
                if self.peers.contains_key(&peer) {
                    self.message(now, peer, message);
                }
            }
            Input::Read { ticket, stretch } => match self.reads.remove(&ticket) {
                Some(Reads::Serve {
                    peer,
                    id,
                    checkpoint,
                }) => self.serve(peer, id, checkpoint, stretch),
                Some(Reads::Compare {
                    origin,
                    smaller,
                    held,
                }) => self.compared(&origin, smaller, &held, stretch),
                None => {}
            },
            Input::Kept { ticket } => {
                if let Some(keeping) = self.keeps.remove(&ticket) {
                    self.kept(keeping);
                }
            }
            Input::NotKept { ticket } => {
                if let Some(keeping) = self.keeps.remove(&ticket) {
                    self.not_kept(keeping);
                }
            }
            Input::AddCheckpoint { call, request } => self.add_checkpoint(call, *request),
            Input::Owed { size } => {
                self.owed = self.owed.max(size);
                self.stopped |= self.signs;
            }
            Input::Seen { checkpoint } => {
                let origin = checkpoint.checkpoint().origin().clone();
                let signed = self.trimmed(&origin, *checkpoint);
                self.seen(&origin, signed);
            }
            Input::Tick => self.tick(now),
        }
    }

    fn message(&mut self, now: u64, peer: Peer, message: Message) {
        match message {
            Message::Announce(checkpoint) => self.heard(now, peer, &checkpoint),
            Message::Fork(fork) => self.fork_heard(now, peer, *fork),
            Message::Frontiers(frontiers) => self.frontiers(now, peer, frontiers),
            Message::Request(request) => self.requested(now, peer, request),
            Message::Range(range) => self.answered(now, peer, &range),
        }
    }

    fn follow(&mut self, member: Member, kept: Option<Box<Kept>>) {
        let origin = member.origin.clone();
        if let Some(log) = self.logs.get_mut(&origin) {
            log.member = member;
        } else if self.logs.len() < ORIGINS_MAX {
            let own = self.own.as_ref() == Some(&origin);
            let log = Log::new(member, kept.map(|kept| *kept), own);
            self.stopped |= own && log.fork.is_some();
            self.logs.insert(origin, log);
        }
        self.collect_witnesses();
    }

    fn collect_witnesses(&mut self) {
        let roles = self.logs.values().flat_map(|log| &log.member.roles);
        let keys = roles.filter_map(|role| match role {
            Role::Witness(key) => Some((**key).clone()),
            Role::Tenant | Role::Auditor => None,
        });
        self.witnesses = keys.take(WITNESSES_MAX).collect();
    }

    fn grew(&mut self, kept: Kept) {
        let Some(log) = self.logs.get_mut(kept.keys.origin()).filter(|log| log.own) else {
            return;
        };
        self.signs |= kept.edge.size() > log.edge.size();
        self.stopped |= self.signs && self.owed > 0;
        log.keys = Some(kept.keys);
        log.edge = kept.edge;
        if let Some(checkpoint) = kept.checkpoint {
            log.reach(checkpoint.clone());
            if self.stopped || self.owed > 0 {
                return;
            }
            let message = Message::Announce(checkpoint.into());
            self.out.push(Effect::Announce { message });
        }
    }

    fn connected(&mut self, now: u64, peer: Peer, late: bool) {
        if self.peers.contains_key(&peer) || self.peers.len() >= PEERS_MAX {
            return;
        }
        self.peers.insert(peer, PeerState::new(now));
        self.tell_frontiers(peer, late);
        if self.exchange_at_ms.is_none() {
            self.plan_exchange(now);
        }
    }

    fn gone(&mut self, peer: Peer) {
        self.peers.remove(&peer);
        for log in self.logs.values_mut() {
            log.forget(peer);
        }
        let mut origins = Vec::new();
        self.requests.retain(|_, asked| {
            if asked.peer == peer {
                origins.push(asked.origin.clone());
            }
            asked.peer != peer
        });
        for origin in origins {
            self.unasked(&origin);
        }
        if self.peers.is_empty() {
            self.exchange_at_ms = None;
        }
    }

    fn tick(&mut self, now: u64) {
        self.expire(now);
        if self.exchange_at_ms.is_some_and(|at_ms| at_ms <= now) {
            self.exchange(now);
        }
    }

    fn deadline(&self) -> Option<u64> {
        // They wait equally long, so the first that was made ends first.
        let answer = self.requests.values().next();
        let answer = answer.map(|asked| asked.until_ms);
        answer.into_iter().chain(self.exchange_at_ms).min()
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn score(&mut self, peer: Peer, because: Misbehaviour) {
        self.out.push(Effect::Score { peer, because });
    }

    /// Whether a peer may make this replica check one thing more.
    fn may(&mut self, now: u64, peer: Peer) -> bool {
        match self.peers.get_mut(&peer).map(|state| state.take(now)) {
            Some(Ok(())) => true,
            Some(Err(first)) => {
                if first {
                    self.score(peer, Misbehaviour::Flood);
                }
                false
            }
            None => false,
        }
    }

    fn keep(&mut self, keeping: Keeping) -> Ticket {
        let ticket = Ticket(self.name());
        self.keeps.insert(ticket, keeping);
        ticket
    }
}
