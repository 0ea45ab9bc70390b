//! A CAR of what everyone may have, made step by step: depth first, each block once and checked.

use std::sync::Arc;

use cid::Cid;
use protocol::{
    block::{Block, HASH_IDENTITY},
    car::{header_bytes, section_bytes},
    unixfs::{File, Node, NodeError, Slot, slot_of},
};

use super::{
    super::limits::{CAR_LINKS_MAX, CAR_REVISITS_MAX, CAR_STEP_SIZE},
    request::{ByteRange, CarAsk, Refusal, Scope},
};
use crate::shelf::{LoadError, Public, Shelf};

/// Why a CAR ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum CarFailure {
    /// A block cannot be read.
    #[error("{cid} cannot be read")]
    Load {
        /// The block.
        cid: Cid,
        /// Why not.
        #[source]
        cause: LoadError,
    },
    /// A block is not here, or not for everyone any more.
    #[error("{cid} is missing")]
    Missing {
        /// The block.
        cid: Cid,
    },
    /// A block is a node that cannot be followed.
    #[error("{cid} cannot be followed")]
    Node {
        /// The block.
        cid: Cid,
        /// Why not.
        #[source]
        cause: NodeError,
    },
    /// The walk takes more memory or time than one may.
    #[error("the DAG is of a shape that takes too much to walk")]
    Shape,
}

/// A walk that is on its way.
#[derive(Debug)]
pub(super) struct Walk {
    shelf: Arc<Shelf>,
    /// As of when the walk began: its numbers are those of `sent`.
    public: Public,
    sent: Vec<u64>,
    /// What is left to do, the next at the end.
    todo: Vec<(Cid, Take)>,
    revisits: usize,
    header: Option<Vec<u8>>,
}

/// What to take of a block and of what is below it.
#[derive(Clone, Copy, Debug)]
enum Take {
    /// The block alone.
    Block,
    /// The whole directory or file, or a part of the file.
    Entity(Option<ByteRange>),
    /// All shards of a directory.
    Shards,
    /// What a part of a file is in, from its first to its last byte.
    Part(u64, u64),
    /// Everything.
    All,
}

impl Walk {
    /// Begins a walk. Reads the blocks on the path.
    ///
    /// # Errors
    /// The path leads to nothing that everyone may have, or a block on it cannot be read.
    pub(super) fn begin(shelf: &Arc<Shelf>, ask: &CarAsk) -> Result<Self, Refusal> {
        let public = shelf.for_everyone();
        let (mut todo, end) = follow(&public, ask)?;
        todo.reverse();
        let take = match ask.scope {
            Scope::Block => Take::Block,
            Scope::Entity(range) => Take::Entity(range),
            Scope::All => Take::All,
        };
        todo.insert(0, (end, take));
        Ok(Self {
            shelf: shelf.clone(),
            sent: vec![0; public.count().div_ceil(64)],
            public,
            todo,
            revisits: 0,
            header: Some(header_bytes(&[ask.root])),
        })
    }

    /// The next bytes of the CAR; none at its end.
    ///
    /// # Errors
    /// A block is missing, damaged or cannot be followed. What was given so far is no whole CAR.
    pub(super) fn step(&mut self) -> Result<Vec<u8>, CarFailure> {
        let mut out = self.header.take().unwrap_or_default();
        while out.len() < CAR_STEP_SIZE {
            let Some((cid, take)) = self.todo.pop() else {
                break;
            };
            self.visit(cid, take, &mut out)?;
        }
        Ok(out)
    }

    fn visit(&mut self, cid: Cid, take: Take, out: &mut Vec<u8>) -> Result<(), CarFailure> {
        if is_identity(&cid) {
            // Its bytes are in the CID.
            return Ok(());
        }
        let number = self.public.number(&cid);
        let number = number.ok_or(CarFailure::Missing { cid })?;
        let (word, bit) = (number / 64, 1 << (number % 64));
        let is_first = self.sent[word] & bit == 0;
        self.sent[word] |= bit;
        if !is_first {
            self.revisits += 1;
            // Other parts of a file may be below it than those that were sent.
            if !matches!(take, Take::Part(..)) {
                return Ok(());
            }
            if self.revisits > CAR_REVISITS_MAX {
                return Err(CarFailure::Shape);
            }
        }
        // Asked anew: it may have been taken back meanwhile.
        let block = load(&self.shelf.for_everyone(), &cid)?.ok_or(CarFailure::Missing { cid })?;
        if is_first {
            out.extend_from_slice(&section_bytes(&cid, block.bytes().len()));
            out.extend_from_slice(block.bytes());
        }
        let below = below(&block, take).map_err(|cause| CarFailure::Node { cid, cause })?;
        if self.todo.len() + below.len() > CAR_LINKS_MAX {
            return Err(CarFailure::Shape);
        }
        self.todo.extend(below.into_iter().rev());
        Ok(())
    }
}

fn load(public: &Public, cid: &Cid) -> Result<Option<Block>, CarFailure> {
    let cid = *cid;
    public
        .load(&cid)
        .map_err(|cause| CarFailure::Load { cid, cause })
}

fn is_identity(cid: &Cid) -> bool {
    cid.hash().code() == HASH_IDENTITY
}

/// The blocks on a path, in order, and the one at its end, which is here.
fn follow(public: &Public, ask: &CarAsk) -> Result<(Vec<(Cid, Take)>, Cid), Refusal> {
    let (mut way, mut at, mut depth) = (Vec::new(), ask.root, 0);
    let mut names = ask.path.iter();
    let mut name = names.next();
    loop {
        if is_identity(&at) && at == ask.root && name.is_none() {
            return Ok((way, at));
        }
        let block = read(public, &at)?.ok_or(Refusal::NOT_FOUND)?;
        let Some(wanted) = name else {
            check_end(&block, ask.scope)?;
            return Ok((way, at));
        };
        let (next, is_entry) = match Node::decode(&block).map_err(|_| UNKNOWN_NODE)? {
            Node::Directory(entries) => (entry(&entries, wanted), true),
            Node::Shard(slots) => match slot(&slots, wanted, depth) {
                Some(Slot::Entry(entry)) => (Some(entry.cid), true),
                Some(Slot::Shard(link)) => (Some(link.cid), false),
                None => (None, true),
            },
            Node::Raw | Node::File(_) => (None, true),
        };
        way.push((at, Take::Block));
        at = next.ok_or(Refusal::NOT_FOUND)?;
        if is_entry {
            name = names.next();
            depth = 0;
        } else {
            depth += 1;
        }
    }
}

fn entry(entries: &[protocol::unixfs::Entry], name: &str) -> Option<Cid> {
    let found = entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
    found.ok().map(|at| entries[at].cid)
}

fn slot<'a>(slots: &'a [(u8, Slot)], name: &str, depth: usize) -> Option<&'a Slot> {
    let index = slot_of(name, depth)?;
    let at = slots
        .binary_search_by_key(&index, |(index, _)| *index)
        .ok()?;
    match &slots[at].1 {
        Slot::Entry(entry) if entry.name != name => None,
        slot => Some(slot),
    }
}

const UNKNOWN_NODE: Refusal = Refusal {
    status: 501,
    reason: "only directories and files of UnixFS are followed",
};

/// What cannot be followed at all is told before the CAR begins.
fn check_end(block: &Block, scope: Scope) -> Result<(), Refusal> {
    if scope != Scope::Block {
        Node::decode(block).map_err(|_| UNKNOWN_NODE)?;
    }
    Ok(())
}

fn read(public: &Public, cid: &Cid) -> Result<Option<Block>, Refusal> {
    public.load(cid).map_err(|error| {
        tracing::error!(%cid, %error, "a block cannot be read");
        UNREADABLE
    })
}

/// A block that is shared cannot be read.
pub(super) const UNREADABLE: Refusal = Refusal {
    status: 500,
    reason: "the block cannot be read",
};

/// What is to be taken below a block.
fn below(block: &Block, take: Take) -> Result<Vec<(Cid, Take)>, NodeError> {
    if matches!(take, Take::Block) {
        return Ok(Vec::new());
    }
    Ok(match (Node::decode(block)?, take) {
        (Node::Raw, _) | (Node::Directory(_), Take::Entity(_) | Take::Shards) => Vec::new(),
        (Node::Shard(slots), Take::Entity(_) | Take::Shards) => {
            let shards = slots.into_iter().filter_map(|(_, slot)| match slot {
                Slot::Shard(link) => Some((link.cid, Take::Shards)),
                Slot::Entry(_) => None,
            });
            shards.collect()
        }
        (Node::File(file), Take::Entity(range)) => {
            let len = file.parts.iter().map(|part| part.len).sum();
            let whole = ByteRange { from: 0, to: None };
            match range.unwrap_or(whole).within(len) {
                Some((from, to)) => parts(&file, from, to),
                None => Vec::new(),
            }
        }
        (Node::File(file), Take::Part(from, to)) => parts(&file, from, to),
        // What is linked as a part of a file, and is a directory, has no bytes.
        (_, Take::Part(..)) => Vec::new(),
        _ => {
            let links = crate::dag::links(block)?.into_iter();
            links.map(|link| (link.cid, Take::All)).collect()
        }
    })
}

/// The parts of a file that some of its bytes are in.
fn parts(file: &File, from: u64, to: u64) -> Vec<(Cid, Take)> {
    let mut start = 0;
    let mut found = Vec::new();
    for part in &file.parts {
        let end = start + part.len;
        if part.len > 0 && start <= to && from < end {
            let (first, last) = (from.max(start) - start, to.min(end - 1) - start);
            found.push((part.link.cid, Take::Part(first, last)));
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests;
