//! How fast everybody together is asked for blocks, peers and gateways.

use super::clock::Clock;
use crate::bitswap::{Downloads, Schedule};

/// A limit of downloads, for those who ask others than peers. Clones draw on one bucket.
#[derive(Clone, Debug)]
pub(crate) struct DownloadLimit {
    downloads: Downloads,
    schedule: Schedule,
    clock: Clock,
}

impl DownloadLimit {
    /// A limit with a bucket of its own.
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            downloads: Downloads::default(),
            schedule,
            clock: Clock::start(),
        }
    }

    /// The bucket, and the time that it goes by.
    pub(super) fn parts(&self) -> (Downloads, Clock) {
        (self.downloads.clone(), self.clock.clone())
    }

    /// Whether something may be asked for now.
    pub(crate) fn opens(&mut self) -> bool {
        let now = self.clock.now();
        self.downloads.opens(&self.schedule, now).is_ok()
    }

    /// Counts bytes that are asked for.
    pub(crate) fn draw(&self, bytes: u64) {
        self.downloads.draw(bytes);
    }

    /// Gives back bytes that were asked for and do not come.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.downloads.give_back(bytes);
    }
}
