//! Token buckets that keep to a schedule.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

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
        Err(now.elapsed.saturating_add(wait))
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

/// One bucket for all who draw on it, the engine and those who exchange blocks in another way. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct SharedBucket(Arc<Mutex<Bucket>>);

impl SharedBucket {
    /// Whether a draw may be made; if not, when to ask again.
    pub(crate) fn opens(&self, schedule: &Schedule, now: Now) -> Result<(), Duration> {
        self.bucket().opens(schedule, now)
    }

    /// Draws bytes, whether they are there or not.
    pub(crate) fn draw(&self, bytes: u64) {
        self.bucket().draw(bytes);
    }

    /// Gives back bytes that were drawn and not used.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.bucket().give_back(bytes);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().expect("no panic while it is held")
    }
}

fn nanoseconds(number: i128) -> Duration {
    Duration::from_nanos(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Now {
        Now {
            elapsed: Duration::from_millis(milliseconds),
            minute_of_day: 0,
        }
    }

    #[test]
    fn draws_keep_to_the_rate_whatever_their_size() {
        for size in [100, 5_000, 100_000] {
            let schedule = Schedule::constant(10_000);
            let mut bucket = Bucket::default();
            let (mut now, mut drawn) = (at(0), 0_u64);
            while now.elapsed < Duration::from_secs(100) {
                match bucket.opens(&schedule, now) {
                    Ok(()) => {
                        bucket.draw(size);
                        drawn += size;
                    }
                    Err(later) => {
                        assert!(later > now.elapsed);
                        now.elapsed = later;
                    }
                }
            }
            assert!(
                (1_000_000..1_000_000 + 3 * size + 2_500).contains(&drawn),
                "{drawn}"
            );
        }
    }

    #[test]
    fn a_closed_bucket_is_looked_at_again_and_an_unlimited_one_forgets_its_debt() {
        let mut bucket = Bucket::default();
        let closed = Schedule::constant(0);
        assert_eq!(
            bucket.opens(&closed, at(5)),
            Err(at(5).elapsed + RATE_CHECK)
        );
        let slow = Schedule::constant(1);
        assert!(bucket.opens(&slow, at(1000)).is_ok());
        bucket.draw(1 << 40);
        assert_eq!(
            bucket.opens(&slow, at(1000)),
            Err(at(1000).elapsed + RATE_CHECK)
        );
        assert!(bucket.debt(1) > RATE_CHECK);
        assert!(bucket.opens(&Schedule::default(), at(1001)).is_ok());
        assert!(bucket.opens(&slow, at(1002)).is_ok());
        // A clock that stands still, or far ahead, overflows nothing.
        bucket.draw(u64::MAX);
        let _ = bucket.opens(
            &Schedule::constant(u64::MAX),
            Now {
                elapsed: Duration::MAX,
                minute_of_day: 0,
            },
        );
    }
}
