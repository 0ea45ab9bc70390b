//! `log bundle`: a part of the log in one file, for an auditor.

use std::{io::Write, path::PathBuf};

use agent::{
    keys::Identities,
    log::{self, OwnPolicy},
};
use serde::Serialize;

use super::Of;
use crate::{context::Context, error::CliError, output_file::OutputFile, prompt::OpenWith};

/// Write some entries with all that proves them into one file, for an auditor
///
/// The file is a CAR: the signed checkpoint and proofs, the entries, and those that changed the log's keys. `souverain log verify FILE --vkey KEY`
/// checks it without a home, a node or a network.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain log bundle audit.car\n  \
    souverain log bundle audit.car --from 100 --to 199 --disclose source -i identity.txt")]
pub(crate) struct Args {
    /// A file that does not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    of: Of,
    /// Number of the first entry
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Number of the last entry [default: the last of all]
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Disclose the details of this name, such as `source`: whoever has the file reads them
    #[arg(long, value_name = "NAME")]
    disclose: Vec<String>,
    /// Put the sealed details in: whom they are sealed to can open them
    #[arg(long)]
    details: bool,
    /// Put a policy of witnesses in (c2sp.org/tlog-policy) [default: that of the home, if it has one and the log is its own]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Put the proof of a fork in
    #[arg(long, value_name = "FILE")]
    fork: Vec<PathBuf>,
    #[command(flatten)]
    open_with: OpenWith,
}

#[derive(Serialize)]
struct Bundled<'a> {
    path: &'a str,
    origin: String,
    from: u64,
    to: u64,
    size: u64,
    sealed: u64,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let reader = self.of.open(context)?;
        let keys = log::keys_of(&reader)?;
        let home = context.open_home()?;
        let identities: Option<Identities> = match self.disclose.is_empty() {
            true => None,
            false => Some(self.open_with.load(Some(&home), &context.ui)?),
        };
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|cause| {
                CliError::failed(format!("cannot read {}", path.display())).cause(&cause)
            })
        };
        let with = log::Inclusions {
            home: self.of.is_own().then(|| home.path()),
            sealed: self.details,
            disclose: identities
                .as_ref()
                .map(|identities| (&self.disclose[..], identities)),
            policy: match &self.policy {
                Some(path) => Some(read(path)?),
                None if self.of.is_own() => {
                    OwnPolicy::of_home(home.path())?.map(|policy| policy.text().to_owned())
                }
                None => None,
            },
            forks: self.fork.iter().map(read).collect::<Result<_, _>>()?,
        };
        let size = reader.head().size;
        let to = self.to.unwrap_or(size.saturating_sub(1));
        let mut file = OutputFile::create(&self.file)?;
        let sealed = log::write_bundle(&reader, self.from..=to, &with, file.writer())?;
        file.writer().flush()?;
        file.publish()?;
        let path = self.file.display().to_string();
        let bundled = Bundled {
            path: &path,
            origin: keys.origin().to_string(),
            from: self.from,
            to,
            size,
            sealed,
        };
        context.ui.answer("bundle", &bundled, &path)
    }
}
