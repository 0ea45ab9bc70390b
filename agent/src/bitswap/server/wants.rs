//! What one peer wants of this node, and how far each want has come.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use cid::Cid;

use crate::bitswap::{
    Ticket,
    engine::Key,
    limits::{BLOCKS_PER_MESSAGE_PACKED, MESSAGE_SIZE_PACKED},
};

/// One want of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// As the peer names the block.
    pub(super) cid: Cid,
    pub(super) priority: i32,
    /// The block, or only whether it is here.
    pub(super) block: bool,
    pub(super) send_dont_have: bool,
    /// Times that a message with the block was lost.
    pub(super) failures: u8,
    state: State,
    /// Orders wants of one priority, and of one state, by age.
    age: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be looked up.
    Fresh,
    /// Being looked up.
    Asked(Ticket),
    /// Here, to be loaded.
    Ready { size: u32 },
    /// Being loaded; if cancelled meanwhile, to be forgotten after.
    Loading { ticket: Ticket, cancelled: bool },
    /// Not here, or not for this peer: answered, and kept in case that changes.
    Waiting,
}

/// The wants of one peer, each block once.
#[derive(Debug, Default)]
pub(super) struct Wants {
    wants: BTreeMap<Key, Want>,
    fresh: VecDeque<Key>,
    ready: BTreeSet<(Reverse<i32>, u64, Key)>,
    ready_bytes: u64,
    waiting: BTreeSet<(u64, Key)>,
    ages: u64,
}

/// What is taken to be loaded: the blocks of one message.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) keys: Vec<Key>,
    pub(super) cids: Vec<Cid>,
    pub(super) bytes: usize,
}

impl Want {
    pub(super) fn new(cid: Cid, priority: i32, block: bool, send_dont_have: bool) -> Self {
        Self {
            cid,
            priority,
            block,
            send_dont_have,
            failures: 0,
            state: State::Fresh,
            age: 0,
        }
    }
}

impl Wants {
    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    pub(super) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.wants.contains_key(key)
    }

    /// Adds a want, or takes over what is new about one that was not answered yet.
    pub(super) fn add(&mut self, key: Key, want: Want) {
        let Some(mut known) = self.wants.remove(&key) else {
            self.insert_fresh(key, want);
            return;
        };
        match &mut known.state {
            State::Waiting | State::Ready { .. } => {
                let block = known.block || want.block;
                self.unlist(&key, &known);
                match known.state {
                    // What was a want for presence when it was looked up may have been
                    // answered as one; what is ready will be sent as a block anyway.
                    State::Ready { .. } => {
                        known.priority = want.priority;
                        known.block = block;
                        self.list(key, known);
                    }
                    _ => self.insert_fresh(key, want),
                }
            }
            State::Fresh | State::Asked(_) => {
                known.block |= want.block;
                known.send_dont_have |= want.send_dont_have;
                known.priority = want.priority;
                self.wants.insert(key, known);
            }
            State::Loading { cancelled, .. } => {
                *cancelled = false;
                self.wants.insert(key, known);
            }
        }
    }

    /// Puts back a block whose message was lost, at the size that it had.
    pub(super) fn add_again(&mut self, key: Key, mut want: Want, size: u32) {
        if self.wants.contains_key(&key) {
            return;
        }
        want.state = State::Ready { size };
        self.list(key, want);
    }

    pub(super) fn cancel(&mut self, key: &Key) {
        let Some(want) = self.wants.get_mut(key) else {
            return;
        };
        if let State::Loading { cancelled, .. } = &mut want.state {
            *cancelled = true;
            return;
        }
        let want = *want;
        self.unlist(key, &want);
        self.wants.remove(key);
    }

    pub(super) fn cancel_all(&mut self) {
        let keys: Vec<Key> = self.wants.keys().copied().collect();
        for key in keys {
            self.cancel(&key);
        }
    }

    /// Drops the want that has waited longest for a block that is not here.
    pub(super) fn evict_waiting(&mut self) -> bool {
        let Some((_, key)) = self.waiting.pop_first() else {
            return false;
        };
        self.wants.remove(&key);
        true
    }

    /// Takes wants to be looked up.
    pub(super) fn ask(&mut self, ticket: Ticket, count_max: usize) -> (Vec<Key>, Vec<Cid>) {
        let (mut keys, mut cids) = (Vec::new(), Vec::new());
        while keys.len() < count_max {
            let Some(key) = self.fresh.pop_front() else {
                break;
            };
            // Cancelled ones stay in the queue.
            if let Some(want) = self.wants.get_mut(&key)
                && want.state == State::Fresh
            {
                want.state = State::Asked(ticket);
                keys.push(key);
                cids.push(want.cid);
            }
        }
        (keys, cids)
    }

    /// The want that a look-up is about, taken out; `None` if it was cancelled meanwhile.
    pub(super) fn take_asked(&mut self, key: &Key, ticket: Ticket) -> Option<Want> {
        let asked = self.wants.get(key)?.state == State::Asked(ticket);
        if asked { self.wants.remove(key) } else { None }
    }

    /// Puts a want in line for its block.
    pub(super) fn make_ready(&mut self, key: Key, mut want: Want, size: u32) {
        want.state = State::Ready { size };
        self.list(key, want);
    }

    /// Keeps a want for a block that is not here.
    pub(super) fn make_waiting(&mut self, key: Key, mut want: Want) {
        want.state = State::Waiting;
        self.list(key, want);
    }

    /// Has all blocks looked up again that were not here. True if there are any.
    pub(super) fn reconsider(&mut self) -> bool {
        let waiting = std::mem::take(&mut self.waiting);
        for (_, key) in &waiting {
            if let Some(want) = self.wants.get(key).copied() {
                self.insert_fresh(*key, want);
            }
        }
        !waiting.is_empty()
    }

    /// The blocks of the next message, and their size together.
    pub(super) fn peek_batch(&self) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for (_, _, key) in &self.ready {
            let size = self.wants.get(key).map_or(0, Want::size);
            if count == BLOCKS_PER_MESSAGE_PACKED
                || (count > 0 && bytes + size > MESSAGE_SIZE_PACKED)
            {
                break;
            }
            count += 1;
            bytes += size;
        }
        (count, bytes)
    }

    /// Takes as many blocks as [`Wants::peek_batch`] counted.
    pub(super) fn take_batch(&mut self, ticket: Ticket, count: usize) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..count {
            let Some((_, _, key)) = self.ready.pop_first() else {
                break;
            };
            if let Some(want) = self.wants.get_mut(&key) {
                batch.bytes += want.size();
                batch.cids.push(want.cid);
                batch.keys.push(key);
                want.state = State::Loading {
                    ticket,
                    cancelled: false,
                };
            }
        }
        self.ready_bytes -= batch.bytes as u64;
        batch
    }

    /// The want that a load is about, taken out; `None` if it was cancelled meanwhile.
    pub(super) fn take_loading(&mut self, key: &Key, ticket: Ticket) -> Option<Want> {
        match self.wants.get(key)?.state {
            State::Loading {
                ticket: of,
                cancelled,
            } if of == ticket => self.wants.remove(key).filter(|_| !cancelled),
            _ => None,
        }
    }

    fn insert_fresh(&mut self, key: Key, mut want: Want) {
        want.state = State::Fresh;
        self.fresh.push_back(key);
        self.wants.insert(key, want);
        // Bounded by the wants, though cancelled ones leave their keys behind.
        if self.fresh.len() > 2 * self.wants.len() + 64 {
            let wants = &self.wants;
            let mut seen = BTreeSet::new();
            self.fresh.retain(|key| {
                wants.get(key).is_some_and(|w| w.state == State::Fresh) && seen.insert(*key)
            });
        }
    }

    /// Inserts a want under its state's index.
    fn list(&mut self, key: Key, mut want: Want) {
        self.ages += 1;
        want.age = self.ages;
        match want.state {
            State::Ready { size } => {
                self.ready.insert((Reverse(want.priority), want.age, key));
                self.ready_bytes += u64::from(size);
            }
            State::Waiting => {
                self.waiting.insert((want.age, key));
            }
            State::Fresh | State::Asked(_) | State::Loading { .. } => {}
        }
        self.wants.insert(key, want);
    }

    /// Takes a want off its state's index.
    fn unlist(&mut self, key: &Key, want: &Want) {
        match want.state {
            State::Ready { size } => {
                self.ready.remove(&(Reverse(want.priority), want.age, *key));
                self.ready_bytes -= u64::from(size);
            }
            State::Waiting => {
                self.waiting.remove(&(want.age, *key));
            }
            State::Fresh | State::Asked(_) | State::Loading { .. } => {}
        }
    }
}

impl Want {
    fn size(&self) -> usize {
        match self.state {
            State::Ready { size } => size as usize,
            _ => 0,
        }
    }
}
