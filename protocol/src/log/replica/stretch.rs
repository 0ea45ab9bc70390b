//! Ranges of entries: reading them with their proofs, and checking them.

use super::{
    events::{Reading, Stretch},
    limits::{CHANGES_MAX, RANGE_ENTRIES_MAX, RANGE_SIZE_MAX},
    wire::Range,
};
use crate::log::{
    chain::{Chain, read_all_ahead},
    checkpoint::{Checkpoint, Origin, SignedCheckpoint, UnverifiedCheckpoint},
    entry::{EntryError, UnverifiedEntry},
    fork::{Evidence, Signer},
    keys::KeyHistory,
    tree::{self, Edge, Hash, TreeError, leaf_hash},
};
use crate::note::VerifierKey;

/// Reads entries for a peer out of a log, with what proves that they are its: `entry` gives an entry of an index,
/// `node` a complete node of the tree, and `changes` are the indices of all entries that change the log's keys.
///
/// # Errors
/// Those of `entry` and `node`; or the log is not that large.
pub fn read_stretch<E: From<TreeError>>(
    wanted: &Reading,
    mut entry: impl FnMut(u64) -> Result<Vec<u8>, E>,
    mut node: impl FnMut(u8, u64) -> Result<Hash, E>,
    changes: impl IntoIterator<Item = u64>,
) -> Result<Stretch, E> {
    let mut stretch = Stretch::default();
    let most = wanted.entries_max.min(RANGE_ENTRIES_MAX as u64);
    let mut size = 0;
    for index in wanted.from..wanted.size.min(wanted.from.saturating_add(most)) {
        let one = entry(index)?;
        size += one.len();
        if size > RANGE_SIZE_MAX {
            break;
        }
        stretch.entries.push(one);
    }
    let end = wanted.from + stretch.entries.len() as u64;
    let mut prefix = |from: u64| match from {
        0 => Ok(Vec::new()),
        from if from == wanted.size => Ok(Vec::new()),
        from => tree::prove_prefix(from, wanted.size, &mut node),
    };
    stretch.grown = prefix(wanted.from)?;
    stretch.rest = prefix(end)?;
    let ahead = changes.into_iter();
    for index in ahead.filter(|index| (end..wanted.size).contains(index)) {
        if stretch.changes.len() == CHANGES_MAX {
            break;
        }
        stretch.changes.push(entry(index)?);
    }
    Ok(stretch)
}

/// The root of the tree of `from` entries that a tree of a checkpoint begins with, if hashes prove one.
pub(super) fn beginning(from: u64, hashes: &[Hash], of: &Checkpoint) -> Option<Hash> {
    let (seed, rest) = hashes.split_first()?;
    let (from_root, root) = tree::consistency_roots(from, of.size(), seed, rest).ok()?;
    (root == *of.root()).then_some(from_root)
}

/// A checkpoint that a log signed, with a key that may sign this size.
pub(super) fn verified(
    keys: &KeyHistory,
    checkpoint: &UnverifiedCheckpoint,
) -> Option<SignedCheckpoint> {
    keys.verify(checkpoint).ok().map(|(_, signed)| signed)
}

/// The keys, of those that a log has had, that signed two checkpoints.
pub(super) fn signers(
    keys: &KeyHistory,
    checkpoints: [&SignedCheckpoint; 2],
) -> Option<[Signer; 2]> {
    let signer = |checkpoint: &SignedCheckpoint| {
        let signed = |key: &&VerifierKey| checkpoint.note().verify(key).is_ok();
        keys.keys().find(signed).cloned().map(Signer::Log)
    };
    Some([signer(checkpoints[0])?, signer(checkpoints[1])?])
}

/// Two checkpoints that contradict one another.
pub(super) fn evidence(checkpoints: [&SignedCheckpoint; 2], hashes: Vec<Hash>) -> Evidence {
    let same_size = checkpoints[0].checkpoint().size() == checkpoints[1].checkpoint().size();
    let checkpoints = checkpoints.map(|checkpoint| checkpoint.clone().into());
    if same_size {
        Evidence::Roots(checkpoints)
    } else {
        Evidence::Growth {
            checkpoints,
            hashes,
        }
    }
}

/// A log with a range added, once that is durable.
#[derive(Clone, Debug)]
pub(super) struct Longer {
    pub(super) keys: KeyHistory,
    pub(super) edge: Edge,
    pub(super) checkpoint: SignedCheckpoint,
    /// Sizes and roots of open checkpoints that it goes through.
    pub(super) settled: Vec<(u64, Hash)>,
}

/// What a range says of the log that it was asked for.
pub(super) enum Found {
    /// The log is longer.
    Longer(Box<Longer>),
    /// The log signed this, and it does not begin with what is kept.
    Apart(SignedCheckpoint),
    /// It does not begin with what is kept, and it is not known who signed it.
    Unknown,
    /// It is not what it says.
    Wrong,
}

/// Checks the entries of a range that follow those that are kept, and that they lead to its checkpoint.
pub(super) fn check(
    origin: &Origin,
    keys: Option<&KeyHistory>,
    edge: &Edge,
    open: &[SignedCheckpoint],
    range: &Range,
) -> Found {
    let said = range.checkpoint.checkpoint_unverified();
    if edge.size() > 0 {
        match beginning(edge.size(), &range.grown, said) {
            None => return Found::Wrong,
            Some(root) if root != edge.root() => {
                let signed = keys.and_then(|keys| verified(keys, &range.checkpoint));
                return signed.map_or(Found::Unknown, Found::Apart);
            }
            Some(_) => {}
        }
    }
    match longer(origin, keys, edge, open, range) {
        Some(longer) => Found::Longer(Box::new(longer)),
        None => Found::Wrong,
    }
}

fn longer(
    origin: &Origin,
    keys: Option<&KeyHistory>,
    edge: &Edge,
    open: &[SignedCheckpoint],
    range: &Range,
) -> Option<Longer> {
    let said = range.checkpoint.checkpoint_unverified();
    let mut edge = edge.clone();
    let mut settled = Vec::new();
    let key = keys.map(|keys| *keys.key().public());
    let mut entries = read_all_ahead(&range.entries, key).into_iter();
    let mut push = |entry: Option<Result<UnverifiedEntry, EntryError>>| {
        let entry = entry?.ok()?;
        edge.push(leaf_hash(entry.bytes())).ok()?;
        for open in open.iter().map(SignedCheckpoint::checkpoint) {
            if open.size() == edge.size() && *open.root() == edge.root() {
                settled.push((open.size(), *open.root()));
            }
        }
        Some(entry)
    };
    let mut chain = match keys {
        Some(keys) => Chain::resume(keys.clone()),
        None => Chain::begin(push(entries.next())?).ok()?.0,
    };
    if chain.keys().origin() != origin || range.entries.is_empty() {
        return None;
    }
    for entry in entries {
        chain.push(push(Some(entry))?).ok()?;
    }
    let keys = chain.keys().clone();
    let signed = if edge.size() == said.size() {
        (edge.root() == *said.root()).then(|| verified(&keys, &range.checkpoint))?
    } else {
        let root = beginning(edge.size(), &range.rest, said)?;
        let mut ahead = keys.clone();
        for change in &range.changes {
            ahead.admit(UnverifiedEntry::parse(change).ok()?).ok()?;
        }
        (root == edge.root()).then(|| verified(&ahead, &range.checkpoint))?
    };
    Some(Longer {
        keys,
        edge,
        checkpoint: signed?,
        settled,
    })
}
