//! Fork proofs: two statements of one signer that cannot both be true, in a form that anyone can check
//! with nothing but the signer's key.
//!
//! A proof holds all that it claims, signed; nothing in it is taken on trust. Whoever signs only what
//! an append-only log would sign cannot be proven to have forked it, as long as nobody finds two inputs
//! of one SHA-256 or forges a signature. What a proof cannot tell is whether a key was stolen: see
//! [`Fork::blame`].

mod encoding;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use super::{
    checkpoint::{Checkpoint, CheckpointError, UnverifiedCheckpoint},
    cosignature::{self, CosignatureError, CosignerKey},
    entry::{EntryError, UnverifiedEntry},
    keys::KeyHistory,
    tree::{self, Hash, TreeError},
};
use crate::note::{NoteError, PublicKey, VerifierKey};

pub use encoding::{FORK_HEADER, FORK_SIZE_MAX};

/// Why a proof of a fork is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForkError {
    /// It is longer than any that is read.
    #[error("the fork proof is longer than {FORK_SIZE_MAX} bytes")]
    TooLong,
    /// A line of it is not one of a fork proof.
    #[error("line {line} of the fork proof is malformed")]
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// It would be written in another way.
    #[error("the fork proof is not in its canonical form")]
    NotCanonical,
    /// It is not about a key that was asked about.
    #[error("the fork proof is about the key {key}, which is not among those given")]
    OtherSigner {
        /// The key.
        key: String,
    },
    /// Its signers do not answer for one another.
    #[error("the two statements are not of one log or witness")]
    TwoSigners,
    /// Its statements are of two logs, or at two places in one.
    #[error("the two statements are not about one thing")]
    Unrelated,
    /// Its statements go together.
    #[error("the two statements do not contradict one another")]
    NoFork,
    /// An entry in it is none, or not signed.
    #[error("an entry of the fork proof does not verify")]
    Entry(#[from] EntryError),
    /// A checkpoint in it is none, or not signed.
    #[error("a checkpoint of the fork proof does not verify")]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint in it is not cosigned.
    #[error("a cosignature of the fork proof does not verify")]
    Cosignature(#[from] CosignatureError),
    /// The hashes in it do not lead to the larger checkpoint.
    #[error("the hashes of the fork proof do not lead to its larger checkpoint")]
    Tree(#[from] TreeError),
}

/// Who signed a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// A log, or for entries, the holder of one of its keys.
    Log(VerifierKey),
    /// A witness, by its cosignature.
    Witness(CosignerKey),
}

impl Signer {
    /// Its public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        match self {
            Self::Log(key) => key.public(),
            Self::Witness(key) => key.public(),
        }
    }

    /// Whether it and another have to agree: logs of one name, with one key or with two; one witness.
    fn answers_for(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Log(one), Self::Log(two)) => one.name() == two.name(),
            _ => self == other,
        }
    }

    /// The checkpoint with no signature under it but the signer's.
    fn only(&self, checkpoint: &UnverifiedCheckpoint) -> Result<UnverifiedCheckpoint, NoteError> {
        match self {
            Self::Log(key) => checkpoint.only(key),
            Self::Witness(key) => checkpoint.only(key),
        }
    }

    fn verify(&self, checkpoint: &UnverifiedCheckpoint) -> Result<(), ForkError> {
        match self {
            Self::Log(key) => checkpoint.clone().verify(key).map(|_| ())?,
            Self::Witness(key) => cosignature::verify(checkpoint.note(), key).map(|_| ())?,
        }
        Ok(())
    }
}

/// The verifier key.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(key) => key.fmt(f),
            Self::Witness(key) => key.fmt(f),
        }
    }
}

impl FromStr for Signer {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let log = text.parse().map(Self::Log);
        log.or_else(|_| text.parse().map(Self::Witness))
    }
}

/// Two statements that cannot both be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two entries of one tenant, epoch and number that say different things.
    Entries(Box<[UnverifiedEntry; 2]>),
    /// Two checkpoints of one size with different roots.
    Roots([UnverifiedCheckpoint; 2]),
    /// A checkpoint, and a larger one of a tree that does not begin with the tree of the first.
    Growth {
        /// The two, the smaller one first.
        checkpoints: [UnverifiedCheckpoint; 2],
        /// What the larger tree begins with: [`tree::prove_prefix`].
        hashes: Vec<Hash>,
    },
}

/// A fork proof that was not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedFork {
    /// Who signed the first statement, and who the second: nearly always the same.
    signers: [Signer; 2],
    evidence: Evidence,
}

impl UnverifiedFork {
    /// Who is accused, if nobody lies: to find the keys to check it with.
    #[must_use]
    pub fn signers_unverified(&self) -> &[Signer; 2] {
        &self.signers
    }

    /// The statements, if nobody lies.
    #[must_use]
    pub fn evidence_unverified(&self) -> &Evidence {
        &self.evidence
    }

    /// Checks that the statements contradict one another, and are signed by keys among some that are
    /// known.
    ///
    /// # Errors
    /// They do not or are not; or the keys are not among those.
    pub fn verify(self, known: &[Signer]) -> Result<Fork, ForkError> {
        if let Some(other) = self.signers.iter().find(|signer| !known.contains(signer)) {
            let key = other.to_string();
            return Err(ForkError::OtherSigner { key });
        }
        self.check()?;
        Ok(Fork(self))
    }

    fn check(&self) -> Result<(), ForkError> {
        if !self.signers[0].answers_for(&self.signers[1]) {
            return Err(ForkError::TwoSigners);
        }
        match &self.evidence {
            Evidence::Entries(entries) => self.check_entries(entries),
            Evidence::Roots(checkpoints) => {
                let [first, second] = self.check_checkpoints(checkpoints)?;
                if first.size() != second.size() {
                    return Err(ForkError::Unrelated);
                }
                contradict(first.root(), second.root())
            }
            Evidence::Growth {
                checkpoints,
                hashes,
            } => {
                let [smaller, larger] = self.check_checkpoints(checkpoints)?;
                let (seed, rest) = hashes.split_first().ok_or(TreeError::ProofLength {
                    expected: 1,
                    found: 0,
                })?;
                let (from, to) = (smaller.size(), larger.size());
                let (from_root, to_root) = tree::consistency_roots(from, to, seed, rest)?;
                if to_root != *larger.root() {
                    return Err(TreeError::OtherRoot { size: to }.into());
                }
                contradict(&from_root, smaller.root())
            }
        }
    }

    fn check_entries(&self, entries: &[UnverifiedEntry; 2]) -> Result<(), ForkError> {
        // An epoch has one key; what signs its entries is a log's.
        let [Signer::Log(key), other] = &self.signers else {
            return Err(ForkError::TwoSigners);
        };
        if *other != self.signers[0] {
            return Err(ForkError::TwoSigners);
        }
        let [first, second] = entries.each_ref().map(|entry| entry.draft_unverified());
        let place = |draft: &super::entry::Draft| (draft.tenant, draft.epoch, draft.seq);
        if place(first) != place(second) {
            return Err(ForkError::Unrelated);
        }
        // Two signatures of one statement are no lie.
        contradict(first, second)?;
        for entry in entries {
            entry.clone().verify(key.public())?;
        }
        Ok(())
    }

    fn check_checkpoints<'a>(
        &self,
        checkpoints: &'a [UnverifiedCheckpoint; 2],
    ) -> Result<[&'a Checkpoint; 2], ForkError> {
        for (checkpoint, signer) in checkpoints.iter().zip(&self.signers) {
            signer.verify(checkpoint)?;
        }
        let [first, second] = checkpoints
            .each_ref()
            .map(|checkpoint| checkpoint.checkpoint_unverified());
        if first.origin() != second.origin() {
            return Err(ForkError::Unrelated);
        }
        Ok([first, second])
    }

    /// The one way to write it: the lesser statement first, and no signatures of others.
    fn canonical(mut self) -> Result<Self, ForkError> {
        let swap = match &mut self.evidence {
            Evidence::Entries(entries) => entries[0].bytes() > entries[1].bytes(),
            Evidence::Roots(checkpoints) | Evidence::Growth { checkpoints, .. } => {
                for (checkpoint, signer) in checkpoints.iter_mut().zip(&self.signers) {
                    *checkpoint = signer.only(checkpoint).map_err(CheckpointError::from)?;
                }
                let order = |checkpoint: &UnverifiedCheckpoint| {
                    let checkpoint = checkpoint.checkpoint_unverified();
                    (checkpoint.size(), *checkpoint.root())
                };
                order(&checkpoints[0]) > order(&checkpoints[1])
            }
        };
        if swap {
            self.signers.swap(0, 1);
            match &mut self.evidence {
                Evidence::Entries(entries) => entries.swap(0, 1),
                Evidence::Roots(checkpoints) | Evidence::Growth { checkpoints, .. } => {
                    checkpoints.swap(0, 1);
                }
            }
        }
        Ok(self)
    }
}

fn contradict<T: PartialEq>(first: T, second: T) -> Result<(), ForkError> {
    if first == second {
        Err(ForkError::NoFork)
    } else {
        Ok(())
    }
}

/// What a fork proof means for a log whose keys are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The log forked: the key that it has now contradicts itself.
    Log,
    /// A key that the log no longer has is involved. Whoever holds it, the log at some time or a thief
    /// later, signs what he likes; by itself this says nothing against the log.
    FormerKey,
    /// It is about a witness.
    Witness,
    /// It is about another log, or a key that this log never had.
    Stranger,
}

/// A proof that somebody forked a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork(UnverifiedFork);

impl Fork {
    /// Makes a proof of two statements and those who signed them.
    ///
    /// # Errors
    /// They do not contradict one another, or are not signed.
    pub fn new(evidence: Evidence, signers: [Signer; 2]) -> Result<Self, ForkError> {
        let fork = UnverifiedFork { signers, evidence }.canonical()?;
        fork.check()?;
        Ok(Self(fork))
    }

    /// Who is proven to have contradicted themselves.
    #[must_use]
    pub fn signers(&self) -> &[Signer; 2] {
        &self.0.signers
    }

    /// Their statements.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.0.evidence
    }

    /// The log that was forked; entries alone do not name it, so it is the name of the key then.
    #[must_use]
    pub fn origin(&self) -> &str {
        match (&self.0.evidence, &self.0.signers[0]) {
            (Evidence::Entries(_), Signer::Log(key)) => key.name(),
            (Evidence::Entries(_), Signer::Witness(key)) => key.name(),
            (Evidence::Roots(checkpoints) | Evidence::Growth { checkpoints, .. }, _) => {
                checkpoints[0].checkpoint_unverified().origin().as_str()
            }
        }
    }

    /// What it means for a log, as far as its keys are known.
    #[must_use]
    pub fn blame(&self, keys: &KeyHistory) -> Blame {
        let mut blame = Blame::Log;
        if let Evidence::Entries(entries) = &self.0.evidence
            && entries[0].draft_unverified().tenant != keys.tenant()
        {
            return Blame::Stranger;
        }
        for signer in &self.0.signers {
            let Signer::Log(key) = signer else {
                return Blame::Witness;
            };
            if key.name() != keys.origin().as_str() || !keys.has_had(key.public()) {
                return Blame::Stranger;
            }
            if key != keys.key() {
                blame = Blame::FormerKey;
            }
        }
        blame
    }
}

impl From<Fork> for UnverifiedFork {
    fn from(fork: Fork) -> Self {
        fork.0
    }
}
