//! `log cosign`: the witnesses of the home's policy are asked for their cosignatures.

use std::error::Error;

use agent::log::{self, CosignError, OwnPolicy};
use protocol::log::{
    checkpoint::SignedCheckpoint,
    cosignature,
    policy::{Policy, PolicyWitness},
};
use serde::Serialize;

use super::Of;
use crate::{context::Context, error::CliError, ui::Printable};

/// Ask the witnesses of the policy to cosign the latest checkpoint
///
/// What they cosign is put under the checkpoint, and stays there until the log grows. Ends with 3 if those who cosigned are no quorum of the
/// policy, or if a witness saw more of the log than there is here.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Asked<'a> {
    witness: &'a str,
    vkey: String,
    cosigned: bool,
    error: Option<String>,
    /// How many entries it cosigned before, if that is more, or another history, than there is.
    seen: Option<u64>,
}

#[derive(Serialize)]
struct Cosigned<'a> {
    origin: &'a str,
    size: u64,
    cosigned: usize,
}

impl Args {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let Self {} = self;
        let home = context.open_home()?;
        let policy = OwnPolicy::of_home(home.path())?.ok_or_else(|| {
            CliError::failed("this home has no policy of witnesses").hint(
                "`souverain log policy FILE` says who they are; FILE is as c2sp.org/tlog-policy has it",
            )
        })?;
        let reader = Of { origin: None }.open(context)?;
        let (indices, asked): (Vec<_>, Vec<_>) = policy.asked().into_iter().unzip();
        let (checkpoint, answers) = log::cosign(&reader, &asked)?;
        log::heed(home.path(), &asked, &answers)?;
        let lines = asked.iter().zip(&answers);
        let lines = lines.filter_map(|(witness, answer)| {
            let line = answer.as_ref().ok()?;
            Some((&witness.key, line.clone()))
        });
        let lines: Vec<_> = lines.collect();
        let kept = log::keep_cosignatures(home.path(), &checkpoint, &lines)?;
        let kept = kept.ok_or_else(|| {
            CliError::failed("the log grew while its witnesses were asked")
                .hint("run the same command again")
        })?;
        let witnesses = policy.policy().witnesses();
        let mut seen_otherwise = None;
        for (index, answer) in indices.iter().zip(&answers) {
            let (witness, error) = (&witnesses[*index], answer.as_ref().err());
            tell(context, witness, error)?;
            let of_log = error.filter(|error| error.is_of_the_log());
            seen_otherwise = seen_otherwise.or(of_log.map(|error| not_the_log(witness, error)));
        }
        match seen_otherwise {
            Some(error) => Err(error),
            None => conclude(context, policy.policy(), &kept),
        }
    }
}

/// The log is not what a witness saw of it.
fn not_the_log(witness: &PolicyWitness, error: &CosignError) -> CliError {
    let name = String::from_utf8_lossy(&witness.name);
    let name = Printable(&name);
    CliError::unverified(format!("the log is not what {name} saw of it"))
        .cause(error)
        .hint(
            "if this home was put back from a backup, `souverain agent run` fetches what is missing of its log from members of its \
             federation; or take the folder `log` from where there is all of it. If it was not, its key is used elsewhere: \
             `souverain log key recover`. Nothing is signed until then",
        )
}

/// Says whether those who cosigned are a quorum.
fn conclude(
    context: &Context,
    policy: &Policy,
    checkpoint: &SignedCheckpoint,
) -> Result<(), CliError> {
    let witnesses = policy.witnesses();
    let has = |index: usize| cosignature::verify(checkpoint.note(), &witnesses[index].key).is_ok();
    let count = (0..witnesses.len()).filter(|index| has(*index)).count();
    let size = checkpoint.checkpoint().size();
    if !policy.is_quorum(has) {
        return Err(CliError::unverified(format!(
            "{count} witnesses cosigned the checkpoint of {size} entries, which is no quorum of the policy"
        ))
        .hint(
            "see that they run, and that they know the log by what `souverain log vkey` prints; then run this again",
        ));
    }
    let cosigned = Cosigned {
        origin: checkpoint.checkpoint().origin().as_str(),
        size,
        cosigned: count,
    };
    let text = format!("{size} entries are cosigned by {count} witnesses, which is a quorum");
    context.ui.answer("cosigned", &cosigned, text)
}

/// Says what became of asking one witness.
fn tell(
    context: &Context,
    witness: &PolicyWitness,
    error: Option<&CosignError>,
) -> Result<(), CliError> {
    let name = String::from_utf8_lossy(&witness.name);
    let error_text = error.map(|error| {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
    });
    let asked = Asked {
        witness: &name,
        vkey: witness.key.to_string(),
        cosigned: error.is_none(),
        seen: match error {
            Some(CosignError::Behind { seen, .. } | CosignError::Forked { seen, .. }) => {
                Some(*seen)
            }
            _ => None,
        },
        error: error_text,
    };
    let text = match &asked.error {
        None => format!("{} cosigned", Printable(&name)),
        Some(error) => format!("{} did not cosign: {error}", Printable(&name)),
    };
    context.ui.answer("witness", &asked, text)
}
