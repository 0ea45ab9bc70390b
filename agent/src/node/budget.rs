//! How fast blocks go to everybody together, and come from them: peers, and those who speak HTTP.

use std::time::Duration;

use super::clock::Clock;
use crate::bitswap::{Rates, Schedule, SharedBucket};

/// Both directions of a node.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    pub(crate) upload: Budget,
    pub(crate) download: Budget,
    pub(super) clock: Clock,
}

/// One direction, for those who do not speak Bitswap. Clones draw on one bucket, which the engine draws on too.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(super) bucket: SharedBucket,
    schedule: Schedule,
    clock: Clock,
}

impl Budgets {
    /// Budgets that keep to the rates for all peers together.
    pub(crate) fn new(rates: &Rates) -> Self {
        let clock = Clock::start();
        let budget = |schedule: &Schedule| Budget {
            bucket: SharedBucket::default(),
            schedule: schedule.clone(),
            clock: clock.clone(),
        };
        Self {
            upload: budget(&rates.upload),
            download: budget(&rates.download),
            clock: clock.clone(),
        }
    }
}

impl Budget {
    /// Whether bytes may be drawn now; if not, how long to wait before asking again.
    pub(crate) fn opens(&mut self) -> Result<(), Duration> {
        let now = self.clock.now();
        let opens = self.bucket.opens(&self.schedule, now);
        opens.map_err(|at| at.saturating_sub(now.elapsed))
    }

    /// Counts bytes that go.
    pub(crate) fn draw(&self, bytes: u64) {
        self.bucket.draw(bytes);
    }

    /// Gives back bytes that were counted and did not go.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.bucket.give_back(bytes);
    }
}
