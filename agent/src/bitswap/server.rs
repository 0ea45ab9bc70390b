//! The serving half: who is sent which block next.
//!
//! A want is looked up (is it here, may this peer have it), then queued by priority. Blocks are
//! loaded one message at a time, peer after peer by deficit round robin over bytes, as long as the
//! peer takes what it was sent, its rate and the node's allow it, and there is room for the bytes.

mod peer;
mod wants;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::PeerId;

use self::{
    peer::{Served, Turn, Untaken},
    wants::{Batch, Want},
};
use super::{
    bucket::Bucket,
    engine::{Key, Outbox},
    events::{Answer, Effect, Held, MessageId, Misbehaviour, Now, PeerCounts, Protocol, Ticket},
    limits::{
        ENTRIES_AHEAD_MAX, ENTRIES_PER_SECOND_MAX, HAVE_REPLACED_SIZE_MAX, LOADS_IN_FLIGHT_MAX,
        LOOKUPS_IN_FLIGHT_MAX, MESSAGE_SIZE_PACKED, PRESENCES_PER_MESSAGE_PACKED,
        SEND_ATTEMPTS_MAX, SERVED_WANTS_MAX, SERVED_WANTS_PER_PEER_MAX,
        SERVED_WANTS_PER_PEER_RESERVED, STALL_CHECK, STALLED_AFTER, STALLED_AFTER_PRESSED,
        UNTAKEN_BYTES_MAX, UNTAKEN_BYTES_PER_PEER_MAX, WANTS_PER_LOOKUP_MAX,
    },
    message::{Entry, Payload, Presence, Request, Wantlist, WireMessage},
    rate::{Rates, Schedule},
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
    upload: Bucket,
    upload_opens: Option<Duration>,
    /// When to look for peers that take nothing.
    stall_check: Option<Duration>,
    connections: u64,
}

#[derive(Debug)]
struct Lookup {
    peer: PeerId,
    connection: u64,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Load {
    peer: PeerId,
    connection: u64,
    batch: Batch,
}

impl Server {
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
            served.wants.cancel_all();
        }
        let others_held = self.held - before;
        for entry in &wantlist.entries {
            served.entry(entry, others_held);
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
        self.held = others_held + served.held();
        self.settle(lookup.peer);
    }

    pub(super) fn available(&mut self, keys: &[Key]) {
        let mut changed = Vec::new();
        for (peer, served) in &mut self.peers {
            if keys
                .iter()
                .filter(|key| served.wants.reconsider(key))
                .count()
                > 0
            {
                changed.push(*peer);
            }
        }
        for peer in changed {
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
        if let Some(served) = self.peers.get_mut(peer) {
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

    /// Asks for, loads and sends whatever the limits allow.
    pub(super) fn pump(&mut self, now: Now, rates: &Rates, out: &mut Outbox) {
        self.look_up(out);
        self.unthrottle(Some(now.elapsed));
        self.load(now, rates, out);
        self.answer(now, out);
        self.check_stalled(now, out);
    }

    /// Says of peers that have taken nothing for long that they hold up the node's memory.
    fn check_stalled(&mut self, now: Now, out: &mut Outbox) {
        if self.stall_check.is_none_or(|at| at <= now.elapsed) {
            let mut waiting = false;
            let pressed = self.untaken_bytes > UNTAKEN_BYTES_MAX / 2;
            let after = if pressed {
                STALLED_AFTER_PRESSED
            } else {
                STALLED_AFTER
            };
            for (peer, served) in &mut self.peers {
                waiting |= !served.untaken.is_empty();
                if served.stalled(now.elapsed, after) {
                    out.push(Effect::Stalled { peer: *peer });
                }
            }
            self.stall_check = waiting.then(|| now.elapsed + STALL_CHECK);
        }
    }

    fn look_up(&mut self, out: &mut Outbox) {
        while self.lookups.len() < LOOKUPS_IN_FLIGHT_MAX {
            let Some(peer) = self.fresh.pop_front() else {
                return;
            };
            let Some(served) = self.peers.get_mut(&peer) else {
                continue;
            };
            served.in_fresh = false;
            if served.looking_up {
                continue;
            }
            let ticket = out.ticket();
            let (keys, cids) = served.wants.ask(ticket, WANTS_PER_LOOKUP_MAX);
            if keys.is_empty() {
                continue;
            }
            served.looking_up = true;
            let connection = served.connection;
            self.lookups.insert(
                ticket,
                Lookup {
                    peer,
                    connection,
                    keys,
                },
            );
            out.push(Effect::Lookup { ticket, peer, cids });
        }
    }

    fn load(&mut self, now: Now, rates: &Rates, out: &mut Outbox) {
        self.upload_opens = None;
        while self.loads.len() < LOADS_IN_FLIGHT_MAX && self.untaken_bytes < UNTAKEN_BYTES_MAX {
            let Some(&peer) = self.ring.front() else {
                return;
            };
            if let Err(at) = self.upload.opens(&rates.upload, now) {
                self.upload_opens = Some(at);
                return;
            }
            self.serve_front(peer, now, rates, out);
        }
    }

    /// Gives the peer at the front of the ring its turn: one message, or a larger deficit, or none.
    fn serve_front(&mut self, peer: PeerId, now: Now, rates: &Rates, out: &mut Outbox) {
        let share = (UNTAKEN_BYTES_MAX / self.taking.max(1))
            .clamp(MESSAGE_SIZE_PACKED, UNTAKEN_BYTES_PER_PEER_MAX);
        let Some(served) = self.peers.get_mut(&peer) else {
            self.ring.pop_front();
            return;
        };
        let (count, bytes) = served.wants.peek_batch();
        if count == 0 || !served.takes(bytes, share) {
            // A peer that wants nothing now does not save up for later.
            if count == 0 {
                served.deficit = 0;
            }
            served.turn = Turn::None;
            self.ring.pop_front();
            return;
        }
        if let Err(at) = served.upload.opens(rates.upload_to(&peer), now) {
            served.turn = Turn::Throttled(at);
            self.throttled.insert((at, peer));
            self.ring.pop_front();
            return;
        }
        if served.deficit < bytes {
            served.deficit += MESSAGE_SIZE_PACKED;
            self.ring.rotate_left(1);
            return;
        }
        served.deficit -= bytes;
        let ticket = out.ticket();
        let mut batch = served.wants.take_batch(ticket, count);
        served.upload.draw(batch.bytes as u64);
        self.upload.draw(batch.bytes as u64);
        let cids = std::mem::take(&mut batch.cids);
        let connection = served.connection;
        self.hold(&peer, batch.bytes);
        self.loads.insert(
            ticket,
            Load {
                peer,
                connection,
                batch,
            },
        );
        out.push(Effect::Load { ticket, peer, cids });
    }

    fn answer(&mut self, now: Now, out: &mut Outbox) {
        for peer in std::mem::take(&mut self.answering) {
            let takes = self.peers.get(&peer).is_some_and(Served::takes_messages);
            if takes {
                self.send(now, peer, WireMessage::default(), Vec::new(), out);
            }
        }
    }

    /// Sends a message with whatever answers there are.
    fn send(
        &mut self,
        now: Now,
        peer: PeerId,
        mut message: WireMessage,
        blocks: Vec<(Key, Want)>,
        out: &mut Outbox,
    ) {
        let Some(served) = self.peers.get_mut(&peer) else {
            return;
        };
        let count = served.answers.len().min(PRESENCES_PER_MESSAGE_PACKED);
        let answers: Vec<Presence> = served.answers.drain(..count).collect();
        self.held -= count;
        if served.protocol == Protocol::V1_2 {
            message.presences = answers;
            message.pending_bytes = u32::try_from(served.wants.ready_bytes()).unwrap_or(u32::MAX);
        }
        if message.is_empty() {
            return;
        }
        let sizes = message
            .blocks
            .iter()
            .map(|payload| payload.bytes.len() as u32);
        let blocks = blocks.into_iter().zip(sizes);
        let blocks = blocks
            .map(|((key, want), size)| (key, want, size))
            .collect();
        let bytes = message.encoded_len();
        let id = out.message_id();
        served.send(now.elapsed, id, Untaken { bytes, blocks });
        if !served.answers.is_empty() {
            self.answering.insert(peer);
        }
        self.hold(&peer, bytes);
        out.push(Effect::Send {
            peer,
            id,
            message,
            again: false,
        });
    }

    fn take_untaken(&mut self, peer: &PeerId, id: MessageId) -> Option<Untaken> {
        let served = self.peers.get_mut(peer)?;
        let untaken = served.untaken.remove(&id)?;
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

    /// Puts peers back in the ring whose time has come, or all.
    fn unthrottle(&mut self, now: Option<Duration>) {
        while let Some(&(at, peer)) = self.throttled.first() {
            if now.is_some_and(|now| at > now) {
                return;
            }
            self.throttled.pop_first();
            if let Some(served) = self.peers.get_mut(&peer) {
                served.turn = Turn::InRing;
                self.ring.push_back(peer);
            }
        }
    }
}

/// Whether another want fits beside those of the peer and of all others.
fn fits(own: usize, others: usize) -> bool {
    own < SERVED_WANTS_PER_PEER_RESERVED
        || (own < SERVED_WANTS_PER_PEER_MAX && own + others < SERVED_WANTS_MAX)
}
