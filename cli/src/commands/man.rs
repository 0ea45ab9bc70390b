//! `man`: the manual, made from the same text as `--help`.

use std::{fs, path::PathBuf};

use clap::CommandFactory;

use crate::{context::Context, error::CliError};

/// Print the manual page, or write the pages of all verbs to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain man | man -l -\n  \
    souverain man ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Write `souverain.1`, `souverain-export.1`… to this directory
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let command = crate::args::Args::command();
        if let Some(directory) = self.directory {
            let failed =
                || CliError::failed(format!("cannot write pages to {}", directory.display()));
            return fs::create_dir_all(&directory)
                .and_then(|()| clap_mangen::generate_to(command, &directory))
                .map_err(|cause| failed().cause(&cause));
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        context.ui.print_raw(&page)
    }
}
