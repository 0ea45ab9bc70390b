//! `diff`: what changed between two snapshots.

use agent::{
    blocks::Blocks,
    diff::{Change, StreamDiff},
};
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    progress::Bar,
    prompt::OpenWith,
    reference::SnapshotRef,
    ui::{Printable, Size},
};

/// Show which streams differ between two snapshots
///
/// A line per stream that differs: + it was added, - it was removed, ~ its content changed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The earlier snapshot
    #[arg(value_name = "CID")]
    before: SnapshotRef,
    /// The later snapshot
    #[arg(value_name = "CID")]
    after: SnapshotRef,
    #[command(flatten)]
    open_with: OpenWith,
}

#[derive(Serialize)]
struct Differs<'a> {
    source: &'a str,
    stream: &'a str,
    change: &'a str,
    bytes_before: Option<u64>,
    bytes_after: Option<u64>,
    rows_before: Option<u64>,
    rows_after: Option<u64>,
    only_before: u64,
    only_after: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let store = context.open_store_to_read("diff")?;
        let blocks = Blocks::Store(&store);
        let mut opened = Vec::with_capacity(2);
        for reference in [&self.before, &self.after] {
            let root = reference.resolve(&store)?;
            opened.push(context.open(&blocks, &root, &self.open_with)?);
        }
        let bar = Bar::follow(&context.ui, "comparing", &context.progress);
        let found = agent::diff::diff(&blocks, &opened[0], &opened[1], &context.progress)?;
        drop(bar);
        context.stop_if_interrupted()?;
        let same = found.iter().filter(|d| d.change == Change::Same).count();
        for diff in &found {
            print(context, diff)?;
        }
        let of = found.len();
        context.ui.note(match same == of {
            true => format!("All {of} streams are the same."),
            false => format!("{same} of {of} streams are the same."),
        });
        Ok(())
    }
}

fn print(context: &Context, diff: &StreamDiff) -> Result<(), CliError> {
    let (sign, change) = match diff.change {
        Change::Added => ('+', "added"),
        Change::Removed => ('-', "removed"),
        Change::Changed => ('~', "changed"),
        Change::Same => (' ', "same"),
    };
    let differs = Differs {
        source: &diff.source,
        stream: &diff.stream,
        change,
        bytes_before: diff.bytes[0],
        bytes_after: diff.bytes[1],
        rows_before: diff.rows[0],
        rows_after: diff.rows[1],
        only_before: diff.only[0],
        only_after: diff.only[1],
    };
    if context.ui.is_json() {
        return context.ui.print_object("difference", &differs);
    }
    if diff.change == Change::Same {
        return Ok(());
    }
    let rows = match diff.rows {
        [None, None] => String::new(),
        [before, after] => format!(", rows {} -> {}", count(before), count(after)),
    };
    let line = format!(
        "{sign} {}/{}: {} only before, {} only after{rows}\n",
        Printable(&diff.source),
        Printable(&diff.stream),
        Size(diff.only[0]),
        Size(diff.only[1])
    );
    context.ui.print_raw(line.as_bytes())
}

fn count(rows: Option<u64>) -> String {
    rows.map_or_else(|| "none".to_owned(), |rows| rows.to_string())
}
