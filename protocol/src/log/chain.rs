//! The chain of a log's entries: each links to the one before, and is signed by the key of its index.

use std::thread;

use cid::Cid;

use super::{
    entry::{Entry, EntryError, UnverifiedEntry},
    keys::{Control, KeyError, KeyHistory},
};
use crate::note::PublicKey;

/// Entries for which it is worth while to start a thread: a few milliseconds of signatures.
const PART_ENTRIES_MIN: usize = 64;

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

    /// Checks an entry of a later index, where those between leave the keys alone and are left out. If it fails,
    /// nothing has changed.
    ///
    /// # Errors
    /// It is not the one of this index.
    pub fn skip_to(&mut self, index: u64, entry: UnverifiedEntry) -> Result<Entry, ChainError> {
        let found = entry.draft_unverified().seq;
        let admitted = if found == index {
            self.keys.admit(entry).map_err(ChainReason::from)
        } else {
            let expected = index;
            Err(ChainReason::Seq { expected, found })
        };
        admitted.map_err(|reason| ChainError { index, reason })
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

/// Reads entries that follow each other, and checks their signatures by a key, and then by those that they themselves
/// say come after it. Nothing is decided by that, so it may be done of any part of a log beside other parts: what
/// was not checked here, [`Chain::push`] checks.
pub fn read_ahead<'a>(
    entries: impl IntoIterator<Item = &'a [u8]>,
    mut key: Option<PublicKey>,
) -> impl Iterator<Item = Result<UnverifiedEntry, EntryError>> {
    entries.into_iter().map(move |entry| {
        let mut entry = UnverifiedEntry::parse(entry)?;
        let control = entry.draft_unverified().control.clone();
        let next = control.as_ref().and_then(|c| PublicKey::new(c.key()).ok());
        let signer = match &control {
            Some(Control::Genesis { .. }) => next,
            Some(Control::Recover { reveal, .. }) => PublicKey::new(reveal).ok(),
            Some(Control::Rotate { .. }) | None => key,
        };
        if let Some(signer) = signer {
            // Who did not sign it may still be another.
            let _ = entry.check(&signer);
        }
        key = next.or(key);
        Ok(entry)
    })
}

/// The same of many entries, by all cores.
#[must_use]
pub fn read_all_ahead<T: AsRef<[u8]> + Sync>(
    entries: &[T],
    key: Option<PublicKey>,
) -> Vec<Result<UnverifiedEntry, EntryError>> {
    let read = |part: &[T]| -> Vec<_> { read_ahead(part.iter().map(AsRef::as_ref), key).collect() };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let cores = cores.min(entries.len() / PART_ENTRIES_MIN);
    if cores < 2 {
        return read(entries);
    }
    let (first, rest) = entries.split_at(entries.len().div_ceil(cores));
    thread::scope(|scope| {
        let parts: Vec<_> = rest
            .chunks(first.len())
            .map(|part| scope.spawn(|| read(part)))
            .collect();
        let mut all = read(first);
        for part in parts {
            all.extend(part.join().expect("it does not panic"));
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{
        entry::{Action, Tenant},
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
    fn what_was_read_ahead_by_any_key_is_admitted_as_what_was_not() {
        let mut log = Log::new();
        log.push(Action::EXPORT);
        log.rotate(2);
        log.push(Action::EXPORT);
        log.recover(3, 3);
        log.push(Action::EXPORT);
        let mut bytes: Vec<_> = log.entries.iter().map(|e| e.bytes().to_vec()).collect();
        let admitted = |bytes: &[Vec<u8>], cut: usize, key: Option<PublicKey>| {
            let (first, rest) = bytes.split_at(cut);
            let first = read_ahead(first.iter().map(Vec::as_slice), None);
            let read = first.chain(read_ahead(rest.iter().map(Vec::as_slice), key));
            let mut read = read.map(|entry| entry.expect("an entry"));
            let (mut chain, _) = Chain::begin(read.next().expect("a first")).expect("begins");
            for entry in read {
                chain.push(entry)?;
            }
            Ok::<_, ChainError>(chain)
        };
        for cut in 0..bytes.len() {
            for key in [None, Some(public(1)), Some(public(2)), Some(public(9))] {
                let chain = admitted(&bytes, cut, key);
                assert_eq!(chain.as_ref(), Ok(&log.chain), "{cut}, {key:?}");
            }
        }
        // A thief signs in the place of the last.
        let thief = signed(log.entries[5].draft_unverified().clone(), 9);
        bytes[5] = thief.bytes().to_vec();
        for key in [None, Some(public(9)), Some(public(3))] {
            let refused = admitted(&bytes, 5, key).expect_err("refused");
            let wrong = KeyError::from(EntryError::WrongSignature);
            assert_eq!((refused.index, refused.reason), (5, wrong.into()));
        }
    }

    #[test]
    fn all_cores_read_what_one_does() {
        let mut log = Log::new();
        for n in 0..400 {
            log.push(Action::EXPORT);
            if n == 150 {
                log.rotate(2);
            }
        }
        let mut bytes: Vec<_> = log.entries.iter().map(|e| e.bytes().to_vec()).collect();
        bytes[300].push(0);
        let one = read_ahead(bytes.iter().map(Vec::as_slice), Some(public(1)));
        assert!(read_all_ahead(&bytes, Some(public(1))).into_iter().eq(one));
        assert!(read_all_ahead::<Vec<u8>>(&[], None).is_empty());
        bytes.truncate(300);
        let mut read = read_all_ahead(&bytes, None)
            .into_iter()
            .map(|e| e.expect("an entry"));
        let (mut chain, _) = Chain::begin(read.next().expect("a first")).expect("begins");
        for entry in read {
            chain.push(entry).expect("the next");
        }
        assert_eq!(chain.next(), 300);
    }

    #[test]
    fn goes_on_over_entries_that_are_left_out_but_not_over_changes_of_keys() {
        let mut log = Log::new();
        log.push(Action::EXPORT);
        log.rotate(2);
        log.push(Action::EXPORT);
        let (begun, _) = Chain::begin(log.entries[0].clone()).expect("begins");
        let mut chain = begun.clone();
        chain.skip_to(2, log.entries[2].clone()).expect("the third");
        chain.push(log.entries[3].clone()).expect("the next");
        assert_eq!(chain, log.chain);
        let mut chain = begun.clone();
        let seq = ChainReason::Seq {
            expected: 1,
            found: 2,
        };
        let refused = chain.skip_to(1, log.entries[2].clone());
        assert_eq!(refused.expect_err("refused").reason, seq);
        let refused = chain.skip_to(3, log.entries[3].clone());
        assert_eq!(refused.expect_err("refused").index, 3);
        assert_eq!(chain, begun);
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
