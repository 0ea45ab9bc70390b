//! `import`: a snapshot back into a database or a directory.

use std::ffi::OsString;

use agent::{
    blocks::Blocks,
    import::{self, Planned, Selection, SourceReport},
    target::{Existing, ImportOptions},
    url,
};
use cid::Cid;
use protocol::{log::entry::Action, manifest::StreamKind};
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    progress::Bar,
    prompt::OpenWith,
    reference::Input,
    ui::{Printable, Size},
};

/// Restore a snapshot, or some of its streams, into a target
///
/// A TARGET is of the kind that the source was: a directory, sqlite:PATH, or
/// postgres://USER@HOST/DATABASE. It must be empty, unless --merge or --replace is given. Everything
/// appears at once at the end; an import that fails leaves the target as it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain import bafybei… --into ./restored\n  \
    souverain import bafybei… --source shop --into sqlite:shop.sqlite\n  \
    souverain import backup.car -i identity.txt --into postgres://me@db/shop --stream public.orders")]
pub(crate) struct Args {
    /// The snapshot: a CID, its first 8 or more characters, or a CAR file
    #[arg(value_name = "CID|FILE.car")]
    input: Input,
    /// Where to restore to
    #[arg(long, value_name = "TARGET")]
    into: OsString,
    /// Restore only this stream: a table, or a tree (see `souverain show`)
    #[arg(long = "stream", value_name = "NAME")]
    streams: Vec<String>,
    /// Restore only this source of several: its name (see `souverain show`)
    #[arg(long = "source", value_name = "NAME")]
    sources: Vec<String>,
    #[command(flatten)]
    open_with: OpenWith,
    /// Add to a target that is not empty
    #[arg(long, conflicts_with = "replace")]
    merge: bool,
    /// Replace all that is in the target
    #[arg(long)]
    replace: bool,
    /// Leave damaged parts out, and report them; the exit code is then 3
    #[arg(long)]
    skip_damaged: bool,
    /// Say what would be restored, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of a stream.
#[derive(Serialize)]
pub(super) struct Restored<'a> {
    source: &'a str,
    target: &'a str,
    stream: &'a str,
    kind: StreamKind,
    bytes: u64,
    rows: u64,
    entries: u64,
    skipped: &'a [String],
}

#[derive(Serialize)]
struct WouldRestore<'a> {
    source: &'a str,
    target: &'a str,
    stream: &'a str,
    kind: StreamKind,
    bytes: u64,
    rows: Option<u64>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        context.warn_of_password(&self.into.to_string_lossy())?;
        context.with_blocks(&self.input, "import", |blocks, root| {
            self.import(context, blocks, root)
        })
    }

    fn import(&self, context: &Context, blocks: &Blocks<'_>, root: Cid) -> Result<(), CliError> {
        let home = context.home_if_any()?;
        if let (Some(home), false) = (&home, self.dry_run) {
            // Data is given back whatever others say of the log.
            context.trail.begin_unasked(home, Action::IMPORT)?;
            context.trail.about(&root);
            context
                .trail
                .detail("target", &url::redact(&self.into.to_string_lossy()));
        }
        let snapshot = context.open(blocks, &root, &self.open_with)?;
        let selection = Selection {
            sources: self.sources.clone(),
            streams: self.streams.clone(),
        };
        let planned = import::plan(&snapshot, &self.into, &selection)?;
        let options = ImportOptions {
            existing: match (self.merge, self.replace) {
                (true, _) => Existing::Merge,
                (_, true) => Existing::Replace,
                _ => Existing::Refuse,
            },
            partial: false,
            skip_damaged: self.skip_damaged,
        };
        if self.dry_run {
            import::check(&planned, options)?;
            return would_restore(context, &planned);
        }
        let bar = Bar::follow(&context.ui, "restoring", &context.progress);
        let reports = import::import(blocks, &snapshot, &planned, options, &context.progress)?;
        drop(bar);
        let skipped = |source: &SourceReport| source.streams.iter().any(|s| !s.skipped.is_empty());
        if !reports.iter().any(skipped) {
            context.trail.done()?;
        }
        report(context, &reports, |kind, restored, text| {
            context.ui.answer(kind, restored, text)
        })
    }
}

/// Says which streams would go where.
pub(super) fn would_restore(context: &Context, planned: &[Planned<'_>]) -> Result<(), CliError> {
    for part in planned {
        let target = url::redact(&part.into.to_string_lossy());
        for stream in &part.streams {
            let would = WouldRestore {
                source: &part.source.name,
                target: &target,
                stream: &stream.meta.name,
                kind: stream.meta.kind,
                bytes: stream.meta.bytes,
                rows: stream.meta.rows,
            };
            let rows = stream.meta.rows.map(|rows| format!(", {rows} rows"));
            let text = format!(
                "would restore {}/{} to {}: {}{}{}",
                Printable(would.source),
                Printable(would.stream),
                Printable(&target),
                schema_part(would.kind),
                Size(would.bytes),
                rows.unwrap_or_default()
            );
            context.ui.answer("would_restore", &would, text)?;
        }
    }
    Ok(())
}

/// Tells the two streams of a database's schema apart, which have one name.
fn schema_part(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Before => "schema, ",
        StreamKind::After => "indexes and constraints, ",
        StreamKind::Table | StreamKind::Tree => "",
    }
}

/// Tells what became of each stream, by `say` and by warnings; fails if something was left out.
pub(super) fn report(
    context: &Context,
    reports: &[SourceReport],
    say: impl Fn(&str, &Restored<'_>, String) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut skipped = 0;
    for source in reports {
        for stream in &source.streams {
            let restored = Restored {
                source: &source.source,
                target: &source.target,
                stream: &stream.name,
                kind: stream.kind,
                bytes: stream.bytes,
                rows: stream.rows,
                entries: stream.entries,
                skipped: &stream.skipped,
            };
            let what = match (stream.rows, stream.entries) {
                (0, 0) => schema_part(stream.kind).to_owned(),
                (rows, 0) => format!("{rows} rows, "),
                (_, entries) => format!("{entries} files and directories, "),
            };
            let text = format!(
                "restored {}/{} to {}: {what}{}",
                Printable(&source.source),
                Printable(&stream.name),
                Printable(&source.target),
                Size(stream.bytes)
            );
            say("restored", &restored, text)?;
            for reason in &stream.skipped {
                // What is said of an entry of a tree says so itself.
                let what = match stream.kind {
                    StreamKind::Tree if reason.starts_with("./") => "",
                    _ => "left out: ",
                };
                context.ui.warn(format!("{what}{}", Printable(reason)))?;
            }
            skipped += stream.skipped.len();
        }
    }
    if skipped == 0 {
        return Ok(());
    }
    Err(CliError::unverified(match skipped {
        1 => "1 part was left out".to_owned(),
        _ => format!("{skipped} parts were left out"),
    })
    .hint("the rest is restored, and the warnings say why this is not; for what is damaged, look for an undamaged copy"))
}
