//! The `souverain` program: arguments, output, errors, progress and exit codes.
//!
//! The only crate that reads the environment, knows `$HOME` or touches the
//! terminal. Each verb is one file in [`commands`]: it reads its arguments,
//! calls the agent and prints the answer. Standard output carries the answer
//! alone, standard error everything else.

mod args;
mod backend;
mod commands;
mod context;
mod error;
mod hints;
mod home;
mod log;
mod output_file;
mod panic;
mod passphrase;
mod progress;
mod prompt;
mod reference;
mod signals;
mod trail;
mod ui;

use std::process::ExitCode;

use clap::Parser;

use agent::progress::Progress;

use crate::{args::Args, context::Context, error::CliError, trail::Trail, ui::Ui};

fn main() -> ExitCode {
    let ui = Ui::from_raw_arguments(std::env::args_os());
    panic::install(&ui);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&ui)));
    if panic::happened() {
        return ExitCode::from(error::EXIT_BUG);
    }
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            error.report(&ui);
            ExitCode::from(error.exit_code())
        }
        Err(_) => ExitCode::from(error::EXIT_BUG),
    }
}

fn run(ui: &Ui) -> Result<(), CliError> {
    let Some(args) = parse(ui)? else {
        return Ok(());
    };
    let ui = ui.configured(&args.global);
    let session = uuid::Uuid::now_v7();
    log::install(&ui, args.global.verbose)?;
    let progress = Progress::default();
    let interrupted = signals::install(&progress.stop)?;
    let context = Context {
        asked_home: args.global.home,
        session,
        trail: Trail::new(session),
        progress,
        interrupted: interrupted.clone(),
        ui,
    };
    // At the level of errors, so that the run is named whatever the filter lets through.
    let span = tracing::error_span!("run", %session);
    let _entered = span.enter();
    let goes_on = args.command.goes_on();
    let outcome = args
        .command
        .run(&context)
        .map_err(|error| error.interrupted_if(&interrupted, goes_on));
    if let Err(error) = &outcome
        && let Err(unrecorded) = context.trail.failed(error)
    {
        context.ui.warn(format!(
            "the log does not tell of this failure: {unrecorded}"
        ))?;
    }
    outcome
}

/// Nothing if help or the version was asked for, and printed.
fn parse(ui: &Ui) -> Result<Option<Args>, CliError> {
    match Args::try_parse() {
        Ok(args) => Ok(Some(args)),
        Err(error) if error.use_stderr() => Err(CliError::from_clap(error, ui)),
        Err(help) => {
            ui.print_raw(help.render().to_string().as_bytes())?;
            Ok(None)
        }
    }
}
