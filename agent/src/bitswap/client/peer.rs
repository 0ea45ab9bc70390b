//! One peer that is asked: what it owes, what it was told, and how well it does.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use cid::Cid;

use super::window::{Latency, Window};
use crate::bitswap::{
    engine::Key,
    events::{MessageId, Misbehaviour, PeerCounts, Protocol},
    limits::{
        ASKED_PER_PEER_MAX, DUPLICATE_BYTES_MAX, ENTRIES_PER_MESSAGE_PACKED, SETTLED_PER_PEER_MAX,
        UNASKED_PRESENCES_MAX, UNSENT_ENTRIES_PER_PEER_MAX, UNTAKEN_REQUESTS_PER_PEER_MAX,
    },
    message::{Entry, Request, Wantlist},
};

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) protocol: Protocol,
    /// Blocks that it owes.
    pub(super) asked: BTreeMap<Key, Ask>,
    /// Blocks that it was asked about, and when.
    pub(super) probed: BTreeMap<Key, Duration>,
    standing: Standing,
    introduction: Introduction,
    /// Changes to its view of what is wanted, to be sent.
    unsent: BTreeMap<Key, Entry>,
    /// Whether some of them are asked again because it was silent.
    again: bool,
    /// Messages that it has not taken, and what they ask.
    untaken: BTreeMap<MessageId, Vec<Key>>,
    pub(super) in_flight_bytes: u64,
    pub(super) window: Window,
    pub(super) latency: Latency,
    /// When it last said anything.
    pub(super) heard_at: Duration,
    pub(super) silent: bool,
    pub(super) counts: PeerCounts,
}

/// What is remembered of a peer when it has gone.
#[derive(Debug, Default)]
pub(super) struct Standing {
    settled: Settled,
    /// Bytes of blocks that it sent and that were wanted.
    useful_bytes: u64,
    /// Bytes that it sent and that were not.
    wasted_bytes: u64,
    unasked_presences: u64,
}

/// The first wantlist that a connected peer is sent: a full one, so that it forgets what an earlier run
/// of this node asked. The next ones wait until it is taken, lest it void them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Introduction {
    /// With the first wants.
    Due,
    /// At once, because the peer sends what it was not asked for.
    Pressing,
    Sent(MessageId),
    Taken,
}

/// A block that a peer owes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) at: Duration,
    /// What it counts for in the peer's window.
    pub(super) bytes: u64,
    /// More than once: then it is not known which of them an answer is to.
    pub(super) repeated: bool,
    /// The message that asked was lost.
    pub(super) lost: bool,
    pub(super) cid: Cid,
    pub(super) priority: i32,
}

/// How a block that came stands to what was asked of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Solicited {
    /// It answers a want.
    Asked,
    /// It was asked for, and answered or cancelled.
    Settled,
    /// It was never asked for.
    Never,
}

impl Peer {
    pub(super) fn new(protocol: Protocol, now: Duration) -> Self {
        Self {
            protocol,
            asked: BTreeMap::new(),
            probed: BTreeMap::new(),
            standing: Standing::default(),
            introduction: Introduction::Due,
            unsent: BTreeMap::new(),
            again: false,
            untaken: BTreeMap::new(),
            in_flight_bytes: 0,
            window: Window::default(),
            latency: Latency::default(),
            heard_at: now,
            silent: false,
            counts: PeerCounts::default(),
        }
    }

    /// Whether it takes another want. One that is silent has to answer one first.
    pub(super) fn has_room(&self) -> bool {
        if self.silent {
            return self.asked.is_empty();
        }
        self.in_flight_bytes < self.window.bytes()
            && self.asked.len() < ASKED_PER_PEER_MAX
            && self.unsent.len() < UNSENT_ENTRIES_PER_PEER_MAX
    }

    /// When a block of this size would be here if it were asked for now, as far as is known.
    pub(super) fn expected(&self, size: u64) -> Duration {
        let latency = self.latency.shortest().unwrap_or(Duration::from_millis(50));
        // The window is about what it sends in twice its latency and a little.
        let line = (self.in_flight_bytes + size) as f64 / self.window.bytes() as f64;
        latency + (latency * 2 + Duration::from_millis(200)).mul_f64(line.min(1e3))
    }

    pub(super) fn ask(&mut self, key: Key, ask: Ask) {
        if self.asked.is_empty() && self.probed.is_empty() {
            // Silence is counted from when there is something to say.
            self.heard_at = ask.at;
        }
        self.in_flight_bytes += ask.bytes;
        self.say(key, ask.cid, ask.priority, Request::Block);
        self.again |= ask.repeated;
        self.probed.remove(&key);
        if let Some(before) = self.asked.insert(key, ask) {
            self.in_flight_bytes -= before.bytes;
        }
    }

    pub(super) fn probe(&mut self, key: Key, cid: Cid, priority: i32, now: Duration) {
        if self.asked.is_empty() && self.probed.is_empty() {
            self.heard_at = now;
        }
        self.probed.insert(key, now);
        self.say(key, cid, priority, Request::Have);
    }

    fn say(&mut self, key: Key, cid: Cid, priority: i32, request: Request) {
        let entry = Entry {
            cid,
            priority,
            request,
            send_dont_have: request != Request::Cancel && self.protocol == Protocol::V1_2,
        };
        self.unsent.insert(key, entry);
    }

    /// Takes back whatever was asked about a block.
    pub(super) fn cancel(&mut self, key: Key, cid: Cid) {
        self.settle(&key);
        if self.unsent.len() < UNSENT_ENTRIES_PER_PEER_MAX || self.unsent.contains_key(&key) {
            self.say(key, cid, 0, Request::Cancel);
        }
    }

    /// Ends what the peer owes about a block; later answers about it are duplicates.
    pub(super) fn settle(&mut self, key: &Key) -> Option<Ask> {
        let probed = self.probed.remove(key).is_some();
        let asked = self.asked.remove(key);
        // What is settled before it was sent is not to be asked after all.
        if let Some(entry) = self.unsent.get(key)
            && entry.request != Request::Cancel
        {
            self.unsent.remove(key);
        }
        if let Some(ask) = &asked {
            self.in_flight_bytes -= ask.bytes;
        }
        if probed || asked.is_some() {
            self.standing.settled.insert(*key);
        }
        asked
    }

    pub(super) fn solicited(&self, key: &Key) -> Solicited {
        if self.asked.contains_key(key) || self.probed.contains_key(key) {
            Solicited::Asked
        } else if self.standing.settled.contains(key) {
            Solicited::Settled
        } else {
            Solicited::Never
        }
    }

    /// It gave what it owed, or some of it.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard_at = now;
        self.silent = false;
    }

    /// It promised something, which does not make up for what it owes.
    pub(super) fn promised(&mut self, now: Duration) {
        if !self.silent {
            self.heard_at = now;
        }
    }

    /// Counts a block that was wanted.
    pub(super) fn useful(&mut self, size: u64) {
        self.counts.received_blocks += 1;
        self.counts.received_bytes += size;
        self.standing.useful_bytes += size;
    }

    /// Counts a block that nobody wants any more; whether the peer may go on.
    pub(super) fn duplicate(&mut self, size: u64) -> bool {
        self.counts.duplicate_blocks += 1;
        self.counts.duplicate_bytes += size;
        // Empty blocks count too.
        self.standing.wasted_bytes += size + 1024;
        self.standing.wasted_bytes <= DUPLICATE_BYTES_MAX + self.standing.useful_bytes
    }

    /// Counts a block that was never asked for, unless an earlier run of this node may have.
    pub(super) fn unasked(&mut self, of_earlier_run: bool, size: u64) -> Result<(), Misbehaviour> {
        if of_earlier_run && self.duplicate(size) {
            if self.introduction == Introduction::Due {
                self.introduction = Introduction::Pressing;
            }
            return Ok(());
        }
        Err(if self.asked.is_empty() {
            Misbehaviour::UnsolicitedBlock
        } else {
            Misbehaviour::WrongBlock
        })
    }

    /// Counts a presence that was not asked for; whether the peer may go on.
    pub(super) fn unasked_presence(&mut self) -> bool {
        self.standing.unasked_presences += 1;
        self.standing.unasked_presences <= UNASKED_PRESENCES_MAX
    }

    pub(super) fn unsent_len(&self) -> usize {
        self.unsent.len()
    }

    /// Takes the wantlist of the next message, if one may be sent, and whether it asks again.
    pub(super) fn take_unsent(&mut self, id: MessageId) -> Option<(Wantlist, bool)> {
        let may_go = match self.introduction {
            Introduction::Due => !self.unsent.is_empty(),
            Introduction::Pressing => true,
            Introduction::Sent(_) => false,
            Introduction::Taken => {
                !self.unsent.is_empty() && self.untaken.len() < UNTAKEN_REQUESTS_PER_PEER_MAX
            }
        };
        if !may_go {
            return None;
        }
        let full = self.introduction != Introduction::Taken;
        if full {
            self.introduction = Introduction::Sent(id);
        }
        let mut keys = Vec::new();
        let mut entries = Vec::new();
        while entries.len() < ENTRIES_PER_MESSAGE_PACKED {
            let Some((key, entry)) = self.unsent.pop_first() else {
                break;
            };
            if entry.request != Request::Cancel {
                keys.push(key);
            }
            entries.push(entry);
        }
        self.untaken.insert(id, keys);
        let again = self.again;
        self.again &= !self.unsent.is_empty();
        Some((Wantlist { entries, full }, again))
    }

    pub(super) fn sent(&mut self, id: MessageId) -> bool {
        if self.introduction == Introduction::Sent(id) {
            self.introduction = Introduction::Taken;
        }
        self.untaken.remove(&id).is_some()
    }

    /// Marks what a lost message asked, to be asked again at the next check.
    pub(super) fn send_failed(&mut self, id: MessageId) -> bool {
        let Some(keys) = self.untaken.remove(&id) else {
            return false;
        };
        if self.introduction == Introduction::Sent(id) {
            self.introduction = Introduction::Due;
        }
        for key in keys {
            if let Some(ask) = self.asked.get_mut(&key) {
                ask.lost = true;
            }
        }
        true
    }

    /// How it stands when it has gone: what it owed it may still answer.
    pub(super) fn into_standing(mut self) -> Standing {
        for key in self.asked.keys().chain(self.probed.keys()) {
            self.standing.settled.insert(*key);
        }
        self.standing
    }

    /// Takes over how it stood when it went.
    pub(super) fn come_back(&mut self, standing: Standing) {
        self.standing = standing;
    }
}

/// Blocks that a peer was asked for and that are settled, the latest ones.
#[derive(Debug, Default)]
struct Settled {
    keys: BTreeSet<Key>,
    order: VecDeque<Key>,
}

impl Settled {
    fn insert(&mut self, key: Key) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > SETTLED_PER_PEER_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }
}
