//! A network of nodes, its clock, and what befalls it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    hash::{DefaultHasher, Hash as _, Hasher},
    sync::Arc,
};

use souverain_protocol::log::{
    checkpoint::{Origin, SignedCheckpoint},
    fork::Fork,
    replica::{
        AddCheckpoint, Config, Effect, Input, Member, Message, Misbehaviour, Peer, Reading,
        Replica, Role, Ticket,
    },
};

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

/// What a node has of a log on its disk.
#[derive(Clone, Default)]
pub(crate) struct OnDisk {
    pub(crate) branch: usize,
    pub(crate) size: u64,
    checkpoint: Option<SignedCheckpoint>,
    target: Option<SignedCheckpoint>,
    pub(crate) fork: Option<Fork>,
}

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) logs: BTreeMap<usize, OnDisk>,
    cosigned: BTreeMap<Origin, SignedCheckpoint>,
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
    publishing: bool,
    /// Its clock: an offset, and how many millionths it runs fast.
    offset_ms: u64,
    fast_ppm: u64,
    pub(crate) liar: Option<Liar>,
    pub(crate) cosigned: Vec<SignedCheckpoint>,
}

#[derive(Clone)]
enum Write {
    Entries {
        log: usize,
        branch: usize,
        size: u64,
        checkpoint: SignedCheckpoint,
    },
    Fork {
        log: usize,
        fork: Box<Fork>,
        frozen: bool,
    },
    Cosigned(SignedCheckpoint),
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

    fn epoch(&self, a: usize, b: usize) -> u32 {
        let epoch = self.epochs.get(&(a.min(b), a.max(b)));
        epoch.copied().unwrap_or(0)
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
        for peer in self.links[node].clone() {
            if self.linked(node, peer) {
                self.connect(node, peer);
            }
        }
    }

    fn kept(&self, node: usize, log: usize) -> Option<souverain_protocol::log::replica::Kept> {
        let disk = self.nodes[node].disk.logs.get(&log)?;
        let mut kept = self.logs[log].branches[disk.branch].kept(disk.size);
        kept.checkpoint = disk.checkpoint.clone();
        kept.target = disk.target.clone();
        kept.fork = disk.fork.clone();
        Some(kept)
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

    fn connect(&mut self, a: usize, b: usize) {
        for (node, peer) in [(a, b), (b, a)] {
            if self.nodes[node].liar.is_some() && node < self.logs.len() {
                byzantine::greet(self, node, peer);
            }
            let peer = Peer(peer as u64);
            self.handle(node, Input::Connected { peer, late: false });
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        *self.epochs.entry((a.min(b), a.max(b))).or_default() += 1;
        for (node, peer) in [(a, b), (b, a)] {
            let peer = Peer(peer as u64);
            self.handle(node, Input::Gone { peer });
        }
    }

    fn regroup(&mut self, groups: Vec<usize>) {
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

    // Messages.

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

    fn count(&mut self, message: &Message, size: usize) {
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

    fn deliver(&mut self, to: usize, from: usize, bytes: &Arc<[u8]>, gossip: bool) {
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

    fn gossip(&mut self, node: usize, message: &Message) {
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
            Effect::Behind { .. } => {
                self.nodes[node].stopped = true;
                self.behind.push(node);
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

    fn read(&self, node: usize, wanted: &Reading) -> souverain_protocol::log::replica::Stretch {
        let log = self.index[&wanted.origin];
        let disk = &self.nodes[node].disk.logs[&log];
        assert!(wanted.size <= disk.size, "only what is kept is read");
        let entries_max = wanted.entries_max.min(self.settings.range_max);
        let wanted = Reading {
            entries_max,
            ..wanted.clone()
        };
        self.logs[log].branches[disk.branch].read(&wanted)
    }

    /// Checks that what is to be kept is one of the histories of the log, as far as it says.
    fn entries(
        &self,
        node: usize,
        origin: &Origin,
        first: u64,
        entries: &[Vec<u8>],
        checkpoint: SignedCheckpoint,
    ) -> Write {
        let log = self.index[origin];
        let disk = self.nodes[node]
            .disk
            .logs
            .get(&log)
            .cloned()
            .unwrap_or_default();
        assert_eq!(disk.size, first, "nothing is left out");
        let size = first + entries.len() as u64;
        let said = checkpoint.checkpoint();
        let truth = &self.logs[log];
        let before = &truth.branches[disk.branch].entries[..first as usize];
        let is = |branch: &Branch| {
            branch.has(0, before)
                && branch.has(first, entries)
                && branch.size() >= said.size()
                && branch.root(said.size()) == *said.root()
        };
        let branch = truth.branches.iter().position(is);
        let branch = branch.expect("only what the log has is kept");
        Write::Entries {
            log,
            branch,
            size,
            checkpoint,
        }
    }

    fn write(&mut self, node: usize, ticket: Ticket, write: Write) {
        self.nodes[node].writes.push((ticket, write));
        let life = self.nodes[node].life;
        let takes = self.random.between(MS, 8 * MS);
        // In order: nothing overtakes what was to be written before.
        let last = self.nodes[node].writes.len() as u64;
        self.at(
            self.now + takes + last * MS,
            Event::Written { node, life, ticket },
        );
    }

    fn written(&mut self, node: usize, ticket: Ticket) {
        // Those before it are durable as well.
        while let Some(first) = self.nodes[node].writes.first().map(|(ticket, _)| *ticket) {
            let (_, write) = self.nodes[node].writes.remove(0);
            self.land(node, write);
            self.handle(node, Input::Kept { ticket: first });
            if first == ticket {
                break;
            }
            if !self.nodes[node]
                .writes
                .iter()
                .any(|(other, _)| *other == ticket)
            {
                break;
            }
        }
    }

    fn land(&mut self, node: usize, write: Write) {
        let now = self.now;
        let disk = &mut self.nodes[node].disk;
        match write {
            Write::Entries {
                log,
                branch,
                size,
                checkpoint,
            } => {
                let kept = disk.logs.entry(log).or_default();
                let said = checkpoint.checkpoint().size();
                let before = kept
                    .checkpoint
                    .as_ref()
                    .map_or(0, |c| c.checkpoint().size());
                kept.branch = branch;
                kept.size = size;
                if said == size {
                    let published = self.logs[log].published.iter().rev();
                    let reached = published.take_while(|(of, _)| *of > before);
                    let reached = reached.filter(|(of, _)| *of <= said);
                    self.latencies.extend(reached.map(|(_, at)| now - at));
                    kept.checkpoint = Some(checkpoint);
                    kept.target = None;
                } else {
                    kept.target = Some(checkpoint);
                }
            }
            Write::Fork { log, fork, frozen } => {
                if frozen {
                    disk.logs.entry(log).or_default().fork = Some(*fork);
                }
            }
            Write::Cosigned(checkpoint) => {
                let origin = checkpoint.checkpoint().origin().clone();
                disk.cosigned.insert(origin, checkpoint);
            }
        }
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

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A ring, so that all are connected, and links across it.
fn mesh(settings: &Settings, random: &mut Random) -> Vec<Vec<usize>> {
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
