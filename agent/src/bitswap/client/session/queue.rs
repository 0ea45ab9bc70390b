//! Which want of a session is next, and for whom.

use std::collections::BTreeSet;

use cid::Cid;

use super::{Key, Session, State, Want};
use crate::bitswap::limits::SCAN_MAX;

impl Session {
    /// The want that a member is to be asked for next, which owes so many blocks.
    pub(in crate::bitswap::client) fn next_for(
        &mut self,
        slot: usize,
        owed: usize,
    ) -> Option<&mut Want> {
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
            if (want.dont | want.late) & bit == 0 && (presumed || want.have & bit != 0) {
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
    /// `asked` says what it was asked about already.
    pub(in crate::bitswap::client) fn probes_for(
        &mut self,
        slot: usize,
        count_max: usize,
        asked: impl Fn(&Key) -> bool,
    ) -> Vec<(Key, Cid, i32)> {
        let member = &self.members[slot];
        let seen = member.probed_at == Some(self.changes);
        if seen || count_max == 0 || self.sole(slot) || !self.doubts(slot) {
            return Vec::new();
        }
        let bit = 1 << slot;
        let mut probes = Vec::new();
        for index in self.pending.iter().take(SCAN_MAX) {
            if let Some(want) = self.wants[*index as usize].as_mut()
                && want.state == State::Pending
                && (want.have | want.dont | want.late) & bit == 0
                && !asked(&want.key)
            {
                want.told |= bit;
                probes.push((want.key, want.cid, want.priority));
                if probes.len() == count_max {
                    return probes;
                }
            }
        }
        self.members[slot].probed_at = Some(self.changes);
        probes
    }

    /// Wants that one member was asked for and others may be as well, because nothing is left to
    /// be asked of them.
    pub(in crate::bitswap::client) fn last_wants(&self) -> Vec<(Key, usize)> {
        let still_pending = |index: &u32| {
            let want = self.wants[*index as usize].as_ref();
            want.is_some_and(|want| want.state == State::Pending)
        };
        if self.pending.iter().any(still_pending) {
            return Vec::new();
        }
        let wants = self.wants.iter().flatten();
        let asked = wants.filter_map(|want| match want.state {
            State::Asked { slot } => Some((want.key, slot)),
            _ => None,
        });
        asked.collect()
    }

    /// Whether a member is trusted to have a block that it has not said to lack.
    pub(in crate::bitswap::client) fn may_have(&self, key: &Key, slot: usize) -> bool {
        let want = self.by_key.get(key).copied();
        let want = want.and_then(|index| self.wants[index as usize].as_ref());
        let member = &self.members[slot];
        want.is_some_and(|want| {
            member.usable
                && (want.dont | want.late) & (1 << slot) == 0
                && (want.have & (1 << slot) != 0 || !self.doubts(slot))
        })
    }

    /// Notes that a want is asked of a second member; what it is, for the message.
    pub(in crate::bitswap::client) fn double(&mut self, key: &Key, slot: usize) -> Option<&Want> {
        let index = *self.by_key.get(key)?;
        let want = self.wants[index as usize].as_mut()?;
        want.state = State::Asked { slot };
        want.told |= 1 << slot;
        Some(want)
    }

    pub(super) fn make_pending(&mut self, index: u32) {
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

    /// Drops what is pending no more, so that the queue is bounded by the wants.
    pub(super) fn compact(&mut self) {
        let limit = 2 * self.by_key.len() + 64;
        let wants = &self.wants;
        let is = |index: &u32, state| {
            wants[*index as usize]
                .as_ref()
                .is_some_and(|want| want.state == state)
        };
        if self.pending.len() > limit {
            let mut seen = BTreeSet::new();
            self.pending
                .retain(|index| is(index, State::Pending) && seen.insert(*index));
        }
        if self.missing.len() > limit {
            let mut seen = BTreeSet::new();
            self.missing
                .retain(|index| is(index, State::Missing) && seen.insert(*index));
        }
    }
}
