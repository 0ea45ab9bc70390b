//! `show`: what a snapshot holds.

use agent::open::OpenSnapshot;
use protocol::manifest::{Column, Engine, SourceMeta, Stream, StreamKind};
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    prompt::OpenWith,
    reference::Input,
    ui::{Printable, Size},
};

/// Show what a snapshot holds: its sources and streams
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a CID, its first 8 or more characters, or a CAR file
    #[arg(value_name = "CID|FILE.car")]
    input: Input,
    #[command(flatten)]
    open_with: OpenWith,
}

#[derive(Serialize)]
struct Shown<'a> {
    cid: String,
    created: &'a str,
    mode: String,
    node: &'a str,
    program: &'a str,
    session: &'a str,
    sources: &'a [SourceMeta],
}

#[derive(Serialize)]
struct ShownStream<'a> {
    source: u32,
    name: &'a str,
    kind: StreamKind,
    bytes: u64,
    rows: Option<u64>,
    segments: u64,
    columns: &'a [Column],
    content: &'a str,
    file: &'a str,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let snapshot = context.with_blocks(&self.input, "show", |blocks, root| {
            context.open(blocks, &root, &self.open_with)
        })?;
        show(context, &snapshot)
    }
}

fn show(context: &Context, snapshot: &OpenSnapshot) -> Result<(), CliError> {
    let manifest = &snapshot.manifest;
    let meta = &manifest.snapshot;
    let shown = Shown {
        cid: snapshot.root.to_string(),
        created: &meta.created,
        mode: meta.mode.to_string(),
        node: &meta.node,
        program: &meta.program,
        session: &meta.session,
        sources: &manifest.sources,
    };
    let head = format!(
        "cid: {}\ncreated: {}\nmode: {}\nnode: {}\nprogram: {}\nsession: {}",
        snapshot.root,
        Printable(&meta.created),
        meta.mode,
        Printable(&meta.node),
        Printable(&meta.program),
        Printable(&meta.session)
    );
    context.ui.answer("snapshot", &shown, head)?;
    for (index, source) in (0..).zip(&manifest.sources) {
        if !context.ui.is_json() {
            context.ui.print_raw(describe(source).as_bytes())?;
        }
        for stream in manifest.streams.iter().filter(|s| s.meta.source == index) {
            show_stream(context, stream)?;
        }
    }
    Ok(())
}

/// The line of a source, and those of its warnings.
fn describe(source: &SourceMeta) -> String {
    let engine = match source.engine {
        Engine::Tree => "files",
        Engine::Sqlite => "SQLite",
        Engine::Postgres => "PostgreSQL",
    };
    let version = source.version.as_deref().unwrap_or_default();
    let line = format!(
        "source {}: {engine} {}",
        Printable(&source.name),
        Printable(version)
    );
    let mut out = format!("{}\n", line.trim_end());
    for warning in &source.warnings {
        out.push_str(&format!("  warning: {}\n", Printable(warning)));
    }
    out
}

fn show_stream(context: &Context, stream: &Stream) -> Result<(), CliError> {
    let meta = &stream.meta;
    let shown = ShownStream {
        source: meta.source,
        name: &meta.name,
        kind: meta.kind,
        bytes: meta.bytes,
        rows: meta.rows,
        segments: stream
            .lists
            .iter()
            .map(|list| u64::from(list.segments))
            .sum(),
        columns: &meta.columns,
        content: &meta.content,
        file: &stream.file,
    };
    let what = match meta.kind {
        StreamKind::Tree => "tree".to_owned(),
        StreamKind::Before => "schema".to_owned(),
        StreamKind::After => "indexes and constraints".to_owned(),
        StreamKind::Table => format!("table, {} rows", meta.rows.unwrap_or_default()),
    };
    let line = format!("  {}: {what}, {}", Printable(&meta.name), Size(meta.bytes));
    context.ui.answer("stream", &shown, line)
}
