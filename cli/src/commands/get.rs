//! `get`: the sealed files of a snapshot, as a folder.

use std::path::PathBuf;

use agent::{blocks::Blocks, handover};
use serde::Serialize;

use crate::{context::Context, error::CliError, progress::Bar, reference::SnapshotRef};

/// Write a snapshot's own folder: sealed files, RECOVER.md and recover.sh
///
/// The folder is what `ipfs get CID` gives. `sh recover.sh IDENTITY_FILE OUT_DIR`, run in it,
/// restores everything with `sh`, `age` and `zstd` alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    /// A directory that does not exist yet, or is empty
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Serialize)]
struct Got {
    cid: String,
    path: String,
    bytes: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let store = context.open_store_to_read("get")?;
        let root = self.snapshot.resolve(&store)?;
        let bar = Bar::follow(&context.ui, "writing", &context.progress);
        let blocks = Blocks::Store(&store);
        let bytes = handover::get(&blocks, &root, &self.directory, &context.progress)?;
        drop(bar);
        let path = self.directory.display().to_string();
        let got = Got {
            cid: root.to_string(),
            path: path.clone(),
            bytes,
        };
        context.ui.answer("folder", &got, &path)
    }
}
