//! Policies: which logs are accepted, and which witnesses have to have cosigned.
//!
//! See <https://c2sp.org/tlog-policy>. Names in a policy are bytes, and mean nothing outside of it.

mod parse;
#[cfg(test)]
mod tests;

use super::{
    checkpoint::{CheckpointError, SignedCheckpoint, UnverifiedCheckpoint},
    cosignature::{self, CosignatureError, CosignerKey},
};
use crate::note::{NoteError, VerifierKey};

/// Largest policy in bytes.
pub const POLICY_SIZE_MAX: usize = 128 << 10;
/// Most logs of a policy.
pub const LOGS_MAX: usize = 256;
/// Most witnesses of a policy.
pub const WITNESSES_MAX: usize = 256;
/// Most groups of a policy.
pub const GROUPS_MAX: usize = 256;

/// Why a policy is none, or a checkpoint does not satisfy it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is longer than any that is read.
    #[error("the policy is longer than {POLICY_SIZE_MAX} bytes")]
    TooLong,
    /// A line of it is not one of a policy.
    #[error("line {line} of the policy: {reason}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A line of it has a key that is none.
    #[error("line {line} of the policy has no key that can be used")]
    Key {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        error: NoteError,
    },
    /// It does not say which quorum it wants.
    #[error("the policy has no quorum")]
    NoQuorum,
    /// The checkpoint is of a log that it does not name.
    #[error("the policy does not accept the log {origin}")]
    OtherLog {
        /// The log.
        origin: String,
    },
    /// None of the log's keys signed the checkpoint.
    #[error("the checkpoint is not the log's")]
    Checkpoint(#[from] CheckpointError),
    /// A witness's cosignature is wrong.
    #[error("a cosignature of the checkpoint is wrong")]
    Cosignature(#[from] CosignatureError),
    /// Too few witnesses cosigned it.
    #[error("{found} witnesses of the policy cosigned the checkpoint, which is no quorum")]
    Quorum {
        /// How many did.
        found: usize,
    },
}

/// A log that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, under its origin.
    pub key: VerifierKey,
    /// Where it is.
    pub url: Option<Vec<u8>>,
}

/// A witness that a policy knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its name in the policy.
    pub name: Vec<u8>,
    /// Its key.
    pub key: CosignerKey,
    /// Where it is.
    pub url: Option<Vec<u8>>,
}

/// A witness or a group, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

/// As many of some members as are needed; groups among them come before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    needed: usize,
    members: Vec<Member>,
}

/// Which logs and which witnesses are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// None is needed if there is none.
    quorum: Option<Member>,
}

/// A checkpoint that satisfies a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
    /// The witnesses of the policy that cosigned it, by their index in [`Policy::witnesses`], and when,
    /// in seconds since 1970.
    pub cosigned: Vec<(usize, u64)>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// It is too long, or names the first line that is wrong.
    pub fn parse(policy: &[u8]) -> Result<Self, PolicyError> {
        parse::parse(policy)
    }

    /// The logs that it accepts.
    #[must_use]
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses that it knows.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Checks that a log of the policy signed a checkpoint, and a quorum of its witnesses as well.
    ///
    /// # Errors
    /// They did not, or a signature of one of them is wrong.
    pub fn verify(&self, checkpoint: UnverifiedCheckpoint) -> Result<Witnessed, PolicyError> {
        let origin = checkpoint.checkpoint_unverified().origin().as_str();
        let mut refused = PolicyError::OtherLog {
            origin: origin.to_owned(),
        };
        for log in self.logs.iter().filter(|log| log.key.name() == origin) {
            match checkpoint.clone().verify(&log.key) {
                Ok(signed) => return self.verify_quorum(signed),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }

    /// Checks that a quorum of witnesses cosigned a checkpoint that its log signed, whichever log it is.
    ///
    /// # Errors
    /// There is no quorum, or a cosignature is wrong.
    pub fn verify_quorum(&self, checkpoint: SignedCheckpoint) -> Result<Witnessed, PolicyError> {
        let mut cosigned = Vec::new();
        for (index, witness) in self.witnesses.iter().enumerate() {
            match cosignature::verify(checkpoint.note(), &witness.key) {
                Ok(time_s) => cosigned.push((index, time_s)),
                Err(CosignatureError::Note(NoteError::Unsigned(_))) => {}
                Err(wrong) => return Err(wrong.into()),
            }
        }
        let found = cosigned.len();
        if !self.is_quorum(|witness| cosigned.iter().any(|(index, _)| *index == witness)) {
            return Err(PolicyError::Quorum { found });
        }
        Ok(Witnessed {
            checkpoint,
            cosigned,
        })
    }

    /// Whether some of the witnesses, by their index, are a quorum.
    #[must_use]
    pub fn is_quorum(&self, cosigned: impl Fn(usize) -> bool) -> bool {
        let mut groups = Vec::with_capacity(self.groups.len());
        let has = |groups: &[bool], member: &Member| match *member {
            Member::Witness(index) => cosigned(index),
            Member::Group(index) => groups[index],
        };
        for group in &self.groups {
            let members = group.members.iter();
            let found = members.filter(|member| has(&groups, member)).count();
            groups.push(found >= group.needed);
        }
        self.quorum.is_none_or(|member| has(&groups, &member))
    }
}
