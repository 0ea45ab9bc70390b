//! The serving half: who is sent which block next.
//!
//! A want is looked up (is it here, may this peer have it), then queued by priority. Blocks are
//! loaded one message at a time, peer after peer by deficit round robin over bytes, as long as the
//! peer takes what it was sent, its rate and the node's allow it, and there is room for the bytes.

mod peer;
mod scheduling;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use libp2p_identity::PeerId;

use self::{
    peer::{Served, Turn, Untaken},
    wants::Batch,
};
use super::{
    bucket::SharedBucket,
    engine::{Key, Outbox},
    events::{Answer, Config, Held, MessageId, Misbehaviour, Now, PeerCounts, Protocol, Ticket},
    limits::{
        ENTRIES_AHEAD_MAX, ENTRIES_PER_SECOND_MAX, SEND_ATTEMPTS_MAX, SERVED_WANTS_MAX,
        SERVED_WANTS_PER_PEER_MAX, SERVED_WANTS_PER_PEER_RESERVED,
    },
    message::{Payload, Wantlist, WireMessage},
    rate::Schedule,
};

/// What is owed to all peers.
#[derive(Debug, Default)]
pub(super) struct Server {
    peers: BTreeMap<PeerId, Served>,
    /// Peers with blocks to load, in turn.
    ring: VecDeque<PeerId>,
    /// Peers with blocks to load, and no right to more before a time.
    throttled: BTreeSet<(Duration, PeerId)>,
    /// Peers with wants to look up, in turn.
    fresh: VecDeque<PeerId>,
    /// Peers with answers to send.
    answering: BTreeSet<PeerId>,
    lookups: BTreeMap<Ticket, Lookup>,
    loads: BTreeMap<Ticket, Load>,
    /// Wants and unsent answers of all peers.
    held: usize,
    /// Bytes that are loaded, or sent and not taken.
    untaken_bytes: usize,
    /// Peers that these are for.
    taking: usize,
    uploads: SharedBucket,
    upload_opens: Option<Duration>,
    /// When to look for peers that take nothing.
    stall_check: Option<Duration>,
    connections: u64,
    /// How often it may have changed what is here, or for whom.
    changes: u64,
}

#[derive(Debug)]
struct Lookup {
    peer: PeerId,
    connection: u64,
    changes: u64,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Load {
    peer: PeerId,
    connection: u64,
    changes: u64,
    batch: Batch,
}

impl Server {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            uploads: config.uploads.clone(),
            ..Self::default()
        }
    }

    pub(super) fn connected(&mut self, peer: PeerId, protocol: Protocol) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.protocol = protocol;
            return;
        }
        self.connections += 1;
        self.peers
            .insert(peer, Served::new(protocol, self.connections));
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        self.held -= gone.held();
        self.untaken_bytes -= gone.untaken_bytes;
        self.taking -= usize::from(gone.untaken_bytes > 0);
        self.ring.retain(|other| other != peer);
        self.fresh.retain(|other| other != peer);
        self.throttled.retain(|(_, other)| other != peer);
        self.answering.remove(peer);
    }

    pub(super) fn counts(&self, peer: &PeerId) -> Option<PeerCounts> {
        self.peers.get(peer).map(|served| served.counts)
    }

    pub(super) fn add_held(&self, held: &mut Held) {
        held.served_wants = self.held;
        held.untaken_bytes = self.untaken_bytes;
        held.lookups = self.lookups.len();
        held.loads = self.loads.len();
    }

    /// Takes in what a peer wants.
    pub(super) fn wantlist(
        &mut self,
        now: Now,
        peer: PeerId,
        wantlist: &Wantlist,
    ) -> Result<(), Misbehaviour> {
        let Some(served) = self.peers.get_mut(&peer) else {
            return Ok(());
        };
        let schedule = Schedule::constant(ENTRIES_PER_SECOND_MAX);
        let _ = served.entries.opens(&schedule, now);
        served.entries.draw(wantlist.entries.len() as u64);
        if served.entries.debt(ENTRIES_PER_SECOND_MAX) > ENTRIES_AHEAD_MAX {
            return Err(Misbehaviour::Flood);
        }
        let before = served.held();
        if wantlist.full {
            served.renew();
        }
        let others_held = self.held - before;
        for entry in &wantlist.entries {
            served.entry(now.elapsed, entry, others_held);
        }
        self.held = others_held + served.held();
        self.settle(peer);
        Ok(())
    }

    pub(super) fn found(&mut self, ticket: Ticket, answers: &[Answer]) {
        let Some(lookup) = self.lookups.remove(&ticket) else {
            return;
        };
        let Some(served) = self.peers.get_mut(&lookup.peer) else {
            return;
        };
        if served.connection != lookup.connection {
            return;
        }
        let others_held = self.held - served.held();
        served.looking_up = false;
        for (i, key) in lookup.keys.iter().enumerate() {
            let answer = answers.get(i).copied().unwrap_or(Answer::Absent);
            if let Some(want) = served.wants.take_asked(key, ticket) {
                served.found(*key, want, answer, others_held);
            }
        }
        if lookup.changes != self.changes {
            // The answers may be those of before.
            served.wants.reconsider();
        }
        self.held = others_held + served.held();
        self.settle(lookup.peer);
    }

    /// Has all looked up again that was not here, or not for who wants it.
    pub(super) fn reconsider(&mut self) {
        self.changes += 1;
        let served = self.peers.iter_mut();
        let changed =
            served.filter_map(|(peer, served)| served.wants.reconsider().then_some(*peer));
        for peer in changed.collect::<Vec<_>>() {
            self.settle(peer);
        }
    }

    pub(super) fn loaded(
        &mut self,
        now: Now,
        ticket: Ticket,
        blocks: Vec<Option<Bytes>>,
        out: &mut Outbox,
    ) {
        let Some(load) = self.loads.remove(&ticket) else {
            return;
        };
        let Some(served) = self.peers.get_mut(&load.peer) else {
            return;
        };
        if served.connection != load.connection {
            return;
        }
        let others_held = self.held - served.held();
        let mut blocks = blocks.into_iter();
        let mut message = WireMessage::default();
        let mut sent = Vec::new();
        for key in &load.batch.keys {
            let bytes = blocks.next().flatten();
            let Some(want) = served.wants.take_loading(key, ticket) else {
                continue;
            };
            match bytes {
                Some(bytes) => {
                    message.blocks.push(Payload::new(&want.cid, bytes));
                    sent.push((*key, want));
                }
                None => served.found(*key, want, Answer::Absent, others_held),
            }
        }
        if load.changes != self.changes {
            served.wants.reconsider();
        }
        self.held = others_held + served.held();
        self.release(&load.peer, load.batch.bytes);
        if !message.blocks.is_empty() {
            self.send(now, load.peer, message, sent, out);
        }
        self.settle(load.peer);
    }

    /// Whether the message was one of this half.
    pub(super) fn sent(&mut self, now: Now, peer: &PeerId, id: MessageId) -> bool {
        let Some(untaken) = self.take_untaken(peer, id) else {
            return false;
        };
        if let Some(served) = self.peers.get_mut(peer) {
            served.took(now.elapsed, &untaken);
        }
        self.settle(*peer);
        true
    }

    /// The peer takes bytes of a message that it has not taken whole.
    pub(super) fn sending(&mut self, now: Now, peer: &PeerId) {
        if let Some(served) = self.peers.get_mut(peer) {
            served.taken_at = now.elapsed;
        }
    }

    /// Whether the message was one of this half.
    pub(super) fn send_failed(&mut self, peer: &PeerId, id: MessageId) -> bool {
        let Some(untaken) = self.take_untaken(peer, id) else {
            return false;
        };
        if let Some(served) = self.peers.get_mut(peer)
            && !untaken.void
        {
            let others_held = self.held - served.held();
            for (key, mut want, size) in untaken.blocks {
                want.failures += 1;
                if want.failures < SEND_ATTEMPTS_MAX && fits(served.held(), others_held) {
                    served.wants.add_again(key, want, size);
                }
            }
            self.held = others_held + served.held();
        }
        self.settle(*peer);
        true
    }

    /// Forgets who waits for a rate that has changed.
    pub(super) fn rates_changed(&mut self) {
        self.upload_opens = None;
        self.unthrottle(None);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let peer = self.throttled.first().map(|(at, _)| *at);
        [peer, self.upload_opens, self.stall_check]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_untaken(&mut self, peer: &PeerId, id: MessageId) -> Option<Untaken> {
        let untaken = self.peers.get_mut(peer)?.end(id)?;
        self.release(peer, untaken.bytes);
        Some(untaken)
    }

    /// Counts bytes that are held for a peer.
    fn hold(&mut self, peer: &PeerId, bytes: usize) {
        if let Some(served) = self.peers.get_mut(peer) {
            self.taking += usize::from(served.untaken_bytes == 0 && bytes > 0);
            served.untaken_bytes += bytes;
            self.untaken_bytes += bytes;
        }
    }

    fn release(&mut self, peer: &PeerId, bytes: usize) {
        if let Some(served) = self.peers.get_mut(peer) {
            served.untaken_bytes -= bytes;
            self.untaken_bytes -= bytes;
            self.taking -= usize::from(served.untaken_bytes == 0 && bytes > 0);
        }
    }

    /// Puts a peer in line for whatever it has come to need.
    fn settle(&mut self, peer: PeerId) {
        let Some(served) = self.peers.get_mut(&peer) else {
            return;
        };
        if served.wants.has_fresh() && !served.in_fresh {
            served.in_fresh = true;
            self.fresh.push_back(peer);
        }
        if !served.answers.is_empty() {
            self.answering.insert(peer);
        }
        if served.turn == Turn::None && served.wants.has_ready() {
            served.turn = Turn::InRing;
            self.ring.push_back(peer);
        }
    }
}

/// Whether another want fits beside those of the peer and of all others.
fn fits(own: usize, others: usize) -> bool {
    own < SERVED_WANTS_PER_PEER_RESERVED
        || (own < SERVED_WANTS_PER_PEER_MAX && own + others < SERVED_WANTS_MAX)
}
