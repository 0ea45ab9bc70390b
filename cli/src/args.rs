//! What can be said on the command line to every verb.

use std::{path::PathBuf, str::FromStr};

use clap::Parser;

use crate::commands::Command;

/// Encrypted, verifiable, portable exports of your data, without a central server.
///
/// A snapshot is sealed with age to keys that you hold and named by one CID. Anyone can carry
/// it and check it; only key holders can read it, with this program or with `sh`, `age` and `zstd`.
#[derive(Debug, Parser)]
#[command(
    name = "souverain",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 did not verify, 255 a bug.\n\
                  Start with `souverain quickstart`: the whole story on sample data."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory that holds all state [default: $XDG_DATA_HOME/souverain]
    #[arg(
        long,
        value_name = "DIR",
        env = "SOUVERAIN_HOME",
        hide_env_values = true,
        global = true
    )]
    pub(crate) home: Option<PathBuf>,
    /// Print one JSON object per line, errors included
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but the answer, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more; twice for everything (or set SOUVERAIN_LOG to a filter)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show no progress, even on a terminal
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

/// A share of a whole, as `5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Share {
    /// Above 0, at most 1.
    pub(crate) fraction: f64,
}

/// Why a share cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a share is a percentage above 0% and up to 100%, with its sign: 5%")]
pub(crate) struct ShareError;

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let digits = text.strip_suffix('%').ok_or(ShareError)?;
        let percent: f64 = digits.parse().map_err(|_| ShareError)?;
        if percent > 0.0 && percent <= 100.0 {
            return Ok(Self {
                fraction: percent / 100.0,
            });
        }
        Err(ShareError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_share_is_a_percentage_above_zero() {
        let share = |text: &str| text.parse::<Share>().map(|s| s.fraction);
        assert_eq!(share("5%").expect("a share"), 0.05);
        assert_eq!(share("100%").expect("a share"), 1.0);
        assert_eq!(share("0.5%").expect("a share"), 0.005);
        for bad in ["", "5", "%", "0%", "-1%", "100.1%", "nan%", "inf%", "five%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
