//! The asking half: which peer is asked for which block, and when again.
//!
//! A session's wants are asked of one peer each, of the one that is expected to be done first, as
//! many bytes at once as it sends in about two round trips. Peers that are not known to have most of
//! what is wanted are asked for its presence first. `silence.rs` asks again.

mod asking;
mod peer;
mod receiving;
mod session;
mod silence;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{Block, HASH_IDENTITY};

use self::{
    peer::{Peer, Standing},
    session::Session,
};
use super::{
    bucket::SharedBucket,
    engine::{Key, Outbox, key_of},
    events::{
        Config, Effect, Held, MessageId, Misbehaviour, Now, PeerCounts, Protocol, RefusedBecause,
        SessionId, Wanted,
    },
    limits::{DEPARTED_PEERS_MAX, EARLIER_RUN_WAIT, SESSIONS_MAX},
};

/// What is wanted of all peers.
#[derive(Debug)]
pub(super) struct Client {
    sessions: BTreeMap<SessionId, Session>,
    peers: BTreeMap<PeerId, Peer>,
    /// How peers that went will stand when they come back, the latest last.
    departed: VecDeque<(PeerId, Standing)>,
    /// Peers with something to be sent.
    unsent: BTreeSet<PeerId>,
    in_flight_bytes: u64,
    downloads: SharedBucket,
    download_opens: Option<Duration>,
    silence_check: Option<Duration>,
    retry_at: Option<Duration>,
    /// Counts down, so that what was wanted first is sent first.
    priority: i32,
    /// The session that has the first choice next.
    turn: usize,
    random: u64,
    /// Until when peers may send what an earlier run of this node asked for.
    earlier_run_until: Duration,
}

impl Client {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            departed: VecDeque::new(),
            unsent: BTreeSet::new(),
            in_flight_bytes: 0,
            downloads: config.downloads.clone(),
            download_opens: None,
            silence_check: None,
            retry_at: None,
            priority: i32::MAX,
            turn: 0,
            random: config.seed,
            earlier_run_until: if config.after_kill {
                EARLIER_RUN_WAIT
            } else {
                Duration::ZERO
            },
        }
    }

    pub(super) fn connected(&mut self, now: Now, peer: PeerId, protocol: Protocol) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.protocol = protocol;
            return;
        }
        let mut new = Peer::new(protocol, now.elapsed);
        if let Some(i) = self.departed.iter().position(|(other, _)| *other == peer)
            && let Some((_, standing)) = self.departed.remove(i)
        {
            new.come_back(standing);
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
        self.downloads.give_back(gone.in_flight_bytes);
        self.unsent.remove(peer);
        self.departed.push_back((*peer, gone.into_standing()));
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

    fn cancel(&mut self, peer: &PeerId, key: Key, cid: Cid) {
        if let Some(known) = self.peers.get_mut(peer) {
            let before = known.in_flight_bytes;
            known.cancel(key, cid);
            let freed = before - known.in_flight_bytes;
            self.in_flight_bytes -= freed;
            self.downloads.give_back(freed);
            self.unsent.insert(*peer);
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
}

fn members_of(session: &Session, mask: u64) -> Vec<PeerId> {
    let members = session.members.iter().enumerate();
    members
        .filter(|(slot, _)| mask & (1 << slot) != 0)
        .map(|(_, member)| member.peer)
        .collect()
}
