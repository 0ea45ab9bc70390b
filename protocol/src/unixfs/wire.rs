//! The bytes of dag-pb nodes and of the UnixFS message in them.
//!
//! Canonical only: links before data, every field of a link present and in
//! order, shortest varints, nothing unknown. So decoding and encoding again
//! gives the same bytes.

use cid::Cid;

use super::{Entry, NodeError};

pub(super) const TYPE_RAW: u64 = 0;
pub(super) const TYPE_DIRECTORY: u64 = 1;
pub(super) const TYPE_FILE: u64 = 2;
pub(super) const TYPE_SHARD: u64 = 5;

// Field number * 8 + wire type (0 varint, 2 length-delimited).
const NODE_DATA: u8 = 0x0a;
const NODE_LINK: u8 = 0x12;
const LINK_HASH: u8 = 0x0a;
const LINK_NAME: u8 = 0x12;
const LINK_TSIZE: u8 = 0x18;
const UNIXFS_TYPE: u8 = 0x08;
const UNIXFS_DATA: u8 = 0x12;
const UNIXFS_FILE_SIZE: u8 = 0x18;
const UNIXFS_BLOCK_SIZE: u8 = 0x20;
const UNIXFS_HASH_TYPE: u8 = 0x28;
const UNIXFS_FANOUT: u8 = 0x30;

/// The UnixFS message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnixFs {
    pub(super) kind: u64,
    pub(super) data: Option<Vec<u8>>,
    pub(super) file_size: Option<u64>,
    pub(super) block_sizes: Vec<u64>,
    pub(super) hash_type: Option<u64>,
    pub(super) fanout: Option<u64>,
}

pub(super) fn encode_node(links: &[Entry], unixfs: &UnixFs) -> Vec<u8> {
    let mut out = Vec::new();
    for link in links {
        put_bytes(&mut out, NODE_LINK, &encode_link(link));
    }
    put_bytes(&mut out, NODE_DATA, &encode_unixfs(unixfs));
    out
}

pub(super) fn decode_node(bytes: &[u8]) -> Result<(Vec<Entry>, UnixFs), NodeError> {
    let mut input = Input(bytes);
    let mut links = Vec::new();
    while let Some(link) = input.bytes(NODE_LINK)? {
        links.push(decode_link(link)?);
    }
    let data = input.bytes(NODE_DATA)?.ok_or(wire("no data"))?;
    input.end()?;
    Ok((links, decode_unixfs(data)?))
}

fn encode_link(link: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + link.name.len());
    put_bytes(&mut out, LINK_HASH, &link.cid.to_bytes());
    put_bytes(&mut out, LINK_NAME, link.name.as_bytes());
    put_number(&mut out, LINK_TSIZE, link.tsize);
    out
}

fn decode_link(bytes: &[u8]) -> Result<Entry, NodeError> {
    let mut input = Input(bytes);
    let hash = input
        .bytes(LINK_HASH)?
        .ok_or(wire("a link without a CID"))?;
    let name = input
        .bytes(LINK_NAME)?
        .ok_or(wire("a link without a name"))?;
    let tsize = input
        .number(LINK_TSIZE)?
        .ok_or(wire("a link without a size"))?;
    input.end()?;
    let cid = Cid::try_from(hash).map_err(|_| wire("not a CID"))?;
    if cid.to_bytes() != hash {
        return Err(wire("not a canonical CID"));
    }
    let name = std::str::from_utf8(name).map_err(|_| wire("a name that is not UTF-8"))?;
    Ok(Entry {
        name: name.to_owned(),
        cid,
        tsize,
    })
}

fn encode_unixfs(unixfs: &UnixFs) -> Vec<u8> {
    let mut out = Vec::new();
    put_number(&mut out, UNIXFS_TYPE, unixfs.kind);
    if let Some(data) = &unixfs.data {
        put_bytes(&mut out, UNIXFS_DATA, data);
    }
    if let Some(size) = unixfs.file_size {
        put_number(&mut out, UNIXFS_FILE_SIZE, size);
    }
    for &size in &unixfs.block_sizes {
        put_number(&mut out, UNIXFS_BLOCK_SIZE, size);
    }
    if let Some(code) = unixfs.hash_type {
        put_number(&mut out, UNIXFS_HASH_TYPE, code);
    }
    if let Some(fanout) = unixfs.fanout {
        put_number(&mut out, UNIXFS_FANOUT, fanout);
    }
    out
}

fn decode_unixfs(bytes: &[u8]) -> Result<UnixFs, NodeError> {
    let mut input = Input(bytes);
    let kind = input.number(UNIXFS_TYPE)?.ok_or(wire("no type"))?;
    let data = input.bytes(UNIXFS_DATA)?.map(<[u8]>::to_vec);
    let file_size = input.number(UNIXFS_FILE_SIZE)?;
    let mut block_sizes = Vec::new();
    while let Some(size) = input.number(UNIXFS_BLOCK_SIZE)? {
        block_sizes.push(size);
    }
    let unixfs = UnixFs {
        kind,
        data,
        file_size,
        block_sizes,
        hash_type: input.number(UNIXFS_HASH_TYPE)?,
        fanout: input.number(UNIXFS_FANOUT)?,
    };
    input.end()?;
    Ok(unixfs)
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    put_number(out, tag, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, tag: u8, number: u64) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    out.push(tag);
    out.extend_from_slice(unsigned_varint::encode::u64(number, &mut buffer));
}

/// Bytes that varint and length-delimited fields are taken off, in order.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// Takes the next field if it has this tag.
    fn number(&mut self, tag: u8) -> Result<Option<u64>, NodeError> {
        let Some((_, rest)) = self.0.split_first().filter(|(first, _)| **first == tag) else {
            return Ok(None);
        };
        let (number, rest) =
            unsigned_varint::decode::u64(rest).map_err(|_| wire("not a canonical varint"))?;
        self.0 = rest;
        Ok(Some(number))
    }

    /// Takes the next field if it has this tag.
    fn bytes(&mut self, tag: u8) -> Result<Option<&'a [u8]>, NodeError> {
        let Some(len) = self.number(tag)? else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| wire("a field is cut off"))?;
        let (bytes, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(wire("a field is cut off"))?;
        self.0 = rest;
        Ok(Some(bytes))
    }

    fn end(&self) -> Result<(), NodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(wire("an unknown field, or one out of order"))
        }
    }
}

fn wire(what: &'static str) -> NodeError {
    NodeError::Wire { what }
}
