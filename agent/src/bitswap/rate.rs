//! How fast blocks go: rates that depend on the time of day. `bucket.rs` keeps to them.

use std::{collections::BTreeMap, str::FromStr};

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
    /// A text is not one.
    #[error(
        "{part:?} is neither a rate (`2MiB`, `500K`, `0`, `unlimited`) nor one in a part of the day (`08:00-18:00=2MiB`)"
    )]
    Malformed {
        /// What is not understood of it.
        part: String,
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

impl FromStr for Schedule {
    type Err = ScheduleError;

    /// Reads rates in bytes per second, as `08:00-18:00=2MiB,22:00-06:00=unlimited,10MiB`: in parts of
    /// the day, of which the first that fits holds, and otherwise.
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let (mut windows, mut otherwise) = (Vec::new(), None);
        let parts = text.split(',').count();
        for (part, number) in text.split(',').zip(1..) {
            let malformed = || ScheduleError::Malformed {
                part: part.to_owned(),
            };
            match part.split_once('=') {
                Some((times, rate)) => {
                    let times = times.split_once('-').ok_or_else(malformed)?;
                    windows.push(Window {
                        from_minute: minute(times.0).ok_or_else(malformed)?,
                        to_minute: minute(times.1).ok_or_else(malformed)?,
                        bytes_per_second: rate_of(rate).ok_or_else(malformed)?,
                    });
                }
                None if number == parts => otherwise = rate_of(part).ok_or_else(malformed)?,
                None => return Err(malformed()),
            }
        }
        Self::new(otherwise, windows)
    }
}

/// `HH:MM`.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(minute) || !(digits(hour) || digits(&format!("0{hour}"))) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60).then_some(hour * 60 + minute)
}

/// Bytes per second: a number of bytes, or of KiB, MiB or GiB; or no limit.
fn rate_of(text: &str) -> Option<Option<u64>> {
    if text == "unlimited" {
        return Some(None);
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(1 << shift).map(Some)
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
    fn reads_what_people_write() {
        let schedule: Schedule = "8:00-18:00=2MiB,22:00-06:00=unlimited,500K"
            .parse()
            .expect("one");
        let at = |hour: u16| schedule.at(hour * 60);
        assert_eq!(
            [at(8), at(18), at(22), at(5), at(6)],
            [Some(2 << 20), Some(500 << 10), None, None, Some(500 << 10)]
        );
        let one = |text: &str| text.parse::<Schedule>().expect("one");
        assert_eq!(one("0"), Schedule::constant(0));
        assert_eq!(one("1GiB"), Schedule::constant(1 << 30));
        assert_eq!(one("unlimited"), Schedule::default());
        assert_eq!(one("00:00-24:00=7").at(0), Some(7));
        for bad in [
            "",
            "fast",
            "-1",
            "1.5M",
            "2MB",
            "1M,2M",
            "8-18=1M",
            "8:0-9:00=1M",
            "08:60-09:00=1M",
            "08:00-25:00=1M",
            "08:00=1M",
            "08:00-09:00=",
            "99999999999G",
            ",1M",
            "1M,",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
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
