//! How far a member is taken to have what it has not said to have.

use super::Session;

/// A score at which a peer is asked for blocks that it has not said to have; of [`SCORE_FULL`].
const SCORE_TRUSTED: u32 = 500;
const SCORE_FULL: u32 = 1000;
/// The score of a peer that has answered nothing: a few DONT_HAVE do not make it doubtful.
const SCORE_INITIAL: u32 = 750;
/// Blocks that a peer is asked for before its first answer.
const OPTIMISTIC_ASKS: usize = 8;

impl Session {
    pub(super) fn usable(&self) -> u64 {
        let members = self.members.iter().enumerate();
        members.fold(0, |mask, (slot, member)| {
            mask | (u64::from(member.usable) << slot)
        })
    }

    /// Whether a member is the only one that can be asked.
    pub(super) fn sole(&self, slot: usize) -> bool {
        self.usable() == 1 << slot
    }

    /// Whether a member is taken to have what it has not said to lack.
    pub(super) fn presumes(&self, slot: usize) -> bool {
        self.sole(slot)
            || self.members[slot]
                .score
                .is_none_or(|score| score >= SCORE_TRUSTED)
    }

    pub(super) fn doubts(&self, slot: usize) -> bool {
        self.members[slot]
            .score
            .is_none_or(|score| score < SCORE_TRUSTED)
    }

    pub(super) fn may_ask(&self, slot: usize, owed: usize) -> bool {
        let member = &self.members[slot];
        member.usable && (member.score.is_some() || self.sole(slot) || owed < OPTIMISTIC_ASKS)
    }

    pub(super) fn score(&mut self, slot: usize, hit: bool) {
        let hit = if hit { SCORE_FULL } else { 0 };
        let member = &mut self.members[slot];
        member.score = Some((member.score.unwrap_or(SCORE_INITIAL) * 15 + hit) / 16);
        member.idle_at = None;
    }
}
