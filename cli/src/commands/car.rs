//! `car`: snapshots by disk or mail.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use agent::{blocks::Blocks, handover};
use cid::Cid;
use serde::Serialize;

use crate::{
    context::Context, error::CliError, output_file::OutputFile, progress::Bar,
    reference::SnapshotRef, ui::Size,
};

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

/// Keep the snapshots of a CAR (version 1 or 2) file, and print their CIDs
///
/// Every block is checked against its CID on the way in.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
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
        let input: Box<dyn Read> = if self.file == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&self.file).map_err(|cause| {
                CliError::failed(format!("cannot read {}", self.file.display())).cause(&cause)
            })?)
        };
        let store = context.open_store_to_write("car import")?;
        let bar = Bar::follow(&context.ui, "reading", &context.progress);
        let roots = handover::car_import(&store, input, &context.now(), &context.progress)?;
        drop(bar);
        for root in roots {
            let imported = Imported {
                cid: root.to_string(),
            };
            context.ui.answer("snapshot", &imported, root)?;
        }
        Ok(())
    }
}
