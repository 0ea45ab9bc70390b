//! The engine: one value that holds what is wanted, asked, owed and sent.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::digest_of;

use super::{
    client::Client,
    events::{
        Config, Effect, Held, Input, MessageId, Misbehaviour, Now, PeerCounts, Protocol, Ticket,
    },
    limits::{BANNED_PEERS_MAX, PEERS_MAX},
    message::VerifiedMessage,
    rate::Rates,
    server::Server,
};

/// What blocks are known by: their SHA-256, whatever form of CID they are asked for by.
pub(super) type Key = [u8; 32];

/// The key of a CID, if it is of SHA-256.
pub(super) fn key_of(cid: &Cid) -> Option<Key> {
    digest_of(cid)
}

/// Effects to be taken, and the names that they are reported on by.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    effects: VecDeque<Effect>,
    names: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.names += 1;
        Ticket(self.names)
    }

    pub(super) fn message_id(&mut self) -> MessageId {
        self.names += 1;
        MessageId(self.names)
    }
}

/// The exchange of one node, without its I/O.
///
/// Everything that happens goes into [`Engine::handle`]; what is to be done comes out of
/// [`Engine::effect`], until it is empty. What it holds is bounded by [`super::limits`].
#[derive(Debug)]
pub struct Engine {
    client: Client,
    server: Server,
    rates: Rates,
    peers: BTreeSet<PeerId>,
    /// Peers that misbehaved, the latest last.
    banned: VecDeque<PeerId>,
    out: Outbox,
}

impl Engine {
    /// An engine without peers or sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            client: Client::new(&config),
            server: Server::new(&config),
            rates: config.rates,
            peers: BTreeSet::new(),
            banned: VecDeque::new(),
            out: Outbox::default(),
        }
    }

    /// Takes in something that happened. Inputs about peers, sessions and tickets that are unknown
    /// change nothing.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.take(now, input);
        self.client.pump(now, &self.rates, &mut self.out);
        self.server.pump(now, &self.rates, &mut self.out);
    }

    /// The next thing to do, if there is one; to be called until there is none after each input.
    pub fn effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    /// When [`Input::Tick`] is due, on the clock of [`Now::elapsed`]; `None` while nothing is waited for.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        [self.client.deadline(), self.server.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What went to and came from a connected peer.
    #[must_use]
    pub fn counts(&self, peer: &PeerId) -> Option<PeerCounts> {
        let mut counts = self.server.counts(peer)?;
        self.client.add_counts(peer, &mut counts);
        Some(counts)
    }

    /// What is held now.
    #[must_use]
    pub fn held(&self) -> Held {
        let mut held = Held {
            peers: self.peers.len(),
            ..Held::default()
        };
        self.server.add_held(&mut held);
        self.client.add_held(&mut held);
        held
    }

    fn take(&mut self, now: Now, input: Input) {
        match input {
            Input::Connected { peer, protocol } => self.connected(now, peer, protocol),
            Input::Disconnected { peer } => self.forget(&peer),
            Input::Message { peer, message } => {
                if let Err(reason) = self.message(now, peer, message) {
                    self.ban(peer, reason);
                }
            }
            Input::Malformed { peer, .. } => {
                if self.peers.contains(&peer) {
                    self.ban(peer, Misbehaviour::Malformed);
                }
            }
            Input::Receiving { peer } => self.client.receiving(now, &peer),
            Input::Sending { peer } => self.server.sending(now, &peer),
            Input::Sent { peer, message } => {
                if !self.server.sent(now, &peer, message) {
                    self.client.sent(&peer, message);
                }
            }
            Input::SendFailed { peer, message } => {
                if !self.server.send_failed(&peer, message) {
                    self.client.send_failed(&peer, message);
                }
            }
            Input::Found { ticket, answers } => self.server.found(ticket, &answers),
            Input::Loaded { ticket, blocks } => {
                self.server.loaded(now, ticket, blocks, &mut self.out);
            }
            Input::Changed => self.server.reconsider(),
            Input::OpenSession { session } => self.client.open(session),
            Input::AddPeer { session, peer } => self.client.add_peer(session, peer),
            Input::Want { session, wants } => self.client.want(session, &wants, &mut self.out),
            Input::Unwant { session, cids } => self.client.unwant(session, &cids),
            Input::Hold { session, held } => self.client.hold(session, held),
            Input::CloseSession { session } => self.client.close(session),
            Input::SetRates { rates } => {
                self.rates = rates;
                self.server.rates_changed();
            }
            Input::Tick => {}
        }
    }

    fn connected(&mut self, now: Now, peer: PeerId, protocol: Protocol) {
        let known = self.peers.contains(&peer);
        if self.banned.contains(&peer) || (!known && self.peers.len() >= PEERS_MAX) {
            return;
        }
        self.peers.insert(peer);
        self.server.connected(peer, protocol);
        self.client.connected(now, peer, protocol);
    }

    fn message(
        &mut self,
        now: Now,
        peer: PeerId,
        message: VerifiedMessage,
    ) -> Result<(), Misbehaviour> {
        if !self.peers.contains(&peer) {
            return Ok(());
        }
        for block in message.blocks {
            self.client.block(now, peer, block, &mut self.out)?;
        }
        self.client.presences(now, peer, &message.presences)?;
        self.server.wantlist(now, peer, &message.wantlist)
    }

    fn ban(&mut self, peer: PeerId, reason: Misbehaviour) {
        self.forget(&peer);
        self.banned.push_back(peer);
        if self.banned.len() > BANNED_PEERS_MAX {
            self.banned.pop_front();
        }
        self.out.push(Effect::Misbehaved { peer, reason });
    }

    fn forget(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.server.disconnected(peer);
        self.client.disconnected(peer);
    }
}
