//! What peers send: blocks, and what they have and have not.

use libp2p_identity::PeerId;
use protocol::block::HashedBlock;

use super::{Client, Key, Misbehaviour, Now, Outbox, SessionId, members_of, peer::Solicited};
use crate::bitswap::{engine::key_of, events::Effect, message::Presence};

impl Client {
    /// Takes in a block, and delivers it to the sessions that want it.
    pub(in crate::bitswap) fn block(
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
            self.unsent.insert(from);
            let of_earlier_run = now.elapsed < self.earlier_run_until;
            return peer.unasked(of_earlier_run, size);
        }
        peer.heard(now.elapsed);
        if let Some(ask) = peer.settle(&key) {
            self.in_flight_bytes -= ask.bytes;
            if !ask.repeated {
                let took = now.elapsed.saturating_sub(ask.at);
                peer.latency.block(took);
                peer.window.arrived(size, ask.at, now.elapsed);
            }
        }
        let Some((last, others)) = wanting.split_last() else {
            return if peer.duplicate(size) {
                Ok(())
            } else {
                Err(Misbehaviour::Flood)
            };
        };
        peer.useful(size);
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

    /// Takes in what a peer says to have and to have not.
    pub(in crate::bitswap) fn presences(
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
        if have && peer.asked.contains_key(key) {
            // The block itself is owed; that it is there is no answer.
            peer.probed.remove(key);
            return Ok(());
        }
        if have {
            peer.promised(now.elapsed);
        } else {
            peer.heard(now.elapsed);
        }
        let at = peer.probed.get(key).copied();
        if let Some(ask) = peer.settle(key) {
            self.in_flight_bytes -= ask.bytes;
            self.downloads.give_back(ask.bytes);
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

    pub(super) fn note(&mut self, from: PeerId, key: &Key, have: bool) {
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

    pub(in crate::bitswap) fn receiving(&mut self, now: Now, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.heard(now.elapsed);
        }
    }
}
