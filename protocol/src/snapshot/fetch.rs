//! Fetching and checking single blocks of a snapshot.

use cid::Cid;

use super::{Damage, Reason, own_digest};
use crate::{
    block::{BLOCK_SIZE_MAX, Block, CODEC_DAG_PB, CODEC_RAW, UnverifiedBlock},
    unixfs::{self, BuildError, Entry, File, Link, Node},
};

/// Where blocks come from: `None` is a block that nobody has.
pub(super) type Get<'a, E> = &'a mut dyn FnMut(&Cid) -> Result<Option<UnverifiedBlock>, E>;

/// Why a part of a snapshot could not be read.
pub(super) enum Stop<E> {
    /// It is damaged; other parts may not be.
    Damage(Box<Damage>),
    /// The caller's own error.
    Caller(E),
}

impl<E> From<Damage> for Stop<E> {
    fn from(damage: Damage) -> Self {
        Self::Damage(Box::new(damage))
    }
}

/// The path and link of something to be read.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a str,
    pub(super) link: Link,
}

impl<'a> Place<'a> {
    pub(super) fn new(path: &'a str, entry: &Entry) -> Self {
        let link = Link {
            cid: entry.cid,
            tsize: entry.tsize,
        };
        Self { path, link }
    }

    pub(super) fn damage(&self, reason: Reason) -> Damage {
        Damage {
            path: self.path.to_owned(),
            cid: self.link.cid,
            reason,
        }
    }

    pub(super) fn unexpected(&self, what: &'static str) -> Damage {
        self.damage(Reason::Unexpected { what })
    }
}

/// Fetches a block of this codec and checks its bytes.
pub(super) fn block<E>(get: Get<'_, E>, place: Place<'_>, codec: u64) -> Result<Block, Stop<E>> {
    let cid = place.link.cid;
    if own_digest(&cid, codec).is_none() {
        return Err(place
            .unexpected("a CID of another version, codec or hash")
            .into());
    }
    let received = get(&cid).map_err(Stop::Caller)?;
    let bytes = received.ok_or_else(|| place.damage(Reason::Missing))?.bytes;
    let block = Block::verify(cid, bytes).map_err(|error| place.damage(Reason::Mismatch(error)))?;
    Ok(block)
}

/// Fetches and decodes a dag-pb node, whose links must add up to what its parent says.
pub(super) fn node<E>(get: Get<'_, E>, place: Place<'_>) -> Result<(Block, Node), Stop<E>> {
    let block = block(get, place, CODEC_DAG_PB)?;
    if block.bytes().len() > BLOCK_SIZE_MAX {
        return Err(place.unexpected("a block that is too large").into());
    }
    let node = Node::decode(&block).map_err(|error| place.damage(Reason::Malformed(error)))?;
    if node.tsize(&block) != Some(place.link.tsize) {
        return Err(place.unexpected("a size other than its link says").into());
    }
    Ok((block, node))
}

/// Fetches a raw block of the size that its link says.
pub(super) fn leaf<E>(get: Get<'_, E>, place: Place<'_>) -> Result<Block, Stop<E>> {
    let block = block(get, place, CODEC_RAW)?;
    if block.bytes().len() as u64 != place.link.tsize {
        return Err(place.unexpected("a size other than its link says").into());
    }
    Ok(block)
}

/// What is done with each block of a file, or with the damage of a leaf of it.
pub(super) type Sink<'a, E> = &'a mut dyn FnMut(Result<Block, Box<Damage>>) -> Result<(), Stop<E>>;

/// Reads a file of at most `max` bytes, in the one shape that we write, block by block.
pub(super) fn file<E>(
    get: Get<'_, E>,
    place: Place<'_>,
    max: u64,
    sink: Sink<'_, E>,
) -> Result<(), Stop<E>> {
    if place.link.tsize > max + max / 1024 {
        return Err(place.unexpected("a file that is too large").into());
    }
    if place.link.cid.codec() == CODEC_RAW {
        let max = max.min(BLOCK_SIZE_MAX as u64);
        if place.link.tsize > max {
            return Err(place.unexpected("a leaf that is too large").into());
        }
        return sink(Ok(leaf(get, place)?));
    }
    let (root, node) = node(get, place)?;
    let Node::File(file) = node else {
        return Err(place.unexpected("not a file").into());
    };
    let leaves = leaves(&file, max).ok_or_else(|| place.unexpected("a file of another shape"))?;
    sink(Ok(root))?;
    for (cid, tsize) in leaves {
        let link = Link { cid, tsize };
        match leaf(get, Place { link, ..place }) {
            Ok(block) => sink(Ok(block))?,
            Err(Stop::Damage(damage)) => sink(Err(damage))?,
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// The leaves of a file, if it has two or more and is what [`unixfs::file`] makes of them.
fn leaves(file: &File, max: u64) -> Option<Vec<(Cid, u64)>> {
    let (last, rest) = file.parts.split_last()?;
    let full = BLOCK_SIZE_MAX as u64;
    let whole = !rest.is_empty()
        && rest.iter().all(|part| part.len == full)
        && (1..=full).contains(&last.len)
        && file.parts.iter().all(|part| part.len == part.link.tsize)
        && file.parts.iter().map(|part| part.len).sum::<u64>() <= max;
    let leaves: Vec<(Cid, u64)> = file.parts.iter().map(|p| (p.link.cid, p.len)).collect();
    let mut nodes = 0;
    let built = unixfs::file::<BuildError>(&leaves, &mut |_| {
        nodes += 1;
        Ok(())
    });
    (whole && built.is_ok() && nodes == 1).then_some(leaves)
}
