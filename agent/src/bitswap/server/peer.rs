//! One peer that is served: its wants, its turn, and what it has not taken yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cid::Cid;

use super::{
    fits,
    wants::{Want, Wants},
};
use crate::bitswap::{
    bucket::Bucket,
    engine::{Key, key_of},
    events::{Answer, MessageId, PeerCounts, Protocol},
    limits::{HAVE_REPLACED_SIZE_MAX, REPEATED_AFTER, UNTAKEN_MESSAGES_PER_PEER_MAX},
    message::{Entry, Presence, Request},
};

#[derive(Debug)]
pub(super) struct Served {
    pub(super) protocol: Protocol,
    /// Tells this connection from earlier ones of the same peer.
    pub(super) connection: u64,
    pub(super) wants: Wants,
    /// HAVE and DONT_HAVE to be sent.
    pub(super) answers: Vec<Presence>,
    pub(super) looking_up: bool,
    pub(super) in_fresh: bool,
    pub(super) turn: Turn,
    /// Bytes that the peer may be sent before the next has its turn.
    pub(super) deficit: usize,
    pub(super) upload: Bucket,
    /// Wantlist entries, by how many of them may come.
    pub(super) entries: Bucket,
    /// Bytes that are being loaded, or sent and not taken.
    pub(super) untaken_bytes: usize,
    pub(super) untaken: BTreeMap<MessageId, Untaken>,
    /// Blocks in what it has not taken.
    sending: BTreeSet<Key>,
    /// When it last took something.
    pub(super) taken_at: Duration,
    pub(super) counts: PeerCounts,
}

/// Whether a peer waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It does not: it wants nothing, or takes nothing.
    None,
    InRing,
    /// Its rate allows nothing before this time.
    Throttled(Duration),
}

/// A message that was sent and not taken.
#[derive(Debug)]
pub(super) struct Untaken {
    pub(super) bytes: usize,
    /// A full wantlist came since: its blocks are wanted no more, or were wanted anew.
    pub(super) void: bool,
    pub(super) blocks: Vec<(Key, Want, u32)>,
}

impl Served {
    pub(super) fn new(protocol: Protocol, connection: u64) -> Self {
        Self {
            protocol,
            connection,
            wants: Wants::default(),
            answers: Vec::new(),
            looking_up: false,
            in_fresh: false,
            turn: Turn::None,
            deficit: 0,
            upload: Bucket::default(),
            entries: Bucket::default(),
            untaken_bytes: 0,
            untaken: BTreeMap::new(),
            sending: BTreeSet::new(),
            taken_at: Duration::ZERO,
            counts: PeerCounts::default(),
        }
    }

    /// Wants and unsent answers.
    pub(super) fn held(&self) -> usize {
        self.wants.len() + self.answers.len()
    }

    pub(super) fn takes_messages(&self) -> bool {
        self.untaken.len() < UNTAKEN_MESSAGES_PER_PEER_MAX
    }

    /// Whether it may be sent a message of this size, where each peer may hold so much.
    pub(super) fn takes(&self, bytes: usize, share: usize) -> bool {
        let fits = self.untaken_bytes == 0 || self.untaken_bytes + bytes <= share;
        self.takes_messages() && fits
    }

    /// Whether it has taken nothing for too long; said once in each such time.
    pub(super) fn stalled(&mut self, now: Duration, after: Duration) -> bool {
        if self.untaken.is_empty() || now.saturating_sub(self.taken_at) < after {
            return false;
        }
        self.taken_at = now;
        true
    }

    pub(super) fn send(&mut self, now: Duration, id: MessageId, untaken: Untaken) {
        if self.untaken.is_empty() {
            self.taken_at = now;
        }
        self.sending
            .extend(untaken.blocks.iter().map(|(key, ..)| *key));
        self.untaken.insert(id, untaken);
    }

    /// Ends a message that it took, or that was lost.
    pub(super) fn end(&mut self, id: MessageId) -> Option<Untaken> {
        let untaken = self.untaken.remove(&id)?;
        if !untaken.void {
            for (key, ..) in &untaken.blocks {
                self.sending.remove(key);
            }
        }
        Some(untaken)
    }

    /// Forgets all wants: the peer says all that it wants now.
    pub(super) fn renew(&mut self) {
        self.wants.cancel_all();
        self.sending.clear();
        for untaken in self.untaken.values_mut() {
            untaken.void = true;
        }
    }

    pub(super) fn took(&mut self, now: Duration, untaken: &Untaken) {
        self.taken_at = now;
        let sizes = untaken.blocks.iter().map(|(_, _, size)| u64::from(*size));
        self.counts.sent_bytes += sizes.sum::<u64>();
        self.counts.sent_blocks += untaken.blocks.len() as u64;
    }

    /// Takes in one entry of the peer's wantlist.
    pub(super) fn entry(&mut self, now: Duration, entry: &Entry, others_held: usize) {
        let key = key_of(&entry.cid);
        if entry.request == Request::Cancel {
            if let Some(key) = key {
                self.wants.cancel(&key);
            }
            return;
        }
        // On a slow link, what was asked for again is on its way.
        let taking = now.saturating_sub(self.taken_at) < REPEATED_AFTER;
        if taking && key.is_some_and(|key| self.sending.contains(&key)) {
            return;
        }
        let known = key.is_some_and(|key| self.wants.contains(&key));
        let room = known || fits(self.held(), others_held) || self.wants.evict_waiting();
        if !room {
            self.counts.overflowed += 1;
            return;
        }
        match key {
            Some(key) => {
                let block = entry.request == Request::Block;
                let want = Want::new(entry.cid, entry.priority, block, entry.send_dont_have);
                self.wants.add(key, want);
            }
            // No block of another hash function is ever here.
            None if entry.send_dont_have => self.say(entry.cid, false),
            None => {}
        }
    }

    /// Answers a want, or queues its block.
    pub(super) fn found(&mut self, key: Key, want: Want, answer: Answer, others_held: usize) {
        match answer {
            Answer::Here(size) if want.block || size <= HAVE_REPLACED_SIZE_MAX => {
                self.wants.make_ready(key, want, size);
            }
            Answer::Here(_) => self.say(want.cid, true),
            Answer::Absent | Answer::Denied => {
                if answer == Answer::Denied {
                    self.counts.denied += 1;
                }
                if want.send_dont_have {
                    self.say(want.cid, false);
                }
                if fits(self.held(), others_held) {
                    self.wants.make_waiting(key, want);
                }
            }
        }
    }

    fn say(&mut self, cid: Cid, have: bool) {
        self.answers.push(Presence { cid, have });
    }
}
