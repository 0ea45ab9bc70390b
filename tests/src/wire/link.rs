//! What a link does to frames.

use std::{fmt, str::FromStr, time::Duration};

/// A link between a port and the switch, the same in both directions.
///
/// Its text is what the program `wire` is told: `delay_us=25000,loss_ppm=10000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// How long a frame is on its way.
    pub delay_us: u64,
    /// How much longer it may take; frames do not overtake each other.
    pub jitter_us: u64,
    /// How many of a million frames are lost.
    pub loss_ppm: u64,
    /// How much it carries in a second; 0 is no limit.
    pub bytes_per_s: u64,
    /// Whether everything is lost.
    pub cut: bool,
}

impl Link {
    /// One that only takes time.
    ///
    /// # Panics
    /// The delay is longer than half a million years.
    #[must_use]
    pub fn delayed(delay: Duration) -> Self {
        Self {
            delay_us: u64::try_from(delay.as_micros()).expect("it is not that long"),
            ..Self::default()
        }
    }

    /// The same, where frames get lost.
    #[must_use]
    pub fn with_loss_ppm(self, loss_ppm: u64) -> Self {
        Self { loss_ppm, ..self }
    }

    /// The same, cut.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { cut: true, ..self }
    }

    /// How long it takes to put so many bytes on the link.
    pub(super) fn transmission(&self, len: usize) -> Duration {
        if self.bytes_per_s == 0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64(len as f64 / self.bytes_per_s as f64)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "delay_us={},jitter_us={},loss_ppm={},bytes_per_s={},cut={}",
            self.delay_us,
            self.jitter_us,
            self.loss_ppm,
            self.bytes_per_s,
            u8::from(self.cut)
        )
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut link = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(format!("{part}: no value"))?;
            let value: u64 = value.parse().map_err(|_| format!("{part}: no number"))?;
            match name {
                "delay_us" => link.delay_us = value,
                "jitter_us" => link.jitter_us = value,
                "loss_ppm" => link.loss_ppm = value,
                "bytes_per_s" => link.bytes_per_s = value,
                "cut" => link.cut = value != 0,
                _ => return Err(format!("{name}: a link has no such property")),
            }
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_what_its_text_says() {
        let link = Link::delayed(Duration::from_millis(25)).with_loss_ppm(10_000);
        assert_eq!(link.cut().to_string().parse(), Ok(link.cut()));
        assert_eq!("delay_us=25000,loss_ppm=10000".parse(), Ok(link));
        assert_eq!("".parse(), Ok(Link::default()));
        for wrong in ["delay_us", "delay_us=x", "delay=1"] {
            assert!(wrong.parse::<Link>().is_err(), "{wrong}");
        }
    }
}
