//! `log forget`: letting go of the log of a node that is followed no more.

use agent::log::{self, Forgotten};
use protocol::log::{entry::Action, keys::origin_of};
use serde::Serialize;

use super::genesis;
use crate::{context::Context, error::CliError};

/// Remove the log of a node that is followed no more
///
/// Its entries, tree and checkpoint go; what `souverain log fork` shows of it stays, and so does what this node cosigned of
/// it last. Followed again, all of it is fetched again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  \
    souverain peer remove PEER && souverain log forget ORIGIN")]
pub(crate) struct Args {
    /// The log, by its origin
    #[arg(value_name = "ORIGIN")]
    origin: String,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Shown {
    origin: String,
    entries: Option<u64>,
    bytes: u64,
    forks: usize,
    removed: bool,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let genesis = genesis(&self.origin)?;
        let origin = origin_of(&genesis);
        if let Some(own) = log::open_own(home.path())?
            && *log::keys_of(&own)?.origin() == origin
        {
            return Err(CliError::usage("that is this node's own log")
                .hint("`souverain peer list` says whose logs it follows"));
        }
        let found = Forgotten::find(home.path(), &genesis)?;
        let shown = Shown {
            origin: origin.to_string(),
            entries: found.entries,
            bytes: found.bytes,
            forks: found.forks,
            removed: !self.dry_run,
        };
        if shown.removed {
            context.trail.begin(&home, Action::FEDERATION)?;
            context.trail.about(&genesis);
            context.trail.detail("forgotten", &shown.origin);
            found.remove()?;
            context.trail.done()?;
        }
        let entries = match shown.entries {
            Some(entries) => format!("{entries} entries"),
            None => "no entries that can be read".to_owned(),
        };
        let done = if shown.removed {
            "removed"
        } else {
            "to be removed"
        };
        let text = format!("{}  {entries}  {} bytes {done}", shown.origin, shown.bytes);
        context.ui.answer("forgotten", &shown, text)
    }
}
