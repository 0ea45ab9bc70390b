//! Bundles: a part of a log for an auditor who has no network, with all that is needed to check it.
//!
//! A bundle is a CARv1. Its root, a [`Bundle`], comes first: the checkpoint, and proofs. Then come the entries that
//! change the log's keys, as far as they are not in the range; then those of the range, in order; then sealed details, if any. Here is what
//! the root says, and what all of it has to prove; files are read elsewhere.

#[cfg(test)]
mod tests;

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::{
    chain::{Chain, ChainError},
    checkpoint::{CHECKPOINT_SIZE_MAX, CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
    detail::{DetailError, Disclosure},
    entry::{Entry, UnverifiedEntry},
    fork::{Blame, FORK_SIZE_MAX, ForkError, Signer, UnverifiedFork},
    keys::{KEYS_MAX, KeyError, KeyHistory, Standing},
    policy::{POLICY_SIZE_MAX, Policy, PolicyError, Witnessed},
    tree::{self, Hash, PROOF_HASHES_MAX, RANGE_HASHES_MAX, TreeError},
};
use crate::{
    block::{Block, CODEC_DAG_CBOR},
    note::VerifierKey,
};

/// The version of bundles that is written.
pub const BUNDLE_VERSION: u64 = 1;
/// Most entries of the range of a bundle.
pub const BUNDLE_ENTRIES_MAX: u64 = 1 << 16;
/// Largest root of a bundle, in bytes.
pub const BUNDLE_ROOT_SIZE_MAX: usize = 1 << 20;
/// Most fork proofs of a bundle.
pub const BUNDLE_FORKS_MAX: usize = 16;
/// Most details that a bundle discloses.
pub const BUNDLE_DISCLOSURES_MAX: usize = 1024;

/// Why a bundle is none, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is of a version that this program does not know.
    #[error("the bundle is of a later version, {version}")]
    LaterVersion {
        /// The version.
        version: u64,
    },
    /// Its root is none, or would be written in another way.
    #[error("not the root of a bundle")]
    Malformed,
    /// A part of it is longer than any.
    #[error("the {what} of the bundle is longer than any")]
    TooLong {
        /// Which.
        what: &'static str,
    },
    /// An entry is missing, or there is one that is not to be there.
    #[error("the bundle has {found} entries, and its root names {expected}")]
    Count {
        /// Entries that its root names.
        expected: u64,
        /// Entries that there are.
        found: u64,
    },
    /// It does not begin with the first entry of its log, or one of those before the range is not one that
    /// changes keys.
    #[error("entry {index} is not one that changes the keys of the log, in order")]
    NoControl {
        /// Its index.
        index: u64,
    },
    /// An entry does not go with the log's keys.
    #[error("entry {index} does not go with the keys of the log")]
    Keys {
        /// Its index.
        index: u64,
        /// Why not.
        #[source]
        reason: KeyError,
    },
    /// An entry is not the next of the range.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An entry is not in the tree of the checkpoint.
    #[error("entry {index} is not in the tree of the checkpoint")]
    Control {
        /// Its index.
        index: u64,
        /// Why not.
        #[source]
        reason: TreeError,
    },
    /// The range is not in the tree of the checkpoint.
    #[error("entries {first} to {last} are not in the tree of the checkpoint")]
    Range {
        /// Index of the first entry.
        first: u64,
        /// Index of the last entry.
        last: u64,
        /// Why not.
        #[source]
        reason: TreeError,
    },
    /// The checkpoint is none, or not signed by the log.
    #[error("the checkpoint of the bundle does not hold")]
    Checkpoint(#[source] CheckpointError),
    /// The log has another name than the key that is trusted.
    #[error("the bundle is of the log {found}, not of that of the key, {expected}")]
    OtherLog {
        /// What the key is of.
        expected: String,
        /// What the log is.
        found: String,
    },
    /// The key that is trusted was never the log's.
    #[error("the log {origin} never had the key that is trusted")]
    OtherKey {
        /// The log.
        origin: String,
    },
    /// The checkpoint is not cosigned as the policy wants it.
    #[error("the checkpoint does not satisfy the policy")]
    Policy(#[from] PolicyError),
    /// A fork proof proves nothing of this log.
    #[error("a fork proof of the bundle does not hold")]
    Fork(#[from] ForkError),
    /// A detail that is disclosed is not what the log commits to.
    #[error("a detail that the bundle discloses does not hold")]
    Detail(#[from] DetailError),
    /// A detail is disclosed of an entry that the bundle does not have.
    #[error("the bundle discloses a detail of entry {index}, which it does not have")]
    NoEntry {
        /// Its index.
        index: u64,
    },
}

/// The root of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The signed checkpoint, with cosignatures.
    pub checkpoint: String,
    /// Index of the first entry of the range.
    pub first: u64,
    /// Entries of the range.
    pub count: u64,
    /// Proof that the range is in the tree.
    pub range: Vec<Hash>,
    /// The entries that change keys and are not in the range, in order: their index, and their way to the root.
    pub controls: Vec<(u64, Vec<Hash>)>,
    /// The policy of who made the bundle.
    pub policy: Option<String>,
    /// Fork proofs of the log.
    pub forks: Vec<String>,
    /// Details that are disclosed.
    pub disclosures: Vec<Disclosure>,
    /// Blocks of sealed details that follow the entries.
    pub sealed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u64,
    checkpoint: String,
    first: u64,
    count: u64,
    #[serde(with = "serde_bytes")]
    range: Vec<u8>,
    controls: Vec<WireControl>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    policy: Option<String>,
    forks: Vec<String>,
    disclosures: Vec<Disclosure>,
    sealed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireControl {
    index: u64,
    #[serde(with = "serde_bytes")]
    proof: Vec<u8>,
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

impl Bundle {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let controls = self.controls.iter().map(|(index, proof)| WireControl {
            index: *index,
            proof: proof.as_flattened().to_vec(),
        });
        let wire = Wire {
            v: BUNDLE_VERSION,
            checkpoint: self.checkpoint.clone(),
            first: self.first,
            count: self.count,
            range: self.range.as_flattened().to_vec(),
            controls: controls.collect(),
            policy: self.policy.clone(),
            forks: self.forks.clone(),
            disclosures: self.disclosures.clone(),
            sealed: self.sealed,
        };
        serde_ipld_dagcbor::to_vec(&wire).expect("plain structures serialize")
    }

    /// The block that it is: the root of the CAR.
    ///
    /// # Errors
    /// A part of it is longer than any.
    pub fn block(&self) -> Result<Block, BundleError> {
        self.check()?;
        let bytes = self.encode();
        if bytes.len() > BUNDLE_ROOT_SIZE_MAX {
            return Err(BundleError::TooLong { what: "root" });
        }
        Ok(Block::log(CODEC_DAG_CBOR, bytes))
    }

    /// Reads it, and refuses what [`Bundle::block`] would not write.
    ///
    /// # Errors
    /// It would not write this.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > BUNDLE_ROOT_SIZE_MAX {
            return Err(BundleError::TooLong { what: "root" });
        }
        let wire: Result<Wire, _> = serde_ipld_dagcbor::from_slice(bytes);
        let wire = wire.map_err(|_| match serde_ipld_dagcbor::from_slice(bytes) {
            Ok(Version { v }) if v > BUNDLE_VERSION => BundleError::LaterVersion { version: v },
            _ => BundleError::Malformed,
        })?;
        if wire.v > BUNDLE_VERSION {
            return Err(BundleError::LaterVersion { version: wire.v });
        }
        let controls = wire.controls.into_iter();
        let controls = controls.map(|control| Ok((control.index, hashes(&control.proof)?)));
        let bundle = Self {
            checkpoint: wire.checkpoint,
            first: wire.first,
            count: wire.count,
            range: hashes(&wire.range)?,
            controls: controls.collect::<Result<_, BundleError>>()?,
            policy: wire.policy,
            forks: wire.forks,
            disclosures: wire.disclosures,
            sealed: wire.sealed,
        };
        bundle.check()?;
        if bundle.encode() != bytes {
            return Err(BundleError::Malformed);
        }
        Ok(bundle)
    }

    fn check(&self) -> Result<(), BundleError> {
        let proofs = self.controls.iter().map(|(_, proof)| proof.len());
        let forks = self.forks.iter().map(String::len);
        for (what, found, limit) in [
            ("checkpoint", self.checkpoint.len(), CHECKPOINT_SIZE_MAX),
            ("range", self.count as usize, BUNDLE_ENTRIES_MAX as usize),
            ("proof of the range", self.range.len(), RANGE_HASHES_MAX),
            ("list of keys", self.controls.len(), 2 * KEYS_MAX),
            ("proof", proofs.max().unwrap_or(0), PROOF_HASHES_MAX),
            (
                "policy",
                self.policy.as_ref().map_or(0, String::len),
                POLICY_SIZE_MAX,
            ),
            ("list of forks", self.forks.len(), BUNDLE_FORKS_MAX),
            ("fork proof", forks.max().unwrap_or(0), FORK_SIZE_MAX),
            (
                "list of details",
                self.disclosures.len(),
                BUNDLE_DISCLOSURES_MAX,
            ),
            (
                "list of sealed details",
                self.sealed as usize,
                BUNDLE_ENTRIES_MAX as usize,
            ),
        ] {
            if found > limit {
                return Err(BundleError::TooLong { what });
            }
        }
        if self.count == 0 {
            return Err(BundleError::Malformed);
        }
        Ok(())
    }

    /// Index of the last entry of the range.
    fn last(&self) -> u64 {
        self.first.saturating_add(self.count - 1)
    }
}

fn hashes(bytes: &[u8]) -> Result<Vec<Hash>, BundleError> {
    match bytes.as_chunks() {
        (hashes, []) => Ok(hashes.to_vec()),
        _ => Err(BundleError::Malformed),
    }
}

/// Whom an auditor trusts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust<'a> {
    /// A key of the log.
    pub vkey: Option<&'a VerifierKey>,
    /// Which witnesses have to have cosigned.
    pub policy: Option<&'a Policy>,
}

/// What a bundle proves.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The key that signed it.
    pub vkey: VerifierKey,
    /// The keys that the log has had.
    pub keys: KeyHistory,
    /// The entries of the range, and whether each counts.
    pub entries: Vec<(Entry, Standing)>,
    /// Witnesses of the policy that cosigned, by their index in it, and when, in seconds since 1970.
    pub cosigned: Vec<(usize, u64)>,
    /// What the fork proofs say of the log. If any blames it, nothing of it is to be trusted.
    pub forks: Vec<Blame>,
    /// The details that are disclosed: index of the entry, name and value.
    pub disclosed: Vec<(u64, String, Vec<u8>)>,
    /// Blocks of sealed details that its entries name.
    pub sealed: Vec<Cid>,
}

/// Checks a bundle: `entries` are those that the CAR has, after its root and in order.
///
/// # Errors
/// The first thing that does not hold, with its index.
pub fn verify(
    bundle: &Bundle,
    entries: Vec<UnverifiedEntry>,
    trust: Trust<'_>,
) -> Result<Audited, BundleError> {
    let expected = bundle.controls.len() as u64 + bundle.count;
    let found = entries.len() as u64;
    if found != expected {
        return Err(BundleError::Count { expected, found });
    }
    let mut controls = entries;
    let range = controls.split_off(bundle.controls.len());
    let (keys, controls, range) = chain(bundle, controls, range)?;
    let note = UnverifiedCheckpoint::parse(bundle.checkpoint.as_bytes());
    let note = note.map_err(BundleError::Checkpoint)?;
    let (vkey, checkpoint) = signed(note, &keys)?;
    check_trusted(&keys, trust.vkey)?;
    check_tree(bundle, &controls, &range, &checkpoint)?;
    let witnessed = match trust.policy {
        Some(policy) => policy.verify_quorum(checkpoint)?,
        None => Witnessed {
            checkpoint,
            cosigned: Vec::new(),
        },
    };
    let disclosed = disclosed(bundle, &range)?;
    Ok(Audited {
        checkpoint: witnessed.checkpoint,
        vkey,
        forks: forks(bundle, &keys)?,
        disclosed,
        cosigned: witnessed.cosigned,
        sealed: range
            .iter()
            .filter_map(|entry| entry.draft().sealed)
            .collect(),
        entries: range
            .into_iter()
            .map(|entry| {
                let standing = keys.standing(entry.draft().seq);
                (entry, standing)
            })
            .collect(),
        keys,
    })
}

/// Checks who signed each entry, and the links within the range.
fn chain(
    bundle: &Bundle,
    controls: Vec<UnverifiedEntry>,
    range: Vec<UnverifiedEntry>,
) -> Result<(KeyHistory, Vec<Entry>, Vec<Entry>), BundleError> {
    let named = bundle.controls.iter().map(|(index, _)| *index);
    for (index, entry) in named.clone().zip(&controls) {
        let draft = entry.draft_unverified();
        let within = (bundle.first..=bundle.last()).contains(&index);
        if draft.seq != index || draft.control.is_none() || within {
            return Err(BundleError::NoControl { index });
        }
    }
    let before = controls
        .iter()
        .take_while(|entry| entry.draft_unverified().seq < bundle.first)
        .count();
    let mut controls = controls.into_iter();
    let mut range = range.into_iter();
    let (mut first_controls, mut entries) = (Vec::new(), Vec::new());
    let failed = |index| move |reason| BundleError::Keys { index, reason };
    let begin = if before > 0 {
        controls.next()
    } else {
        range.next()
    };
    let begin = begin.ok_or(BundleError::NoControl { index: 0 })?;
    let (mut keys, genesis) = KeyHistory::begin(begin).map_err(failed(0))?;
    if before > 0 {
        first_controls.push(genesis);
        for entry in controls.by_ref().take(before - 1) {
            let index = entry.draft_unverified().seq;
            first_controls.push(keys.admit(entry).map_err(failed(index))?);
        }
        let first = range.next().ok_or(BundleError::Malformed)?;
        let index = first.draft_unverified().seq;
        if index != bundle.first {
            return Err(BundleError::NoControl {
                index: bundle.first,
            });
        }
        entries.push(keys.admit(first).map_err(failed(index))?);
    } else if bundle.first == 0 {
        entries.push(genesis);
    } else {
        return Err(BundleError::NoControl { index: 0 });
    }
    let mut chain = Chain::resume(keys);
    for entry in range {
        entries.push(chain.push(entry)?);
    }
    let mut keys = chain.keys().clone();
    for entry in controls {
        let index = entry.draft_unverified().seq;
        first_controls.push(keys.admit(entry).map_err(failed(index))?);
    }
    Ok((keys, first_controls, entries))
}

fn signed(
    note: UnverifiedCheckpoint,
    keys: &KeyHistory,
) -> Result<(VerifierKey, SignedCheckpoint), BundleError> {
    let (key, signed) = keys.verify(&note).map_err(BundleError::Checkpoint)?;
    Ok((key.clone(), signed))
}

fn check_trusted(keys: &KeyHistory, trusted: Option<&VerifierKey>) -> Result<(), BundleError> {
    let Some(trusted) = trusted else {
        return Ok(());
    };
    let found = keys.origin().as_str();
    if trusted.name() != found {
        return Err(BundleError::OtherLog {
            expected: trusted.name().to_owned(),
            found: found.to_owned(),
        });
    }
    if keys.keys().any(|key| key == trusted) {
        return Ok(());
    }
    Err(BundleError::OtherKey {
        origin: found.to_owned(),
    })
}

fn check_tree(
    bundle: &Bundle,
    controls: &[Entry],
    range: &[Entry],
    checkpoint: &SignedCheckpoint,
) -> Result<(), BundleError> {
    let (size, root) = (
        checkpoint.checkpoint().size(),
        checkpoint.checkpoint().root(),
    );
    for ((index, proof), entry) in bundle.controls.iter().zip(controls) {
        let index = *index;
        tree::verify_inclusion(&entry.leaf_hash(), index, size, proof, root)
            .map_err(|reason| BundleError::Control { index, reason })?;
    }
    let leaves: Vec<Hash> = range.iter().map(Entry::leaf_hash).collect();
    tree::verify_range(bundle.first, &leaves, size, &bundle.range, root).map_err(|reason| {
        BundleError::Range {
            first: bundle.first,
            last: bundle.last(),
            reason,
        }
    })
}

fn forks(bundle: &Bundle, keys: &KeyHistory) -> Result<Vec<Blame>, BundleError> {
    let known: Vec<Signer> = keys.keys().cloned().map(Signer::Log).collect();
    let mut blames = Vec::new();
    for text in &bundle.forks {
        let fork = UnverifiedFork::parse(text.as_bytes())?;
        blames.push(fork.verify(&known)?.blame(keys));
    }
    Ok(blames)
}

fn disclosed(bundle: &Bundle, range: &[Entry]) -> Result<Vec<(u64, String, Vec<u8>)>, BundleError> {
    let mut disclosed = Vec::new();
    for disclosure in &bundle.disclosures {
        let index = disclosure.seq();
        let at = index.checked_sub(bundle.first);
        let entry = at.and_then(|at| range.get(at as usize));
        let entry = entry.ok_or(BundleError::NoEntry { index })?;
        let value = disclosure.verify(entry)?.to_vec();
        disclosed.push((index, disclosure.name().to_owned(), value));
    }
    Ok(disclosed)
}
