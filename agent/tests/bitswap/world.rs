//! A world of engines on simulated links, in which time passes only when something is due.

mod effects;
mod links;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{digest_of, raw_cid, sha256};
use souverain_agent::bitswap::{Config, Engine, Input, Misbehaviour, Rates, SessionId, Wanted};

pub(crate) use self::links::Link;
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
        self.node(Mind::Honest(Box::new(Engine::new(Config {
            seed,
            rates,
            ..Config::default()
        }))))
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
}

fn key(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
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
