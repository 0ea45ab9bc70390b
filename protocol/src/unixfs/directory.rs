//! Builds directories: one block if it fits, shards otherwise.
//!
//! A sharded directory is a HAMT: the slot of an entry is the first byte of
//! the murmur3-x64-64 of its name, of the second where that is taken, and so
//! on. Its shape depends on the names alone, so a change rewrites only the
//! shards on the way to it.

use super::{
    BuildError, DIRECTORY_SIZE_MAX, Entry, Link, NAME_LEN_MAX, SHARD_DEPTH_MAX, Slot, node,
    total_size,
};
use crate::block::Block;

/// Length of a directory block without its links.
const EMPTY_LEN: usize = 4;

/// Builds a directory and emits its blocks, the root last.
///
/// Needs 24 bytes of memory per entry, and a block per level of shards.
///
/// # Errors
/// A name cannot be, or is there twice; or `emit` failed.
pub fn directory<E: From<BuildError>>(
    mut entries: Vec<Entry>,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    if let Some(bad) = entries.iter().find(|e| !is_name(&e.name)) {
        let name = bad.name.clone();
        return Err(BuildError::Name { name }.into());
    }
    if basic_len(entries.iter()) <= DIRECTORY_SIZE_MAX as u64 {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = entries.windows(2).find(|p| p[0].name == p[1].name) {
            let name = pair[0].name.clone();
            return Err(BuildError::Duplicate { name }.into());
        }
        let tsizes = entries.iter().map(|e| e.tsize);
        return emit_node(node::encode_directory(&entries), tsizes, emit);
    }
    entries.sort_by_cached_key(|e| name_hash(&e.name));
    let hashes: Vec<u64> = entries.iter().map(|e| name_hash(&e.name)).collect();
    if let Some(at) = hashes.windows(2).position(|h| h[0] == h[1]) {
        let (first, second) = (entries[at].name.clone(), entries[at + 1].name.clone());
        return Err(if first == second {
            BuildError::Duplicate { name: first }
        } else {
            BuildError::Collision { first, second }
        }
        .into());
    }
    shard(&entries, &hashes, 0, emit)
}

/// Builds the shard of entries whose hashes, all different, share their first `depth` bytes.
fn shard<E: From<BuildError>>(
    entries: &[Entry],
    hashes: &[u64],
    depth: usize,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let mut slots = Vec::new();
    let mut start = 0;
    for run in hashes.chunk_by(|a, b| slot_index(*a, depth) == slot_index(*b, depth)) {
        let end = start + run.len();
        let slot = if let [entry] = &entries[start..end] {
            Slot::Entry(entry.clone())
        } else {
            Slot::Shard(shard(&entries[start..end], run, depth + 1, emit)?)
        };
        slots.push((slot_index(run[0], depth), slot));
        start = end;
    }
    let tsizes = slots.iter().map(|(_, slot)| slot.tsize());
    emit_node(node::encode_shard(&slots), tsizes, emit)
}

pub(super) fn emit_node<E: From<BuildError>>(
    bytes: Vec<u8>,
    tsizes: impl Iterator<Item = u64>,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let tsize = total_size(bytes.len(), tsizes).ok_or(BuildError::Overflow)?;
    let block = Block::node(bytes);
    let cid = *block.cid();
    emit(block)?;
    Ok(Link { cid, tsize })
}

/// Whether a directory entry may have this name.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.bytes().any(|b| matches!(b, 0 | b'/'))
}

/// Length of the block of a directory that is not sharded, in bytes.
pub(crate) fn basic_len<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
    entries.fold(EMPTY_LEN as u64, |sum, entry| sum + link_len(entry))
}

/// Length of the link of an entry in a directory block, in bytes.
pub(crate) fn link_len(entry: &Entry) -> u64 {
    let field = |len: usize| 1 + varint_len(len as u64) + len;
    let hash = field(entry.cid.encoded_len());
    let link = hash + field(entry.name.len()) + 1 + varint_len(entry.tsize);
    field(link) as u64
}

fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// The murmur3-x64-64 of a name: the first half of the 128-bit hash.
pub(crate) fn name_hash(name: &str) -> u64 {
    let hash = fastmurmur3::hash(name.as_bytes());
    u64::try_from(hash & u128::from(u64::MAX)).expect("masked to 64 bits")
}

/// The slot that a name with this hash has in a shard at this depth.
pub(crate) fn slot_index(hash: u64, depth: usize) -> u8 {
    debug_assert!(depth < SHARD_DEPTH_MAX);
    hash.to_be_bytes()[depth]
}
