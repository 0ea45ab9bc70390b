//! One log, as far as a replica has it in memory.

use std::collections::VecDeque;

use super::{
    events::{Kept, Member, Peer},
    limits::{HOLDERS_PER_ORIGIN_MAX, OPEN_PER_ORIGIN_MAX, SETTLED_PER_ORIGIN_MAX},
};
use crate::log::{
    checkpoint::SignedCheckpoint,
    fork::Fork,
    keys::KeyHistory,
    tree::{Edge, Hash},
};

/// A log that is followed.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) member: Member,
    pub(super) own: bool,
    pub(super) keys: Option<KeyHistory>,
    pub(super) edge: Edge,
    /// The last checkpoint that is kept with all that it covers.
    pub(super) checkpoint: Option<SignedCheckpoint>,
    /// The one that covers what is kept beyond that.
    pub(super) target: Option<SignedCheckpoint>,
    /// Nothing more is taken of the log once there is one.
    pub(super) fork: Option<Fork>,
    /// Whether that is durable.
    pub(super) fork_kept: bool,
    /// Other proofs that were kept.
    pub(super) forks: Vec<Fork>,
    /// Signed by the log, but not known to go with what is kept.
    pub(super) open: Vec<SignedCheckpoint>,
    /// Sizes and roots that go with what is kept, the latest last.
    settled: VecDeque<(u64, Hash)>,
    /// Peers that say that they have more, and how much.
    pub(super) holders: Vec<(Peer, u64)>,
    pub(super) asking: bool,
    pub(super) keeping: bool,
    pub(super) comparing: bool,
}

impl Log {
    pub(super) fn new(member: Member, kept: Option<Kept>, own: bool) -> Self {
        let mut log = Self {
            member,
            own,
            keys: None,
            edge: Edge::new(),
            checkpoint: None,
            target: None,
            fork: None,
            fork_kept: true,
            forks: Vec::new(),
            open: Vec::new(),
            settled: VecDeque::new(),
            holders: Vec::new(),
            asking: false,
            keeping: false,
            comparing: false,
        };
        if let Some(kept) = kept {
            log.keys = Some(kept.keys);
            log.edge = kept.edge;
            log.target = kept.target;
            log.fork = kept.fork;
            if let Some(checkpoint) = kept.checkpoint {
                log.reach(checkpoint);
            }
        }
        log
    }

    /// The size that it has a checkpoint of.
    pub(super) fn size(&self) -> u64 {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.map_or(0, |checkpoint| checkpoint.checkpoint().size())
    }

    /// Takes a checkpoint as the one that is kept.
    pub(super) fn reach(&mut self, checkpoint: SignedCheckpoint) {
        let said = checkpoint.checkpoint();
        self.settle(said.size(), *said.root());
        self.checkpoint = Some(checkpoint);
        if self.size() == self.edge.size() {
            self.target = None;
        }
    }

    /// Remembers that a checkpoint goes with what is kept, or that nothing more is to be made of it.
    pub(super) fn settle(&mut self, size: u64, root: Hash) {
        self.open.retain(|open| {
            let open = open.checkpoint();
            (open.size(), *open.root()) != (size, root)
        });
        if self.is_settled(size, &root) {
            return;
        }
        self.settled.push_back((size, root));
        if self.settled.len() > SETTLED_PER_ORIGIN_MAX {
            self.settled.pop_front();
        }
    }

    pub(super) fn is_settled(&self, size: u64, root: &Hash) -> bool {
        self.settled.contains(&(size, *root))
    }

    /// A checkpoint of the log of the same size and another root.
    pub(super) fn contradicts(&self, checkpoint: &SignedCheckpoint) -> Option<&SignedCheckpoint> {
        let said = checkpoint.checkpoint();
        let known = self.checkpoint.iter().chain(&self.target).chain(&self.open);
        let mut known = known.filter(|known| known.checkpoint().size() == said.size());
        known.find(|known| known.checkpoint().root() != said.root())
    }

    /// Remembers a checkpoint until it is known to go with what is kept. The largest is never given up for others.
    pub(super) fn open(&mut self, checkpoint: SignedCheckpoint) {
        let said = checkpoint.checkpoint();
        let known = self.open.iter().map(SignedCheckpoint::checkpoint);
        if said.size() == 0
            || known
                .clone()
                .any(|known| (known.size(), known.root()) == (said.size(), said.root()))
        {
            return;
        }
        if self.open.len() >= OPEN_PER_ORIGIN_MAX {
            let largest = known.map(|known| known.size()).max();
            let other = self
                .open
                .iter()
                .position(|open| Some(open.checkpoint().size()) != largest);
            self.open.remove(other.unwrap_or(0));
        }
        self.open.push(checkpoint);
    }

    /// Remembers how much of the log a peer says that it has.
    pub(super) fn held_by(&mut self, peer: Peer, size: u64) {
        self.forget(peer);
        if size <= self.edge.size() {
            return;
        }
        if self.holders.len() >= HOLDERS_PER_ORIGIN_MAX {
            let sizes = self.holders.iter().enumerate();
            let Some((least, _)) = sizes.min_by_key(|(_, (_, size))| *size) else {
                return;
            };
            self.holders.remove(least);
        }
        self.holders.push((peer, size));
    }

    pub(super) fn forget(&mut self, peer: Peer) {
        self.holders.retain(|(holder, _)| *holder != peer);
    }

    /// Whether the log is known to be longer than what is kept.
    pub(super) fn is_longer(&self) -> bool {
        let known = self.target.iter().chain(&self.open);
        let mut sizes = known.map(|known| known.checkpoint().size());
        sizes.any(|size| size > self.edge.size()) || !self.holders.is_empty()
    }
}
