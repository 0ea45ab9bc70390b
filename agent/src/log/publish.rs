//! A log as a folder in content-addressed storage: the layout of C2SP's `tlog-tiles`, in UnixFS directories with the
//! tiles as raw blocks. Full tiles never change, so that a later folder has most blocks of an earlier one.
//!
//! Sealed details are not in it: what everyone may have cannot be erased.

use cid::Cid;
use protocol::{
    block::Block,
    log::tile::{self, TileError, TileKind, tiles},
    unixfs::{BuildError, Link, folder},
};
use store::{Store, StoreError, Table, log::LogReader};

use super::{LogError, keys_of, own::signed_head};
use crate::sharing::{self, Share, SharingError};

/// The key of the root that was published last.
const KEY_PUBLISHED: &[u8] = b"log-published";

/// Why a log cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishLogError {
    /// It cannot be read, or does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be shared.
    #[error(transparent)]
    Sharing(#[from] SharingError),
    /// A bundle of it is none.
    #[error("the log is damaged")]
    Tile(#[from] TileError),
    /// Its folder cannot be built.
    #[error("the folder of the log cannot be built")]
    Build(#[from] BuildError),
}

/// A log that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The folder.
    pub root: Cid,
    /// Entries of the log.
    pub size: u64,
    /// Blocks that were not in the store before.
    pub new_blocks: u64,
}

/// Puts a log into the store as a folder, and lets everyone have it who asks, in place of the one that was published
/// before. Durable on return.
///
/// # Errors
/// The log cannot be read, or does not hold; or the store failed.
pub fn publish(reader: &LogReader, store: &Store) -> Result<Published, PublishLogError> {
    let keys = keys_of(reader)?;
    let checkpoint = signed_head(reader, &keys)?;
    let size = checkpoint.checkpoint().size();
    let mut new_blocks = 0;
    let mut put = |block: Block| -> Result<Link, PublishLogError> {
        let link = Link {
            cid: *block.cid(),
            tsize: block.bytes().len() as u64,
        };
        new_blocks += u64::from(store.put(block)?);
        Ok(link)
    };
    let mut files = vec![("checkpoint".to_owned(), put(checkpoint.block())?)];
    for path in tiles(size) {
        let block = match path.kind() {
            TileKind::Entries => tile::received_bundle_block(path, reader.bundle(path)?)?,
            TileKind::Hashes(_) => reader.tile(path)?.block(),
        };
        files.push((path.to_string(), put(block)?));
    }
    let root = folder(files, &mut |block| put(block).map(drop))?.cid;
    let before = store.value(Table::Config, KEY_PUBLISHED)?;
    store.set(Table::Config, KEY_PUBLISHED, &root.to_bytes())?;
    let public = Share {
        public: true,
        ..Share::default()
    };
    sharing::set_share(store, &root, &public)?;
    let before = before.and_then(|bytes| Cid::try_from(bytes).ok());
    if let Some(before) = before.filter(|before| *before != root) {
        sharing::set_share(store, &before, &Share::default())?;
    }
    Ok(Published {
        root,
        size,
        new_blocks,
    })
}
