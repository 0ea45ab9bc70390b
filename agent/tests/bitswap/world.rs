//! A world of engines on simulated links, in which time passes only when something is due.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{digest_of, raw_cid, sha256};
use souverain_agent::bitswap::{
    Answer, Config, Effect, Engine, Input, MessageId, Misbehaviour, Now, Protocol, Rates,
    SessionId, Wanted,
    limits::{
        LOADS_IN_FLIGHT_MAX, LOOKUPS_IN_FLIGHT_MAX, MESSAGE_SIZE_MAX, PEERS_MAX, SERVED_WANTS_MAX,
        SERVED_WANTS_PER_PEER_RESERVED, UNTAKEN_BYTES_MAX, WINDOW_SIZE_TOTAL_MAX,
    },
    message::WireMessage,
};

use crate::hostile::Hostile;

pub(crate) const SESSION: SessionId = SessionId(1);
pub(crate) const MIB: usize = 1 << 20;
/// A connection that died without a word is noticed after this long.
const DEATH_NOTICED: Duration = Duration::from_secs(20);

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Random numbers that a seed determines.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Bytes that hash to a CID of their own.
pub(crate) fn block(seed: u64, size: usize) -> (Cid, Bytes) {
    let mut bytes = vec![0; size.max(8)];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    (raw_cid(&sha256(&bytes)), bytes.into())
}

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

pub(crate) enum Mind {
    Honest(Box<Engine>),
    Hostile(Hostile),
    /// Gone: it says and takes nothing more.
    Vanished,
}

pub(crate) struct Node {
    pub(crate) id: PeerId,
    pub(crate) mind: Mind,
    pub(crate) store: BTreeMap<[u8; 32], Bytes>,
    /// Blocks that nobody may have of this node.
    pub(crate) forbidden: BTreeSet<[u8; 32]>,
    pub(crate) received: BTreeMap<Cid, Duration>,
    pub(crate) missing: BTreeSet<Cid>,
    pub(crate) misbehaved: BTreeMap<usize, Misbehaviour>,
    pub(crate) stalled: BTreeSet<usize>,
    /// Whether it takes nothing of what it is sent.
    pub(crate) deaf: bool,
    /// Bytes of blocks that went to it from each node.
    pub(crate) got_bytes: u64,
    /// When its own line, which all links share, is free.
    uplink_free: Duration,
    pub(crate) uplink_bytes_per_second: Option<u64>,
    tick: Option<Duration>,
}

enum Event {
    Input(usize, Box<Input>, Option<(usize, u64)>),
    Deliver {
        from: usize,
        to: usize,
        connection: u64,
        bytes: Bytes,
    },
    Tick(usize),
    Hostile(usize),
    Cut(usize, usize),
    Join(usize, usize),
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) rng: Rng,
    pub(crate) seed: u64,
    pub(crate) minute_of_day: u16,
    /// How long a look-up or load takes, at most.
    pub(crate) disk: Duration,
    links: BTreeMap<(usize, usize), Link>,
    link_free: BTreeMap<(usize, usize), Duration>,
    connections: BTreeMap<(usize, usize), u64>,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    due: BTreeMap<u64, Event>,
    names: u64,
    steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            nodes: Vec::new(),
            rng: Rng(seed),
            seed,
            minute_of_day: 0,
            disk: ms(1),
            links: BTreeMap::new(),
            link_free: BTreeMap::new(),
            connections: BTreeMap::new(),
            events: BinaryHeap::new(),
            due: BTreeMap::new(),
            names: 0,
            steps: 0,
        }
    }

    pub(crate) fn honest(&mut self, rates: Rates) -> usize {
        let seed = self.rng.next();
        self.node(Mind::Honest(Box::new(Engine::new(Config { seed, rates }))))
    }

    pub(crate) fn hostile(&mut self, hostile: Hostile) -> usize {
        self.node(Mind::Hostile(hostile))
    }

    fn node(&mut self, mind: Mind) -> usize {
        let index = self.nodes.len();
        let mut id = vec![0x12, 0x20];
        id.extend(sha256(format!("{} {index}", self.seed).as_bytes()));
        self.nodes.push(Node {
            id: PeerId::from_bytes(&id).expect("a multihash of SHA-256"),
            mind,
            store: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            received: BTreeMap::new(),
            missing: BTreeSet::new(),
            misbehaved: BTreeMap::new(),
            stalled: BTreeSet::new(),
            deaf: false,
            got_bytes: 0,
            uplink_free: Duration::ZERO,
            uplink_bytes_per_second: None,
            tick: None,
        });
        index
    }

    pub(crate) fn engine(&self, node: usize) -> &Engine {
        match &self.nodes[node].mind {
            Mind::Honest(engine) => engine,
            _ => panic!("node {node} is not honest"),
        }
    }

    pub(crate) fn put(&mut self, node: usize, block: &(Cid, Bytes)) {
        let key = digest_of(&block.0).expect("SHA-256");
        self.nodes[node].store.insert(key, block.1.clone());
    }

    pub(crate) fn link(&mut self, a: usize, b: usize, link: Link) {
        self.links.insert((a, b), link);
        self.links.insert((b, a), link);
        self.join(a, b);
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.names += 1;
        self.events.push(Reverse((when, self.names)));
        self.due.insert(self.names, event);
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        self.step_engine(node, input);
    }

    pub(crate) fn cut_at(&mut self, when: Duration, a: usize, b: usize) {
        self.at(when, Event::Cut(a, b));
    }

    pub(crate) fn join_at(&mut self, when: Duration, a: usize, b: usize) {
        self.at(when, Event::Join(a, b));
    }

    /// Has a session of a node want blocks of some peers.
    pub(crate) fn want(&mut self, node: usize, peers: &[usize], blocks: &[(Cid, Bytes)]) {
        self.input(node, Input::OpenSession { session: SESSION });
        for peer in peers {
            let peer = self.nodes[*peer].id;
            let session = SESSION;
            self.input(node, Input::AddPeer { session, peer });
        }
        let wants = blocks.iter().map(|(cid, _)| Wanted {
            cid: *cid,
            size: None,
        });
        let wants = wants.collect();
        let session = SESSION;
        self.input(node, Input::Want { session, wants });
    }

    pub(crate) fn has_all(&self, node: usize, blocks: &[(Cid, Bytes)]) -> bool {
        let received = &self.nodes[node].received;
        blocks.iter().all(|(cid, _)| received.contains_key(cid))
    }

    /// Lets time pass until something is the case; whether it came to be before a time.
    pub(crate) fn run(&mut self, until: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        while !done(self) {
            let Some(Reverse((when, name))) = self.events.pop() else {
                return false;
            };
            if when > until {
                self.events.push(Reverse((when, name)));
                self.now = until;
                return done(self);
            }
            self.now = when;
            let event = self.due.remove(&name).expect("each event is due once");
            self.happen(event);
            self.steps += 1;
            if self.steps.is_multiple_of(64) {
                self.check_limits();
            }
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(node, input, connection) => {
                let alive = connection.is_none_or(|(peer, number)| {
                    self.connections.get(&key(node, peer)) == Some(&number)
                });
                if alive {
                    self.step_engine(node, *input);
                }
            }
            Event::Deliver {
                from,
                to,
                connection,
                bytes,
            } => {
                if self.connections.get(&key(from, to)) == Some(&connection) {
                    self.deliver(from, to, bytes);
                }
            }
            Event::Tick(node) => {
                if self.nodes[node].tick.is_some_and(|at| at <= self.now) {
                    self.nodes[node].tick = None;
                    self.step_engine(node, Input::Tick);
                }
            }
            Event::Hostile(node) => self.step_hostile(node, None),
            Event::Cut(a, b) => self.cut(a, b),
            Event::Join(a, b) => self.join(a, b),
        }
    }

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

    pub(crate) fn peers_of(&self, node: usize) -> Vec<usize> {
        let pairs = self.connections.keys();
        let of = pairs.filter_map(|(a, b)| match (*a == node, *b == node) {
            (true, _) => Some(*b),
            (_, true) => Some(*a),
            _ => None,
        });
        of.collect()
    }

    fn step_engine(&mut self, node: usize, input: Input) {
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
                let cids = vec![cid];
                self.step_engine(node, Input::Available { cids });
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
        let mut sent = (*free).max(self.now) + transmission(size, link.bytes_per_second);
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

    fn deliver(&mut self, from: usize, to: usize, bytes: Bytes) {
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

    fn step_hostile(&mut self, node: usize, message: Option<(usize, WireMessage)>) {
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

    fn check_limits(&self) {
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

fn key(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

fn transmission(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / bytes_per_second)
}

/// Says which seed it was when a test fails.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "a failing test has to say its seed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}
