//! Decoded public nodes.

use std::fmt;

use super::{
    Entry, FANOUT, Link, NodeError, total_size,
    wire::{self, TYPE_DIRECTORY, TYPE_FILE, TYPE_RAW, TYPE_SHARD, UnixFs},
};
use crate::block::{Block, CODEC_DAG_PB, CODEC_RAW};

const HASH_MURMUR3_X64_64: u64 = 0x22;
const PREFIX_LEN: usize = 2;

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A raw leaf: the block's bytes are the file's.
    Raw,
    /// A whole directory, its entries in order of their names.
    Directory(Vec<Entry>),
    /// A shard of a directory, its slots in order of their indices.
    Shard(Vec<(u8, Slot)>),
    /// A file, or a part of one.
    File(File),
}

/// What a slot of a shard holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An entry of the directory.
    Entry(Entry),
    /// A shard for the names that share the hash so far.
    Shard(Link),
}

impl Slot {
    pub(crate) fn tsize(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.tsize,
            Self::Shard(link) => link.tsize,
        }
    }
}

/// A file node: either bytes, as Kubo's `add` writes by default, or parts.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Marks the old kind of leaf (UnixFS type 0), which holds bytes only.
    pub raw: bool,
    /// The bytes of a leaf.
    pub data: Vec<u8>,
    /// The parts of the file, in order.
    pub parts: Vec<Part>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is.
    pub link: Link,
    /// How many bytes of the file are in it.
    pub len: u64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("raw", &self.raw)
            .field("data_len", &self.data.len())
            .field("parts", &self.parts)
            .finish()
    }
}

impl Node {
    /// Decodes a block, and refuses what [`Node::encode`] would not give.
    ///
    /// # Errors
    /// The block is neither raw nor a canonical UnixFS directory, shard or file.
    pub fn decode(block: &Block) -> Result<Self, NodeError> {
        match block.cid().codec() {
            CODEC_RAW => Ok(Self::Raw),
            CODEC_DAG_PB => Self::decode_dag_pb(block.bytes()),
            codec => Err(NodeError::Codec { codec }),
        }
    }

    fn decode_dag_pb(bytes: &[u8]) -> Result<Self, NodeError> {
        let (links, unixfs) = wire::decode_node(bytes)?;
        total_size(bytes.len(), links.iter().map(|l| l.tsize))
            .ok_or(shape("its size overflows"))?;
        match unixfs.kind {
            TYPE_DIRECTORY => directory(links, &unixfs),
            TYPE_SHARD => shard(links, &unixfs),
            TYPE_FILE | TYPE_RAW => file(links, unixfs),
            _ => Err(shape("neither a directory, a shard nor a file")),
        }
    }

    /// The size of the block and of all under it, as its links say; none if it overflows.
    pub(crate) fn tsize(&self, block: &Block) -> Option<u64> {
        let own = block.bytes().len();
        match self {
            Self::Raw => Some(own as u64),
            Self::Directory(entries) => total_size(own, entries.iter().map(|e| e.tsize)),
            Self::Shard(slots) => total_size(own, slots.iter().map(|(_, slot)| slot.tsize())),
            Self::File(file) => total_size(own, file.parts.iter().map(|p| p.link.tsize)),
        }
    }

    /// The bytes of the dag-pb block; none for a raw leaf.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        match self {
            Self::Raw => None,
            Self::Directory(entries) => Some(encode_directory(entries)),
            Self::Shard(slots) => Some(encode_shard(slots)),
            Self::File(file) => Some(encode_file(file)),
        }
    }
}

pub(super) fn encode_directory(entries: &[Entry]) -> Vec<u8> {
    let unixfs = UnixFs {
        kind: TYPE_DIRECTORY,
        ..UnixFs::default()
    };
    wire::encode_node(entries, &unixfs)
}

fn directory(links: Vec<Entry>, unixfs: &UnixFs) -> Result<Node, NodeError> {
    let plain = UnixFs {
        kind: TYPE_DIRECTORY,
        ..UnixFs::default()
    };
    if *unixfs != plain {
        return Err(shape("a directory with more than links"));
    }
    if links.iter().any(|l| !super::directory::is_name(&l.name)) {
        return Err(shape("an entry has an impossible name"));
    }
    if links.windows(2).any(|pair| pair[0].name >= pair[1].name) {
        return Err(shape("entries are not in order"));
    }
    Ok(Node::Directory(links))
}

pub(super) fn encode_shard(slots: &[(u8, Slot)]) -> Vec<u8> {
    let links: Vec<Entry> = slots
        .iter()
        .map(|(index, slot)| {
            let (name, cid, tsize) = match slot {
                Slot::Entry(entry) => (entry.name.as_str(), entry.cid, entry.tsize),
                Slot::Shard(link) => ("", link.cid, link.tsize),
            };
            Entry {
                name: format!("{index:02X}{name}"),
                cid,
                tsize,
            }
        })
        .collect();
    let unixfs = UnixFs {
        kind: TYPE_SHARD,
        data: Some(bitfield(slots.iter().map(|(index, _)| *index))),
        hash_type: Some(HASH_MURMUR3_X64_64),
        fanout: Some(FANOUT as u64),
        ..UnixFs::default()
    };
    wire::encode_node(&links, &unixfs)
}

fn shard(links: Vec<Entry>, unixfs: &UnixFs) -> Result<Node, NodeError> {
    if links.is_empty() || links.len() > FANOUT {
        return Err(shape("a shard has from 1 to 256 slots"));
    }
    let slots: Vec<(u8, Slot)> = links.into_iter().map(slot).collect::<Result<_, _>>()?;
    if slots.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(shape("slots are not in order"));
    }
    let expected = UnixFs {
        kind: TYPE_SHARD,
        data: Some(bitfield(slots.iter().map(|(index, _)| *index))),
        hash_type: Some(HASH_MURMUR3_X64_64),
        fanout: Some(FANOUT as u64),
        ..UnixFs::default()
    };
    if *unixfs != expected {
        return Err(shape(
            "a shard whose bit field, hash function or fanout is another",
        ));
    }
    Ok(Node::Shard(slots))
}

fn slot(link: Entry) -> Result<(u8, Slot), NodeError> {
    let (prefix, name) = link
        .name
        .split_at_checked(PREFIX_LEN)
        .ok_or(shape("a slot without an index"))?;
    let upper = prefix
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    let index = u8::from_str_radix(prefix, 16)
        .ok()
        .filter(|_| upper)
        .ok_or(shape("a slot without an index"))?;
    let slot = if name.is_empty() {
        Slot::Shard(Link {
            cid: link.cid,
            tsize: link.tsize,
        })
    } else if super::directory::is_name(name) {
        Slot::Entry(Entry {
            name: name.to_owned(),
            cid: link.cid,
            tsize: link.tsize,
        })
    } else {
        return Err(shape("an entry has an impossible name"));
    };
    Ok((index, slot))
}

/// The used slots as a big-endian number of 256 bits, without its leading zeros.
fn bitfield(indices: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut bits = [0u8; FANOUT / 8];
    for index in indices {
        bits[FANOUT / 8 - 1 - usize::from(index) / 8] |= 1 << (index % 8);
    }
    let zeros = bits.iter().take_while(|&&b| b == 0).count();
    bits[zeros..].to_vec()
}

pub(super) fn encode_file(file: &File) -> Vec<u8> {
    let (links, unixfs) = file_fields(file);
    wire::encode_node(&links, &unixfs)
}

fn file_fields(file: &File) -> (Vec<Entry>, UnixFs) {
    let links = file.parts.iter().map(|part| Entry {
        name: String::new(),
        cid: part.link.cid,
        tsize: part.link.tsize,
    });
    let block_sizes: Vec<u64> = file.parts.iter().map(|part| part.len).collect();
    let unixfs = UnixFs {
        kind: if file.raw { TYPE_RAW } else { TYPE_FILE },
        data: (!file.data.is_empty()).then(|| file.data.clone()),
        file_size: Some(
            block_sizes
                .iter()
                .fold(file.data.len() as u64, |sum, len| sum.saturating_add(*len)),
        ),
        block_sizes,
        ..UnixFs::default()
    };
    (links.collect(), unixfs)
}

fn file(links: Vec<Entry>, unixfs: UnixFs) -> Result<Node, NodeError> {
    if links.len() != unixfs.block_sizes.len() {
        return Err(shape("a file whose links and block sizes differ in number"));
    }
    if links.iter().any(|link| !link.name.is_empty()) {
        return Err(shape("a file whose parts have names"));
    }
    if !links.is_empty() && (unixfs.data.is_some() || unixfs.kind == TYPE_RAW) {
        return Err(shape("a leaf with links"));
    }
    total_size(0, unixfs.block_sizes.iter().copied()).ok_or(shape("its size overflows"))?;
    let parts = links.iter().zip(&unixfs.block_sizes);
    let file = File {
        raw: unixfs.kind == TYPE_RAW,
        parts: parts
            .map(|(link, &len)| Part {
                link: Link {
                    cid: link.cid,
                    tsize: link.tsize,
                },
                len,
            })
            .collect(),
        data: unixfs.data.clone().unwrap_or_default(),
    };
    if file_fields(&file).1 != unixfs {
        return Err(shape("a file whose size is not that of its parts"));
    }
    Ok(Node::File(file))
}

fn shape(what: &'static str) -> NodeError {
    NodeError::Shape { what }
}
