//! Token buckets that keep to a schedule.

use std::time::Duration;

use super::{events::Now, rate::Schedule};

/// How long a bucket that nobody draws on fills: what may go in one burst.
const BURST: Duration = Duration::from_millis(250);

/// A token bucket that may be overdrawn by one draw, so that the rate is exact for any block size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Tokens, in bytes times a second's nanoseconds.
    level: i128,
    filled: Duration,
}

const SECOND: i128 = 1_000_000_000;

impl Bucket {
    /// When the next draw may be made: at once, later, or not before the rate changes.
    pub(super) fn opens(&mut self, schedule: &Schedule, now: Now) -> Opening {
        let Some(rate) = schedule.at(now.minute_of_day) else {
            *self = Self {
                level: 0,
                filled: now.elapsed,
            };
            return Opening::Now;
        };
        let rate = i128::from(rate);
        let passed = now.elapsed.saturating_sub(self.filled).as_nanos() as i128;
        self.filled = self.filled.max(now.elapsed);
        let full = rate * BURST.as_nanos() as i128;
        self.level = full.min(self.level.saturating_add(rate.saturating_mul(passed)));
        if rate == 0 {
            Opening::Closed
        } else if self.level >= 0 {
            Opening::Now
        } else {
            let wait = ((-self.level - 1) / rate + 1).min(i128::from(u64::MAX));
            Opening::At(now.elapsed + Duration::from_nanos(wait as u64))
        }
    }

    /// Draws bytes, whether they are there or not.
    pub(super) fn draw(&mut self, bytes: u64) {
        self.level -= i128::from(bytes) * SECOND;
    }
}

/// When a bucket may be drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Now.
    Now,
    /// At this time.
    At(Duration),
    /// Not at this rate.
    Closed,
}
