//! `log verify`: a log, or a proof of an entry, checked without trusting who gave it.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use agent::{
    home::Home,
    log::{self, Depth, LogSource, Verified, VerifyError},
};
use data_encoding::HEXLOWER;
use protocol::{
    log::{
        bundle::Trust,
        checkpoint::SignedCheckpoint,
        entry::UnverifiedEntry,
        fork::Blame,
        keys::Standing,
        policy::Policy,
        proof::{PROOF_SIZE_MAX, ProofError, UnverifiedProof},
        tree::leaf_hash,
    },
    note::VerifierKey,
};
use serde::Serialize;

use super::{Of, genesis};
use crate::{context::Context, error::CliError, progress::Bar, ui::Printable};

/// Check a log, or a proof of one entry
///
/// Of a log, every entry is checked: its form, its signature by the key of its time, its link to the one before; then
/// the tree over them, its tiles, and the signed checkpoint. Needs no home and no node, and a network only for a URL. Ends with 3 if
/// something does not hold, and says which entry.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    souverain log verify\n  \
    souverain log verify https://log.example/log --vkey souverain/bafy…+1a2b3c4d+AQ…\n  \
    souverain log verify proof.txt --vkey souverain/bafy…+1a2b3c4d+AQ…")]
pub(crate) struct Args {
    /// A log: an origin that this home follows, a folder, or a URL; or the file of a proof [default: the home's own log]
    #[arg(value_name = "ORIGIN|FILE|DIR|URL")]
    what: Option<String>,
    /// The key that is trusted [default: for the home's own log its own; of others it is said which key vouches]
    #[arg(long, value_name = "VKEY")]
    vkey: Option<VerifierKey>,
    /// Which witnesses have to have cosigned (c2sp.org/tlog-policy)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Of a log, check no more than that its entries are those over which its checkpoint was signed: the tree, the tiles,
    /// and the entries that change the log's keys
    #[arg(long)]
    tree: bool,
}

#[derive(Serialize)]
struct Log {
    origin: String,
    entries: u64,
    root: String,
    vkey: String,
    keys: u64,
    revoked: u64,
    trusted: bool,
    cosigned: Option<usize>,
}

#[derive(Serialize)]
struct Bundled {
    origin: String,
    from: u64,
    to: u64,
    size: u64,
    vkey: String,
    trusted: bool,
    revoked: u64,
    cosigned: u64,
    disclosed: Vec<Disclosed>,
}

#[derive(Serialize)]
struct Disclosed {
    seq: u64,
    name: String,
    value: String,
}

#[derive(Serialize)]
struct Proof {
    origin: String,
    seq: u64,
    size: u64,
    vkey: String,
    action: Option<String>,
    subject: Vec<String>,
}

impl Args {
    pub(crate) fn run(self, context: &Context) -> Result<(), CliError> {
        let Some(what) = &self.what else {
            return self.own(context);
        };
        if what.starts_with("http://") || what.starts_with("https://") {
            return self.log(context, &LogSource::web(what)?, self.vkey.as_ref());
        }
        let path = PathBuf::from(what);
        if path.is_dir() {
            return self.log(context, &LogSource::folder(&path)?, self.vkey.as_ref());
        }
        if path.is_file() {
            return self.file(context, &path);
        }
        genesis(what).map_err(|_| {
            CliError::failed(format!(
                "{what} is neither a file, a folder, a URL nor an origin"
            ))
        })?;
        let of = Of {
            origin: Some(what.clone()),
        };
        let reader = of.open(context)?;
        self.log(
            context,
            &LogSource::Files(Box::new(reader)),
            self.vkey.as_ref(),
        )
    }

    /// The home's own log, by the key of the home.
    fn own(&self, context: &Context) -> Result<(), CliError> {
        let reader = Of { origin: None }.open(context)?;
        let trusted = match &self.vkey {
            Some(vkey) => vkey.clone(),
            None => own_key(&context.open_home()?)?,
        };
        self.log(context, &LogSource::Files(Box::new(reader)), Some(&trusted))
    }

    fn log(
        &self,
        context: &Context,
        source: &LogSource,
        trusted: Option<&VerifierKey>,
    ) -> Result<(), CliError> {
        let bar = Bar::follow(&context.ui, "checking", &context.progress);
        let depth = match self.tree {
            true => Depth::Tree,
            false => Depth::Entries,
        };
        let verified = log::verify(source, depth, trusted, &context.progress);
        drop(bar);
        let verified: Verified = verified.map_err(|error: VerifyError| CliError::from(error))?;
        let cosigned = self.cosigned(verified.checkpoint.clone())?;
        let shown = Log {
            origin: verified.vkey.name().to_owned(),
            entries: verified.size,
            root: HEXLOWER.encode(&verified.root),
            vkey: verified.vkey.to_string(),
            keys: verified.keys,
            revoked: verified.revoked,
            trusted: trusted.is_some(),
            cosigned,
        };
        let what = match depth {
            Depth::Tree => "entries are those that were signed",
            Depth::Entries => "entries hold",
        };
        let mut text = format!("{}: {} {what}", shown.origin, shown.entries);
        if let Some(cosigned) = cosigned {
            text.push_str(&format!(", cosigned by {cosigned} witnesses"));
        }
        context.ui.answer("verified", &shown, text)?;
        if shown.revoked > 0 {
            warn_of_revoked(context, shown.revoked)?;
        }
        if trusted.is_none() {
            say_who_vouches(context, &shown.vkey);
        }
        Ok(())
    }

    fn file(&self, context: &Context, path: &Path) -> Result<(), CliError> {
        if self.tree {
            return Err(CliError::usage("`--tree` is for whole logs, not for files"));
        }
        let failed =
            |cause| CliError::failed(format!("cannot read {}", path.display())).cause(&cause);
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        let read = file.take(PROOF_SIZE_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(failed)?;
        if log::is_bundle(&bytes) {
            return self.bundle(context, path);
        }
        self.proof(context, UnverifiedProof::parse(&bytes)?)
    }

    fn policy(&self) -> Result<Option<Policy>, CliError> {
        let Some(path) = &self.policy else {
            return Ok(None);
        };
        let text = std::fs::read(path).map_err(|cause| {
            CliError::failed(format!("cannot read {}", path.display())).cause(&cause)
        })?;
        Ok(Some(Policy::parse(&text)?))
    }

    /// How many witnesses of the policy cosigned, if there is a policy.
    fn cosigned(&self, checkpoint: SignedCheckpoint) -> Result<Option<usize>, CliError> {
        let Some(policy) = self.policy()? else {
            return Ok(None);
        };
        Ok(Some(policy.verify_quorum(checkpoint)?.cosigned.len()))
    }

    fn bundle(&self, context: &Context, path: &Path) -> Result<(), CliError> {
        let policy = self.policy()?;
        let trust = Trust {
            vkey: self.vkey.as_ref(),
            policy: policy.as_ref(),
        };
        let (audited, bundle, _) = log::verify_bundle(path, trust)?;
        let to = bundle.first + bundle.count - 1;
        let revoked = |(_, standing): &&(_, Standing)| *standing != Standing::Vouched;
        let shown = Bundled {
            origin: audited.vkey.name().to_owned(),
            from: bundle.first,
            to,
            size: audited.checkpoint.checkpoint().size(),
            vkey: audited.vkey.to_string(),
            trusted: self.vkey.is_some(),
            revoked: audited.entries.iter().filter(revoked).count() as u64,
            cosigned: audited.cosigned.len() as u64,
            disclosed: audited
                .disclosed
                .iter()
                .map(|(seq, name, value)| Disclosed {
                    seq: *seq,
                    name: name.clone(),
                    value: String::from_utf8_lossy(value).into_owned(),
                })
                .collect(),
        };
        if audited.forks.contains(&Blame::Log) {
            return Err(CliError::unverified(format!(
                "the log {} is proven forked: it told others another story",
                shown.origin
            ))
            .hint("nothing of it counts; the proof of it is in the bundle"));
        }
        let mut text = format!(
            "entries {} to {to} of {} are in {}",
            shown.from, shown.size, shown.origin
        );
        if policy.is_some() {
            text.push_str(&format!(", cosigned by {} witnesses", shown.cosigned));
        }
        for detail in &shown.disclosed {
            let (name, value) = (Printable(&detail.name), Printable(&detail.value));
            text.push_str(&format!("\n  {}  {name}: {value}", detail.seq));
        }
        context.ui.answer("audited", &shown, text)?;
        if shown.revoked > 0 {
            warn_of_revoked(context, shown.revoked)?;
        }
        if self.vkey.is_none() {
            say_who_vouches(context, &shown.vkey);
        }
        Ok(())
    }

    fn proof(&self, context: &Context, proof: UnverifiedProof) -> Result<(), CliError> {
        let vkey = match &self.vkey {
            Some(vkey) => vkey.clone(),
            None => self.known_key(context, &proof)?,
        };
        let seq = proof.index_unverified();
        let entry = proof.extra_unverified().map(<[u8]>::to_vec);
        let entry = entry.ok_or_else(|| {
            CliError::unverified(
                "the proof does not have its entry in it, so it proves nothing here",
            )
        })?;
        let checkpoint = proof
            .verify(&leaf_hash(&entry), &vkey)
            .map_err(|error: ProofError| CliError::from(error))?;
        self.cosigned(checkpoint.clone())?;
        // What a log of ours has in it can be read; of others the bytes are proven, whatever they mean.
        let parsed = UnverifiedEntry::parse(&entry).ok();
        let draft = parsed.as_ref().map(UnverifiedEntry::draft_unverified);
        let shown = Proof {
            origin: vkey.name().to_owned(),
            seq,
            size: checkpoint.checkpoint().size(),
            vkey: vkey.to_string(),
            action: draft.map(|draft| draft.action.to_string()),
            subject: draft.map_or_else(Vec::new, |draft| {
                draft.subject.iter().map(ToString::to_string).collect()
            }),
        };
        let mut text = format!("entry {seq} of {} is in {}", shown.size, shown.origin);
        if let Some(action) = &shown.action {
            text.push_str(&format!(": {}", Printable(action)));
        }
        for cid in &shown.subject {
            text.push_str(&format!(" {cid}"));
        }
        context.ui.answer("proven", &shown, text)
    }

    /// The key of a log that the home knows.
    fn known_key(
        &self,
        context: &Context,
        proof: &UnverifiedProof,
    ) -> Result<VerifierKey, CliError> {
        let checkpoint = proof.checkpoint_unverified().checkpoint_unverified();
        let own = context.home_if_any()?.map(|home| own_key(&home));
        let own = own.transpose()?;
        own.filter(|own| own.name() == checkpoint.origin().as_str())
            .ok_or_else(|| {
                CliError::usage(format!(
                    "the proof is of the log {}, whose key is not known here",
                    Printable(checkpoint.origin().as_str())
                ))
                .hint("pass `--vkey KEY`, as `souverain log vkey` prints it where the log is")
            })
    }
}

fn warn_of_revoked(context: &Context, count: u64) -> Result<(), CliError> {
    context.ui.warn(format!(
        "{count} entries were signed with a key that was revoked: they are on record, and nothing vouches for them"
    ))
}

fn say_who_vouches(context: &Context, vkey: &str) {
    context.ui.note(format!(
        "vouched for by {vkey}\nwhose key that is, this cannot say: pass --vkey with the one that you trust"
    ));
}

/// The key that the home's own log goes by.
fn own_key(home: &Home) -> Result<VerifierKey, CliError> {
    let reader = log::open_own(home.path())?;
    let reader = reader.ok_or_else(|| CliError::failed("this home has no log yet"))?;
    let keys = log::keys_of(&reader)?;
    let ours = home.log_key(keys.epoch())?;
    if ours.public() != *keys.key().public() {
        return Err(CliError::unverified(
            "the log in this home is not that of the key in this home",
        ));
    }
    Ok(keys.key().clone())
}
