//! How often something may happen: a bucket of tokens for each key, in bounded memory.

use std::{collections::HashMap, hash::Hash, time::Instant};

/// Rates of many keys.
#[derive(Debug)]
pub(super) struct Rates<K> {
    burst: f64,
    per_second: f64,
    keys_max: usize,
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    /// Allows `burst` at once for each key, and `per_second` after that.
    pub(super) fn new(burst: u32, per_second: u32, keys_max: usize) -> Self {
        Self {
            burst: burst.into(),
            per_second: per_second.into(),
            keys_max,
            buckets: HashMap::new(),
        }
    }

    /// Whether one more is allowed; if so, it is counted.
    pub(super) fn allows(&mut self, now: Instant, key: K) -> bool {
        if self.buckets.len() >= self.keys_max && !self.buckets.contains_key(&key) {
            self.forget_idle(now);
            if self.buckets.len() >= self.keys_max {
                // So many keys are busy that a new one has to wait until one of them is not.
                return false;
            }
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket {
            tokens: self.burst,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    /// Forgets keys whose buckets are full again: they are as good as new.
    fn forget_idle(&mut self, now: Instant) {
        let (burst, per_second) = (self.burst, self.per_second);
        self.buckets.retain(|_, bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            bucket.tokens + passed * per_second < burst
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn allows_a_burst_and_then_a_rate() {
        let mut rates = Rates::new(3, 2, 8);
        let start = Instant::now();
        let allowed = |rates: &mut Rates<u8>, now| (0..9).filter(|_| rates.allows(now, 1)).count();
        assert_eq!(allowed(&mut rates, start), 3);
        assert_eq!(allowed(&mut rates, start + Duration::from_secs(1)), 2);
        assert_eq!(allowed(&mut rates, start + Duration::from_secs(60)), 3);
        assert!(rates.allows(start, 2), "another key is not held back");
    }

    #[test]
    fn remembers_no_more_keys_than_it_may() {
        let mut rates = Rates::new(1, 1, 4);
        let start = Instant::now();
        let allowed = (0..100).filter(|key| rates.allows(start, *key)).count();
        assert_eq!((allowed, rates.buckets.len()), (4, 4));
        let later = start + Duration::from_secs(2);
        assert!(rates.allows(later, 100), "idle keys make room");
        assert_eq!(rates.buckets.len(), 1);
    }
}
