//! `migrate`: a snapshot from peers into a target in one go, with a signed statement.

use std::{ffi::OsString, path::PathBuf};

use agent::{
    blocks::Blocks,
    import::{self, Planned, Selection, SourceReport},
    migrate::{self, MigrationReport, StatementError},
    open::OpenSnapshot,
    pull::{Arrivals, Puller, Scope},
    target::{Existing, ImportOptions},
    url,
};
use protocol::{
    log::entry::Action,
    migration::{Migrated, Migration},
    note::NoteError,
};
use serde::Serialize;
use store::Store;

use super::{
    import::{report, would_restore},
    pull::{From, whole_cid},
};
use crate::{
    context::Context,
    error::CliError,
    output_file::OutputFile,
    progress::Bar,
    prompt::OpenWith,
    reference::SnapshotRef,
    ui::{Printable, Size},
};

/// Fetch a snapshot and restore it in one go, with a signed statement
///
/// Data is restored while it arrives, and appears at once at the end. Then the target is read back and
/// compared with the snapshot; what both hold is stated, signed by this node, and printed: `souverain
/// verify FILE` checks such a statement. After an interruption only what is missing is fetched again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain migrate bafybei… --peer /dns/old.example/tcp/4001/p2p/12D3… -i key.txt --into ./data --dry-run\n  \
    souverain migrate bafybei… --peer … -i key.txt --into postgres://me@db/shop > statement.txt\n  \
    souverain verify statement.txt")]
pub(crate) struct Args {
    /// The snapshot: a whole CID
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    #[command(flatten)]
    from: From,
    /// Where to restore to, as for `souverain import`
    #[arg(long, value_name = "TARGET")]
    into: OsString,
    /// Migrate only this stream: a table, or a tree
    #[arg(long = "stream", value_name = "NAME")]
    streams: Vec<String>,
    /// Migrate only this source of several
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
    #[command(flatten)]
    open_with: OpenWith,
    /// Replace all that is in the target
    #[arg(long)]
    replace: bool,
    /// Write the statement to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    statement: Option<PathBuf>,
    /// Say what would be fetched and restored; only what describes the snapshot is fetched
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    cid: String,
    same: bool,
    bytes_pulled: u64,
    statement: &'a str,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        context.warn_of_password(&self.into.to_string_lossy())?;
        let root = whole_cid(&self.snapshot)?;
        let home = context.open_home()?;
        let began = context.now();
        if !self.dry_run {
            context.trail.begin(&home, Action::MIGRATE)?;
            context.trail.about(&root);
            context
                .trail
                .detail("target", &url::redact(&self.into.to_string_lossy()));
        }
        let puller = self.from.puller(context, root)?;
        let (arrivals, progress) = (Arrivals::default(), &context.progress);
        puller.pull(&Scope::Top, &began, &arrivals, progress)?;
        let store = puller.store()?;
        let snapshot = context.open(&Blocks::Store(&store), &root, &self.open_with)?;
        let selection = Selection {
            sources: self.sources.clone(),
            streams: self.streams.clone(),
        };
        let planned = import::plan(&snapshot, &self.into, &selection)?;
        import::check(&planned, self.options())?;
        if self.dry_run {
            return would_restore(context, &planned);
        }
        let out = self
            .statement
            .as_deref()
            .map(OutputFile::create)
            .transpose()?;
        let done = self.migrate(context, &puller, &store, &snapshot, &planned)?;
        let bar = Bar::follow(&context.ui, "reading back", &Default::default());
        let streams = migrate::read_back(&Blocks::Store(&store), &snapshot, &planned, progress)?;
        drop(bar);
        let migration = Migration {
            root: root.to_string(),
            source: snapshot.manifest.snapshot.node.clone(),
            target: home.peer_id().to_string(),
            began,
            ended: context.now(),
            streams,
        };
        let statement = match migrate::sign(&migration, home.node_key()) {
            // The data is restored, and compared.
            Err(StatementError::Note(NoteError::TooLong)) => {
                let count = migration.streams.len();
                let text = format!("{count} streams are too many for one statement; there is none");
                context.ui.warn(text)?;
                String::new()
            }
            signed => signed?,
        };
        let skipped = |source: &SourceReport| source.streams.iter().any(|s| !s.skipped.is_empty());
        let differs = |stream: &Migrated| stream.restored.is_some() && !stream.is_same();
        let mut data = migration.streams.iter().filter(|stream| stream.is_data());
        if !done.sources.iter().any(skipped) && !data.any(differs) {
            context.trail.done()?;
        }
        self.tell(context, &done, &migration, &statement, out)
    }

    fn options(&self) -> ImportOptions {
        ImportOptions {
            existing: if self.replace {
                Existing::Replace
            } else {
                Existing::Refuse
            },
            ..ImportOptions::default()
        }
    }

    /// Restores what arrives; then the rest of the snapshot is fetched, if all of it was meant.
    fn migrate(
        &self,
        context: &Context,
        puller: &Puller,
        store: &Store,
        snapshot: &OpenSnapshot,
        planned: &[Planned<'_>],
    ) -> Result<MigrationReport, CliError> {
        let (created, progress) = (context.now(), &context.progress);
        let bar = Bar::follow(&context.ui, "migrating", progress);
        let (options, arrivals) = (self.options(), Arrivals::default());
        let mut done = migrate::pull_and_import(
            puller, store, snapshot, planned, options, &created, progress,
        )?;
        drop(bar);
        if self.streams.is_empty() && self.sources.is_empty() {
            match puller.pull(&Scope::Whole, &created, &arrivals, progress) {
                Ok(rest) => done.pulled.add(rest),
                // What was asked for is done.
                Err(error) => context.ui.warn(format!(
                    "all data is restored, but the snapshot itself is not whole in this home \
                     ({error}); `souverain pull` fetches the rest"
                ))?,
            }
        }
        Ok(done)
    }

    fn tell(
        &self,
        context: &Context,
        done: &MigrationReport,
        migration: &Migration,
        statement: &str,
        out: Option<OutputFile>,
    ) -> Result<(), CliError> {
        let ui = &context.ui;
        let restored = report(context, &done.sources, |kind, restored, text| {
            if ui.is_json() {
                return ui.print_object(kind, restored);
            }
            ui.note(text);
            Ok(())
        });
        ui.note(format!(
            "fetched {} in {} blocks",
            Size(done.pulled.bytes),
            done.pulled.blocks
        ));
        let differs = |stream: &&Migrated| stream.restored.is_some() && !stream.is_same();
        let (data, schema): (Vec<_>, Vec<_>) = migration
            .streams
            .iter()
            .filter(differs)
            .partition(|stream| stream.is_data());
        if let Some(mut out) = out {
            std::io::Write::write_all(out.writer(), statement.as_bytes())?;
            out.publish()?;
        }
        let body = Done {
            cid: migration.root.clone(),
            same: data.is_empty() && schema.is_empty(),
            bytes_pulled: done.pulled.bytes,
            statement,
        };
        if ui.is_json() {
            ui.print_object("migrated", &body)?;
        } else if self.statement.is_none() {
            ui.print_raw(statement.as_bytes())?;
        }
        for stream in schema {
            ui.warn(format!(
                "the schema of {} reads otherwise in the target, as it may in another version of its database",
                Printable(&stream.source)
            ))?;
        }
        restored?;
        if let Some(first) = data.first() {
            return Err(CliError::unverified(format!(
                "{} of {} streams are not in the target as they are in the snapshot, {} first",
                data.len(),
                migration.streams.len(),
                Printable(&first.name)
            ))
            .hint("the statement has both hashes; something may have changed the target meanwhile, or not be able to hold all of the source, as a file's owner"));
        }
        Ok(())
    }
}
