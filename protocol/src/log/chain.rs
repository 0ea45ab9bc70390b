//! The chain of a log's entries: each links to the one before, and is signed by the key of its index.

use cid::Cid;

use super::{
    entry::{Entry, UnverifiedEntry},
    keys::{KeyError, KeyHistory},
};

/// The first entry that is not the next of its log, and why.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} is not the next of its log")]
pub struct ChainError {
    /// The index that it should have.
    pub index: u64,
    /// Why it is not.
    #[source]
    pub reason: ChainReason,
}

/// Why an entry is not the next of its log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainReason {
    /// Its number is another.
    #[error("expected sequence {expected}, found {found}")]
    Seq {
        /// The next number.
        expected: u64,
        /// That of the entry.
        found: u64,
    },
    /// It links to another entry than the last one.
    #[error("expected a link to {expected}, found {found}")]
    Prev {
        /// The last entry.
        expected: Cid,
        /// What it links to.
        found: Cid,
    },
    /// Another key signed it than may.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A log as far as its entries were checked, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    keys: KeyHistory,
}

impl Chain {
    /// Begins with the first entry of a log.
    ///
    /// # Errors
    /// It is none.
    pub fn begin(genesis: UnverifiedEntry) -> Result<(Self, Entry), ChainError> {
        let begun = KeyHistory::begin(genesis);
        let (keys, genesis) = begun.map_err(|error| ChainError {
            index: 0,
            reason: error.into(),
        })?;
        Ok((Self { keys }, genesis))
    }

    /// Goes on after the last entry that was fed to a history of keys.
    #[must_use]
    pub fn resume(keys: KeyHistory) -> Self {
        Self { keys }
    }

    /// The keys that the log has had.
    #[must_use]
    pub fn keys(&self) -> &KeyHistory {
        &self.keys
    }

    /// The index of the next entry.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.keys.last() + 1
    }

    /// Checks the next entry. If it fails, nothing has changed. Its time is not looked at.
    ///
    /// # Errors
    /// It is not the next one.
    pub fn push(&mut self, entry: UnverifiedEntry) -> Result<Entry, ChainError> {
        let index = self.next();
        self.admit(entry)
            .map_err(|reason| ChainError { index, reason })
    }

    fn admit(&mut self, entry: UnverifiedEntry) -> Result<Entry, ChainReason> {
        let draft = entry.draft_unverified();
        if draft.seq != self.next() {
            return Err(ChainReason::Seq {
                expected: self.next(),
                found: draft.seq,
            });
        }
        // Only a first entry has no link, and its number is another.
        if let Some(found) = draft.prev.filter(|prev| prev != self.keys.head()) {
            return Err(ChainReason::Prev {
                expected: *self.keys.head(),
                found,
            });
        }
        Ok(self.keys.admit(entry)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        entry::{Action, EntryError, Tenant},
        testing::{Log, public, signed},
    };

    #[test]
    fn accepts_a_log_of_entries_and_goes_on_after_any() {
        let mut log = Log::new();
        for _ in 0..5 {
            log.push(Action::EXPORT);
        }
        let (mut chain, genesis) = Chain::begin(log.entries[0].clone()).expect("begins");
        assert_eq!(genesis.draft().seq, 0);
        let mut keys = chain.keys().clone();
        for (i, entry) in log.entries.iter().enumerate().skip(1) {
            assert_eq!(chain.next(), i as u64);
            chain.push(entry.clone()).expect("the next");
        }
        keys.admit(log.entries[3].clone()).expect("later");
        let mut resumed = Chain::resume(keys);
        for entry in &log.entries[4..] {
            resumed.push(entry.clone()).expect("the next");
        }
        assert_eq!(resumed, chain);
    }

    #[test]
    fn rejects_an_entry_at_another_place_and_says_which() {
        let mut log = Log::new();
        log.push(Action::EXPORT);
        let good = log.draft(Action::PULL);
        let refused = |change: &dyn Fn(&mut crate::log::entry::Draft)| {
            let mut draft = good.clone();
            change(&mut draft);
            let error = log
                .chain
                .clone()
                .push(signed(draft, 1))
                .expect_err("refused");
            assert_eq!(error.index, 2);
            error.reason
        };
        let seq = |found| ChainReason::Seq { expected: 2, found };
        assert_eq!(refused(&|draft| draft.seq = 3), seq(3));
        assert_eq!(refused(&|draft| draft.seq = 1), seq(1));
        let first = *Log::new().chain.keys().head();
        let prev = ChainReason::Prev {
            expected: *log.chain.keys().head(),
            found: first,
        };
        assert_eq!(refused(&|draft| draft.prev = Some(first)), prev);
        let epoch = KeyError::Epoch {
            expected: 1,
            found: 2,
        };
        assert_eq!(refused(&|draft| draft.epoch = 2), epoch.into());
        let found = Tenant([9; 16]);
        let tenant = KeyError::OtherTenant {
            expected: good.tenant,
            found,
        };
        assert_eq!(refused(&|draft| draft.tenant = found), tenant.into());
        let mut chain = log.chain.clone();
        let stranger = chain.push(signed(good.clone(), 2)).expect_err("refused");
        let wrong = KeyError::from(EntryError::WrongSignature);
        assert_eq!(stranger.reason, wrong.into());
        assert_eq!(chain, log.chain);
        assert!(chain.push(signed(good, 1)).is_ok());
        assert_eq!(chain.keys().key().public(), &public(1));
    }

    #[test]
    fn rejects_a_log_that_begins_in_its_midst() {
        let mut log = Log::new();
        log.push(Action::EXPORT);
        let error = Chain::begin(log.entries[1].clone()).expect_err("refused");
        let none = ChainReason::Keys(KeyError::NoGenesis);
        assert_eq!((error.index, error.reason), (0, none));
    }
}
