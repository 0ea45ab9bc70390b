//! How much one peer is asked for at once, and how long it may take to answer.

use std::time::Duration;

use crate::bitswap::limits::{
    SILENCE_INITIAL, SILENCE_MAX, SILENCE_MIN, WINDOW_SIZE_INITIAL, WINDOW_SIZE_MAX,
    WINDOW_SIZE_MIN,
};

/// What may wait in line at a peer beyond a round trip, so that it never has nothing to send.
const QUEUE: Duration = Duration::from_millis(200);
/// How much more has to come in a round than in the one before, for connections to be becoming faster.
const GROWTH: f64 = 1.25;

/// Bytes that a peer is asked for at once: as many as it sends in twice its latency and [`QUEUE`].
///
/// Wants wait in the peer's line, not in the network, so that too large a window costs
/// little, and too small a one starves the link. It doubles each round trip until the line shows. New connections
/// are slow at first, which looks like a line: while more comes in each round than in the one
/// before, the window grows whatever time blocks take.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u64,
    /// The shortest time that a block ever took.
    base: Option<Duration>,
    /// Whether more would have been asked, had there been room.
    limited: bool,
    /// Until as much came in a round as in the one before.
    slow_start: Option<SlowStart>,
}

/// How fast a peer sends while its connections become faster. A round ends when a block comes that was asked for
/// since it began.
#[derive(Debug, Default)]
struct SlowStart {
    began: Duration,
    bytes: u64,
    /// Whether more would have been asked in this round.
    limited: bool,
    /// Bytes per second of the round before, if it was limited.
    rate: Option<f64>,
}

impl SlowStart {
    /// A block came. False if the rate does not grow any more.
    fn arrived(&mut self, size: u64, limited: bool, asked: Duration, now: Duration) -> bool {
        self.bytes += size;
        self.limited |= limited;
        if asked < self.began {
            return true;
        }
        let took = now.saturating_sub(self.began).max(Duration::from_micros(1));
        let rate = self.limited.then(|| self.bytes as f64 / took.as_secs_f64());
        let grows = match (self.rate, rate) {
            (Some(before), Some(rate)) => rate > before * GROWTH,
            _ => true,
        };
        *self = Self {
            began: now,
            rate,
            ..Self::default()
        };
        grows
    }
}

impl Default for Window {
    fn default() -> Self {
        Self {
            bytes: WINDOW_SIZE_INITIAL,
            base: None,
            limited: false,
            slow_start: Some(SlowStart::default()),
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

    /// A block came that was asked for at a time.
    pub(super) fn arrived(&mut self, size: u64, asked: Duration, now: Duration) {
        let took = now.saturating_sub(asked);
        let base = self.base.map_or(took, |base| base.min(took));
        self.base = Some(base);
        let limited = std::mem::take(&mut self.limited);
        self.slow_start
            .take_if(|rounds| !rounds.arrived(size, limited, asked, now));
        let target = base * 2 + QUEUE;
        if self.slow_start.is_none() && took > target + target / 4 {
            self.bytes = self.bytes.saturating_sub(size / 2).max(WINDOW_SIZE_MIN);
        } else if limited && (self.slow_start.is_some() || took < target) {
            self.bytes = (self.bytes + size).min(WINDOW_SIZE_MAX);
        }
    }

    /// Nothing came for long.
    pub(super) fn collapse(&mut self) {
        self.bytes = WINDOW_SIZE_MIN;
        self.slow_start = None;
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
    use std::collections::VecDeque;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_window_grows_to_what_the_link_carries_and_stays() {
        // 30 MB/s at 100 ms: in a line of `bytes`, a block takes what is before it.
        let mut link = Link::new(30 * MIB, 30 * MIB);
        for _ in 0..1000 {
            link.carry(MIB);
        }
        let bytes = link.window.bytes();
        assert!(bytes > link.rate / 10 * 2, "{bytes}");
        assert!(bytes < link.rate, "{bytes}");
    }

    #[test]
    fn the_window_does_not_shrink_while_connections_become_faster() {
        // As eight connections of TCP begin.
        let mut link = Link::new(MIB, 256 * MIB);
        // A directory, which says how short the way is.
        link.carry(1 << 10);
        while link.rate < link.rate_max {
            link.carry(MIB);
            let bytes = link.window.bytes();
            assert!(bytes >= WINDOW_SIZE_INITIAL, "{bytes} at {}", link.rate);
        }
        for _ in 0..100 {
            link.carry(MIB);
        }
        let bytes = link.window.bytes();
        assert!(bytes > link.rate / 10, "{bytes}");
    }

    /// A peer 100 ms away that sends what it was asked for in turn, twice as fast after each round trip.
    struct Link {
        window: Window,
        now: Duration,
        rate: u64,
        rate_max: u64,
        doubles: Duration,
        /// When blocks were asked for.
        asked: VecDeque<Duration>,
    }

    impl Link {
        const DELAY: Duration = Duration::from_millis(100);

        fn new(rate: u64, rate_max: u64) -> Self {
            Self {
                window: Window::default(),
                now: Duration::ZERO,
                rate,
                rate_max,
                doubles: Self::DELAY * 2,
                asked: VecDeque::new(),
            }
        }

        /// Asks for what the window allows, and brings one block.
        fn carry(&mut self, size: u64) {
            while (self.asked.len() as u64) * MIB < self.window.bytes() {
                self.asked.push_back(self.now);
            }
            self.window.limit();
            let asked = self.asked.pop_front().expect("the window is not empty");
            self.now = self.now.max(asked + Self::DELAY);
            let mut left = size;
            while left > 0 {
                let step = Duration::from_micros(100);
                left = left.saturating_sub(self.rate / 10_000);
                self.now += step;
                if self.now >= self.doubles {
                    self.doubles += Self::DELAY;
                    self.rate = (self.rate * 2).min(self.rate_max);
                }
            }
            self.window.arrived(size, asked, self.now);
        }
    }

    #[test]
    fn the_window_does_not_grow_where_nothing_more_is_wanted() {
        let mut window = Window::default();
        window.arrived(MIB, Duration::ZERO, Duration::from_millis(1));
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
