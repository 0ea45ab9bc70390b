//! How a person is asked, and what opens snapshots: identities, passphrases, plugins.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use agent::{
    home::Home,
    keys::{Identities, Prompt},
};
use secrecy::SecretString;

use crate::{
    error::CliError,
    passphrase,
    ui::{Printable, Ui},
};

/// Longest answer that is read, in bytes.
const ANSWER_LEN_MAX: u64 = 4096;

/// What a snapshot is opened with, on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OpenWith {
    /// Open it with the identities in this file, beside the home's own
    #[arg(long = "identity", short = 'i', value_name = "FILE")]
    pub(crate) identities: Vec<PathBuf>,
    /// Open it with the passphrase in the first line of a file (or in SOUVERAIN_PASSPHRASE)
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl OpenWith {
    /// Whether anything was named.
    pub(crate) fn is_some(&self) -> bool {
        !self.identities.is_empty()
            || self.passphrase_file.is_some()
            || std::env::var_os(passphrase::VARIABLE).is_some()
    }

    /// Loads what was named, and the identity of the home if it has one.
    pub(crate) fn load(&self, home: Option<&Home>, ui: &Ui) -> Result<Identities, CliError> {
        let mut files = self.identities.clone();
        files.extend(home.and_then(Home::identity_path));
        let passphrase = passphrase::unattended(self.passphrase_file.as_deref())?;
        Ok(Identities::load(&files, passphrase, terminal(ui))?)
    }
}

/// The person at the terminal, if there is one.
pub(crate) fn terminal(ui: &Ui) -> Arc<dyn Prompt> {
    Arc::new(Terminal { ui: ui.clone() })
}

struct Terminal {
    ui: Ui,
}

impl Prompt for Terminal {
    fn message(&self, text: &str) {
        // A person who cannot see it cannot act on it either.
        let _ = self
            .ui
            .write_stderr(format!("{}\n", Printable(text)).as_bytes());
    }

    fn confirm(&self, text: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let (yes, no) = (Printable(yes), Printable(no.unwrap_or("no")));
        let answer = self.text(&format!("{text}\n[y] {yes}  [n] {no}"))?;
        match answer.trim() {
            "y" | "Y" | "yes" => Some(true),
            "n" | "N" | "no" => Some(false),
            _ => None,
        }
    }

    fn text(&self, description: &str) -> Option<String> {
        self.ui.bars().suspend(|| {
            let mut terminal = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/tty")
                .ok()?;
            write!(terminal, "{}: ", Printable(description)).ok()?;
            let mut answer = String::new();
            BufReader::new(terminal.take(ANSWER_LEN_MAX))
                .read_line(&mut answer)
                .ok()?;
            Some(answer.trim_end_matches(['\r', '\n']).to_owned())
        })
    }

    fn passphrase(&self, description: &str) -> Option<SecretString> {
        self.ui
            .bars()
            .suspend(|| passphrase::ask(&format!("{}: ", Printable(description))).ok())
            .map(|text| SecretString::from(text.as_str()))
    }
}
