//! The local time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the minute of the day. It changes once a minute, and so is the zone asked.
#[derive(Debug, Default)]
pub(super) struct Clock {
    minutes_since_epoch: u64,
    minute_of_day: u16,
}

impl Clock {
    /// The local time of day in minutes, 0 to 1439.
    pub(super) fn minute_of_day(&mut self) -> u16 {
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
