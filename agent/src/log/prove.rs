//! Proofs that an entry is in a log, for who has nothing of it but its key.

use cid::Cid;
use protocol::log::{
    checkpoint::UnverifiedCheckpoint,
    entry::{Outcome, UnverifiedEntry},
    keys::KeyHistory,
    proof::{ProofError, UnverifiedProof},
    tree::{leaf_hash, prove_inclusion},
};
use store::{StoreError, log::LogReader};

use super::{LogError, keys_of};

/// Entries that are read at a time to look for one.
const READ_AT_ONCE: u64 = 256;

/// Why an entry cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The log cannot be read, or does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The proof does not prove it: the tree in the files is damaged.
    #[error("the tree of the log is damaged")]
    Proof(#[from] ProofError),
    /// No entry is about it.
    #[error("no entry of the log is about {cid}")]
    NotFound {
        /// What was looked for.
        cid: Cid,
    },
    /// The log does not go so far.
    #[error("the log has {size} entries, and none of number {seq}")]
    Beyond {
        /// The number.
        seq: u64,
        /// The size of the log.
        size: u64,
    },
}

impl From<StoreError> for ProveError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// The last entry that is about a CID, or is the one of this CID: of those that tell of what was done, or if
/// there are none, of what was not. Only entries of an action count, if one is named.
///
/// # Errors
/// There is none, or the log cannot be read.
pub fn find(reader: &LogReader, cid: &Cid, action: Option<&str>) -> Result<u64, ProveError> {
    let mut undone = None;
    let mut end = reader.head().size;
    while end > 0 {
        let begin = (end - 1) / READ_AT_ONCE * READ_AT_ONCE;
        let entries = reader.entries(begin..end)?;
        let numbered: Vec<_> = (begin..end).zip(&entries).collect();
        for (index, bytes) in numbered.into_iter().rev() {
            let entry = UnverifiedEntry::parse(bytes)
                .map_err(|reason| LogError::Entry { index, reason })?;
            let draft = entry.draft_unverified();
            if entry.cid() == *cid {
                return Ok(index);
            }
            if action.is_some_and(|action| draft.action.as_str() != action) {
                continue;
            }
            if draft.subject.contains(cid) {
                if draft.outcome == Outcome::Ok {
                    return Ok(index);
                }
                undone = undone.or(Some(index));
            }
        }
        end = begin;
    }
    undone.ok_or(ProveError::NotFound { cid: *cid })
}

/// Proves that the entry of a number is in the log, with the entry itself beside the proof.
///
/// # Errors
/// There is no such entry, or the log cannot be read or does not hold.
pub fn prove_entry(reader: &LogReader, seq: u64) -> Result<UnverifiedProof, ProveError> {
    prove(reader, &keys_of(reader)?, seq)
}

/// The same, with keys that were found already.
///
/// # Errors
/// As [`prove_entry`].
pub fn prove(
    reader: &LogReader,
    keys: &KeyHistory,
    seq: u64,
) -> Result<UnverifiedProof, ProveError> {
    let size = reader.head().size;
    if seq >= size {
        return Err(ProveError::Beyond { seq, size });
    }
    let entry = reader.entry(seq)?;
    let node = |level, index| reader.node(level, index);
    let hashes = prove_inclusion(seq, size, node)?;
    let checkpoint = UnverifiedCheckpoint::parse(&reader.head().note).map_err(LogError::from)?;
    let (key, checkpoint) = keys.verify(&checkpoint).map_err(LogError::from)?;
    let proof = UnverifiedProof::new(seq, hashes, checkpoint, Some(entry.clone()))?;
    proof.clone().verify(&leaf_hash(&entry), key)?;
    Ok(proof)
}
