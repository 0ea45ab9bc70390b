//! Puts a snapshot together from sealed parts.

use cid::Cid;

use super::{
    CAPSULE, CAPSULE_FILE_SIZE_MAX, MANIFEST, MANIFEST_FILE_SIZE_MAX, OBJECTS, OBJECTS_MAX,
    SnapshotError, folder,
};
use crate::{
    block::{BLOCK_SIZE_MAX, Block, raw_cid},
    recover,
    seal::Sealed,
    unixfs::{self, BuildError, Entry, Link},
};

/// A sealed segment or list, already a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// SHA-256 of its sealed bytes.
    pub block: [u8; 32],
    /// Length of its sealed bytes.
    pub len: u32,
}

impl Object {
    /// Its CID.
    #[must_use]
    pub fn cid(&self) -> Cid {
        raw_cid(&self.block)
    }
}

/// What a snapshot is made of.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The class identities, in portable mode.
    pub capsule: Option<Sealed>,
    /// The manifest.
    pub manifest: Sealed,
    /// Every segment and list, in any order, repeated or not; left in another order.
    pub objects: &'a mut [Object],
}

/// Builds the public nodes of a snapshot and returns its root.
///
/// `emit` is given every block but those of `objects`, children before parents
/// and the root last. Needs memory for one folder of `s/` at a time.
///
/// # Errors
/// A part is too large, or its size in doubt; or `emit` failed.
pub fn assemble<E: From<BuildError> + From<SnapshotError>>(
    parts: Parts<'_>,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Cid, E> {
    let mut entries = Vec::new();
    for (name, block) in recover::blocks() {
        let cid = *block.cid();
        let tsize = block.bytes().len() as u64;
        emit(block)?;
        entries.push(entry(name, Link { cid, tsize }));
    }
    if let Some(capsule) = parts.capsule {
        entries.push(capsule_file(capsule, emit)?);
    }
    let manifest = sealed_file(MANIFEST, MANIFEST_FILE_SIZE_MAX, parts.manifest, emit)?;
    entries.push(manifest);
    let objects = objects(parts.objects, emit)?;
    entries.push(entry(OBJECTS, objects));
    Ok(unixfs::directory(entries, emit)?.cid)
}

pub(super) fn capsule_file<E: From<BuildError> + From<SnapshotError>>(
    capsule: Sealed,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Entry, E> {
    sealed_file(CAPSULE, CAPSULE_FILE_SIZE_MAX, capsule, emit)
}

fn sealed_file<E: From<BuildError> + From<SnapshotError>>(
    name: &'static str,
    max: u64,
    sealed: Sealed,
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Entry, E> {
    let size = sealed.bytes().len() as u64;
    if size > max {
        return Err(SnapshotError::FileSize { name, size, max }.into());
    }
    let mut leaves = Vec::new();
    for piece in sealed.split() {
        let block = Block::sealed(piece);
        leaves.push((*block.cid(), block.bytes().len() as u64));
        emit(block)?;
    }
    Ok(entry(name, unixfs::file(&leaves, emit)?))
}

fn objects<E: From<BuildError> + From<SnapshotError>>(
    objects: &mut [Object],
    emit: &mut dyn FnMut(Block) -> Result<(), E>,
) -> Result<Link, E> {
    let count = objects.len() as u64;
    if count > OBJECTS_MAX {
        return Err(SnapshotError::TooMany { count }.into());
    }
    // By the last byte, which decides on the folder; then so that repetitions meet.
    objects.sort_unstable_by_key(|o| (o.block[31], o.block));
    let mut folders = Vec::new();
    for same in objects.chunk_by(|a, b| a.block[31] == b.block[31]) {
        let mut entries = Vec::with_capacity(same.len());
        for run in same.chunk_by(|a, b| a.block == b.block) {
            entries.push(object(run)?);
        }
        let link = unixfs::directory(entries, emit)?;
        folders.push(entry(&folder(&same[0].block), link));
    }
    unixfs::directory(folders, emit)
}

/// The entry of an object that is named once or more.
fn object(run: &[Object]) -> Result<Entry, SnapshotError> {
    let Object { len: first, .. } = run[0];
    let cid = run[0].cid();
    if first == 0 || first as usize > BLOCK_SIZE_MAX {
        return Err(SnapshotError::ObjectSize { cid, len: first });
    }
    if let Some(&Object { len: second, .. }) = run.iter().find(|o| o.len != first) {
        return Err(SnapshotError::TwoSizes { cid, first, second });
    }
    let tsize = u64::from(first);
    Ok(entry(&cid.to_string(), Link { cid, tsize }))
}

pub(super) fn entry(name: &str, link: Link) -> Entry {
    Entry {
        name: name.to_owned(),
        cid: link.cid,
        tsize: link.tsize,
    }
}
