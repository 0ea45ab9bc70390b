//! The links of a network, and the messages on them.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher},
    sync::Arc,
};

use souverain_protocol::log::replica::{Input, Message, Peer};

use super::{Event, MS, Settings, World};
use crate::{byzantine, random::Random};

impl World {
    pub(super) fn epoch(&self, a: usize, b: usize) -> u32 {
        let epoch = self.epochs.get(&(a.min(b), a.max(b)));
        epoch.copied().unwrap_or(0)
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        for (node, peer) in [(a, b), (b, a)] {
            if self.nodes[node].liar.is_some() && node < self.logs.len() {
                byzantine::greet(self, node, peer);
            }
            let peer = Peer(peer as u64);
            self.handle(node, Input::Connected { peer, late: false });
        }
    }

    pub(super) fn disconnect(&mut self, a: usize, b: usize) {
        *self.epochs.entry((a.min(b), a.max(b))).or_default() += 1;
        for (node, peer) in [(a, b), (b, a)] {
            let peer = Peer(peer as u64);
            self.handle(node, Input::Gone { peer });
        }
    }

    pub(super) fn regroup(&mut self, groups: Vec<usize>) {
        self.changed = self.now;
        let old = std::mem::replace(&mut self.groups, groups);
        for a in 0..self.settings.nodes {
            for b in self.links[a].clone() {
                if a > b || !self.nodes[a].up || !self.nodes[b].up {
                    continue;
                }
                match (old[a] == old[b], self.groups[a] == self.groups[b]) {
                    (true, false) => self.disconnect(a, b),
                    (false, true) => self.connect(a, b),
                    _ => {}
                }
            }
        }
    }

    /// Sends bytes over a link; what is lost is sent again, as streams do it.
    pub(crate) fn send(&mut self, from: usize, to: usize, bytes: Arc<[u8]>, gossip: bool) {
        if !self.linked(from, to) {
            return;
        }
        let copies = 1 + u64::from(self.random.chance(self.settings.duplicates_per_mille));
        for _ in 0..copies {
            let half = self.settings.delay_us / 2;
            let mut delay = self.random.between(half, 3 * half) + bytes.len() as u64 * 8 / 100;
            let mut again = 200 * MS;
            while self.random.chance(self.settings.loss_per_mille) {
                delay += again;
                again *= 2;
            }
            let epoch = self.epoch(from, to);
            let bytes = bytes.clone();
            self.at(
                self.now + delay,
                Event::Deliver {
                    to,
                    from,
                    epoch,
                    bytes,
                    gossip,
                },
            );
        }
    }

    pub(super) fn count(&mut self, message: &Message, size: usize) {
        let size = size as u64;
        match message {
            Message::Announce(_) | Message::Fork(_) => self.traffic.gossip += size,
            Message::Frontiers(_) => self.traffic.frontiers += size,
            Message::Request(_) => self.traffic.requests += size,
            Message::Range(range) => {
                self.traffic.ranges += size;
                let entries = range.entries.iter().map(Vec::len).sum::<usize>();
                self.traffic.entries += entries as u64;
            }
        }
    }

    pub(crate) fn tell(&mut self, from: usize, to: usize, message: &Message) {
        let bytes: Arc<[u8]> = message.encode().into();
        self.count(message, bytes.len());
        self.send(from, to, bytes, false);
    }

    pub(super) fn deliver(&mut self, to: usize, from: usize, bytes: &Arc<[u8]>, gossip: bool) {
        if gossip && !self.nodes[to].heard.insert(digest(bytes)) {
            return;
        }
        let message = Message::decode(bytes).expect("what was sent");
        let peer = Peer(from as u64);
        if self.nodes[to].liar.is_some() && byzantine::answer(self, to, from, &message) {
            return;
        }
        self.handle(to, Input::Message { peer, message });
    }

    pub(super) fn gossip(&mut self, node: usize, message: &Message) {
        let bytes: Arc<[u8]> = message.encode().into();
        if !self.nodes[node].told.insert(digest(&bytes)) {
            return;
        }
        self.nodes[node].heard.insert(digest(&bytes));
        for peer in self.links[node].clone() {
            if self.linked(node, peer) {
                self.count(message, bytes.len());
                self.send(node, peer, bytes.clone(), true);
            }
        }
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A ring, so that all are connected, and links across it.
pub(super) fn mesh(settings: &Settings, random: &mut Random) -> Vec<Vec<usize>> {
    let nodes = settings.nodes;
    let mut links = vec![BTreeSet::new(); nodes];
    let mut order: Vec<usize> = (0..nodes).collect();
    for i in (1..nodes).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    for (i, a) in order.iter().enumerate() {
        let b = order[(i + 1) % nodes];
        links[*a].insert(b);
        links[b].insert(*a);
    }
    for a in 0..nodes {
        let mut tries = 0;
        while links[a].len() < settings.degree.min(nodes - 1) && tries < 100 {
            tries += 1;
            let b = random.below(nodes as u64) as usize;
            if a != b && links[b].len() < 2 * settings.degree {
                links[a].insert(b);
                links[b].insert(a);
            }
        }
    }
    links
        .into_iter()
        .map(|links| links.into_iter().collect())
        .collect()
}
