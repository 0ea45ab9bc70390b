//! What a node's I/O would do: its timers, its disk, its rules, and the checks of the test.

use std::time::Duration;

use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{digest_of, sha256};
use souverain_agent::bitswap::{
    Answer, Effect, Input, Now,
    limits::{
        LOADS_IN_FLIGHT_MAX, LOOKUPS_IN_FLIGHT_MAX, MESSAGE_SIZE_MAX, PEERS_MAX, SERVED_WANTS_MAX,
        SERVED_WANTS_PER_PEER_RESERVED, UNTAKEN_BYTES_MAX, WINDOW_SIZE_TOTAL_MAX,
    },
};

use super::{Event, MIB, Mind, World};

impl World {
    pub(super) fn step_engine(&mut self, node: usize, input: Input) {
        let now = self.moment();
        let Mind::Honest(engine) = &mut self.nodes[node].mind else {
            return;
        };
        engine.handle(now, input);
        let mut effects = Vec::new();
        while let Some(effect) = engine.effect() {
            effects.push(effect);
        }
        let deadline = engine.deadline();
        if let Some(at) = deadline
            && self.nodes[node].tick.is_none_or(|tick| at < tick)
        {
            let at = at.max(self.now);
            self.nodes[node].tick = Some(at);
            self.at(at, Event::Tick(node));
        }
        for effect in effects {
            self.effect(node, effect);
        }
    }

    fn moment(&self) -> Now {
        let minutes = u64::from(self.minute_of_day) + self.now.as_secs() / 60;
        Now {
            elapsed: self.now,
            minute_of_day: u16::try_from(minutes % 1440).expect("below 1440"),
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        let seed = self.seed;
        match effect {
            Effect::Send {
                peer, id, message, ..
            } => {
                let to = self.index(&peer);
                self.send(node, to, Some(id), &message);
            }
            Effect::Lookup { ticket, cids, .. } => {
                let own = &self.nodes[node];
                let answer = |cid: &Cid| {
                    let key = digest_of(cid).expect("only those of SHA-256 are looked up");
                    match own.store.get(&key) {
                        _ if own.forbidden.contains(&key) => Answer::Denied,
                        Some(bytes) => Answer::Here(u32::try_from(bytes.len()).expect("small")),
                        None => Answer::Absent,
                    }
                };
                let answers = cids.iter().map(answer).collect();
                self.after_disk(node, Input::Found { ticket, answers });
            }
            Effect::Load { ticket, cids, .. } => {
                let own = &self.nodes[node];
                let load = |cid: &Cid| own.store.get(&digest_of(cid).expect("SHA-256")).cloned();
                let blocks = cids.iter().map(load).collect();
                self.after_disk(node, Input::Loaded { ticket, blocks });
            }
            Effect::Block { block, peer, .. } => {
                assert_eq!(digest_of(block.cid()), Some(sha256(block.bytes())));
                let cid = *block.cid();
                let before = self.nodes[node].received.insert(cid, self.now);
                assert!(before.is_none(), "seed {seed}: {cid} came twice");
                assert!(peer.is_some());
                self.put(node, &(cid, block.into_bytes().into()));
                self.step_engine(node, Input::Changed);
            }
            Effect::Missing { cids, .. } => self.nodes[node].missing.extend(cids),
            Effect::Refused { cid, because, .. } => panic!("seed {seed}: {cid}: {because}"),
            Effect::Silent { .. } => {}
            Effect::Stalled { peer } => {
                let other = self.index(&peer);
                self.nodes[node].stalled.insert(other);
                self.cut(node, other);
            }
            Effect::Misbehaved { peer, reason } => {
                let other = self.index(&peer);
                let before = self.nodes[node].misbehaved.insert(other, reason);
                assert!(before.is_none(), "seed {seed}: said twice of {other}");
                let honest = !matches!(self.nodes[other].mind, Mind::Hostile(_));
                assert!(!honest, "seed {seed}: {node} on honest {other}: {reason}");
                self.cut(node, other);
            }
        }
    }

    fn after_disk(&mut self, node: usize, input: Input) {
        let took = Duration::from_micros(self.rng.below(self.disk.as_micros() as u64 + 1));
        self.at(self.now + took, Event::Input(node, Box::new(input), None));
    }

    pub(crate) fn index(&self, peer: &PeerId) -> usize {
        let found = self.nodes.iter().position(|node| node.id == *peer);
        found.expect("only nodes of this world are known")
    }

    pub(super) fn check_limits(&self) {
        for node in &self.nodes {
            let Mind::Honest(engine) = &node.mind else {
                continue;
            };
            let held = engine.held();
            let seed = self.seed;
            assert!(held.peers <= PEERS_MAX, "seed {seed}: {held:?}");
            let reserved = held.peers * SERVED_WANTS_PER_PEER_RESERVED;
            assert!(
                held.served_wants <= SERVED_WANTS_MAX + reserved,
                "seed {seed}: {held:?}"
            );
            // The last message that fits may be larger than what was left.
            assert!(
                held.untaken_bytes <= UNTAKEN_BYTES_MAX + MESSAGE_SIZE_MAX,
                "{seed}: {held:?}"
            );
            assert!(
                held.lookups <= LOOKUPS_IN_FLIGHT_MAX,
                "seed {seed}: {held:?}"
            );
            assert!(held.loads <= LOADS_IN_FLIGHT_MAX, "seed {seed}: {held:?}");
            let over = WINDOW_SIZE_TOTAL_MAX + 2 * MIB as u64;
            assert!(held.in_flight_bytes <= over, "seed {seed}: {held:?}");
        }
    }
}
