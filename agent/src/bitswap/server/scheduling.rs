//! Whose turn it is: look-ups, loads and messages, as the limits allow.

use std::time::Duration;

use libp2p_identity::PeerId;

use super::{
    Key, Load, Lookup, Server,
    peer::{Served, Turn, Untaken},
    wants::Want,
};
use crate::bitswap::{
    engine::Outbox,
    events::{Effect, Now, Protocol},
    limits::{
        LOADS_IN_FLIGHT_MAX, LOOKUPS_IN_FLIGHT_MAX, MESSAGE_SIZE_PACKED,
        PRESENCES_PER_MESSAGE_PACKED, STALL_CHECK, STALLED_AFTER, STALLED_AFTER_PRESSED,
        UNTAKEN_BYTES_MAX, UNTAKEN_BYTES_PER_PEER_MAX, WANTS_PER_LOOKUP_MAX,
    },
    message::{Presence, WireMessage},
    rate::Rates,
};

impl Server {
    /// Asks for, loads and sends whatever the limits allow.
    pub(in crate::bitswap) fn pump(&mut self, now: Now, rates: &Rates, out: &mut Outbox) {
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
                    changes: self.changes,
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
            if let Err(at) = self.uploads.opens(&rates.upload, now) {
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
        self.uploads.draw(batch.bytes as u64);
        let cids = std::mem::take(&mut batch.cids);
        let connection = served.connection;
        self.hold(&peer, batch.bytes);
        self.loads.insert(
            ticket,
            Load {
                peer,
                connection,
                changes: self.changes,
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
    pub(super) fn send(
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
        served.send(
            now.elapsed,
            id,
            Untaken {
                bytes,
                void: false,
                blocks,
            },
        );
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

    /// Puts peers back in the ring whose time has come, or all.
    pub(super) fn unthrottle(&mut self, now: Option<Duration>) {
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
