//! A log as a folder in content-addressed storage: the layout of C2SP's `tlog-tiles`, in UnixFS directories with the
//! tiles as raw blocks. Full tiles never change, so that a later folder has most blocks of an earlier one.
//!
//! Sealed details are not in it: what everyone may have cannot be erased.

use std::collections::BTreeMap;

use cid::Cid;
use protocol::{
    block::Block,
    log::tile::{self, TileError, TileKind, tiles},
    unixfs::{BuildError, Entry, Link, directory},
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

/// What a folder has under a name.
enum Node {
    Folder(BTreeMap<String, Node>),
    File(Link),
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
    let mut root = BTreeMap::new();
    let file = put(checkpoint.block())?;
    insert(&mut root, "checkpoint", file);
    for path in tiles(size) {
        let block = match path.kind() {
            TileKind::Entries => tile::received_bundle_block(path, reader.bundle(path)?)?,
            TileKind::Hashes(_) => reader.tile(path)?.block(),
        };
        let file = put(block)?;
        insert(&mut root, &path.to_string(), file);
    }
    let root = build(root, &mut |block| put(block).map(drop))?.cid;
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

/// Puts a file at a path.
fn insert(folder: &mut BTreeMap<String, Node>, path: &str, file: Link) {
    match path.split_once('/') {
        None => drop(folder.insert(path.to_owned(), Node::File(file))),
        Some((name, rest)) => {
            let below = folder.entry(name.to_owned());
            let below = below.or_insert_with(|| Node::Folder(BTreeMap::new()));
            // Paths of tiles name no file and folder alike.
            if let Node::Folder(below) = below {
                insert(below, rest, file);
            }
        }
    }
}

fn build(
    folder: BTreeMap<String, Node>,
    emit: &mut dyn FnMut(Block) -> Result<(), PublishLogError>,
) -> Result<Link, PublishLogError> {
    let mut entries = Vec::with_capacity(folder.len());
    for (name, node) in folder {
        let Link { cid, tsize } = match node {
            Node::File(link) => link,
            Node::Folder(below) => build(below, emit)?,
        };
        entries.push(Entry { name, cid, tsize });
    }
    directory(entries, emit)
}
