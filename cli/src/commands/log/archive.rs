//! `log archive`: old entries, out of the log's file and into CAR files.

use agent::log::{self, ToArchive};
use jiff::Span;
use protocol::log::entry::Action;
use serde::Serialize;

use super::{Of, genesis};
use crate::{context::Context, error::CliError, progress::Bar, ui::Size};

/// Put old entries into CAR files
///
/// Bundles of 256 entries that are all old enough leave the log's file for archives below `log/own/archive` of the home,
/// with their sealed details. They are read, proven and served as before; an archive may also be kept elsewhere, and put back when
/// its entries are asked for. What proves entries stays in the log.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain log archive\n  \
    souverain log archive --older-than 30d --dry-run")]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// How old they are to be: 90d, 12h, 1y
    #[arg(long, value_name = "AGE", default_value = "90d")]
    older_than: Span,
    /// Only say how many entries would be archived
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Shown {
    path: String,
    cid: String,
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct Planned {
    entries: u64,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let which = ToArchive {
            followed: self.of.origin.as_deref().map(genesis).transpose()?,
            before_ms: log::long_ago_ms(self.older_than)?,
        };
        let entries = log::archivable(home.path(), which)?;
        if self.dry_run {
            let text = format!("{entries} entries would be archived");
            return context.ui.answer("planned", &Planned { entries }, text);
        }
        if entries > 0 {
            context.trail.begin(&home, Action::ARCHIVE)?;
        }
        let bar = Bar::follow(&context.ui, "archiving", &context.progress);
        let done = log::archive(home.path(), which, &context.progress);
        drop(bar);
        let done = done?;
        for archive in &done.archives {
            context.trail.about(&archive.root);
        }
        context.trail.done()?;
        let dir = match &which.followed {
            None => "own".to_owned(),
            Some(genesis) => genesis.to_string(),
        };
        let dir = home.path().join("log").join(dir).join("archive");
        for archive in &done.archives {
            let shown = Shown {
                path: dir.join(archive.file_name()).display().to_string(),
                cid: archive.root.to_string(),
                from: archive.first,
                to: archive.end - 1,
            };
            let text = format!("{}  {}", shown.cid, shown.path);
            context.ui.answer("archive", &shown, text)?;
        }
        context.ui.note(match done.archives.is_empty() {
            true => "no bundle of entries is that old and in no archive".to_owned(),
            false => format!("{} of the log's file are free", Size(done.freed)),
        });
        if done.left > 0 {
            context.ui.note(format!(
                "{} entries more are that old; run the same command again",
                done.left
            ));
        }
        Ok(())
    }
}
