//! `recipients`: who can open a snapshot.

use agent::{keyring, keys::RecipientSet, recipients};
use protocol::log::entry::Action;
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    prompt::{OpenWith, terminal},
    reference::SnapshotRef,
    ui::Printable,
};

/// List or change who can open a snapshot
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    List(ListArgs),
    /// Let more recipients open a snapshot, and print the new CID
    ///
    /// A few KiB are written, whatever the size of the snapshot.
    Add(ChangeArgs),
    /// Leave recipients out of a snapshot, and print the new CID
    ///
    /// What they could open before stays open to them: they may have kept the old CID. Later exports
    /// are sealed to new keys, which they do not get.
    Remove(ChangeArgs),
}

/// List the recipients of a snapshot
///
/// Where this home did not seal it, only the kind of each key is known.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
}

/// Whose recipients change, and which
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    /// age1…, an ssh public key, a plugin's, or a file of these
    #[arg(value_name = "RECIPIENT", required = true)]
    recipients: Vec<String>,
    #[command(flatten)]
    open_with: OpenWith,
}

#[derive(Serialize)]
struct Recipient<'a> {
    recipient: Option<&'a str>,
    kind: Option<&'a str>,
}

#[derive(Serialize)]
struct Changed {
    cid: String,
    before: String,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::List(args) => args.run(context),
            Self::Add(args) => args.run(context, Action::RECIPIENTS_ADD, keyring::Change::Add),
            Self::Remove(args) => {
                args.run(context, Action::RECIPIENTS_REMOVE, keyring::Change::Remove)
            }
        }
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let store = context.open_store_to_read("recipients list")?;
        let root = self.snapshot.resolve(&store)?;
        let found = recipients::list(&store, &root)?;
        let known = found.known.filter(|known| !known.is_empty());
        let (known, kinds) = match known {
            Some(known) => (known, Vec::new()),
            None => (Vec::new(), found.stanzas),
        };
        for recipient in &known {
            let one = Recipient {
                recipient: Some(recipient),
                kind: None,
            };
            context.ui.answer("recipient", &one, Printable(recipient))?;
        }
        for kind in &kinds {
            let one = Recipient {
                recipient: None,
                kind: Some(kind),
            };
            let text = match kind.as_str() {
                "scrypt" => "a passphrase".to_owned(),
                kind => format!("a key of kind {}", Printable(kind)),
            };
            context.ui.answer("recipient", &one, text)?;
        }
        Ok(())
    }
}

impl ChangeArgs {
    fn run(
        self,
        context: &Context,
        action: Action,
        change: impl FnOnce(RecipientSet) -> keyring::Change,
    ) -> Result<(), CliError> {
        let set = RecipientSet::parse(&self.recipients)?.with_prompt(terminal(&context.ui));
        let home = context.open_home()?;
        context.trail.begin(&home, action)?;
        for recipient in &self.recipients {
            context.trail.detail("recipient", recipient);
        }
        let identities = self.open_with.load(Some(&home), &context.ui)?;
        let store = context.open_store_to_write("recipients")?;
        let root = self.snapshot.resolve(&store)?;
        context.trail.about(&root);
        let now = recipients::change(&store, &root, &identities, &change(set))?;
        context.trail.about(&now);
        context.trail.done()?;
        let changed = Changed {
            cid: now.to_string(),
            before: root.to_string(),
        };
        context.ui.answer("snapshot", &changed, now)
    }
}
