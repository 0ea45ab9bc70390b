//! `log`: what the node did, for its owner and for who checks it.

mod archive;
mod auditor;
mod bundle;
mod cosign;
mod forget;
mod fork;
mod key;
mod policy;
mod prove;
mod publish;
mod show;
mod verify;

use agent::log;
use cid::Cid;
use protocol::log::keys::{ORIGIN_PREFIX, origin_of};
use serde::Serialize;
use store::log::LogReader;

use crate::{context::Context, error::CliError};

/// See, prove and check what was done: every operation leaves a signed entry
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Show(show::Args),
    Verify(verify::Args),
    Prove(prove::Args),
    Publish(publish::Args),
    Archive(archive::Args),
    Bundle(bundle::Args),
    Fork(fork::Args),
    Forget(forget::Args),
    Checkpoint(OfArgs),
    Vkey(OfArgs),
    Policy(policy::Args),
    Cosign(cosign::Args),
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Auditor(auditor::Command),
}

/// Print the latest checkpoint, or the key that verifies it
#[derive(Debug, clap::Args)]
pub(crate) struct OfArgs {
    #[command(flatten)]
    of: Of,
}

/// Which log of the home.
#[derive(Clone, Debug, clap::Args)]
struct Of {
    /// The log of another node that this home follows, by its origin [default: its own]
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
}

#[derive(Serialize)]
struct CheckpointShown<'a> {
    origin: &'a str,
    size: u64,
    checkpoint: &'a str,
}

#[derive(Serialize)]
struct VkeyShown {
    origin: String,
    vkey: String,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Show(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Prove(args) => args.run(context),
            Self::Publish(args) => args.run(context),
            Self::Archive(args) => args.run(context),
            Self::Bundle(args) => args.run(context),
            Self::Fork(args) => args.run(context),
            Self::Forget(args) => args.run(context),
            Self::Checkpoint(args) => args.checkpoint(context),
            Self::Vkey(args) => args.vkey(context),
            Self::Policy(args) => args.run(context),
            Self::Cosign(args) => args.run(context),
            Self::Key(command) => command.run(context),
            Self::Auditor(command) => command.run(context),
        }
    }
}

impl Of {
    fn is_own(&self) -> bool {
        self.origin.is_none()
    }

    fn open(&self, context: &Context) -> Result<LogReader, CliError> {
        let home = context.open_home()?;
        let opened = match &self.origin {
            None => log::open_own(home.path())?,
            Some(origin) => log::open_followed(home.path(), &genesis(origin)?)?,
        };
        opened.ok_or_else(|| match &self.origin {
            None => CliError::failed("this home has no log yet")
                .hint("it begins with the first operation that is recorded"),
            Some(origin) => CliError::failed(format!("this home has no log of {origin}")),
        })
    }
}

/// The CID of the first entry, which an origin is made of.
pub(super) fn genesis(origin: &str) -> Result<Cid, CliError> {
    let cid = origin.strip_prefix(ORIGIN_PREFIX).unwrap_or(origin);
    let cid = cid.parse().ok().filter(|cid: &Cid| {
        let whole = origin_of(cid);
        whole.as_str() == origin || cid.to_string() == origin
    });
    cid.ok_or_else(|| {
        CliError::usage(format!("{origin} is not the origin of a log")).hint(format!(
            "an origin is {ORIGIN_PREFIX}CID, as `souverain log vkey` begins with"
        ))
    })
}

impl OfArgs {
    fn checkpoint(&self, context: &Context) -> Result<(), CliError> {
        let reader = self.of.open(context)?;
        let keys = log::keys_of(&reader)?;
        let head = reader.head();
        let note = String::from_utf8_lossy(&head.note);
        let shown = CheckpointShown {
            origin: keys.origin().as_str(),
            size: head.size,
            checkpoint: &note,
        };
        if context.ui.is_json() {
            return context.ui.print_object("checkpoint", &shown);
        }
        // A note ends where it ends, to the byte.
        context.ui.print_raw(&head.note)
    }

    fn vkey(&self, context: &Context) -> Result<(), CliError> {
        let reader = self.of.open(context)?;
        let keys = log::keys_of(&reader)?;
        let shown = VkeyShown {
            origin: keys.origin().to_string(),
            vkey: keys.key().to_string(),
        };
        context.ui.answer("vkey", &shown, &shown.vkey)
    }
}
