//! What is asked of whom: wants, probes, and the messages that carry them.

use std::time::Duration;

use super::{
    Client, Key, Now, Outbox, Protocol, SessionId,
    peer::{Ask, Peer},
    session::Session,
};
use crate::bitswap::{
    events::Effect,
    limits::{
        PROBED_OF_SILENT_MAX, PROBED_PER_PEER_MAX, RETRY_AFTER, SILENCE_CHECK,
        WINDOW_SIZE_TOTAL_MAX,
    },
    message::Message,
    rate::Rates,
};

impl Client {
    /// Asks for whatever the windows allow, and again for what did not come.
    pub(in crate::bitswap) fn pump(&mut self, now: Now, rates: &Rates, out: &mut Outbox) {
        if self.silence_check.is_some_and(|at| at <= now.elapsed) {
            self.check_silence(now, out);
            self.silence_check = None;
        }
        self.retry_missing(now);
        self.download_opens = None;
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        for i in 0..ids.len() {
            let id = ids[(i + self.turn) % ids.len()];
            self.ask(id, now, rates);
            self.probe(id, now);
            self.report(id, out);
        }
        self.flush(out);
        let waiting = |peer: &Peer| !peer.asked.is_empty() || !peer.probed.is_empty();
        if self.silence_check.is_none() && self.peers.values().any(waiting) {
            self.silence_check = Some(now.elapsed + SILENCE_CHECK);
        }
    }

    fn retry_missing(&mut self, now: Now) {
        if self.retry_at.is_some_and(|at| at <= now.elapsed) {
            self.retry_at = None;
            for session in self.sessions.values_mut() {
                session.retry();
            }
        }
        let waits = |session: &Session| session.has_missing() || session.has_pending();
        if self.sessions.values().any(waits) && self.retry_at.is_none() {
            self.retry_at = Some(now.elapsed + RETRY_AFTER);
        }
    }

    /// Asks the members of a session for what it wants, the one that is expected first first.
    fn ask(&mut self, id: SessionId, now: Now, rates: &Rates) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.held || !session.has_pending() {
            return;
        }
        let size = session.expected_size();
        let mut candidates: Vec<(Duration, u64, usize)> = Vec::new();
        for (slot, member) in session.members.iter().enumerate() {
            if let Some(peer) = self.peers.get_mut(&member.peer) {
                if peer.has_room() {
                    let tie = splitmix(&mut self.random);
                    candidates.push((peer.expected(size), tie, slot));
                } else {
                    peer.window.limit();
                }
            }
        }
        // The best is last; one that was asked is put back by what it is expected now.
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        while let Some((_, tie, slot)) = candidates.pop() {
            if self.in_flight_bytes >= WINDOW_SIZE_TOTAL_MAX {
                return;
            }
            if let Err(at) = self.downloads.opens(&rates.download, now) {
                self.download_opens = Some(at);
                return;
            }
            let Some(peer) = self.peers.get_mut(&session.members[slot].peer) else {
                continue;
            };
            let expected_size = session.expected_size();
            let Some(want) = session.next_for(slot, peer.asked.len()) else {
                continue;
            };
            let bytes = want.size.map_or(expected_size, u64::from);
            let (key, cid, priority) = (want.key, want.cid, want.priority);
            if !peer.asked.contains_key(&key) {
                let ask = Ask {
                    at: now.elapsed,
                    bytes,
                    repeated: false,
                    lost: false,
                    cid,
                    priority,
                };
                peer.ask(key, ask);
                self.in_flight_bytes += bytes;
                self.downloads.draw(bytes);
                self.unsent.insert(session.members[slot].peer);
            }
            if peer.has_room() {
                let again = (peer.expected(size), tie, slot);
                let place = candidates.partition_point(|other| *other > again);
                candidates.insert(place, again);
            } else {
                peer.window.limit();
            }
        }
    }

    /// Asks members that may not have what is wanted whether they do.
    fn probe(&mut self, id: SessionId, now: Now) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.held || !session.has_pending() {
            return;
        }
        for slot in 0..session.members.len() {
            let id = session.members[slot].peer;
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            // Before 1.2.0 a want for presence is one for the block.
            if peer.protocol == Protocol::V1_1 {
                continue;
            }
            let most = if peer.silent {
                PROBED_OF_SILENT_MAX
            } else {
                PROBED_PER_PEER_MAX
            };
            let room = most.saturating_sub(peer.probed.len());
            let asked = |key: &Key| peer.asked.contains_key(key) || peer.probed.contains_key(key);
            for (key, cid, priority) in session.probes_for(slot, room, asked) {
                peer.probe(key, cid, priority, now.elapsed);
                self.unsent.insert(id);
            }
        }
    }

    fn report(&mut self, id: SessionId, out: &mut Outbox) {
        if let Some(session) = self.sessions.get_mut(&id)
            && !session.unreported.is_empty()
        {
            let cids = std::mem::take(&mut session.unreported);
            out.push(Effect::Missing { session: id, cids });
        }
    }

    /// Sends what peers are to be told.
    fn flush(&mut self, out: &mut Outbox) {
        for id in std::mem::take(&mut self.unsent) {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            loop {
                let message = out.message_id();
                let Some((wantlist, again)) = peer.take_unsent(message) else {
                    break;
                };
                out.push(Effect::Send {
                    peer: id,
                    id: message,
                    message: Message {
                        wantlist,
                        ..Message::default()
                    },
                    again,
                });
            }
        }
    }
}

/// The next of a fixed sequence of random-looking numbers; only ties are broken by them.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
