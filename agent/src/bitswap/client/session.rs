//! One session: what it wants, and which of its peers is asked for what.

use std::collections::{BTreeMap, VecDeque};

use cid::Cid;
use libp2p_identity::PeerId;

use crate::bitswap::{
    engine::Key,
    events::{RefusedBecause, Wanted},
    limits::{PEERS_PER_SESSION_MAX, SCAN_MAX, WANTS_PER_SESSION_MAX},
};

/// What a block is taken to have when nothing is known: what Souverain's own have at most.
const SIZE_EXPECTED: u64 = 1 << 20;
/// A score at which a peer is asked for blocks that it has not said to have; of [`SCORE_FULL`].
const SCORE_TRUSTED: u32 = 500;
const SCORE_FULL: u32 = 1000;
/// The score of a peer that has answered nothing: a few DONT_HAVE do not make it doubtful.
const SCORE_INITIAL: u32 = 750;
/// Blocks that a peer is asked for before its first answer.
const OPTIMISTIC_ASKS: usize = 8;

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
    /// Members that said DONT_HAVE, or nothing for too long.
    dont: u64,
    /// Members that were told of the want, and have to be told when it ends.
    pub(super) told: u64,
    reported: bool,
    /// Asked of a second member while the first still owed it.
    doubled: bool,
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
            told: 0,
            reported: false,
            doubled: false,
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

    /// Asks everyone again for what was missing.
    pub(super) fn retry(&mut self) {
        for index in std::mem::take(&mut self.missing) {
            if let Some(Some(want)) = self.wants.get_mut(index as usize)
                && want.state == State::Missing
            {
                want.state = State::Pending;
                want.dont = 0;
                self.pending.push_back(index);
            }
        }
        self.changes += 1;
    }

    /// The want that a member is to be asked for next, which owes so many blocks.
    pub(super) fn next_for(&mut self, slot: usize, owed: usize) -> Option<&mut Want> {
        if !self.may_ask(slot, owed) || self.members[slot].idle_at == Some(self.changes) {
            return None;
        }
        let presumed = self.presumes(slot);
        let bit = 1 << slot;
        let mut skipped = Vec::new();
        let mut found = None;
        while skipped.len() < SCAN_MAX {
            let Some(index) = self.pending.pop_front() else {
                break;
            };
            let Some(want) = self.wants[index as usize].as_ref() else {
                continue;
            };
            if want.state != State::Pending {
                continue;
            }
            if want.dont & bit == 0 && (presumed || want.have & bit != 0) {
                found = Some(index);
                break;
            }
            skipped.push(index);
        }
        for index in skipped.into_iter().rev() {
            self.pending.push_front(index);
        }
        let Some(index) = found else {
            self.members[slot].idle_at = Some(self.changes);
            return None;
        };
        let want = self.wants[index as usize].as_mut()?;
        want.state = State::Asked { slot };
        want.told |= bit;
        Some(want)
    }

    /// Wants that a member is to be asked about, because it is not known to have most of them.
    pub(super) fn probes_for(&mut self, slot: usize, count_max: usize) -> Vec<(Key, Cid, i32)> {
        let member = &self.members[slot];
        if member.probed_at == Some(self.changes) || self.sole(slot) || !self.doubts(slot) {
            return Vec::new();
        }
        let bit = 1 << slot;
        let mut probes = Vec::new();
        for index in self.pending.iter().take(SCAN_MAX) {
            if probes.len() == count_max {
                break;
            }
            if let Some(want) = self.wants[*index as usize].as_mut()
                && want.state == State::Pending
                && (want.have | want.dont | want.told) & bit == 0
            {
                want.told |= bit;
                probes.push((want.key, want.cid, want.priority));
            }
        }
        self.members[slot].probed_at = Some(self.changes);
        probes
    }

    /// Notes that a member has a block.
    pub(super) fn has(&mut self, key: &Key, slot: usize) {
        let Some(&index) = self.by_key.get(key) else {
            return;
        };
        if let Some(want) = self.wants[index as usize].as_mut() {
            want.have |= 1 << slot;
            want.dont &= !(1 << slot);
            if want.state == State::Missing {
                want.state = State::Pending;
                self.pending.push_front(index);
            }
        }
        self.changes += 1;
        self.score(slot, true);
    }

    /// Notes that a member has not a block, or does not answer about it.
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

    /// Notes that a member sent a block that it was asked for.
    pub(super) fn served(&mut self, slot: usize) {
        self.score(slot, true);
    }

    /// Notes that a member is not to be told when the want ends.
    pub(super) fn untell(&mut self, key: &Key, slot: usize) {
        if let Some(index) = self.by_key.get(key)
            && let Some(want) = self.wants[*index as usize].as_mut()
        {
            want.told &= !(1 << slot);
        }
    }

    /// Wants that one member was asked for and others may be as well, because nothing is left to
    /// be asked of them.
    pub(super) fn last_wants(&self) -> Vec<(Key, usize)> {
        let still_pending = |index: &u32| {
            let want = self.wants[*index as usize].as_ref();
            want.is_some_and(|want| want.state == State::Pending)
        };
        if self.pending.iter().any(still_pending) {
            return Vec::new();
        }
        let wants = self.wants.iter().flatten();
        let asked = wants.filter_map(|want| match want.state {
            State::Asked { slot } if !want.doubled => Some((want.key, slot)),
            _ => None,
        });
        asked.collect()
    }

    /// Whether a member is trusted to have a block that it has not said to lack.
    pub(super) fn may_have(&self, key: &Key, slot: usize) -> bool {
        let want = self.by_key.get(key).copied();
        let want = want.and_then(|index| self.wants[index as usize].as_ref());
        let member = &self.members[slot];
        want.is_some_and(|want| {
            member.usable
                && want.dont & (1 << slot) == 0
                && (want.have & (1 << slot) != 0 || !self.doubts(slot))
        })
    }

    /// Notes that a want is asked of a second member; what it is, for the message.
    pub(super) fn double(&mut self, key: &Key, slot: usize) -> Option<&Want> {
        let index = *self.by_key.get(key)?;
        let want = self.wants[index as usize].as_mut()?;
        want.state = State::Asked { slot };
        want.told |= 1 << slot;
        want.doubled = true;
        Some(want)
    }

    /// Whether this member was asked for the block.
    pub(super) fn asked_of(&self, key: &Key, slot: usize) -> bool {
        self.by_key
            .get(key)
            .and_then(|index| self.wants[*index as usize].as_ref())
            .is_some_and(|want| want.state == State::Asked { slot })
    }

    /// Whether another member could be asked for the block.
    pub(super) fn has_other(&self, key: &Key, slot: usize) -> bool {
        let want = self
            .by_key
            .get(key)
            .and_then(|index| self.wants[*index as usize].as_ref());
        want.is_some_and(|want| self.usable() & !want.dont & !(1 << slot) != 0)
    }

    fn make_pending(&mut self, index: u32) {
        let usable = self.usable();
        let Some(want) = self.wants[index as usize].as_mut() else {
            return;
        };
        self.changes += 1;
        if usable != 0 && usable & !want.dont == 0 {
            want.state = State::Missing;
            self.missing.push(index);
            if !want.reported {
                want.reported = true;
                self.unreported.push(want.cid);
            }
        } else if want.state != State::Pending {
            want.state = State::Pending;
            self.pending.push_front(index);
        }
        self.compact();
    }

    fn usable(&self) -> u64 {
        let members = self.members.iter().enumerate();
        members.fold(0, |mask, (slot, member)| {
            mask | (u64::from(member.usable) << slot)
        })
    }

    /// Whether a member is the only one that can be asked.
    fn sole(&self, slot: usize) -> bool {
        self.usable() == 1 << slot
    }

    /// Whether a member is taken to have what it has not said to lack.
    fn presumes(&self, slot: usize) -> bool {
        self.sole(slot)
            || self.members[slot]
                .score
                .is_none_or(|score| score >= SCORE_TRUSTED)
    }

    fn doubts(&self, slot: usize) -> bool {
        self.members[slot]
            .score
            .is_none_or(|score| score < SCORE_TRUSTED)
    }

    fn may_ask(&self, slot: usize, owed: usize) -> bool {
        let member = &self.members[slot];
        member.usable && (member.score.is_some() || self.sole(slot) || owed < OPTIMISTIC_ASKS)
    }

    fn score(&mut self, slot: usize, hit: bool) {
        let hit = if hit { SCORE_FULL } else { 0 };
        let member = &mut self.members[slot];
        member.score = Some((member.score.unwrap_or(SCORE_INITIAL) * 15 + hit) / 16);
        member.idle_at = None;
    }

    fn priority(&self, index: u32) -> i32 {
        self.wants[index as usize]
            .as_ref()
            .map_or(0, |want| want.priority)
    }

    /// Drops what is pending no more, so that the queue is bounded by the wants.
    fn compact(&mut self) {
        let limit = 2 * self.by_key.len() + 64;
        let wants = &self.wants;
        let is = |index: &u32, state| {
            wants[*index as usize]
                .as_ref()
                .is_some_and(|want| want.state == state)
        };
        if self.pending.len() > limit {
            let mut seen = std::collections::BTreeSet::new();
            self.pending
                .retain(|index| is(index, State::Pending) && seen.insert(*index));
        }
        if self.missing.len() > limit {
            let mut seen = std::collections::BTreeSet::new();
            self.missing
                .retain(|index| is(index, State::Missing) && seen.insert(*index));
        }
    }
}
