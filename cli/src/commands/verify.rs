//! `verify`: whether every byte is what it should be.

use std::collections::HashSet;

use agent::{
    blocks::Blocks,
    catalog,
    verify::{self, KeylessReport, OpenedReport, Sample},
};
use cid::Cid;
use serde::Serialize;

use super::statement;
use crate::{
    args::Share,
    context::Context,
    error::CliError,
    progress::Bar,
    prompt::OpenWith,
    reference::Input,
    ui::{Printable, Size},
};

/// Check a snapshot: every block against its CID, and what is inside against its hashes
///
/// Without an identity (or with --keyless) the sealed blocks are checked: each against its CID, all
/// there, nothing unknown. With one, also the content of every stream and its number of rows. Damage
/// is reported per stream and segment; the exit code is then 3. Of a statement, the signature is checked, and
/// whether both sides held the same.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The snapshot: a CID, its first 8 or more characters, or a CAR file; or a statement of `souverain migrate`
    #[arg(value_name = "CID|FILE")]
    input: Input,
    /// Check the sealed blocks only, as anyone can
    #[arg(long, conflicts_with_all = ["identities", "passphrase_file"])]
    keyless: bool,
    /// Read only a random share of the segments, such as 5%
    #[arg(long, value_name = "PERCENT")]
    sample: Option<Share>,
    #[command(flatten)]
    open_with: OpenWith,
}

#[derive(Serialize)]
struct Verified {
    cid: String,
    ok: bool,
    keyless: bool,
    sample: Option<f64>,
    blocks: u64,
    bytes: u64,
    segments: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<Opened>,
    damaged: usize,
}

#[derive(Serialize)]
struct Opened {
    segments: u64,
    bytes: u64,
    rows: u64,
}

/// A thing that is not as it should be.
#[derive(Serialize)]
struct Wrong<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    reason: &'a str,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        if let Input::Car(path) = &self.input
            && let Some(note) = statement::read(path)
        {
            return statement::verify(context, path, &note);
        }
        let mut damaged = Vec::new();
        let verified = context.with_blocks(&self.input, "verify", |blocks, root| {
            self.verify(context, blocks, root, &mut damaged)
        });
        if matches!(self.input, Input::Snapshot(_)) && !damaged.is_empty() {
            remember(context, &damaged)?;
        }
        verified
    }

    fn verify(
        &self,
        context: &Context,
        blocks: &Blocks<'_>,
        root: Cid,
        damaged: &mut Vec<Cid>,
    ) -> Result<(), CliError> {
        let sample = self.sample.map(|share| Sample {
            share: share.fraction,
            seed: context.random_seed(),
        });
        let can_open = !self.keyless && context.can_open(&self.open_with)?;
        let bar = Bar::follow(&context.ui, "verifying", &context.progress);
        let (keyless, named) = verify::keyless(blocks, &root, sample.as_ref(), &context.progress)?;
        context.stop_if_interrupted()?;
        damaged.extend(keyless.damage.iter().map(|damage| damage.cid));
        report_blocks(context, &keyless)?;
        let opened = if can_open {
            let opening = || -> Result<OpenedReport, CliError> {
                let snapshot = context.open(blocks, &root, &self.open_with)?;
                let sample = sample.as_ref();
                Ok(verify::opened(
                    blocks,
                    &snapshot,
                    &named,
                    sample,
                    &context.progress,
                )?)
            };
            // What is damaged from outside explains why it cannot be opened.
            match opening() {
                Ok(opened) => Some(opened),
                Err(_) if !keyless.damage.is_empty() => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        context.stop_if_interrupted()?;
        drop(bar);
        self.conclude(context, root, &keyless, opened)
    }

    fn conclude(
        &self,
        context: &Context,
        root: Cid,
        keyless: &KeylessReport,
        opened: Option<OpenedReport>,
    ) -> Result<(), CliError> {
        if let Some(opened) = &opened {
            report_opened(context, opened)?;
        }
        let damaged = wrong(keyless, opened.as_ref());
        let verified = Verified {
            cid: root.to_string(),
            ok: damaged == 0,
            keyless: opened.is_none(),
            sample: self.sample.map(|share| share.fraction),
            blocks: keyless.blocks,
            bytes: keyless.bytes,
            segments: keyless.segments,
            opened: opened.as_ref().map(|opened| Opened {
                segments: opened.segments,
                bytes: opened.bytes,
                rows: opened.rows,
            }),
            damaged,
        };
        let inside = match &verified.opened {
            Some(o) => format!(
                ", opened {} segments: {}, {} rows",
                o.segments,
                Size(o.bytes),
                o.rows
            ),
            None => ", without a key".to_owned(),
        };
        let outcome = if verified.ok { "verified" } else { "damaged" };
        let text = format!(
            "{outcome}: {root}, {} blocks, {}{inside}",
            verified.blocks,
            Size(verified.bytes)
        );
        context.ui.answer("verified", &verified, text)?;
        if verified.ok {
            return Ok(());
        }
        Err(CliError::unverified(match damaged {
            1 => format!("{root} did not verify: 1 thing is wrong"),
            _ => format!("{root} did not verify: {damaged} things are wrong"),
        })
        .hint(
            "`souverain car import` of a good copy mends it; the next export seals anew what is damaged; \
             `souverain import … --skip-damaged` restores all that is undamaged",
        ))
    }
}

/// Notes damage in the home, so that no export counts on what is damaged.
fn remember(context: &Context, damaged: &[Cid]) -> Result<(), CliError> {
    let note = || -> Result<(), CliError> {
        let store = context.open_store_to_write("verify")?;
        for cid in damaged {
            catalog::set_damaged(&store, cid)?;
        }
        Ok(store.commit()?)
    };
    note().or_else(|error| {
        context.ui.warn(format!(
            "the damage could not be noted, and later exports may count on what is damaged: {error}"
        ))
    })
}

/// How many things are wrong: a block that is so from outside and inside is one.
fn wrong(keyless: &KeylessReport, opened: Option<&OpenedReport>) -> usize {
    let mut blocks: HashSet<Cid> = keyless.damage.iter().map(|damage| damage.cid).collect();
    let mut lies = 0;
    if let Some(opened) = opened {
        blocks.extend(opened.damage.iter().map(|damage| damage.cid));
        lies = opened.lies.len();
    }
    blocks.len() + lies
}

fn report_blocks(context: &Context, report: &KeylessReport) -> Result<(), CliError> {
    for damage in &report.damage {
        let wrong = Wrong {
            stream: None,
            segment: None,
            path: Some(&damage.path),
            cid: Some(damage.cid.to_string()),
            reason: &damage.reason,
        };
        let text = format!(
            "damaged: {} ({}): {}",
            Printable(&damage.path),
            damage.cid,
            Printable(&damage.reason)
        );
        context.ui.answer("damage", &wrong, text)?;
    }
    Ok(())
}

fn report_opened(context: &Context, report: &OpenedReport) -> Result<(), CliError> {
    for damage in &report.damage {
        let wrong = Wrong {
            stream: Some(&damage.stream),
            segment: damage.segment,
            path: None,
            cid: Some(damage.cid.to_string()),
            reason: &damage.reason,
        };
        let text = format!("damaged: {}", Printable(&damage.to_string()));
        context.ui.answer("damage", &wrong, text)?;
    }
    for lie in &report.lies {
        let wrong = Wrong {
            stream: None,
            segment: None,
            path: None,
            cid: None,
            reason: lie,
        };
        context
            .ui
            .answer("damage", &wrong, format!("wrong: {}", Printable(lie)))?;
    }
    Ok(())
}
