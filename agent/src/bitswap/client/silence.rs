//! What is asked again, of whom, because it was not answered.

use std::time::Duration;

use libp2p_identity::PeerId;

use super::{Client, Key, Now, Outbox, peer::Ask};
use crate::bitswap::events::{Effect, SessionId};

impl Client {
    /// Looks for what should have been answered by now.
    pub(super) fn check_silence(&mut self, now: Now, out: &mut Outbox) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.check_peer(id, now.elapsed, out);
        }
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            self.double_last(id, now.elapsed);
        }
    }

    /// Asks idle peers for the last blocks of a session that slower ones still owe.
    fn double_last(&mut self, id: SessionId, now: Duration) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.held || session.members.len() < 2 {
            return;
        }
        let size = session.expected_size();
        for (key, slow) in session.last_wants() {
            let Some(owing) = self.peers.get(&session.members[slow].peer) else {
                continue;
            };
            let Some(ask) = owing.asked.get(&key).copied() else {
                continue;
            };
            let age = now.saturating_sub(ask.at);
            let left = owing.latency.mean().map(|mean| mean.saturating_sub(age));
            let fits = |slot: &usize| *slot != slow && session.may_have(&key, *slot);
            let expected = |slot: usize| {
                let peer = self.peers.get(&session.members[slot].peer)?;
                (!peer.silent && peer.has_room() && !peer.asked.contains_key(&key))
                    .then(|| (peer.expected(size), slot))
            };
            let others = (0..session.members.len()).filter(fits);
            let Some((soonest, slot)) = others.filter_map(expected).min() else {
                continue;
            };
            // Worth a duplicate only if the other is much sooner than what is left to wait.
            let late = left.is_none_or(|left| left.is_zero() || left > soonest * 2);
            if age < soonest * 2 || !late || session.double(&key, slot).is_none() {
                continue;
            }
            let other = session.members[slot].peer;
            if let Some(peer) = self.peers.get_mut(&other) {
                let ask = Ask {
                    at: now,
                    lost: false,
                    repeated: false,
                    ..ask
                };
                peer.ask(key, ask);
                self.in_flight_bytes += ask.bytes;
                self.downloads.draw(ask.bytes);
                self.unsent.insert(other);
            }
        }
    }

    fn check_peer(&mut self, id: PeerId, now: Duration, out: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (silence, skipped) = (peer.latency.silence(), peer.latency.skipped());
        let quiet = now.saturating_sub(peer.heard_at) >= silence;
        let overdue = |at: Duration| {
            let age = now.saturating_sub(at);
            (quiet && age >= silence) || age >= skipped
        };
        let asks: Vec<(Key, Ask)> = peer
            .asked
            .iter()
            .filter(|(_, ask)| ask.lost || overdue(ask.at))
            .map(|(key, ask)| (*key, *ask))
            .collect();
        let probes: Vec<Key> = peer
            .probed
            .iter()
            .filter(|(_, at)| overdue(**at))
            .map(|(key, _)| *key)
            .collect();
        if quiet && asks.iter().any(|(_, ask)| overdue(ask.at)) {
            peer.latency.back_off();
            peer.window.collapse();
            // Counted anew, so that each further silence is twice as long.
            peer.heard_at = now;
            if !peer.silent {
                peer.silent = true;
                out.push(Effect::Silent { peer: id });
            }
        }
        for key in probes {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.settle(&key);
            }
            for session in self.sessions.values_mut() {
                if let Some(slot) = session.slot(&id) {
                    session.is_late(&key, slot);
                }
            }
        }
        for (key, ask) in asks {
            self.ask_again(id, key, ask, now);
        }
    }

    /// Asks another peer if there is one, or the same.
    fn ask_again(&mut self, id: PeerId, key: Key, ask: Ask, now: Duration) {
        let mut stays = false;
        for session in self.sessions.values_mut() {
            let Some(slot) = session.slot(&id) else {
                continue;
            };
            if !session.asked_of(&key, slot) {
                continue;
            }
            // A message that was lost once is worth another to the same peer.
            let lost_once = ask.lost && !ask.repeated;
            stays |= lost_once || !session.is_late(&key, slot);
        }
        // What another was asked for meanwhile is not asked for again here.
        if !stays {
            self.cancel(&id, key, ask.cid);
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let again = Ask {
            at: now,
            repeated: true,
            lost: false,
            ..ask
        };
        peer.ask(key, again);
        self.unsent.insert(id);
    }
}
