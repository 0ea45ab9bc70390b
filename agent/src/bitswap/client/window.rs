//! How much one peer is asked for at once, and how long it may take to answer.

use std::time::Duration;

use crate::bitswap::limits::{
    SILENCE_INITIAL, SILENCE_MAX, SILENCE_MIN, WINDOW_SIZE_INITIAL, WINDOW_SIZE_MAX,
    WINDOW_SIZE_MIN,
};

/// What may wait in line at a peer beyond a round trip, so that it never has nothing to send.
const QUEUE: Duration = Duration::from_millis(200);

/// Bytes that a peer is asked for at once: as many as it sends in twice its latency and [`QUEUE`].
///
/// Wants wait in the peer's line, not in the network, so that too large a window costs
/// little, and too small a one starves the link. It doubles each round trip until the line shows.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// The shortest time that a block ever took.
    base: Option<Duration>,
    /// Whether more would have been asked, had there been room.
    limited: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: WINDOW_SIZE_INITIAL,
            base: None,
            limited: false,
        }
    }
}

impl Window {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The peer has wants that do not fit.
    pub(super) fn limit(&mut self) {
        self.limited = true;
    }

    /// A block came that was asked for this long ago.
    pub(super) fn arrived(&mut self, size: u64, took: Duration) {
        let base = self.base.map_or(took, |base| base.min(took));
        self.base = Some(base);
        let target = base * 2 + QUEUE;
        if took > target + target / 4 {
            self.bytes = self.bytes.saturating_sub(size / 2).max(WINDOW_SIZE_MIN);
        } else if took < target && self.limited {
            self.bytes = (self.bytes + size).min(WINDOW_SIZE_MAX);
        }
        self.limited = false;
    }

    /// Nothing came for long.
    pub(super) fn collapse(&mut self) {
        self.bytes = WINDOW_SIZE_MIN;
    }
}

/// How long answers take, and how long is too long; smoothed as TCP does.
#[derive(Debug, Default)]
pub(super) struct Latency {
    mean: Option<Duration>,
    deviation: Duration,
    /// Of anything that was answered.
    shortest: Option<Duration>,
    /// Doublings for silences in a row.
    backoff: u32,
}

impl Latency {
    /// A block came this long after it was asked for.
    pub(super) fn block(&mut self, took: Duration) {
        match self.mean {
            None => {
                self.mean = Some(took);
                self.deviation = took / 2;
            }
            Some(mean) => {
                self.deviation = (self.deviation * 3 + mean.abs_diff(took)) / 4;
                self.mean = Some((mean * 7 + took) / 8);
            }
        }
        self.answer(took);
    }

    /// Something was answered after this long.
    pub(super) fn answer(&mut self, took: Duration) {
        self.shortest = Some(self.shortest.map_or(took, |shortest| shortest.min(took)));
        self.backoff = 0;
    }

    /// How long blocks take.
    pub(super) fn mean(&self) -> Option<Duration> {
        self.mean
    }

    /// The least that anything took: what peers are ranked by.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.shortest
    }

    /// How long a peer may be silent.
    pub(super) fn silence(&self) -> Duration {
        let expected = self.mean.map_or(SILENCE_INITIAL, |mean| {
            (mean + self.deviation * 4).clamp(SILENCE_MIN, SILENCE_MAX)
        });
        (expected * (1 << self.backoff)).min(SILENCE_MAX)
    }

    /// How long one answer may take while others come.
    pub(super) fn skipped(&self) -> Duration {
        if self.mean.is_some() {
            self.silence() * 3
        } else {
            SILENCE_MAX
        }
    }

    /// The peer was silent for too long.
    pub(super) fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_window_grows_to_what_the_link_carries_and_stays() {
        // 30 MB/s at 100 ms: in a line of `bytes`, a block takes what is before it.
        let mut window = Window::default();
        let rate = 30 * MIB;
        for _ in 0..1000 {
            let queued = Duration::from_micros(window.bytes() * 1_000_000 / rate);
            let took = Duration::from_millis(100).max(queued);
            window.limit();
            window.arrived(MIB, took);
        }
        assert!(window.bytes() > rate / 10 * 2, "{}", window.bytes());
        assert!(window.bytes() < rate, "{}", window.bytes());
    }

    #[test]
    fn the_window_does_not_grow_where_nothing_more_is_wanted() {
        let mut window = Window::default();
        window.arrived(MIB, Duration::from_millis(1));
        assert_eq!(window.bytes(), WINDOW_SIZE_INITIAL);
    }

    #[test]
    fn silence_follows_latency_within_its_limits() {
        let mut latency = Latency::default();
        assert_eq!(latency.silence(), SILENCE_INITIAL);
        for _ in 0..100 {
            latency.block(Duration::from_millis(1));
        }
        assert_eq!(latency.silence(), SILENCE_MIN);
        latency.back_off();
        assert_eq!(latency.silence(), SILENCE_MIN * 2);
        for _ in 0..100 {
            latency.block(Duration::from_secs(10));
        }
        assert!(latency.silence() >= Duration::from_secs(10));
        for _ in 0..100 {
            latency.back_off();
        }
        assert_eq!(latency.silence(), SILENCE_MAX);
    }
}
