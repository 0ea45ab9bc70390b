//! How messages go from one node to another, and what becomes of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::block::sha256;
use souverain_agent::bitswap::{
    Config, Engine, Input, MessageId, Protocol, limits::MESSAGE_SIZE_MAX, message::WireMessage,
};

use super::{DEATH_NOTICED, Event, Mind, World, key, ms};

/// How often it is said that a message is coming.
const RECEIVING_SAID: Duration = Duration::from_millis(500);

/// How messages go from one node to another.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// Up to this is added at random, so that messages overtake each other.
    pub(crate) jitter: Duration,
    pub(crate) bytes_per_second: u64,
    /// Bytes that the transport takes before they are on the wire.
    pub(crate) buffer_bytes: u64,
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: ms(1),
            jitter: Duration::ZERO,
            bytes_per_second: 100 << 20,
            buffer_bytes: 4 << 20,
            loss_percent: 0,
            duplicate_percent: 0,
        }
    }
}

impl World {
    pub(crate) fn join(&mut self, a: usize, b: usize) {
        self.names += 1;
        if self.connections.contains_key(&key(a, b)) {
            return;
        }
        for (own, other) in [(a, b), (b, a)] {
            // A banned peer is refused.
            if self.nodes[own].misbehaved.contains_key(&other)
                || matches!(self.nodes[own].mind, Mind::Vanished)
            {
                return;
            }
        }
        self.connections.insert(key(a, b), self.names);
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].id;
            let protocol = Protocol::V1_2;
            if matches!(self.nodes[own].mind, Mind::Hostile(_)) {
                self.at(self.now, Event::Hostile(own));
            }
            self.step_engine(own, Input::Connected { peer, protocol });
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        if self.connections.remove(&key(a, b)).is_none() {
            return;
        }
        for (own, other) in [(a, b), (b, a)] {
            let peer = self.nodes[other].id;
            self.step_engine(own, Input::Disconnected { peer });
        }
    }

    /// A node is gone without a word.
    pub(crate) fn vanish(&mut self, node: usize) {
        self.nodes[node].mind = Mind::Vanished;
        for other in 0..self.nodes.len() {
            if self.connections.contains_key(&key(node, other)) {
                self.at(self.now + DEATH_NOTICED, Event::Cut(node, other));
            }
        }
    }

    /// A node is killed and runs again at once, with nothing in memory. It is connected with its peers anew,
    /// which hold the old connections for alive: what they sent over them fails when they notice.
    pub(crate) fn restart(&mut self, node: usize) {
        let engine = Engine::new(Config {
            seed: self.rng.next(),
            after_kill: true,
            ..Config::default()
        });
        self.nodes[node].mind = Mind::Honest(Box::new(engine));
        self.nodes[node].tick = None;
        for peer in self.peers_of(node) {
            self.names += 1;
            let (now, new) = (self.now, self.names);
            let old = self.connections.insert(key(node, peer), new);
            let untaken = self.due.values().filter_map(|event| match event {
                Event::Input(from, input, Some((to, number)))
                    if (*from, *to) == (peer, node) && Some(*number) == old =>
                {
                    match **input {
                        Input::Sent { peer, message } => Some((peer, message)),
                        _ => None,
                    }
                }
                _ => None,
            });
            for (id, message) in untaken.collect::<Vec<_>>() {
                let failed = Input::SendFailed { peer: id, message };
                let event = Event::Input(peer, Box::new(failed), Some((node, new)));
                self.at(now + DEATH_NOTICED, event);
            }
            let (peer, protocol) = (self.nodes[peer].id, Protocol::V1_2);
            self.step_engine(node, Input::Connected { peer, protocol });
        }
    }

    pub(crate) fn peers_of(&self, node: usize) -> Vec<usize> {
        let pairs = self.connections.keys();
        let of = pairs.filter_map(|(a, b)| match (*a == node, *b == node) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        });
        of.collect()
    }

    /// Puts a message on the wire, and says what becomes of it.
    pub(crate) fn send(
        &mut self,
        from: usize,
        to: usize,
        id: Option<MessageId>,
        message: &WireMessage,
    ) {
        let Some(connection) = self.connections.get(&key(from, to)).copied() else {
            return;
        };
        let own = &self.nodes[from];
        for payload in &message.blocks {
            let allowed = own.forbidden.is_empty()
                || !own.forbidden.contains(&sha256(&payload.bytes))
                || matches!(own.mind, Mind::Hostile(_));
            assert!(allowed, "seed {}: a forbidden block was sent", self.seed);
        }
        let link = self.links[&(from, to)];
        let mut bytes = BytesMut::with_capacity(message.encoded_len());
        for part in message.encode() {
            bytes.extend_from_slice(&part);
        }
        assert_eq!(bytes.len(), message.encoded_len());
        assert!(bytes.len() <= MESSAGE_SIZE_MAX, "seed {}", self.seed);
        let size = bytes.len() as u64 + 40;

        let free = self.link_free.entry((from, to)).or_default();
        let begun = (*free).max(self.now);
        let mut sent = begun + transmission(size, link.bytes_per_second);
        *free = sent;
        if let Some(rate) = own.uplink_bytes_per_second {
            let free = own.uplink_free.max(self.now) + transmission(size, rate);
            self.nodes[from].uplink_free = free;
            sent = sent.max(free);
        }
        let buffered = transmission(link.buffer_bytes, link.bytes_per_second);
        let taken = sent.saturating_sub(buffered).max(self.now);

        let lost = self.rng.chance(link.loss_percent);
        // Of lost messages, the sender hears of one half.
        let failed = lost && self.rng.chance(50);
        let deaf = self.nodes[to].deaf || matches!(self.nodes[to].mind, Mind::Vanished);
        if let Some(message) = id
            && !deaf
        {
            let peer = self.nodes[to].id;
            let input = if failed {
                Input::SendFailed { peer, message }
            } else {
                Input::Sent { peer, message }
            };
            let event = Event::Input(from, Box::new(input), Some((to, connection)));
            self.at(if failed { sent } else { taken }, event);
        }
        if lost || deaf {
            return;
        }
        self.say_receiving(
            from,
            to,
            connection,
            (begun + link.delay, sent + link.delay),
        );
        let copies = 1 + u64::from(self.rng.chance(link.duplicate_percent));
        for _ in 0..copies {
            let jitter = self.rng.below(link.jitter.as_micros() as u64 + 1);
            let bytes = bytes.clone().freeze();
            let event = Event::Deliver {
                from,
                to,
                connection,
                bytes,
            };
            self.at(sent + link.delay + Duration::from_micros(jitter), event);
        }
    }

    /// A receiver notices that a long message is coming.
    fn say_receiving(
        &mut self,
        from: usize,
        to: usize,
        connection: u64,
        (begin, end): (Duration, Duration),
    ) {
        let mut when = begin + RECEIVING_SAID;
        while when < end {
            let peer = self.nodes[from].id;
            let input = Box::new(Input::Receiving { peer });
            self.at(when, Event::Input(to, input, Some((from, connection))));
            when += RECEIVING_SAID;
        }
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
        let peer = self.nodes[from].id;
        if matches!(self.nodes[to].mind, Mind::Hostile(_)) {
            if let Ok(message) = WireMessage::decode(bytes) {
                self.step_hostile(to, Some((from, message)));
            }
            return;
        }
        let input = match WireMessage::decode(bytes).and_then(WireMessage::verify) {
            Ok(message) => {
                let sizes = message
                    .blocks
                    .iter()
                    .map(|block| block.bytes().len() as u64);
                self.nodes[to].got_bytes += sizes.sum::<u64>();
                Input::Message { peer, message }
            }
            Err(error) => Input::Malformed { peer, error },
        };
        self.step_engine(to, input);
    }

    pub(super) fn step_hostile(&mut self, node: usize, message: Option<(usize, WireMessage)>) {
        let peers = self.peers_of(node);
        let Mind::Hostile(hostile) = self.nodes[node].mind else {
            return;
        };
        let heard = message.is_some();
        for (to, message) in hostile.act(&mut self.rng, &peers, message) {
            self.send(node, to, None, &message);
        }
        if !heard && hostile.acts_unasked() && !peers.is_empty() {
            self.at(self.now + ms(20), Event::Hostile(node));
        }
    }
}

fn transmission(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_second)
}
