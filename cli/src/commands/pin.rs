//! `pin`: snapshots that others hold for this home.

mod service;

use agent::{
    catalog,
    home::Home,
    kubo::{Kubo, Published},
    pinning::{PinningService, ServiceName},
    progress::Progress,
};
use cid::Cid;
use protocol::log::entry::Action;
use serde::Serialize;
use store::Store;

use crate::{
    backend::BackendArgs, context::Context, error::CliError, progress::Bar, reference::SnapshotRef,
    ui::Size,
};

pub(super) use service::PinServiceArgs;

/// Have a Kubo or a pinning service hold snapshots
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
    #[command(subcommand)]
    Service(service::Command),
}

/// Have a snapshot held elsewhere, under this home's name
///
/// A Kubo is sent what it lacks of it. A pinning service is asked to fetch it. Run the same
/// command again after an interruption: it goes on from there.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(flatten)]
    service: PinServiceArgs,
}

/// List the snapshots that this home has pinned elsewhere
///
/// Those of a Kubo with when they were exported, if this home has them; those of a pinning service
/// with how far it is: queued, pinning, pinned or failed.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    at: At,
}

/// Take away the pin of a snapshot that is held elsewhere
///
/// The blocks go when the Kubo or the service collects its garbage. This home keeps the snapshot.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// The snapshot: a whole CID, or, of one that is in this home, its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    at: At,
}

/// Where snapshots are pinned.
#[derive(Debug, clap::Args)]
struct At {
    #[command(flatten)]
    backend: BackendArgs,
    /// The pinning service of this name
    #[arg(long, value_name = "NAME", conflicts_with = "backend")]
    pin_service: Option<ServiceName>,
}

/// Who holds snapshots.
enum Holder {
    Kubo(Box<Kubo>),
    Service(ServiceName, Box<PinningService>),
}

#[derive(Serialize)]
struct Pinned<'a> {
    cid: String,
    backend: &'a str,
    blocks: u64,
    bytes: u64,
    was_pinned: bool,
}

#[derive(Serialize)]
struct Pin {
    cid: String,
    /// When this home exported it, if it has it.
    created: Option<String>,
}

#[derive(Serialize)]
struct Unpinned {
    cid: String,
}

impl Command {
    /// Whether a run that was stopped leaves something that the next one goes on from.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self, Self::Add(_))
    }

    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Add(args) => args.run(context),
            Self::List(args) => args.run(context),
            Self::Remove(args) => args.run(context),
            Self::Service(command) => command.run(context),
        }
    }
}

impl AddArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let store = Store::open_read(home.path(), "pin add")?;
        let root = self.snapshot.resolve(&store)?;
        context.trail.begin(&home, Action::PIN)?;
        context.trail.about(&root);
        let kubo = self.backend.connect(context)?;
        let service = self.service.open(context, &home)?;
        if kubo.is_none() && service.is_none() {
            return Err(nowhere());
        }
        let text = root.to_string();
        let mut text = Some(text.as_str());
        if let Some(kubo) = &kubo {
            let published = publish(context, kubo, &home, &store, &root)?;
            context.trail.detail("at", self.backend.given());
            context.trail.done()?;
            answer(context, &self.backend, &root, &published, text.take())?;
        }
        if let Some(service) = &service {
            context.trail.begin(&home, Action::PIN)?;
            context.trail.about(&root);
            let request = self.service.pin(context, &home, &store, service, &root)?;
            context.trail.done()?;
            self.service.answer(context, &request, text.take())?;
            context.ui.note(format!("it is {} there", request.status));
        }
        Ok(())
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let store = Store::open_read(home.path(), "pin list")?;
        let kubo = match self.at.holder(context, &home)? {
            Holder::Kubo(kubo) => kubo,
            Holder::Service(name, service) => {
                for request in service.requests(&home.peer_id(), None)? {
                    let line = service::line(&request);
                    service::answer(context, &name, &request, Some(&line))?;
                }
                return Ok(());
            }
        };
        for root in kubo.pins(&home.peer_id())? {
            let record = catalog::snapshot(&store, &root)?;
            let pin = Pin {
                cid: root.to_string(),
                created: record.map(|record| record.created),
            };
            let line = match &pin.created {
                Some(created) => format!("{root}  {created}"),
                None => root.to_string(),
            };
            context.ui.answer("pin", &pin, line)?;
        }
        Ok(())
    }
}

impl RemoveArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let root = match &self.snapshot {
            SnapshotRef::Cid(root) => *root,
            prefix => prefix.resolve(&Store::open_read(home.path(), "pin remove")?)?,
        };
        context.trail.begin(&home, Action::UNPIN)?;
        context.trail.about(&root);
        match self.at.holder(context, &home)? {
            Holder::Kubo(kubo) => kubo.unpin(&root, &home.peer_id())?,
            Holder::Service(_, service) => service.unpin(&root, &home.peer_id())?,
        }
        context.trail.done()?;
        let cid = root.to_string();
        context.ui.answer("unpinned", &Unpinned { cid }, root)
    }
}

impl At {
    fn holder(&self, context: &Context, home: &Home) -> Result<Holder, CliError> {
        if let Some(name) = &self.pin_service {
            let stop = context.progress.stop.clone();
            let service = PinningService::open(home.path(), name, stop)?;
            return Ok(Holder::Service(name.clone(), Box::new(service)));
        }
        let kubo = self.backend.connect(context)?;
        kubo.map(|kubo| Holder::Kubo(Box::new(kubo)))
            .ok_or_else(nowhere)
    }
}

fn nowhere() -> CliError {
    CliError::usage("it is not said where the snapshot is to be pinned").hint(
        "pass `--backend kubo=URL` or `--pin-service NAME`; this home itself keeps what it has",
    )
}

/// Publishes a snapshot of the store.
pub(super) fn publish(
    context: &Context,
    kubo: &Kubo,
    home: &Home,
    store: &Store,
    root: &Cid,
) -> Result<Published, CliError> {
    let progress = Progress {
        stop: context.progress.stop.clone(),
        ..Progress::default()
    };
    let bar = Bar::follow(&context.ui, "publishing", &progress);
    let published = kubo.publish(store, root, &home.peer_id(), &progress)?;
    drop(bar);
    Ok(published)
}

/// Says what publishing did; the text is printed where it is the answer.
pub(super) fn answer(
    context: &Context,
    backend: &BackendArgs,
    root: &Cid,
    published: &Published,
    text: Option<&str>,
) -> Result<(), CliError> {
    let pinned = Pinned {
        cid: root.to_string(),
        backend: backend.given(),
        blocks: published.blocks,
        bytes: published.bytes,
        was_pinned: published.was_pinned,
    };
    if context.ui.is_json() || text.is_some() {
        context
            .ui
            .answer("pinned", &pinned, text.unwrap_or_default())?;
    }
    context.ui.note(match published.was_pinned {
        true => "it was pinned there already".to_owned(),
        false => format!(
            "sent {} in {} blocks, and pinned",
            Size(published.bytes),
            published.blocks
        ),
    });
    Ok(())
}
