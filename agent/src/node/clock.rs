//! The time as the engine is told it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::bitswap::Now;

/// Tells the time since it was made, and the minute of the day. Clones go by the same beginning.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    started: Instant,
    minutes_since_epoch: u64,
    minute_of_day: u16,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            minutes_since_epoch: 0,
            minute_of_day: 0,
        }
    }

    pub(super) fn now(&mut self) -> Now {
        Now {
            elapsed: self.started.elapsed(),
            minute_of_day: self.minute_of_day(),
        }
    }

    /// The moment that `Now::elapsed` counts from.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// The local time of day in minutes, 0 to 1439. It changes once a minute, and so is the zone asked.
    fn minute_of_day(&mut self) -> u16 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let minutes = since_epoch.map_or(0, |time| time.as_secs() / 60);
        if minutes != self.minutes_since_epoch {
            let now = jiff::Zoned::now();
            let minute = i16::from(now.hour()) * 60 + i16::from(now.minute());
            self.minute_of_day = minute.unsigned_abs();
            self.minutes_since_epoch = minutes;
        }
        self.minute_of_day
    }
}
