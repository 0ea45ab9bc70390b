//! `log show`: the entries of a log.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use agent::log::{
    self,
    details::{self, DetailsError, SealedDetails},
};
use data_encoding::HEXLOWER;
use protocol::log::entry::{Draft, UnverifiedEntry};
use serde::Serialize;
use store::log::LogReader;

use super::Of;
use crate::{context::Context, error::CliError, prompt::OpenWith, ui::Printable};

/// Entries that are read at a time.
const AT_ONCE: u64 = 256;
/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Show what was done, the oldest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    of: Of,
    /// Only entries of this action, such as `export`, or that begin with it, such as `key.`
    #[arg(long, value_name = "ACTION")]
    action: Vec<String>,
    /// Only entries of this outcome: ok, failed or refused
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only entries about this CID
    #[arg(long, value_name = "CID")]
    about: Option<cid::Cid>,
    /// Number of the first entry
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Number of the last entry
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Open the sealed details too, where an identity can
    #[arg(long)]
    details: bool,
    #[command(flatten)]
    open_with: OpenWith,
    /// Go on with what comes, until it is stopped
    #[arg(long, conflicts_with = "to")]
    follow: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    seq: u64,
    cid: String,
    time: String,
    session: String,
    actor: &'a str,
    action: &'a str,
    known: bool,
    outcome: String,
    subject: Vec<String>,
    commit: BTreeMap<&'a str, String>,
    sealed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<BTreeMap<String, String>>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let mut reader = self.of.open(context)?;
        // Who looks is not told lies: at least the keys and the checkpoint have to hold.
        log::keys_of(&reader)?;
        let sealed = match self.details {
            true => Some(SealedDetails::of_home(&context.home()?)?),
            false => None,
        };
        let mut next = self.from;
        loop {
            let size = reader.head().size;
            let end = self.to.map_or(size, |to| to.saturating_add(1).min(size));
            while next < end {
                let last = end.min(next + AT_ONCE);
                self.show(context, &reader, sealed.as_ref(), next..last)?;
                next = last;
                context.stop_if_interrupted()?;
            }
            if !self.follow {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
            if context.stop_if_interrupted().is_err() {
                return Ok(());
            }
            reader.refresh()?;
        }
    }

    fn show(
        &self,
        context: &Context,
        reader: &LogReader,
        sealed: Option<&SealedDetails>,
        wanted: Range<u64>,
    ) -> Result<(), CliError> {
        for (index, bytes) in wanted.clone().zip(reader.entries(wanted)?) {
            let entry = UnverifiedEntry::parse(&bytes)
                .map_err(|reason| log::LogError::Entry { index, reason })?;
            let draft = entry.draft_unverified();
            if self.is_wanted(draft) {
                self.print(context, draft, sealed, entry.cid().to_string())?;
            }
        }
        Ok(())
    }

    fn is_wanted(&self, draft: &Draft) -> bool {
        let action = draft.action.as_str();
        let is = |wanted: &String| {
            action == wanted || wanted.ends_with('.') && action.starts_with(wanted.as_str())
        };
        let outcome = draft.outcome.to_string();
        (self.action.is_empty() || self.action.iter().any(is))
            && self
                .outcome
                .as_ref()
                .is_none_or(|wanted| *wanted == outcome)
            && self.about.is_none_or(|cid| draft.subject.contains(&cid))
    }

    fn print(
        &self,
        context: &Context,
        draft: &Draft,
        sealed: Option<&SealedDetails>,
        cid: String,
    ) -> Result<(), CliError> {
        let time = i64::try_from(draft.time_ms).ok();
        let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.map_or_else(
            || draft.time_ms.to_string(),
            |time| time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        );
        let details = match sealed {
            Some(sealed) => self.open(context, draft, sealed)?,
            None => None,
        };
        let commit = draft.commit.iter();
        let shown = Shown {
            seq: draft.seq,
            cid,
            time,
            session: draft.session.to_string(),
            actor: &draft.actor,
            action: draft.action.as_str(),
            known: draft.action.is_known(),
            outcome: draft.outcome.to_string(),
            subject: draft.subject.iter().map(ToString::to_string).collect(),
            commit: commit
                .map(|(name, hash)| (name.as_str(), HEXLOWER.encode(hash)))
                .collect(),
            sealed: draft.sealed.map(|cid| cid.to_string()),
            details,
        };
        let mut text = format!(
            "{}  {}  {}{}",
            shown.seq,
            shown.time,
            Printable(shown.action),
            match draft.outcome {
                protocol::log::entry::Outcome::Ok => String::new(),
                other => format!("  {other}"),
            }
        );
        for cid in &shown.subject {
            text.push_str(&format!("  {cid}"));
        }
        for (name, value) in shown.details.iter().flatten() {
            for line in value.lines() {
                text.push_str(&format!("\n    {}: {}", Printable(name), Printable(line)));
            }
        }
        context.ui.answer("entry", &shown, text)
    }

    /// The details of an entry; nothing if it has none, or they are not here any more.
    fn open(
        &self,
        context: &Context,
        draft: &Draft,
        sealed: &SealedDetails,
    ) -> Result<Option<BTreeMap<String, String>>, CliError> {
        let Some(cid) = &draft.sealed else {
            return Ok(None);
        };
        let home = context.open_home()?;
        let block = match sealed.block(draft.seq, cid) {
            Err(DetailsError::Missing { .. }) => return Ok(None),
            found => found?,
        };
        let identities = self.open_with.load(Some(&home), &context.ui)?;
        let opened = details::open(&block, &identities)?;
        let commitments = opened.commitments();
        if commitments != draft.commit {
            return Err(CliError::unverified(format!(
                "the details of entry {} are not those that it commits to",
                draft.seq
            )));
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let opened = opened.by_name().iter();
        Ok(Some(
            opened
                .map(|(name, detail)| (name.clone(), text(&detail.value)))
                .collect(),
        ))
    }
}
