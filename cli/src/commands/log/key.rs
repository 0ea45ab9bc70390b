//! `log key`: a new key for the log, and taking it back from a thief.

use std::path::PathBuf;

use agent::log::{self, OwnLog, Recorded, now_ms};
use serde::Serialize;

use crate::{context::Context, error::CliError};

/// Give the log a new key, or take it back with the recovery key
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Rotate(RotateArgs),
    Recover(RecoverArgs),
}

/// Give the log a new key
///
/// What the old key signs from here on is not the log's. The log keeps its name, and whoever trusts an earlier key of it goes
/// on to trust it.
#[derive(Debug, clap::Args)]
pub(crate) struct RotateArgs {}

/// Take the log back with its recovery key, if its key may be in somebody else's hands
///
/// What was signed since the entry that is named stays on record, and counts for nothing. There is a new key then, and a new recovery key, to be
/// taken offline.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// Number of the first entry that does not count any more; one that is yet to come revokes none
    #[arg(long, value_name = "N")]
    from: u64,
    /// The file with the recovery key [default: where it was made]
    #[arg(long, value_name = "FILE")]
    recovery_file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Changed {
    vkey: String,
    seq: u64,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        log::ask_others(&home)?;
        let log = OwnLog::new(&home, context.session.into_bytes());
        match self {
            Self::Rotate(RotateArgs {}) => answer(context, &log.rotate(now_ms())?),
            Self::Recover(args) => {
                let file = args.recovery_file.as_deref();
                let recorded = log.take_back(now_ms(), args.from, file)?;
                answer(context, &recorded)?;
                let made = home.log_recovery_path(recorded.epoch);
                context.ui.note(format!(
                    "the next recovery key is {}: move it offline",
                    made.display()
                ));
                Ok(())
            }
        }
    }
}

fn answer(context: &Context, recorded: &Recorded) -> Result<(), CliError> {
    let changed = Changed {
        vkey: recorded.vkey.to_string(),
        seq: recorded.first,
    };
    context.ui.answer("key", &changed, &changed.vkey)
}
