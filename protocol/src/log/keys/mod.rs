//! The keys of a log: which one signs at which index, how one gives way to the next, and how a
//! recovery key, committed to in the first entry, takes the log back from a thief.
//!
//! Validity goes by index, never by time. A key given up signs nothing any more; a key revoked did not
//! sign, as far as anyone should trust it, what it signed since some index.

mod control;
#[cfg(test)]
mod tests;

use cid::Cid;

pub use control::{
    Control, KEY_DOMAIN, ORIGIN_PREFIX, RECOVERY_DOMAIN, key_statement, origin_of,
    recovery_commitment,
};

use super::{
    checkpoint::{CheckpointError, Origin, SignedCheckpoint, UnverifiedCheckpoint},
    entry::{Entry, EntryError, Tenant, UnverifiedEntry},
};
use crate::note::{NoteError, PublicKey, VerifierKey};

/// Most keys that a log has had.
pub const KEYS_MAX: usize = 4096;

/// Why an entry is not one that the log's key, at its index, could have signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A log does not begin with it.
    #[error("a log does not begin with this entry")]
    NoGenesis,
    /// It is of another log.
    #[error("the entry is of tenant {found}, not of {expected}")]
    OtherTenant {
        /// Whose log it is.
        expected: Tenant,
        /// Whose entry it is.
        found: Tenant,
    },
    /// It comes before one that was fed already.
    #[error("entry {found} comes after {last}")]
    OutOfOrder {
        /// Index of the last entry.
        last: u64,
        /// Index of this one.
        found: u64,
    },
    /// It is of another epoch than the log's at its index.
    #[error("the entry is of epoch {found}, where the log is in {expected}")]
    Epoch {
        /// The log's epoch.
        expected: u64,
        /// That of the entry.
        found: u64,
    },
    /// Its signature is not of the key that it should be.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The new key is none.
    #[error(transparent)]
    Key(#[from] NoteError),
    /// The new key did not sign that it is the log's.
    #[error("the new key did not sign for the log")]
    NoProof,
    /// The new key, or the commitment to the next recovery key, was in use before.
    #[error("the new key, or the next recovery key, was in use before")]
    Reused,
    /// The recovery key is not the one that was committed to.
    #[error("the recovery key is not the one that the log committed to")]
    OtherRecovery,
    /// It revokes what it cannot: the first entry, an earlier recovery, or what is not there yet.
    #[error("entry {seq} cannot revoke since {from}")]
    Revokes {
        /// Index of the entry.
        seq: u64,
        /// Index since when.
        from: u64,
    },
    /// The log had more keys than any.
    #[error("a log has at most {KEYS_MAX} keys")]
    TooMany,
}

/// Whether an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Vouched,
    /// It is on record, but its key was revoked since before it.
    Revoked {
        /// Index of the entry that revoked it.
        by: u64,
    },
}

/// A key, and the indices that it signs entries at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    epoch: u64,
    key: VerifierKey,
    first: u64,
}

/// An entry of a recovery key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recovery {
    index: u64,
    from: u64,
    key: PublicKey,
}

/// The keys that a log has had, as far as its entries were fed.
///
/// Entries that leave the keys alone may be left out; all of those that change them must be fed, and in
/// order. Whether they are the log's is up to who feeds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    tenant: Tenant,
    origin: Origin,
    /// Never empty; each ends where the next begins.
    terms: Vec<Term>,
    recoveries: Vec<Recovery>,
    commitment: [u8; 32],
    last: u64,
    head: Cid,
}

impl KeyHistory {
    /// Begins with the first entry of a log.
    ///
    /// # Errors
    /// It is none, or its own key did not sign it.
    pub fn begin(genesis: UnverifiedEntry) -> Result<(Self, Entry), KeyError> {
        let Some(Control::Genesis { key, recovery }) = genesis.draft_unverified().control else {
            return Err(KeyError::NoGenesis);
        };
        let genesis = genesis.verify(&PublicKey::new(&key)?)?;
        let origin = origin_of(&genesis.cid());
        let history = Self {
            tenant: genesis.draft().tenant,
            terms: vec![Term {
                epoch: genesis.draft().epoch,
                key: VerifierKey::new(origin.as_str(), &key)?,
                first: 0,
            }],
            origin,
            recoveries: Vec::new(),
            commitment: recovery,
            last: 0,
            head: genesis.cid(),
        };
        Ok((history, genesis))
    }

    /// Whose log it is.
    #[must_use]
    pub fn tenant(&self) -> Tenant {
        self.tenant
    }

    /// The log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Index of the last entry that was fed.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// The CID of that entry.
    #[must_use]
    pub fn head(&self) -> &Cid {
        &self.head
    }

    /// The keys that the log has had, the first one first.
    pub fn keys(&self) -> impl Iterator<Item = &VerifierKey> {
        self.terms.iter().map(|term| &term.key)
    }

    /// The number of the key that signs the next entry.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.current().epoch
    }

    /// The key that signs the next entry, and checkpoints from here on.
    #[must_use]
    pub fn key(&self) -> &VerifierKey {
        &self.current().key
    }

    /// Commitment to the key that can take the log back.
    #[must_use]
    pub fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Checks that an entry is signed by the key that is valid at its index, and goes by what it says of
    /// keys. If it fails, nothing has changed.
    ///
    /// # Errors
    /// It is out of order, of another log or epoch, or not signed by the key; or what it says of keys is
    /// not so.
    pub fn admit(&mut self, entry: UnverifiedEntry) -> Result<Entry, KeyError> {
        let draft = entry.draft_unverified();
        let (last, seq) = (self.last, draft.seq);
        if draft.tenant != self.tenant {
            return Err(KeyError::OtherTenant {
                expected: self.tenant,
                found: draft.tenant,
            });
        }
        if seq <= last {
            return Err(KeyError::OutOfOrder { last, found: seq });
        }
        // A recovery begins its epoch, so that a thief's entry at its index is of another.
        let begins = u64::from(matches!(draft.control, Some(Control::Recover { .. })));
        let expected = self.epoch() + begins;
        if draft.epoch != expected {
            return Err(KeyError::Epoch {
                expected,
                found: draft.epoch,
            });
        }
        let entry = match draft.control {
            None => entry.verify(self.key().public())?,
            Some(Control::Genesis { .. }) => return Err(KeyError::NoGenesis),
            Some(Control::Rotate { key, proof }) => {
                let next = self.next_key(&entry, &key, &proof)?;
                let entry = entry.verify(self.key().public())?;
                self.begin_term(next, seq + 1);
                entry
            }
            Some(Control::Recover { .. }) => self.recover(entry)?,
        };
        self.last = seq;
        self.head = entry.cid();
        Ok(entry)
    }

    fn recover(&mut self, entry: UnverifiedEntry) -> Result<Entry, KeyError> {
        let Some(Control::Recover {
            from,
            key,
            proof,
            reveal,
            recovery,
        }) = entry.draft_unverified().control
        else {
            return Err(KeyError::OtherRecovery);
        };
        let index = entry.draft_unverified().seq;
        if recovery_commitment(&reveal) != self.commitment {
            return Err(KeyError::OtherRecovery);
        }
        if recovery == self.commitment {
            return Err(KeyError::Reused);
        }
        let earlier = self.recoveries.last().map_or(0, |earlier| earlier.index);
        if from <= earlier || from > index {
            return Err(KeyError::Revokes { seq: index, from });
        }
        let revealed = PublicKey::new(&reveal)?;
        let next = self.next_key(&entry, &key, &proof)?;
        let entry = entry.verify(&revealed)?;
        self.recoveries.push(Recovery {
            index,
            from,
            key: revealed,
        });
        self.commitment = recovery;
        self.begin_term(next, index);
        Ok(entry)
    }

    /// Checks that a new key is new, and signed for this log at this entry.
    fn next_key(
        &self,
        entry: &UnverifiedEntry,
        key: &[u8; 32],
        proof: &[u8; 64],
    ) -> Result<VerifierKey, KeyError> {
        if self.terms.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        let next = VerifierKey::new(self.origin.as_str(), key)?;
        if self.has_had(next.public()) {
            return Err(KeyError::Reused);
        }
        let draft = entry.draft_unverified();
        let prev = draft.prev.ok_or(KeyError::NoGenesis)?;
        let statement = key_statement(self.tenant, &self.origin, draft.seq, &prev, key);
        if !next.public().has_signed(&statement, proof) {
            return Err(KeyError::NoProof);
        }
        Ok(next)
    }

    fn begin_term(&mut self, key: VerifierKey, first: u64) {
        let epoch = self.epoch() + 1;
        self.terms.push(Term { epoch, key, first });
    }

    fn current(&self) -> &Term {
        self.terms.last().expect("a log begins with a key")
    }

    fn term_at(&self, index: u64) -> &Term {
        let after = self.terms.partition_point(|term| term.first <= index);
        &self.terms[after.saturating_sub(1)]
    }

    /// The key that signs the entry at an index: the recovery key where it took the log back, and
    /// beyond what was fed, the current one.
    #[must_use]
    pub fn key_at(&self, index: u64) -> &PublicKey {
        let recovery = self.recoveries.iter().find(|r| r.index == index);
        recovery.map_or_else(
            || self.term_at(index).key.public(),
            |recovery| &recovery.key,
        )
    }

    /// Whether a key is one of those that the log has or had, revealed recovery keys among them.
    #[must_use]
    pub fn has_had(&self, key: &PublicKey) -> bool {
        self.terms.iter().any(|term| term.key.public() == key)
            || self.recoveries.iter().any(|recovery| recovery.key == *key)
    }

    /// Whether what was signed at an index counts.
    #[must_use]
    pub fn standing(&self, index: u64) -> Standing {
        let revokes = |r: &&Recovery| r.from <= index && index < r.index;
        match self.recoveries.iter().find(revokes) {
            Some(recovery) => Standing::Revoked { by: recovery.index },
            None => Standing::Vouched,
        }
    }

    /// How many of the first so many entries are revoked.
    #[must_use]
    pub fn revoked_of(&self, size: u64) -> u64 {
        // No recovery revokes what comes before an earlier one.
        let revoked = |r: &Recovery| r.index.min(size).saturating_sub(r.from);
        self.recoveries.iter().map(revoked).sum()
    }

    /// The keys whose checkpoints of a size count: the key of the last entry in it, and that of the
    /// next. None, if the last entry was revoked.
    #[must_use]
    pub fn checkpoint_keys(&self, size: u64) -> Vec<&VerifierKey> {
        let mut keys = Vec::new();
        if let Some(last) = size.checked_sub(1) {
            if self.standing(last) != Standing::Vouched {
                return keys;
            }
            keys.push(&self.term_at(last).key);
        }
        let next = &self.term_at(size).key;
        let by_recovery = self.recoveries.iter().any(|r| r.index == size);
        if !keys.contains(&next) && !by_recovery {
            keys.push(next);
        }
        keys
    }

    /// Checks that a key signed a checkpoint whose checkpoints of its size count, and says which.
    ///
    /// # Errors
    /// None of them did.
    pub fn verify(
        &self,
        checkpoint: &UnverifiedCheckpoint,
    ) -> Result<(&VerifierKey, SignedCheckpoint), CheckpointError> {
        let size = checkpoint.checkpoint_unverified().size();
        let mut refused = CheckpointError::Malformed("no key of the log may sign it");
        for key in self.checkpoint_keys(size) {
            match checkpoint.clone().verify(key) {
                Ok(signed) => return Ok((key, signed)),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}
