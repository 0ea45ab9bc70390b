//! `log fork`: proofs that somebody signed two histories.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use agent::log;
use protocol::log::fork::{Evidence, FORK_SIZE_MAX, Signer, UnverifiedFork};
use serde::Serialize;

use crate::{context::Context, error::CliError};

/// Print the fork proofs that this home keeps, or check one
///
/// A fork proof is two signed statements of one signer that cannot both be true: it is checked with nothing but the
/// signer's key. Ends with 3 if a file proves nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A fork proof to check, which needs no home
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The key that is to be proven to have signed both [default: it is said which one did]
    #[arg(long, value_name = "VKEY", requires = "file")]
    vkey: Vec<Signer>,
}

#[derive(Serialize)]
struct Kept<'a> {
    origin: &'a str,
    kind: &'static str,
    accuses_log: bool,
    file: &'a Path,
}

#[derive(Serialize)]
struct Proven {
    origin: String,
    kind: &'static str,
    signers: Vec<String>,
    trusted: bool,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        match &self.file {
            Some(file) => self.check(context, file),
            None => list(context),
        }
    }

    fn check(&self, context: &Context, path: &Path) -> Result<(), CliError> {
        let failed = |e: std::io::Error| {
            CliError::failed(format!("cannot read {}", path.display())).cause(&e)
        };
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FORK_SIZE_MAX as u64 + 1).read_to_end(&mut text))
            .map_err(failed)?;
        let fork = UnverifiedFork::parse(&text)?;
        let signers = fork.signers_unverified().clone();
        let known: &[Signer] = if self.vkey.is_empty() {
            &signers
        } else {
            &self.vkey
        };
        let fork = fork.verify(known)?;
        let mut signers: Vec<String> = signers.iter().map(Signer::to_string).collect();
        signers.dedup();
        let proven = Proven {
            origin: fork.origin().to_owned(),
            kind: kind(fork.evidence()),
            signers,
            trusted: !self.vkey.is_empty(),
        };
        let who = proven.signers.join(" and ");
        let mut text = format!("{}: two histories, both signed by {who}", proven.origin);
        if !proven.trusted {
            text.push_str("\nwhether that is the key of the log, `--vkey KEY` says");
        }
        context.ui.answer("fork", &proven, text)
    }
}

fn list(context: &Context) -> Result<(), CliError> {
    let home = context.open_home()?;
    let forks = log::kept_forks(home.path())?;
    if forks.is_empty() {
        context
            .ui
            .note("no log that this home knows was forked, as far as it has heard");
    }
    for fork in &forks {
        let unverified = fork.fork.evidence_unverified();
        let kept = Kept {
            origin: fork.origin.as_str(),
            kind: kind(unverified),
            accuses_log: fork.accuses_log,
            file: &fork.path,
        };
        let against = if kept.accuses_log {
            "the log"
        } else {
            "a former key or a witness"
        };
        let text = format!(
            "{}  {}  against {against}  {}",
            kept.origin,
            kept.kind,
            kept.file.display()
        );
        context.ui.answer("fork", &kept, text)?;
    }
    Ok(())
}

fn kind(evidence: &Evidence) -> &'static str {
    match evidence {
        Evidence::Entries(_) => "entries",
        Evidence::Roots(_) => "roots",
        Evidence::Growth { .. } => "growth",
    }
}
