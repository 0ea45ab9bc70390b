//! `list`: the snapshots of this home.

use agent::catalog;
use serde::Serialize;

use crate::{
    context::Context,
    error::CliError,
    ui::{Printable, Size},
};

/// List the snapshots of this home, oldest first, the CID first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Listed<'a> {
    cid: String,
    created: &'a str,
    mode: String,
    bytes: u64,
    segments: u64,
    sources: &'a [String],
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let store = context.open_store_to_read("list")?;
        for (root, record) in catalog::snapshots(&store)? {
            let listed = Listed {
                cid: root.to_string(),
                created: &record.created,
                mode: record.mode.to_string(),
                bytes: record.bytes,
                segments: record.segments,
                sources: &record.sources,
            };
            let size = match record.bytes {
                0 => format!("{} segments", record.segments),
                bytes => Size(bytes).to_string(),
            };
            let line = format!(
                "{root}  {}  {}  {size}  {}",
                record.created,
                record.mode,
                Printable(&record.sources.join(", "))
            );
            context.ui.answer("snapshot", &listed, line.trim_end())?;
        }
        Ok(())
    }
}
