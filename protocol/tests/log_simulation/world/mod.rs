//! A network of nodes, its clock, and what befalls it.

mod disk;
mod network;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    hash::{DefaultHasher, Hash as _, Hasher},
    sync::Arc,
};

use souverain_protocol::log::{
    checkpoint::{Origin, SignedCheckpoint},
    replica::{
        AddCheckpoint, Config, Effect, Input, Member, Misbehaviour, Peer, Reading, Replica, Role,
        Ticket,
    },
};

use disk::Write;
pub(crate) use disk::{Disk, OnDisk};
use network::mesh;

use crate::{
    byzantine::{self, Liar},
    logs::{Branch, cosigner},
    random::Random,
};

/// Microseconds of simulated time.
pub(crate) const SECOND: u64 = 1_000_000;
const MS: u64 = 1_000;

/// What a network is like.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) nodes: usize,
    /// Links of each node, at least.
    pub(crate) degree: usize,
    /// How many nodes, from the first, have a log of their own.
    pub(crate) logs: usize,
    pub(crate) delay_us: u64,
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicates_per_mille: u64,
    /// Entries that are read at once.
    pub(crate) range_max: u64,
}

/// A log, and whose it is.
pub(crate) struct Truth {
    pub(crate) origin: Origin,
    pub(crate) branches: Vec<Branch>,
    /// Up to here all branches are the same.
    pub(crate) common: u64,
    /// When each size was published.
    pub(crate) published: Vec<(u64, u64)>,
}

pub(crate) struct Node {
    pub(crate) up: bool,
    life: u32,
    replica: Replica,
    pub(crate) disk: Disk,
    backup: Option<Disk>,
    /// What is on its way to the disk.
    writes: Vec<(Ticket, Write)>,
    heard: BTreeSet<u64>,
    told: BTreeSet<u64>,
    agreed: BTreeSet<Peer>,
    started: u64,
    pub(crate) stopped: bool,
    /// How much of its own log others have, as it remembers.
    owed: u64,
    publishing: bool,
    /// Its clock: an offset, and how many millionths it runs fast.
    offset_ms: u64,
    fast_ppm: u64,
    pub(crate) liar: Option<Liar>,
    pub(crate) cosigned: Vec<SignedCheckpoint>,
}

pub(crate) enum Event {
    Deliver {
        to: usize,
        from: usize,
        epoch: u32,
        bytes: Arc<[u8]>,
        gossip: bool,
    },
    Written {
        node: usize,
        life: u32,
        ticket: Ticket,
    },
    Wake {
        node: usize,
        life: u32,
        at_ms: u64,
    },
    Append {
        log: usize,
        entries: u64,
        rotate: bool,
    },
    Published {
        node: usize,
        life: u32,
        log: usize,
        entries: u64,
        rotate: bool,
    },
    /// Groups of nodes that do not reach one another; one group is none.
    Part(Vec<usize>),
    Crash(usize),
    Start(usize),
    Backup(usize),
    Rollback(usize),
    /// A connection breaks, and is made again.
    Reset(usize, usize),
    /// A log asks a witness for its cosignature.
    AskWitness {
        log: usize,
        witness: usize,
    },
    /// A log begins to lie.
    Fork(usize),
}

struct Queued(u64, u64, Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// Bytes that went over the links, by kind.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Traffic {
    pub(crate) gossip: u64,
    pub(crate) frontiers: u64,
    pub(crate) requests: u64,
    pub(crate) ranges: u64,
    pub(crate) entries: u64,
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) logs: Vec<Truth>,
    index: BTreeMap<Origin, usize>,
    pub(crate) links: Vec<Vec<usize>>,
    epochs: BTreeMap<(usize, usize), u32>,
    groups: Vec<usize>,
    /// When links or nodes changed last.
    pub(crate) changed: u64,
    pub(crate) traffic: Traffic,
    /// From publication to each node's disk, in microseconds.
    pub(crate) latencies: Vec<u64>,
    pub(crate) scores: BTreeMap<(usize, Misbehaviour), u64>,
    pub(crate) behind: Vec<usize>,
    pub(crate) healed: usize,
    /// A digest of everything that happened.
    trace: DefaultHasher,
    calls: BTreeMap<u64, usize>,
    pub(crate) witness_roles: BTreeMap<usize, u64>,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings, witness_roles: BTreeMap<usize, u64>) -> Self {
        let mut random = Random(seed);
        let logs: Vec<Truth> = (0..settings.logs)
            .map(|log| {
                let branch = Branch::new(seed << 20 ^ log as u64);
                Truth {
                    origin: branch.origin().clone(),
                    branches: vec![branch],
                    common: u64::MAX,
                    published: vec![(1, 0)],
                }
            })
            .collect();
        let links = mesh(&settings, &mut random);
        let index = logs
            .iter()
            .enumerate()
            .map(|(i, log)| (log.origin.clone(), i));
        let index = index.collect();
        let nodes = (0..settings.nodes).map(|node| {
            let mut disk = Disk::default();
            if let Some(log) = logs.get(node) {
                let own = OnDisk {
                    branch: 0,
                    size: 1,
                    checkpoint: Some(log.branches[0].checkpoint()),
                    target: None,
                    fork: None,
                };
                disk.logs.insert(node, own);
            }
            Node {
                up: false,
                life: 0,
                replica: Replica::new(Config::default()),
                disk,
                backup: None,
                writes: Vec::new(),
                heard: BTreeSet::new(),
                told: BTreeSet::new(),
                agreed: BTreeSet::new(),
                started: 0,
                stopped: false,
                owed: 0,
                publishing: false,
                offset_ms: random.below(1 << 40),
                fast_ppm: random.below(20_000),
                liar: None,
                cosigned: Vec::new(),
            }
        });
        let nodes = nodes.collect();
        let groups = vec![0; settings.nodes];
        let mut world = Self {
            settings,
            random,
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            nodes,
            logs,
            index,
            links,
            epochs: BTreeMap::new(),
            groups,
            changed: 0,
            traffic: Traffic::default(),
            latencies: Vec::new(),
            scores: BTreeMap::new(),
            behind: Vec::new(),
            healed: 0,
            trace: DefaultHasher::new(),
            calls: BTreeMap::new(),
            witness_roles,
        };
        for node in 0..world.settings.nodes {
            let at = world.random.below(SECOND);
            world.at(at, Event::Start(node));
        }
        world
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.queued += 1;
        self.queue
            .push(Reverse(Queued(time.max(self.now), self.queued, event)));
    }

    /// What happened, as a number.
    pub(crate) fn digest(&self) -> u64 {
        self.trace.finish()
    }

    /// Goes on until a time.
    pub(crate) fn run(&mut self, until: u64) {
        while self.queue.peek().is_some_and(|next| next.0.0 <= until) {
            if let Some(Reverse(Queued(time, number, event))) = self.queue.pop() {
                self.now = time;
                (time, number).hash(&mut self.trace);
                self.happen(event);
            }
        }
        self.now = until;
    }

    pub(crate) fn is_honest(&self, node: usize) -> bool {
        self.nodes[node].liar.is_none()
    }

    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        self.nodes[a].up && self.nodes[b].up && self.groups[a] == self.groups[b]
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver {
                to,
                from,
                epoch,
                bytes,
                gossip,
            } => {
                if self.linked(to, from) && epoch == self.epoch(to, from) {
                    self.deliver(to, from, &bytes, gossip);
                }
            }
            Event::Written { node, life, ticket } => {
                if self.nodes[node].life == life && self.nodes[node].up {
                    self.written(node, ticket);
                }
            }
            Event::Wake { node, life, at_ms } => {
                let now_ms = self.clock(node);
                if self.nodes[node].life == life && self.nodes[node].up && now_ms >= at_ms {
                    self.handle(node, Input::Tick);
                }
            }
            Event::Append {
                log,
                entries,
                rotate,
            } => self.append(log, entries, rotate),
            Event::Published {
                node,
                life,
                log,
                entries,
                rotate,
            } => {
                if self.nodes[node].life == life && self.nodes[node].up {
                    self.publish(log, entries, rotate);
                    self.nodes[node].publishing = false;
                    self.grew(node, log);
                }
            }
            Event::Part(groups) => self.regroup(groups),
            Event::Crash(node) => self.crash(node),
            Event::Start(node) => self.start(node),
            Event::Backup(node) => self.nodes[node].backup = Some(self.nodes[node].disk.clone()),
            Event::Rollback(node) => {
                // What nobody saw may be signed again.
                let up = self.nodes[node].up;
                let seen = (0..self.nodes.len()).any(|other| self.has_all(other, node));
                if let Some(backup) = self.nodes[node].backup.take().filter(|_| seen && !up) {
                    // Nobody keeps fork proofs and the memory of a witness in backups only: they are for ever.
                    self.nodes[node].disk.logs = backup.logs;
                    self.nodes[node].owed = 0;
                }
            }
            Event::Reset(a, b) => {
                if self.linked(a, b) {
                    self.disconnect(a, b);
                    self.connect(a, b);
                }
            }
            Event::AskWitness { log, witness } => self.ask_witness(log, witness),
            Event::Fork(log) => byzantine::fork(self, log),
        }
    }

    // Nodes and links.

    fn start(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.changed = self.now;
        let own = self.logs.get(node).map(|log| log.origin.clone());
        let seed = self.random.next();
        let state = &mut self.nodes[node];
        state.up = true;
        state.life += 1;
        state.agreed.clear();
        state.stopped = state.owed > 0;
        state.started = self.now;
        state.heard.clear();
        state.told.clear();
        state.publishing = false;
        state.replica = Replica::new(Config {
            seed,
            own,
            cosigned: (self.witness_roles.contains_key(&node)).then(|| state.disk.cosigned.clone()),
        });
        for log in 0..self.logs.len() {
            let origin = self.logs[log].origin.clone();
            let roles = match self.witness_roles.get(&log) {
                Some(number) => vec![Role::Tenant, Role::Witness(Box::new(cosigner(*number)))],
                None => vec![Role::Tenant],
            };
            let kept = self.kept(node, log).map(Box::new);
            let member = Member { origin, roles };
            self.handle(node, Input::Follow { member, kept });
        }
        let size = self.nodes[node].owed;
        if size > 0 {
            self.handle(node, Input::Owed { size });
        }
        for peer in self.links[node].clone() {
            if self.linked(node, peer) {
                self.connect(node, peer);
            }
        }
    }

    fn crash(&mut self, node: usize) {
        if !self.nodes[node].up {
            return;
        }
        self.changed = self.now;
        for peer in self.links[node].clone() {
            if self.linked(node, peer) {
                self.disconnect(node, peer);
            }
        }
        self.nodes[node].up = false;
        // Some of what was on its way landed.
        let writes = std::mem::take(&mut self.nodes[node].writes);
        let landed = self.random.below(writes.len() as u64 + 1) as usize;
        for (_, write) in writes.into_iter().take(landed) {
            self.land(node, write);
        }
        if self.nodes[node].publishing && self.random.chance(500) {
            self.publish(node, 1, false);
        }
    }

    // Replicas.

    fn clock(&self, node: usize) -> u64 {
        let state = &self.nodes[node];
        state.offset_ms + (self.now + self.now / SECOND * state.fast_ppm) / MS
    }

    pub(crate) fn handle(&mut self, node: usize, input: Input) {
        if !self.nodes[node].up {
            return;
        }
        let now_ms = self.clock(node);
        let effects = self.nodes[node].replica.handle(now_ms, input);
        for effect in effects {
            self.carry_out(node, now_ms, effect);
        }
    }

    fn carry_out(&mut self, node: usize, now_ms: u64, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Send { peer, message } => {
                let to = peer.0 as usize;
                if let Some(message) = byzantine::twist(self, node, message) {
                    self.tell(node, to, &message);
                }
            }
            Effect::Announce { message } => {
                if let Some(message) = byzantine::twist(self, node, message) {
                    self.gossip(node, &message);
                }
            }
            Effect::Read { ticket, wanted } => {
                let stretch = Some(self.read(node, &wanted));
                self.handle(node, Input::Read { ticket, stretch });
            }
            Effect::Keep {
                ticket,
                origin,
                first,
                entries,
                checkpoint,
            } => {
                let write = self.entries(node, &origin, first, &entries, checkpoint);
                self.write(node, ticket, write);
            }
            Effect::KeepFork {
                ticket,
                origin,
                fork,
                frozen,
            } => {
                let log = self.index[&origin];
                self.write(node, ticket, Write::Fork { log, fork, frozen });
            }
            Effect::KeepCosigned { ticket, checkpoint } => {
                self.write(node, ticket, Write::Cosigned(checkpoint));
            }
            Effect::Cosign { call, checkpoint } => {
                let origin = checkpoint.checkpoint().origin();
                let remembered = self.nodes[node].disk.cosigned.get(origin);
                let remembered = remembered.map(SignedCheckpoint::checkpoint);
                assert_eq!(
                    remembered,
                    Some(checkpoint.checkpoint()),
                    "remembered first"
                );
                self.calls.remove(&call);
                self.nodes[node].cosigned.push(checkpoint);
            }
            Effect::Refuse { call, .. } => {
                self.calls.remove(&call);
            }
            Effect::Frozen { origin } => {
                let log = self.index[&origin];
                assert!(
                    !self.is_honest_log(log),
                    "node {node} accuses the honest log {log}"
                );
            }
            Effect::Behind { seen, .. } => {
                let state = &mut self.nodes[node];
                state.owed = seen.checkpoint().size();
                state.stopped = true;
                state.agreed.clear();
                self.behind.push(node);
            }
            Effect::Healed => {
                let state = &mut self.nodes[node];
                state.owed = 0;
                state.stopped = false;
                self.healed += 1;
            }
            Effect::Agrees { peer } => {
                self.nodes[node].agreed.insert(peer);
            }
            Effect::Score { peer, because } => {
                let peer = peer.0 as usize;
                *self.scores.entry((peer, because)).or_default() += 1;
            }
            Effect::Wake { at_ms } => {
                // A little late on the fast clock is late enough.
                let wait = at_ms.saturating_sub(now_ms) + 1;
                self.at(self.now + wait * MS, Event::Wake { node, life, at_ms });
            }
        }
    }

    pub(crate) fn is_honest_log(&self, log: usize) -> bool {
        self.logs[log].branches.len() == 1
    }

    // Logs.

    fn append(&mut self, log: usize, entries: u64, rotate: bool) {
        let node = log;
        if self.nodes[node].liar.is_some() && !self.is_honest_log(log) {
            return byzantine::append(self, log, entries);
        }
        let state = &self.nodes[node];
        let wanted = self.links[node].len().min(3);
        // Peers may have heard of more than they have yet.
        let early = state.life > 1 && self.now < state.started + 15 * SECOND;
        let unsure = early || state.agreed.len() < wanted;
        if !state.up || state.stopped || state.publishing || unsure {
            return;
        }
        self.nodes[node].publishing = true;
        let life = self.nodes[node].life;
        let takes = self.random.between(MS, 20 * MS);
        self.at(
            self.now + takes,
            Event::Published {
                node,
                life,
                log,
                entries,
                rotate,
            },
        );
    }

    fn publish(&mut self, log: usize, entries: u64, rotate: bool) {
        if !self.is_honest_log(log) {
            return;
        }
        let disk = &self.nodes[log].disk.logs[&log];
        let branch = &mut self.logs[log].branches[0];
        assert_eq!(
            disk.size,
            branch.size(),
            "a log that was rolled back goes on"
        );
        for i in 0..entries {
            branch.append(self.now + i, rotate && i == 0);
        }
        let size = branch.size();
        let checkpoint = Some(branch.checkpoint());
        self.logs[log].published.push((size, self.now));
        let own = OnDisk {
            branch: 0,
            size,
            checkpoint,
            target: None,
            fork: None,
        };
        self.nodes[log].disk.logs.insert(log, own);
    }

    fn grew(&mut self, node: usize, log: usize) {
        if let Some(kept) = self.kept(node, log) {
            let kept = Box::new(kept);
            self.handle(node, Input::Grew { kept });
        }
    }

    fn ask_witness(&mut self, log: usize, witness: usize) {
        let branches = self.logs[log].branches.len() as u64;
        let branch = self.random.below(branches) as usize;
        let branch = &self.logs[log].branches[branch];
        let origin = branch.origin().clone();
        let last = self.nodes[witness].disk.cosigned.get(&origin);
        let old = last.map_or(0, |last| last.checkpoint().size());
        let size = branch.size();
        if old > size {
            return;
        }
        let wanted = Reading {
            origin,
            from: old,
            size,
            entries_max: 0,
        };
        let mut proof = branch.read(&wanted).grown;
        if old.is_power_of_two() && !proof.is_empty() {
            proof.remove(0);
        }
        let request = AddCheckpoint {
            old_size: old,
            proof,
            checkpoint: branch.checkpoint().into(),
        };
        let call = self.random.next();
        self.calls.insert(call, log);
        let request = Box::new(request);
        self.handle(witness, Input::AddCheckpoint { call, request });
    }

    pub(crate) fn replica(&self, node: usize) -> &Replica {
        &self.nodes[node].replica
    }

    /// Whether another node, up and honest, has all that a node's own log has signed.
    fn has_all(&self, other: usize, log: usize) -> bool {
        let Some(truth) = self.logs.get(log) else {
            return true;
        };
        let disk = self.nodes[other].disk.logs.get(&log);
        other != log
            && self.nodes[other].up
            && self.is_honest(other)
            && disk.is_some_and(|disk| disk.size == truth.branches[0].size())
    }

    pub(crate) fn holds(&self, node: usize, log: usize) -> u64 {
        let origin = &self.logs[log].origin;
        let checkpoint = self.nodes[node].replica.checkpoint(origin);
        checkpoint.map_or(0, |checkpoint| checkpoint.checkpoint().size())
    }
}
