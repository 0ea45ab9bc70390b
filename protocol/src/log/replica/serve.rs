//! Answering peers, and the exchange of frontiers.

use std::collections::BTreeMap;

use super::{
    Reads, Replica,
    events::{Effect, Peer, Reading, Stretch, Ticket},
    limits::{
        EXCHANGE_EVERY_MS, EXCHANGE_PEERS, HEADS_PER_MESSAGE_MAX, HEADS_SIZE_MAX,
        RANGE_ENTRIES_MAX, READS_MAX, READS_PER_PEER_MAX,
    },
    wire::{Frontiers, Message, Range, Request},
};
use crate::log::checkpoint::{Origin, SignedCheckpoint, UnverifiedCheckpoint};

impl Replica {
    /// A peer asks for entries.
    pub(super) fn requested(&mut self, now: u64, peer: Peer, request: Request) {
        if !self.may(now, peer) {
            return;
        }
        let log = self.logs.get(&request.origin);
        let Some(checkpoint) = log.and_then(|log| log.checkpoint.clone()) else {
            return;
        };
        let size = checkpoint.checkpoint().size();
        if request.from >= size {
            return self.serve(peer, request.id, checkpoint, Some(Stretch::default()));
        }
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        if self.reads.len() >= READS_MAX || state.reads >= READS_PER_PEER_MAX {
            return;
        }
        state.reads += 1;
        let ticket = Ticket(self.name());
        let reads = Reads::Serve {
            peer,
            id: request.id,
            checkpoint,
        };
        self.reads.insert(ticket, reads);
        let wanted = Reading {
            origin: request.origin,
            from: request.from,
            size,
            entries_max: request.entries_max.min(RANGE_ENTRIES_MAX as u64),
        };
        self.out.push(Effect::Read { ticket, wanted });
    }

    pub(super) fn serve(
        &mut self,
        peer: Peer,
        id: u64,
        checkpoint: SignedCheckpoint,
        stretch: Option<Stretch>,
    ) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        state.reads = state.reads.saturating_sub(1);
        // It asks another one, when it has waited.
        let Some(stretch) = stretch else {
            return;
        };
        let message = Message::Range(Box::new(Range {
            id,
            checkpoint: checkpoint.into(),
            entries: stretch.entries,
            grown: stretch.grown,
            rest: stretch.rest,
            changes: stretch.changes,
        }));
        self.out.push(Effect::Send { peer, message });
    }

    /// Tells a peer what there is here of all logs.
    pub(super) fn tell_frontiers(&mut self, peer: Peer, reply: bool) {
        let logs = self.logs.values().filter(|log| log.fork.is_none());
        let heads = logs.filter_map(|log| log.checkpoint.clone()).collect();
        self.send_heads(peer, heads, true, reply);
    }

    fn send_heads(&mut self, peer: Peer, heads: Vec<SignedCheckpoint>, all: bool, reply: bool) {
        let mut message = Vec::new();
        let mut size = 0;
        let mut heads = heads.into_iter().map(UnverifiedCheckpoint::from).peekable();
        while let Some(head) = heads.next() {
            size += head.to_string().len();
            message.push(head);
            let full = size >= HEADS_SIZE_MAX || message.len() >= HEADS_PER_MESSAGE_MAX;
            if full && heads.peek().is_some() {
                size = 0;
                let heads = std::mem::take(&mut message);
                self.send_frontiers(peer, heads, false, reply);
            }
        }
        // Only with the last of them, all are told.
        self.send_frontiers(peer, message, all, reply);
    }

    fn send_frontiers(
        &mut self,
        peer: Peer,
        heads: Vec<UnverifiedCheckpoint>,
        all: bool,
        reply: bool,
    ) {
        let message = Message::Frontiers(Frontiers { heads, all, reply });
        self.out.push(Effect::Send { peer, message });
    }

    /// A peer tells what it has.
    pub(super) fn frontiers(&mut self, now: u64, peer: Peer, frontiers: Frontiers) {
        let Frontiers { heads, all, reply } = frontiers;
        let mut sizes = BTreeMap::new();
        for head in &heads {
            let said = head.checkpoint_unverified();
            sizes.insert(said.origin().clone(), said.size());
            self.heard(now, peer, head);
        }
        if let Some(own) = self.own.as_ref().and_then(|own| self.logs.get(own))
            && all
            && !self.stopped
            && self.owed == 0
            && !own.is_longer()
        {
            self.out.push(Effect::Agrees { peer });
        }
        if !reply || !self.may(now, peer) {
            return;
        }
        // What is not told in the first of several messages may be in the next.
        let lone = all && heads.len() < HEADS_PER_MESSAGE_MAX;
        let more = |origin: &Origin, held: u64| match sizes.get(origin) {
            Some(size) => *size < held,
            None => lone,
        };
        let logs = self.logs.iter();
        let logs = logs.filter(|(origin, log)| log.fork.is_none() && more(origin, log.size()));
        let heads: Vec<_> = logs.filter_map(|(_, log)| log.checkpoint.clone()).collect();
        if !heads.is_empty() {
            self.send_heads(peer, heads, false, false);
        }
    }

    pub(super) fn plan_exchange(&mut self, now: u64) {
        let [least, most] = EXCHANGE_EVERY_MS;
        self.exchange_at_ms = Some(now + least + self.random.below(most - least));
    }

    /// Exchanges frontiers with some peers.
    pub(super) fn exchange(&mut self, now: u64) {
        let mut peers: Vec<Peer> = self.peers.keys().copied().collect();
        for _ in 0..EXCHANGE_PEERS {
            let Some(peer) = self.random.choose(&peers).copied() else {
                break;
            };
            peers.retain(|other| *other != peer);
            self.tell_frontiers(peer, true);
        }
        self.exchanged_ms = now;
        self.plan_exchange(now);
    }
}
