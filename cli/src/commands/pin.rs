//! `pin`: snapshots that others hold for this home.

use agent::{
    catalog,
    home::Home,
    kubo::{Kubo, Published},
    progress::Progress,
};
use cid::Cid;
use serde::Serialize;
use store::Store;

use crate::{
    backend::BackendArgs, context::Context, error::CliError, progress::Bar, reference::SnapshotRef,
    ui::Size,
};

/// Have a Kubo hold snapshots, see which it holds, and let it drop them
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Add(AddArgs),
    List(ListArgs),
    Remove(RemoveArgs),
}

/// Send a snapshot to a Kubo, and pin it there under this home's name
///
/// What it has of the snapshot already is not sent. Run the same command again after an
/// interruption: only what is missing is sent.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArgs {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    backend: BackendArgs,
}

/// List the snapshots that this home has pinned at a Kubo
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    backend: BackendArgs,
}

/// Take away the pin of a snapshot at a Kubo
///
/// Its blocks stay there until the Kubo collects its garbage. This home keeps the snapshot.
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveArgs {
    /// The snapshot: a whole CID, or, of one that is in this home, its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    backend: BackendArgs,
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
        }
    }
}

impl AddArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let store = Store::open_read(home.path(), "pin add")?;
        let root = self.snapshot.resolve(&store)?;
        let kubo = connect(&self.backend, context)?;
        let published = publish(context, &kubo, &home, &store, &root)?;
        let text = root.to_string();
        answer(context, &self.backend, &root, &published, Some(&text))
    }
}

impl ListArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let store = Store::open_read(home.path(), "pin list")?;
        let kubo = connect(&self.backend, context)?;
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
        let kubo = connect(&self.backend, context)?;
        kubo.unpin(&root, &home.peer_id())?;
        let cid = root.to_string();
        context.ui.answer("unpinned", &Unpinned { cid }, root)
    }
}

fn connect(backend: &BackendArgs, context: &Context) -> Result<Kubo, CliError> {
    backend.connect(context)?.ok_or_else(|| {
        CliError::usage("it is not said where the snapshot is to be pinned")
            .hint("pass `--backend kubo=URL`; this home itself keeps what it has")
    })
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
