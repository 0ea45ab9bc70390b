//! How fast blocks go: rates that depend on the time of day. `bucket.rs` keeps to them.

use std::collections::BTreeMap;

use libp2p_identity::PeerId;

use super::limits::SCHEDULE_WINDOWS_MAX;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// How fast blocks may go to peers, and be asked of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// To all peers together.
    pub upload: Schedule,
    /// To each peer that has no rate of its own.
    pub upload_per_peer: Schedule,
    /// To these peers.
    pub upload_of_peer: BTreeMap<PeerId, Schedule>,
    /// From all peers together.
    pub download: Schedule,
}

impl Rates {
    pub(super) fn upload_to(&self, peer: &PeerId) -> &Schedule {
        self.upload_of_peer
            .get(peer)
            .unwrap_or(&self.upload_per_peer)
    }
}

/// A rate for every minute of the day; the default is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    otherwise: Option<u64>,
    windows: Vec<Window>,
}

/// A part of the day and the rate in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first minute, counted from midnight.
    pub from_minute: u16,
    /// The minute after its last; if that is not after the first, it lasts past midnight.
    pub to_minute: u16,
    /// Bytes per second; 0 is none at all, `None` is no limit.
    pub bytes_per_second: Option<u64>,
}

/// Why a schedule is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// A minute is not one of a day.
    #[error("minute {minute} is not one of a day's {DAY_MINUTES}")]
    NoSuchMinute {
        /// The minute.
        minute: u16,
    },
    /// There are more windows than a schedule may have.
    #[error("{windows} windows are more than the limit of {SCHEDULE_WINDOWS_MAX}")]
    TooManyWindows {
        /// How many there are.
        windows: usize,
    },
}

impl Schedule {
    /// The same rate all day, in bytes per second.
    #[must_use]
    pub fn constant(bytes_per_second: u64) -> Self {
        Self {
            otherwise: Some(bytes_per_second),
            windows: Vec::new(),
        }
    }

    /// Rates in some windows, of which the first that fits holds, and another otherwise.
    ///
    /// # Errors
    /// A window is not of a day, or there are too many.
    pub fn new(otherwise: Option<u64>, windows: Vec<Window>) -> Result<Self, ScheduleError> {
        if windows.len() > SCHEDULE_WINDOWS_MAX {
            return Err(ScheduleError::TooManyWindows {
                windows: windows.len(),
            });
        }
        for window in &windows {
            for (minute, end) in [(window.from_minute, 0), (window.to_minute, 1)] {
                if minute >= DAY_MINUTES + end {
                    return Err(ScheduleError::NoSuchMinute { minute });
                }
            }
        }
        Ok(Self { otherwise, windows })
    }

    /// Bytes per second at a minute of the day; `None` is no limit.
    #[must_use]
    pub fn at(&self, minute_of_day: u16) -> Option<u64> {
        self.windows
            .iter()
            .find(|window| window.holds(minute_of_day))
            .map_or(self.otherwise, |window| window.bytes_per_second)
    }
}

impl Window {
    fn holds(&self, minute: u16) -> bool {
        if self.from_minute < self.to_minute {
            (self.from_minute..self.to_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.to_minute
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from_minute: u16, to_minute: u16, bytes_per_second: Option<u64>) -> Window {
        Window {
            from_minute,
            to_minute,
            bytes_per_second,
        }
    }

    #[test]
    fn the_first_window_that_fits_holds_also_past_midnight() {
        let windows = vec![
            window(600, 720, Some(1)),
            window(480, 1080, Some(2)),
            window(1320, 360, None),
        ];
        let schedule = Schedule::new(Some(3), windows).expect("of a day");
        let cases = [
            (599, Some(2)),
            (600, Some(1)),
            (719, Some(1)),
            (720, Some(2)),
            (1080, Some(3)),
            (1319, Some(3)),
            (1320, None),
            (0, None),
            (359, None),
            (360, Some(3)),
        ];
        for (minute, rate) in cases {
            assert_eq!(schedule.at(minute), rate, "{minute}");
        }
        let whole_day = Schedule::new(None, vec![window(0, 1440, Some(5))]).expect("of a day");
        assert_eq!((whole_day.at(0), whole_day.at(1439)), (Some(5), Some(5)));
    }

    #[test]
    fn rejects_what_is_no_day() {
        assert_eq!(
            Schedule::new(None, vec![window(1440, 0, None)]),
            Err(ScheduleError::NoSuchMinute { minute: 1440 })
        );
        assert_eq!(
            Schedule::new(None, vec![window(0, 1441, None)]),
            Err(ScheduleError::NoSuchMinute { minute: 1441 })
        );
        let windows = vec![window(0, 1, None); SCHEDULE_WINDOWS_MAX + 1];
        assert_eq!(
            Schedule::new(None, windows),
            Err(ScheduleError::TooManyWindows {
                windows: SCHEDULE_WINDOWS_MAX + 1
            })
        );
    }
}
