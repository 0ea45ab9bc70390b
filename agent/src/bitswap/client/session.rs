//! One session: what it wants, and which of its peers is asked for what.

mod queue;
mod trust;

use std::collections::{BTreeMap, VecDeque};

use cid::Cid;
use libp2p_identity::PeerId;

use crate::bitswap::{
    engine::Key,
    events::{RefusedBecause, Wanted},
    limits::{PEERS_PER_SESSION_MAX, WANTS_PER_SESSION_MAX},
};

/// What a block is taken to have when nothing is known: what Souverain's own have at most.
const SIZE_EXPECTED: u64 = 1 << 20;
#[derive(Debug, Default)]
pub(super) struct Session {
    wants: Vec<Option<Want>>,
    free: Vec<u32>,
    by_key: BTreeMap<Key, u32>,
    /// Wants to be asked of someone, in order; those that are not any more are skipped.
    pending: VecDeque<u32>,
    /// Wants that nobody has.
    missing: Vec<u32>,
    pub(super) members: Vec<Member>,
    pub(super) held: bool,
    size_mean: Option<u64>,
    /// Counts changes after which a peer may find a want that it did not find before.
    changes: u64,
    /// Missing wants that are to be reported.
    pub(super) unreported: Vec<Cid>,
}

/// A peer of a session; its place is a bit in the masks of [`Want`].
#[derive(Debug)]
pub(super) struct Member {
    pub(super) peer: PeerId,
    pub(super) usable: bool,
    /// How often it had what it was asked for lately, of [`SCORE_FULL`].
    score: Option<u32>,
    /// The changes at which it found no want to be asked for.
    idle_at: Option<u64>,
    probed_at: Option<u64>,
}

/// A block that a session wants.
#[derive(Debug)]
pub(super) struct Want {
    pub(super) cid: Cid,
    pub(super) key: Key,
    pub(super) priority: i32,
    pub(super) size: Option<u32>,
    state: State,
    /// Members that said HAVE.
    have: u64,
    /// Members that said DONT_HAVE.
    dont: u64,
    /// Members that said nothing for too long; void when all did.
    late: u64,
    /// Members that were told of the want, and have to be told when it ends.
    pub(super) told: u64,
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Asked { slot: usize },
    Missing,
}

impl Session {
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn has_missing(&self) -> bool {
        !self.missing.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn add(
        &mut self,
        key: Key,
        wanted: &Wanted,
        priority: i32,
    ) -> Result<(), RefusedBecause> {
        if self.by_key.contains_key(&key) {
            return Ok(());
        }
        if self.by_key.len() >= WANTS_PER_SESSION_MAX {
            return Err(RefusedBecause::TooMany);
        }
        let want = Want {
            cid: wanted.cid,
            key,
            priority,
            size: wanted.size,
            state: State::Pending,
            have: 0,
            dont: 0,
            late: 0,
            told: 0,
            reported: false,
        };
        let index = if let Some(index) = self.free.pop() {
            self.wants[index as usize] = Some(want);
            index
        } else {
            self.wants.push(Some(want));
            u32::try_from(self.wants.len() - 1).expect("fewer than WANTS_PER_SESSION_MAX")
        };
        self.by_key.insert(key, index);
        self.pending.push_back(index);
        self.compact();
        self.changes += 1;
        Ok(())
    }

    /// Ends a want.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Want> {
        let index = self.by_key.remove(key)?;
        self.free.push(index);
        self.wants[index as usize].take()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.by_key.keys().copied().collect()
    }

    pub(super) fn wants(&self, key: &Key) -> bool {
        self.by_key.contains_key(key)
    }

    /// Notes the size of a block that came.
    pub(super) fn came(&mut self, size: u64) {
        self.size_mean = Some(match self.size_mean {
            None => size,
            Some(mean) => (mean * 7 + size) / 8,
        });
    }

    pub(super) fn expected_size(&self) -> u64 {
        self.size_mean.unwrap_or(SIZE_EXPECTED).max(1)
    }

    /// Adds a peer, or finds it; `None` if there are as many as there may be.
    pub(super) fn add_member(&mut self, peer: PeerId, usable: bool) -> Option<usize> {
        if let Some(slot) = self.slot(&peer) {
            return Some(slot);
        }
        if self.members.len() >= PEERS_PER_SESSION_MAX {
            return None;
        }
        self.members.push(Member {
            peer,
            usable: false,
            score: None,
            idle_at: None,
            probed_at: None,
        });
        let slot = self.members.len() - 1;
        self.set_usable(slot, usable);
        Some(slot)
    }

    pub(super) fn slot(&self, peer: &PeerId) -> Option<usize> {
        self.members.iter().position(|member| member.peer == *peer)
    }

    /// Notes that a peer came or went. What it was asked for is pending again, what it said is void.
    pub(super) fn set_usable(&mut self, slot: usize, usable: bool) {
        let member = &mut self.members[slot];
        if member.usable == usable {
            return;
        }
        member.usable = usable;
        member.score = None;
        let bit = 1 << slot;
        let mut again = Vec::new();
        for (index, want) in self.wants.iter_mut().enumerate() {
            let Some(want) = want else { continue };
            want.have &= !bit;
            want.dont &= !bit;
            want.late &= !bit;
            want.told &= !bit;
            if usable {
                want.reported = false;
            }
            // Others may have said already that they have not what this one might have had.
            let doubtful = want.state == State::Pending && want.dont != 0;
            if want.state == (State::Asked { slot }) || doubtful {
                again.push(index as u32);
            }
        }
        // The first wanted is to be the first asked for again.
        again.sort_by_key(|index| self.priority(*index));
        for index in again {
            self.make_pending(index);
        }
        if usable {
            self.retry();
        }
        self.changes += 1;
    }

    /// Asks everyone again for what was missing, or was asked of nobody.
    pub(super) fn retry(&mut self) {
        for index in &self.pending {
            if let Some(Some(want)) = self.wants.get_mut(*index as usize)
                && want.state == State::Pending
            {
                want.dont = 0;
                want.late = 0;
            }
        }
        for index in std::mem::take(&mut self.missing) {
            if let Some(Some(want)) = self.wants.get_mut(index as usize)
                && want.state == State::Missing
            {
                want.state = State::Pending;
                want.dont = 0;
                want.late = 0;
                self.pending.push_back(index);
            }
        }
        self.changes += 1;
    }

    /// Notes that a member has a block.
    pub(super) fn has(&mut self, key: &Key, slot: usize) {
        let Some(&index) = self.by_key.get(key) else {
            return;
        };
        if let Some(want) = self.wants[index as usize].as_mut() {
            want.have |= 1 << slot;
            want.dont &= !(1 << slot);
            want.late &= !(1 << slot);
            if want.state == State::Missing {
                want.state = State::Pending;
                self.pending.push_front(index);
            }
        }
        self.changes += 1;
        self.score(slot, true);
    }

    /// Notes that a member has not a block.
    pub(super) fn has_not(&mut self, key: &Key, slot: usize) {
        self.score(slot, false);
        let Some(&index) = self.by_key.get(key) else {
            return;
        };
        let Some(want) = self.wants[index as usize].as_mut() else {
            return;
        };
        want.have &= !(1 << slot);
        want.dont |= 1 << slot;
        let asked = want.state == (State::Asked { slot });
        if asked || want.state == State::Pending {
            self.make_pending(index);
        }
    }

    /// Notes that a member did not answer about a block; whether there is another to ask. Silence
    /// says nothing of whether it has the block: on a lossy link it only takes long.
    pub(super) fn is_late(&mut self, key: &Key, slot: usize) -> bool {
        self.score(slot, false);
        let usable = self.usable();
        let Some(&index) = self.by_key.get(key) else {
            return false;
        };
        let Some(want) = self.wants[index as usize].as_mut() else {
            return false;
        };
        let bit = 1 << slot;
        let others = usable & !want.dont & !bit;
        want.have &= !bit;
        want.late |= bit;
        if others & !want.late == 0 {
            want.late = if others == 0 { 0 } else { bit };
        }
        if others != 0 && want.state == (State::Asked { slot }) {
            want.told &= !bit;
            self.make_pending(index);
        }
        self.changes += 1;
        others != 0
    }

    /// Notes that a member sent a block that it was asked for.
    pub(super) fn served(&mut self, slot: usize) {
        self.score(slot, true);
    }

    /// Whether this member was asked for the block.
    pub(super) fn asked_of(&self, key: &Key, slot: usize) -> bool {
        self.by_key
            .get(key)
            .and_then(|index| self.wants[*index as usize].as_ref())
            .is_some_and(|want| want.state == State::Asked { slot })
    }

    fn priority(&self, index: u32) -> i32 {
        self.wants[index as usize]
            .as_ref()
            .map_or(0, |want| want.priority)
    }
}
