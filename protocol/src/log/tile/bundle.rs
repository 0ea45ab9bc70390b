//! Bundles: 256 entries of a log side by side.

use super::{TILE_WIDTH, TileError, TileKind, TilePath};
use crate::{
    block::{Block, CODEC_RAW},
    log::entry::{Entry, UnverifiedEntry},
};

/// Writes entries as a bundle: each after its length in two bytes, the highest first.
///
/// # Errors
/// An entry is too long, or there are none or more than a bundle holds.
pub fn encode_bundle<T: AsRef<[u8]>>(entries: &[T]) -> Result<Vec<u8>, TileError> {
    let count = entries.len();
    if !(1..=usize::from(TILE_WIDTH)).contains(&count) {
        return Err(TileError::EntryCount { count });
    }
    let mut bundle = Vec::new();
    for entry in entries.iter().map(AsRef::as_ref) {
        let size = entry.len();
        let length = u16::try_from(size).map_err(|_| TileError::EntrySize { size })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The raw block that a bundle of entries is.
///
/// # Errors
/// There are none, or more than a bundle holds.
pub fn bundle_block(entries: &[Entry]) -> Result<Block, TileError> {
    let entries: Vec<&[u8]> = entries.iter().map(Entry::bytes).collect();
    encode_bundle(&entries).map(|bundle| Block::log(CODEC_RAW, bundle))
}

/// The raw block that the bytes of a bundle are, once it is seen that there is nothing but entries in them. Whose they are is not.
///
/// # Errors
/// The path is of hashes, or there are more or fewer entries than it says, or other bytes.
pub fn received_bundle_block(path: TilePath, bundle: Vec<u8>) -> Result<Block, TileError> {
    for entry in parse_bundle(path, &bundle)? {
        UnverifiedEntry::parse(entry).map_err(TileError::Entry)?;
    }
    Ok(Block::log(CODEC_RAW, bundle))
}

/// Takes a bundle apart into its entries.
///
/// # Errors
/// The path is of hashes, or there are more or fewer entries than it says.
pub fn parse_bundle(path: TilePath, mut bundle: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    if path.kind != TileKind::Entries {
        return Err(TileError::Kind { path });
    }
    let mut entries = Vec::with_capacity(path.width.into());
    for _ in 0..path.width {
        let split = bundle.split_first_chunk();
        let split =
            split.and_then(|(size, rest)| rest.split_at_checked(u16::from_be_bytes(*size).into()));
        let (entry, rest) = split.ok_or(TileError::Width { path })?;
        entries.push(entry);
        bundle = rest;
    }
    if bundle.is_empty() {
        Ok(entries)
    } else {
        Err(TileError::Width { path })
    }
}
