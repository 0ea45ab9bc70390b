//! The disks of nodes: what is kept of each log, and what is on its way there.

use std::collections::BTreeMap;

use souverain_protocol::log::{
    checkpoint::{Origin, SignedCheckpoint},
    fork::Fork,
    replica::{Input, Kept, Reading, Stretch, Ticket},
};

use super::{Event, MS, World};
use crate::logs::Branch;

/// What a node has of a log on its disk.
#[derive(Clone, Default)]
pub(crate) struct OnDisk {
    pub(crate) branch: usize,
    pub(crate) size: u64,
    pub(super) checkpoint: Option<SignedCheckpoint>,
    pub(super) target: Option<SignedCheckpoint>,
    pub(crate) fork: Option<Fork>,
}

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) logs: BTreeMap<usize, OnDisk>,
    pub(super) cosigned: BTreeMap<Origin, SignedCheckpoint>,
}

#[derive(Clone)]
pub(super) enum Write {
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

impl World {
    pub(super) fn kept(&self, node: usize, log: usize) -> Option<Kept> {
        let disk = self.nodes[node].disk.logs.get(&log)?;
        let mut kept = self.logs[log].branches[disk.branch].kept(disk.size);
        kept.checkpoint = disk.checkpoint.clone();
        kept.target = disk.target.clone();
        kept.fork = disk.fork.clone();
        Some(kept)
    }

    pub(super) fn read(&self, node: usize, wanted: &Reading) -> Stretch {
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
    pub(super) fn entries(
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

    pub(super) fn write(&mut self, node: usize, ticket: Ticket, write: Write) {
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

    pub(super) fn written(&mut self, node: usize, ticket: Ticket) {
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

    pub(super) fn land(&mut self, node: usize, write: Write) {
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
}
