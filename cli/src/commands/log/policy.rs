//! `log policy`: which witnesses are to cosign the home's own log.

use std::path::PathBuf;

use agent::log::OwnPolicy;
use protocol::log::entry::Action;
use serde::Serialize;

use crate::{context::Context, error::CliError};

/// Print which witnesses are to cosign the log, or say so
///
/// A policy (c2sp.org/tlog-policy) has a line for each witness, `witness NAME VKEY URL`, and says how many of them have to have cosigned:
/// `group GROUP any NAME NAME`, `quorum GROUP`. `souverain log cosign` asks those that have a URL.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain log policy\n  \
    souverain log policy witnesses.txt")]
pub(crate) struct Args {
    /// The policy to go by from now on
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    policy: &'a str,
    witnesses: Vec<Witness>,
}

#[derive(Serialize)]
struct Witness {
    witness: String,
    vkey: String,
    url: Option<String>,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let home = context.open_home()?;
        let Some(file) = &self.file else {
            return match OwnPolicy::of_home(home.path())? {
                Some(policy) => print(context, &policy),
                None => {
                    context
                        .ui
                        .note("there is no policy: no witnesses are asked");
                    Ok(())
                }
            };
        };
        let policy = OwnPolicy::read(file)?;
        context.trail.begin_unasked(&home, Action::POLICY)?;
        context.trail.detail("policy", policy.text());
        policy.keep(home.path())?;
        context.trail.done()?;
        print(context, &policy)
    }
}

fn print(context: &Context, policy: &OwnPolicy) -> Result<(), CliError> {
    if !context.ui.is_json() {
        return context.ui.print_raw(policy.text().as_bytes());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let witnesses = policy.policy().witnesses().iter();
    let shown = Shown {
        policy: policy.text(),
        witnesses: witnesses
            .map(|witness| Witness {
                witness: text(&witness.name),
                vkey: witness.key.to_string(),
                url: witness.url.as_deref().map(text),
            })
            .collect(),
    };
    context.ui.print_object("policy", &shown)
}
