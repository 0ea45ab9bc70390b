//! `get`: the sealed files of a snapshot, as a folder.

use std::{io::Write, path::PathBuf};

use agent::{blocks::Blocks, catalog, handover, recipients};
use cid::Cid;
use protocol::keys::capsule::Mode;
use serde::Serialize;
use store::Store;

use crate::{
    context::Context, error::CliError, output_file::OutputFile, progress::Bar,
    reference::SnapshotRef,
};

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
    /// Write the capsule of an erasable snapshot, which no folder holds, to this new file
    ///
    /// `recover.sh` takes it as its third argument. Erasing the snapshot then means to destroy this
    /// copy too.
    #[arg(long, value_name = "FILE")]
    capsule: Option<PathBuf>,
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
        let capsule = match &self.capsule {
            Some(place) => Some(capsule_file(&store, &root, place)?),
            None => None,
        };
        let bar = Bar::follow(&context.ui, "writing", &context.progress);
        let blocks = Blocks::Store(&store);
        let bytes = handover::get(&blocks, &root, &self.directory, &context.progress)?;
        capsule.map_or(Ok(()), OutputFile::publish)?;
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

/// Begins a file with the capsule of an erasable snapshot.
fn capsule_file(
    store: &Store,
    root: &Cid,
    place: &std::path::Path,
) -> Result<OutputFile, CliError> {
    let erasable =
        catalog::snapshot(store, root)?.is_some_and(|record| record.mode == Mode::Erasable);
    let kept = recipients::kept_capsule(store, root)?.filter(|_| erasable);
    let Some(capsule) = kept else {
        return Err(CliError::failed(format!("this home keeps no capsule of {root}"))
            .hint("the capsule of a portable snapshot is in its folder; that of an erasable one is where it was made"));
    };
    let mut file = OutputFile::create(place)?;
    let written = file.writer().write_all(&capsule);
    written.map_err(|cause| {
        CliError::failed(format!("cannot write {}", place.display())).cause(&cause)
    })?;
    Ok(file)
}
