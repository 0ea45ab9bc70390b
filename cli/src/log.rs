//! Logs: tracing to standard error, filtered by SOUVERAIN_LOG and `-v`.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{error::CliError, ui::Ui};

/// Warnings; but not those of the DHT, to which a node without peers is one, nor those of sled: what it
/// finds wrong comes as an error that says what to do.
const WARNINGS: &str = "warn,libp2p_kad=error,sled=off";

/// Sends events of at least the asked level to standard error.
pub(crate) fn install(ui: &Ui, verbose: u8) -> Result<(), CliError> {
    let filter = match (std::env::var("SOUVERAIN_LOG"), verbose) {
        (Ok(filter), 0) if !filter.is_empty() => EnvFilter::try_new(&filter).map_err(|cause| {
            CliError::usage("SOUVERAIN_LOG is not a filter")
                .cause(&cause)
                .hint("try `SOUVERAIN_LOG=info` or `SOUVERAIN_LOG=souverain_agent=debug`")
        })?,
        (_, 0) => EnvFilter::new(WARNINGS),
        (_, 1) => EnvFilter::new(format!(
            "{WARNINGS},souverain=info,souverain_agent=info,souverain_store=info"
        )),
        (_, 2) => {
            EnvFilter::new("info,souverain=debug,souverain_agent=debug,souverain_store=debug")
        }
        _ => EnvFilter::new("trace"),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ui.color_on_stderr())
        .with_writer(LogWriter { ui: ui.clone() })
        .init();
    Ok(())
}

/// Writes log lines between two drawings of the progress bar.
struct LogWriter {
    ui: Ui,
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { ui: &self.ui }
    }
}

struct Line<'a> {
    ui: &'a Ui,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ui.write_stderr(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a person is likely to be looking at standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}
