//! The asking half: which peer is asked for which block, and when again.
//!
//! A session's wants are asked of one peer each, of the one that is expected to be done first, as
//! many bytes at once as it sends in about two round trips. Peers that are not known to have most of
//! what is wanted are asked for its presence first. `silence.rs` asks again.

mod peer;
mod session;
mod silence;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{Block, HASH_IDENTITY, HashedBlock};

use self::{
    peer::{Ask, Peer, Settled, Solicited},
    session::Session,
};
use super::{
    bucket::Bucket,
    engine::{Key, Outbox, key_of},
    events::{
        Effect, Held, MessageId, Misbehaviour, Now, PeerCounts, Protocol, RefusedBecause,
        SessionId, Wanted,
    },
    limits::{
        DEPARTED_PEERS_MAX, PROBED_PER_PEER_MAX, RETRY_AFTER, SESSIONS_MAX, SILENCE_CHECK,
        WINDOW_SIZE_TOTAL_MAX,
    },
    message::{Message, Presence, Wantlist},
    rate::Rates,
};

/// What is wanted of all peers.
#[derive(Debug)]
pub(super) struct Client {
    sessions: BTreeMap<SessionId, Session>,
    peers: BTreeMap<PeerId, Peer>,
    /// What peers that went may still send when they come back, the latest last.
    departed: VecDeque<(PeerId, Settled)>,
    /// Peers with something to be sent.
    unsent: BTreeSet<PeerId>,
    in_flight_bytes: u64,
    download: Bucket,
    download_opens: Option<Duration>,
    silence_check: Option<Duration>,
    retry_at: Option<Duration>,
    /// Counts down, so that what was wanted first is sent first.
    priority: i32,
    /// The session that has the first choice next.
    turn: usize,
    random: u64,
}

impl Client {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            departed: VecDeque::new(),
            unsent: BTreeSet::new(),
            in_flight_bytes: 0,
            download: Bucket::default(),
            download_opens: None,
            silence_check: None,
            retry_at: None,
            priority: i32::MAX,
            turn: 0,
            random: seed,
        }
    }

    pub(super) fn connected(&mut self, now: Now, peer: PeerId, protocol: Protocol) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.protocol = protocol;
            return;
        }
        let mut new = Peer::new(protocol, now.elapsed);
        if let Some(i) = self.departed.iter().position(|(other, _)| *other == peer)
            && let Some((_, settled)) = self.departed.remove(i)
        {
            new.set_settled(settled);
        }
        self.peers.insert(peer, new);
        for session in self.sessions.values_mut() {
            if let Some(slot) = session.slot(&peer) {
                session.set_usable(slot, true);
            }
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        self.in_flight_bytes -= gone.in_flight_bytes;
        self.download.give_back(gone.in_flight_bytes);
        self.unsent.remove(peer);
        self.departed.push_back((*peer, gone.into_settled()));
        if self.departed.len() > DEPARTED_PEERS_MAX {
            self.departed.pop_front();
        }
        for session in self.sessions.values_mut() {
            if let Some(slot) = session.slot(peer) {
                session.set_usable(slot, false);
            }
        }
    }

    pub(super) fn add_counts(&self, peer: &PeerId, counts: &mut PeerCounts) {
        if let Some(peer) = self.peers.get(peer) {
            counts.received_bytes = peer.counts.received_bytes;
            counts.received_blocks = peer.counts.received_blocks;
            counts.duplicate_bytes = peer.counts.duplicate_bytes;
            counts.duplicate_blocks = peer.counts.duplicate_blocks;
        }
    }

    pub(super) fn add_held(&self, held: &mut Held) {
        held.wants = self.sessions.values().map(Session::len).sum();
        held.in_flight_bytes = self.in_flight_bytes;
        held.unsent_entries = self.peers.values().map(Peer::unsent_len).sum();
    }

    pub(super) fn open(&mut self, id: SessionId) {
        if self.sessions.len() < SESSIONS_MAX {
            self.sessions.entry(id).or_default();
        }
    }

    pub(super) fn close(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        for key in session.keys() {
            self.end_want(id, &key);
        }
        self.sessions.remove(&id);
    }

    pub(super) fn add_peer(&mut self, id: SessionId, peer: PeerId) {
        let usable = self.peers.contains_key(&peer);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.add_member(peer, usable);
        }
    }

    pub(super) fn hold(&mut self, id: SessionId, held: bool) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.held = held;
        }
    }

    pub(super) fn want(&mut self, id: SessionId, wants: &[Wanted], out: &mut Outbox) {
        for wanted in wants {
            if let Err(because) = self.want_one(id, wanted, out) {
                out.push(Effect::Refused {
                    session: id,
                    cid: wanted.cid,
                    because,
                });
            }
        }
    }

    fn want_one(
        &mut self,
        id: SessionId,
        wanted: &Wanted,
        out: &mut Outbox,
    ) -> Result<(), RefusedBecause> {
        let session = self
            .sessions
            .get_mut(&id)
            .ok_or(RefusedBecause::NoSession)?;
        let hash = wanted.cid.hash();
        if hash.code() == HASH_IDENTITY {
            let block = Block::verify(wanted.cid, hash.digest().to_vec())
                .map_err(|_| RefusedBecause::UnsupportedHash)?;
            out.push(Effect::Block {
                session: id,
                peer: None,
                block,
            });
            return Ok(());
        }
        let key = key_of(&wanted.cid).ok_or(RefusedBecause::UnsupportedHash)?;
        self.priority = (self.priority - 1).max(1);
        session.add(key, wanted, self.priority)
    }

    pub(super) fn unwant(&mut self, id: SessionId, cids: &[Cid]) {
        for key in cids.iter().filter_map(key_of) {
            self.end_want(id, &key);
        }
    }

    /// Ends a want without its block.
    fn end_want(&mut self, id: SessionId, key: &Key) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(want) = session.remove(key) else {
            return;
        };
        let told = members_of(session, want.told);
        for peer in told {
            // Another session may still want it of the same peer.
            let shared = self.sessions.values().any(|other| {
                other
                    .slot(&peer)
                    .is_some_and(|slot| other.asked_of(key, slot))
            });
            if !shared {
                self.cancel(&peer, *key, want.cid);
            }
        }
    }

    /// Takes in a block, and delivers it to the sessions that want it.
    pub(super) fn block(
        &mut self,
        now: Now,
        from: PeerId,
        block: HashedBlock,
        out: &mut Outbox,
    ) -> Result<(), Misbehaviour> {
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        let key = *block.digest();
        let size = block.bytes().len() as u64;
        let wanting: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.wants(&key))
            .map(|(id, _)| *id)
            .collect();
        // What is wanted is welcome, also of a peer that was asked by an earlier run of this node.
        if peer.solicited(&key) == Solicited::Never && wanting.is_empty() {
            return Err(if peer.asked.is_empty() {
                Misbehaviour::UnsolicitedBlock
            } else {
                Misbehaviour::WrongBlock
            });
        }
        peer.heard(now.elapsed);
        if let Some(ask) = peer.settle(&key) {
            self.in_flight_bytes -= ask.bytes;
            if !ask.repeated {
                let took = now.elapsed.saturating_sub(ask.at);
                peer.latency.block(took);
                peer.window.arrived(size, took);
            }
        }
        let Some((last, others)) = wanting.split_last() else {
            return if peer.duplicate(size) {
                Ok(())
            } else {
                Err(Misbehaviour::Flood)
            };
        };
        peer.counts.received_blocks += 1;
        peer.counts.received_bytes += size;
        for id in others {
            self.deliver(*id, from, block.clone(), out);
        }
        self.deliver(*last, from, block, out);
        Ok(())
    }

    fn deliver(&mut self, id: SessionId, from: PeerId, block: HashedBlock, out: &mut Outbox) {
        let key = *block.digest();
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(want) = session.remove(&key) else {
            return;
        };
        session.came(block.bytes().len() as u64);
        if let Some(slot) = session.slot(&from) {
            session.served(slot);
        }
        for peer in members_of(session, want.told) {
            if peer != from {
                self.cancel(&peer, key, want.cid);
            }
        }
        let block = block
            .into_block(&want.cid)
            .expect("wants are found by the digest of their CID");
        out.push(Effect::Block {
            session: id,
            peer: Some(from),
            block,
        });
    }

    fn cancel(&mut self, peer: &PeerId, key: Key, cid: Cid) {
        if let Some(known) = self.peers.get_mut(peer) {
            let before = known.in_flight_bytes;
            known.cancel(key, cid);
            let freed = before - known.in_flight_bytes;
            self.in_flight_bytes -= freed;
            self.download.give_back(freed);
            self.unsent.insert(*peer);
        }
    }

    /// Takes in what a peer says to have and to have not.
    pub(super) fn presences(
        &mut self,
        now: Now,
        from: PeerId,
        presences: &[Presence],
    ) -> Result<(), Misbehaviour> {
        for presence in presences {
            if let Some(key) = key_of(&presence.cid) {
                self.presence(now, from, &key, presence.have)?;
            }
        }
        Ok(())
    }

    fn presence(
        &mut self,
        now: Now,
        from: PeerId,
        key: &Key,
        have: bool,
    ) -> Result<(), Misbehaviour> {
        let Some(peer) = self.peers.get_mut(&from) else {
            return Ok(());
        };
        if peer.solicited(key) != Solicited::Asked {
            let expected = peer.solicited(key) == Solicited::Settled;
            return if expected || peer.unasked_presence() {
                self.note(from, key, have);
                Ok(())
            } else {
                Err(Misbehaviour::Flood)
            };
        }
        peer.heard(now.elapsed);
        let at = peer.probed.get(key).copied();
        if have && peer.asked.contains_key(key) {
            // The block is still to come.
            peer.probed.remove(key);
        } else if let Some(ask) = peer.settle(key) {
            self.in_flight_bytes -= ask.bytes;
            self.download.give_back(ask.bytes);
            if !ask.repeated {
                peer.latency.answer(now.elapsed.saturating_sub(ask.at));
            }
        }
        if let Some(at) = at {
            peer.latency.answer(now.elapsed.saturating_sub(at));
        }
        self.note(from, key, have);
        Ok(())
    }

    fn note(&mut self, from: PeerId, key: &Key, have: bool) {
        for session in self.sessions.values_mut() {
            let Some(slot) = session.slot(&from) else {
                continue;
            };
            if !session.wants(key) {
                continue;
            }
            if have {
                session.has(key, slot);
            } else {
                session.has_not(key, slot);
            }
        }
    }

    pub(super) fn receiving(&mut self, now: Now, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.heard(now.elapsed);
        }
    }

    pub(super) fn sent(&mut self, peer: &PeerId, id: MessageId) {
        if self.peers.get_mut(peer).is_some_and(|known| known.sent(id)) {
            self.unsent.insert(*peer);
        }
    }

    pub(super) fn send_failed(&mut self, peer: &PeerId, id: MessageId) {
        if let Some(known) = self.peers.get_mut(peer)
            && known.send_failed(id)
        {
            self.unsent.insert(*peer);
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        [self.silence_check, self.retry_at, self.download_opens]
            .into_iter()
            .flatten()
            .min()
    }

    /// Asks for whatever the windows allow, and again for what did not come.
    pub(super) fn pump(&mut self, now: Now, rates: &Rates, out: &mut Outbox) {
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
        let missing = self.sessions.values().any(Session::has_missing);
        if missing && self.retry_at.is_none() {
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
            if let Err(at) = self.download.opens(&rates.download, now) {
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
                self.download.draw(bytes);
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
            if peer.protocol == Protocol::V1_1 || peer.silent {
                continue;
            }
            let room = PROBED_PER_PEER_MAX.saturating_sub(peer.probed.len());
            for (key, cid, priority) in session.probes_for(slot, room) {
                if !peer.asked.contains_key(&key) {
                    peer.probe(key, cid, priority, now.elapsed);
                    self.unsent.insert(id);
                }
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
                let Some((entries, again)) = peer.take_unsent(message) else {
                    break;
                };
                let full = false;
                out.push(Effect::Send {
                    peer: id,
                    id: message,
                    message: Message {
                        wantlist: Wantlist { entries, full },
                        ..Message::default()
                    },
                    again,
                });
            }
        }
    }
}

fn members_of(session: &Session, mask: u64) -> Vec<PeerId> {
    let members = session.members.iter().enumerate();
    members
        .filter(|(slot, _)| mask & (1 << slot) != 0)
        .map(|(_, member)| member.peer)
        .collect()
}

/// The next of a fixed sequence of random-looking numbers; only ties are broken by them.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
