//! `log auditor`: who can open the details of entries.

use agent::{
    keys::RecipientSet,
    log::{auditors, set_auditors},
};
use protocol::log::entry::Action;
use serde::Serialize;

use crate::{context::Context, error::CliError, ui::Printable};

/// Say who, besides the owner, can open the details of entries to come
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    List(ListArgs),
    Add(ChangeArgs),
    Remove(ChangeArgs),
}

/// Print the auditors, one a line
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {}

/// Seal the details of entries to come to these as well, or to these no more
///
/// What was sealed before stays as it was sealed.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// age1…, an ssh public key, a plugin's, or a file of these
    #[arg(value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Auditor<'a> {
    recipient: &'a str,
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::List(ListArgs {}) => print(context),
            Self::Add(args) => args.change(context, |now, these| match now {
                Some(now) => Ok(Some(now.union(these)?)),
                None => Ok(Some(these.clone())),
            }),
            Self::Remove(args) => args.change(context, |now, these| {
                let gone: Vec<&str> = these.strings().collect();
                let left = now.iter().flat_map(RecipientSet::strings);
                let left: Vec<&str> = left.filter(|one| !gone.contains(one)).collect();
                match left.as_slice() {
                    [] => Ok(None),
                    left => Ok(Some(RecipientSet::parse(left)?)),
                }
            }),
        }
    }
}

impl ChangeArgs {
    fn change(
        &self,
        context: &Context,
        change: impl FnOnce(
            Option<RecipientSet>,
            &RecipientSet,
        ) -> Result<Option<RecipientSet>, CliError>,
    ) -> Result<(), CliError> {
        let home = context.open_home()?;
        let these = RecipientSet::parse(&self.recipients)?;
        context.trail.begin(&home, Action::AUDITOR)?;
        for recipient in these.strings() {
            context.trail.detail("recipient", recipient);
        }
        let changed = change(auditors(&home)?, &these)?;
        set_auditors(&home, changed.as_ref())?;
        context.trail.done()?;
        print(context)
    }
}

fn print(context: &Context) -> Result<(), CliError> {
    let home = context.open_home()?;
    let Some(auditors) = auditors(&home)? else {
        context.ui.note("nobody but the owner can open details");
        return Ok(());
    };
    for recipient in auditors.strings() {
        context
            .ui
            .answer("auditor", &Auditor { recipient }, Printable(recipient))?;
    }
    Ok(())
}
