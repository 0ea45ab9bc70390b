//! What is remembered of a peer, and numbers that look drawn.

use std::collections::BTreeMap;

use super::limits::{CHECKS_PER_SECOND_MAX, CHECKS_SAVED_MAX, RANGE_ENTRIES_MAX};
use crate::log::checkpoint::Origin;

/// A connected peer.
#[derive(Debug)]
pub(super) struct PeerState {
    /// What it may still make this replica check, in thousandths.
    allowance: u64,
    counted_ms: u64,
    flooded: bool,
    /// Requests that it has not answered.
    pub(super) asked: usize,
    /// How many entries it is asked for at once.
    pub(super) range_max: u64,
    /// Ranges that are being read for it.
    pub(super) reads: usize,
    /// When it was told of a fork last.
    pub(super) told_ms: BTreeMap<Origin, u64>,
}

impl PeerState {
    pub(super) fn new(now: u64) -> Self {
        Self {
            allowance: CHECKS_SAVED_MAX * 1000,
            counted_ms: now,
            flooded: false,
            asked: 0,
            range_max: RANGE_ENTRIES_MAX as u64,
            reads: 0,
            told_ms: BTreeMap::new(),
        }
    }

    /// Takes one off what it may make this replica check; else says whether that is the first time since it could.
    pub(super) fn take(&mut self, now: u64) -> Result<(), bool> {
        let gained = now.saturating_sub(self.counted_ms);
        let gained = gained.saturating_mul(CHECKS_PER_SECOND_MAX);
        self.counted_ms = now;
        self.allowance = (self.allowance.saturating_add(gained)).min(CHECKS_SAVED_MAX * 1000);
        match self.allowance.checked_sub(1000) {
            Some(left) => {
                self.allowance = left;
                self.flooded = false;
                Ok(())
            }
            None => Err(!std::mem::replace(&mut self.flooded, true)),
        }
    }
}

/// SplitMix64: for choices that need not be secret.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below another one, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(super) fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        match from.len() as u64 {
            0 => None,
            len => from.get(self.below(len) as usize),
        }
    }
}
