//! `completions`: for the shells that people use.

use clap::CommandFactory;

use crate::{context::Context, error::CliError};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain completions bash > ~/.local/share/bash-completion/completions/souverain\n  \
    souverain completions zsh > ~/.zfunc/_souverain\n  \
    souverain completions fish > ~/.config/fish/completions/souverain.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut crate::args::Args::command(),
            "souverain",
            &mut script,
        );
        context.ui.print_raw(&script)
    }
}
