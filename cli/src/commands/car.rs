//! `car`: snapshots by disk or mail.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use agent::{blocks::Blocks, handover};
use cid::Cid;
use protocol::log::entry::Action;
use serde::Serialize;

use crate::{
    context::Context, error::CliError, output_file::OutputFile, progress::Bar,
    reference::SnapshotRef, ui::Size,
};

/// Bytes of a CAR that are read at once.
const BUFFER_SIZE: usize = 1 << 20;

/// Hand a snapshot over as one file, or take one in
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Write a snapshot to a CAR (version 1) file
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The snapshot: a CID, or its first 8 or more characters
    #[arg(value_name = "CID")]
    snapshot: SnapshotRef,
    /// A file that does not exist yet, or - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Keep the snapshots of CAR (version 1 or 2) files, and print their CIDs
///
/// Every block is checked against its CID on the way in. Of a file that is damaged all else is
/// kept, and the exit code is 3. The packs of a home are CAR files too: what is left of a damaged
/// one is rescued with `souverain --home NEW car import HOME/packs/*.car`.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The files, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Exported {
    cid: String,
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct Imported {
    cid: String,
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Export(args) => args.run(context),
            Self::Import(args) => args.run(context),
        }
    }
}

impl ExportArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let to_stdout = self.file == Path::new("-");
        if to_stdout {
            context.ui.claim_stdout("the CAR")?;
        }
        let store = context.open_store_to_read("car export")?;
        let root = self.snapshot.resolve(&store)?;
        let bar = Bar::follow(&context.ui, "writing", &context.progress);
        if to_stdout {
            let out = BufWriter::new(io::stdout().lock());
            let bytes = write(&Blocks::Store(&store), &root, out, &self.file, context)?;
            drop(bar);
            context.ui.note(format!("{root}  {}", Size(bytes)));
            return Ok(());
        }
        let mut file = OutputFile::create(&self.file)?;
        let bytes = write(
            &Blocks::Store(&store),
            &root,
            file.writer(),
            &self.file,
            context,
        )?;
        file.publish()?;
        drop(bar);
        let exported = Exported {
            cid: root.to_string(),
            path: self.file.display().to_string(),
            bytes,
        };
        context.ui.answer("car", &exported, self.file.display())
    }
}

fn write(
    blocks: &Blocks<'_>,
    root: &Cid,
    out: impl Write,
    name: &Path,
    context: &Context,
) -> Result<u64, CliError> {
    Ok(handover::car_export(
        blocks,
        root,
        out,
        name,
        &context.progress,
    )?)
}

impl ImportArgs {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let inputs = self.files.iter().map(|file| Ok((file, open(file)?)));
        let inputs: Vec<_> = inputs.collect::<Result<_, CliError>>()?;
        let store = context.open_store_to_change("car import", Action::CAR_IMPORT)?;
        for file in &self.files {
            context.trail.detail("file", &file.display().to_string());
        }
        let bar = Bar::follow(&context.ui, "reading", &context.progress);
        let (mut roots, mut failure) = (Vec::new(), None);
        for (file, input) in inputs {
            let taken = handover::take_in(&store, input, &context.progress)?;
            roots.extend(taken.roots);
            if let Some(error) = taken.damage {
                if self.files.len() > 1 {
                    context
                        .ui
                        .warn(format!("{} is damaged: {error}", file.display()))?;
                }
                failure.get_or_insert(error);
            }
        }
        // A snapshot may be in several files: it is whole when all are read.
        let listed = handover::list(&store, &roots, &context.now(), &context.progress)?;
        drop(bar);
        listed.iter().for_each(|root| context.trail.about(root));
        if failure.is_none() {
            context.trail.done()?;
        }
        let kept_some = !roots.is_empty() || self.files.len() > 1;
        // Roots that a damaged file names may be of snapshots that are lost.
        for root in if failure.is_some() { listed } else { roots } {
            let imported = Imported {
                cid: root.to_string(),
            };
            context.ui.answer("snapshot", &imported, root)?;
        }
        match failure.map(CliError::from) {
            Some(error) if kept_some => {
                Err(error
                    .hint_more("all else was kept, and the snapshots that are whole are listed"))
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn open(file: &Path) -> Result<Box<dyn Read>, CliError> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin().lock())));
    }
    let opened = File::open(file).map_err(|cause| {
        CliError::failed(format!("cannot read {}", file.display())).cause(&cause)
    })?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_SIZE, opened)))
}
