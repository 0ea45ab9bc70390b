//! `log prove`: that an entry is in the log, for who has nothing of it but its key.

use std::{io::Write, path::PathBuf};

use agent::log;
use cid::Cid;
use serde::Serialize;

use super::Of;
use crate::{context::Context, error::CliError, output_file::OutputFile};

/// Prove that an entry is in the log
///
/// The proof (c2sp.org/tlog-proof@v1) has the entry in it, its way to the root of the log's tree, and the signed checkpoint:
/// `souverain log verify FILE --vkey KEY` checks it without a node and without a network.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of the entry, or a CID: the last entry about it is proven
    #[arg(value_name = "CID|SEQ")]
    what: What,
    /// Of a CID, the last entry of this action, such as `export`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Write to this new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    of: Of,
}

#[derive(Clone, Debug)]
enum What {
    Seq(u64),
    Cid(Cid),
}

impl std::str::FromStr for What {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seq = text.parse().map(Self::Seq).ok();
        let cid = || text.parse().map(Self::Cid).ok();
        seq.or_else(cid).ok_or("neither a number nor a CID")
    }
}

#[derive(Serialize)]
struct Proven<'a> {
    seq: u64,
    path: Option<String>,
    proof: &'a str,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let reader = self.of.open(context)?;
        let seq = match self.what {
            What::Seq(seq) => seq,
            What::Cid(cid) => log::find(&reader, &cid, self.action.as_deref())?,
        };
        let proof = log::prove_entry(&reader, seq)?.to_string();
        let path = self.output.as_ref().map(|path| path.display().to_string());
        if let Some(output) = &self.output {
            let mut file = OutputFile::create(output)?;
            file.writer().write_all(proof.as_bytes())?;
            file.publish()?;
        }
        let proven = Proven {
            seq,
            path: path.clone(),
            proof: &proof,
        };
        match path {
            _ if context.ui.is_json() => context.ui.print_object("proof", &proven),
            Some(path) => context.ui.answer("proof", &proven, path),
            None => context.ui.print_raw(proof.as_bytes()),
        }
    }
}
