//! What a block of any UnixFS directory or file links to.

use cid::Cid;
use protocol::{
    block::{Block, CODEC_RAW},
    unixfs::{Link, Node, NodeError, Slot},
};

/// The blocks that this one links to, in order. Raw blocks link to nothing.
///
/// # Errors
/// The block is a node that cannot be read.
pub(crate) fn links(block: &Block) -> Result<Vec<Link>, NodeError> {
    links_beside(block, None)
}

/// The same, but for a directory's entry of a name.
///
/// # Errors
/// As [`links`].
pub(crate) fn links_beside(block: &Block, left_out: Option<&str>) -> Result<Vec<Link>, NodeError> {
    let link = |entry: protocol::unixfs::Entry| Link {
        cid: entry.cid,
        tsize: entry.tsize,
    };
    Ok(match Node::decode(block)? {
        Node::Raw => Vec::new(),
        Node::Directory(entries) => {
            let taken = |entry: &protocol::unixfs::Entry| Some(entry.name.as_str()) != left_out;
            entries.into_iter().filter(taken).map(link).collect()
        }
        Node::Shard(slots) => slots
            .into_iter()
            .map(|(_, slot)| match slot {
                Slot::Entry(entry) => link(entry),
                Slot::Shard(shard) => shard,
            })
            .collect(),
        Node::File(file) => file.parts.into_iter().map(|part| part.link).collect(),
    })
}

/// The size of a linked block in bytes, where the link says it.
pub(crate) fn size(link: &Link) -> Option<u32> {
    (link.cid.codec() == CODEC_RAW)
        .then(|| u32::try_from(link.tsize).ok())
        .flatten()
}

/// The first half of a block's digest: enough to tell blocks apart, for half of the memory.
pub(crate) fn short(cid: &Cid) -> Option<[u8; 16]> {
    protocol::block::digest_of(cid)?.first_chunk().copied()
}
