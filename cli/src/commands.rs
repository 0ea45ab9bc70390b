//! The verbs, one file each: read the arguments, call the agent, print the answer.

mod agent;
mod car;
mod completions;
mod diff;
mod export;
mod get;
mod group;
mod import;
mod init;
mod list;
mod log;
mod man;
mod migrate;
mod peer;
mod pin;
mod pull;
mod quickstart;
mod recipients;
mod share;
mod show;
mod statement;
mod verify;

use clap::Subcommand;

use crate::{context::Context, error::CliError};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Export(export::Args),
    List(list::Args),
    Show(show::Args),
    Diff(diff::Args),
    Get(get::Args),
    Verify(verify::Args),
    Import(import::Args),
    #[command(subcommand)]
    Car(car::Command),
    #[command(subcommand)]
    Recipients(recipients::Command),
    Pull(pull::Args),
    Migrate(migrate::Args),
    Share(share::Args),
    Group(group::Args),
    #[command(subcommand)]
    Peer(peer::Command),
    #[command(subcommand)]
    Pin(pin::Command),
    #[command(subcommand)]
    Log(log::Command),
    #[command(subcommand)]
    Agent(agent::Command),
    Quickstart(quickstart::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// Whether a run that was stopped leaves something that the next one goes on from.
    pub(crate) fn goes_on(&self) -> bool {
        match self {
            Self::Export(args) => args.goes_on(),
            Self::Car(command) => matches!(command, car::Command::Import(_)),
            Self::Pin(command) => command.goes_on(),
            Self::Pull(_) => true,
            _ => false,
        }
    }

    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Init(args) => args.run(context),
            Self::Export(args) => args.run(context),
            Self::List(args) => args.run(context),
            Self::Show(args) => args.run(context),
            Self::Diff(args) => args.run(context),
            Self::Get(args) => args.run(context),
            Self::Verify(args) => args.run(context),
            Self::Import(args) => args.run(context),
            Self::Car(command) => command.run(context),
            Self::Recipients(command) => command.run(context),
            Self::Pull(args) => args.run(context),
            Self::Migrate(args) => args.run(context),
            Self::Share(args) => args.run(context),
            Self::Group(args) => args.run(context),
            Self::Peer(command) => command.run(context),
            Self::Pin(command) => command.run(context),
            Self::Log(command) => command.run(context),
            Self::Agent(command) => command.run(context),
            Self::Quickstart(args) => args.run(context),
            Self::Completions(args) => args.run(context),
            Self::Man(args) => args.run(context),
        }
    }
}
