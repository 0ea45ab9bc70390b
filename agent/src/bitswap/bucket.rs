//! Token buckets that keep to a schedule.

use std::time::Duration;

use super::{events::Now, rate::Schedule};

/// How long a bucket that nobody draws on fills: what may go in one burst.
const BURST: Duration = Duration::from_millis(250);
/// A closed bucket is looked at again after this long, because the rate changes by the minute.
const RATE_CHECK: Duration = Duration::from_secs(60);

/// A token bucket that may be overdrawn by one draw, so that the rate is exact for any block size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// Tokens, in bytes times a second's nanoseconds.
    level: i128,
    filled: Duration,
}

const SECOND: i128 = 1_000_000_000;

impl Bucket {
    /// Whether a draw may be made; if not, when to ask again.
    pub(super) fn opens(&mut self, schedule: &Schedule, now: Now) -> Result<(), Duration> {
        let Some(rate) = schedule.at(now.minute_of_day) else {
            *self = Self {
                level: 0,
                filled: now.elapsed,
            };
            return Ok(());
        };
        let rate = i128::from(rate);
        let passed = now.elapsed.saturating_sub(self.filled).as_nanos() as i128;
        self.filled = self.filled.max(now.elapsed);
        let full = rate * BURST.as_nanos() as i128;
        self.level = full.min(self.level.saturating_add(rate.saturating_mul(passed)));
        if rate > 0 && self.level >= 0 {
            return Ok(());
        }
        let wait = match rate {
            0 => RATE_CHECK,
            _ => nanoseconds((-self.level - 1) / rate + 1).min(RATE_CHECK),
        };
        Err(now.elapsed + wait)
    }

    /// Draws bytes, whether they are there or not.
    pub(super) fn draw(&mut self, bytes: u64) {
        self.level -= i128::from(bytes) * SECOND;
    }

    /// Gives back bytes that were drawn and not used.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.level += i128::from(bytes) * SECOND;
    }

    /// How long ago the bucket would have to have been full for what was drawn.
    pub(super) fn debt(&self, bytes_per_second: u64) -> Duration {
        nanoseconds((-self.level).max(0) / i128::from(bytes_per_second.max(1)))
    }
}

fn nanoseconds(number: i128) -> Duration {
    Duration::from_nanos(u64::try_from(number).unwrap_or(u64::MAX))
}
