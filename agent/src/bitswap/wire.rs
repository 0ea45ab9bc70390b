//! The bytes of Bitswap messages: the protobuf of Bitswap 1.2.0, by hand.
//!
//! Read leniently where others may write differently (order, unknown fields, longer varints, the
//! field of 1.0.0 for blocks), and strictly in what it says. `message.rs` is the caller.

mod encode;

use bytes::Bytes;
use cid::Cid;
use protocol::block::{CODEC_DAG_PB, HASH_SHA2_256};

use super::{
    limits::{
        BLOCK_SIZE_MAX, BLOCKS_PER_MESSAGE_MAX, CID_SIZE_MAX, ENTRIES_PER_MESSAGE_MAX,
        MESSAGE_SIZE_MAX, PRESENCES_PER_MESSAGE_MAX,
    },
    message::{Entry, MessageError, Payload, Prefix, Presence, Request, WireMessage},
};

pub(super) use encode::{encode, encoded_len};

// Field numbers.
const MESSAGE_WANTLIST: u64 = 1;
const MESSAGE_BLOCKS: u64 = 2;
const MESSAGE_PAYLOAD: u64 = 3;
const MESSAGE_PRESENCES: u64 = 4;
const MESSAGE_PENDING_BYTES: u64 = 5;
const WANTLIST_ENTRIES: u64 = 1;
const WANTLIST_FULL: u64 = 2;
const ENTRY_BLOCK: u64 = 1;
const ENTRY_PRIORITY: u64 = 2;
const ENTRY_CANCEL: u64 = 3;
const ENTRY_WANT_TYPE: u64 = 4;
const ENTRY_SEND_DONT_HAVE: u64 = 5;
const PAYLOAD_PREFIX: u64 = 1;
const PAYLOAD_DATA: u64 = 2;
const PRESENCE_CID: u64 = 1;
const PRESENCE_TYPE: u64 = 2;

const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

const DIGEST_SIZE: u64 = 32;
/// The longest digest that `Cid` holds.
const DIGEST_SIZE_KNOWN: u64 = 64;

pub(super) fn decode(bytes: Bytes) -> Result<WireMessage, MessageError> {
    if bytes.len() > MESSAGE_SIZE_MAX {
        return Err(MessageError::TooLarge { size: bytes.len() });
    }
    let mut message = WireMessage::default();
    let mut fields = Fields(&bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            MESSAGE_WANTLIST => decode_wantlist(value.bytes()?, &mut message)?,
            MESSAGE_BLOCKS => add_block(&mut message, Prefix::V0, bytes.slice_ref(value.bytes()?))?,
            MESSAGE_PAYLOAD => decode_payload(&bytes, value.bytes()?, &mut message)?,
            MESSAGE_PRESENCES => decode_presence(value.bytes()?, &mut message)?,
            MESSAGE_PENDING_BYTES => {
                // What is no int32, or below zero, means nothing; nothing is decided by this number.
                let pending = i32::try_from(value.number()?).unwrap_or(0);
                message.pending_bytes = pending.unsigned_abs();
            }
            _ => {}
        }
    }
    let of_blocks: usize = message.blocks.iter().map(|block| block.bytes.len()).sum();
    if of_blocks < bytes.len() / 2 {
        // A small block would keep all of a large message in memory for as long as it waits.
        for block in &mut message.blocks {
            block.bytes = Bytes::copy_from_slice(&block.bytes);
        }
    }
    Ok(message)
}

fn decode_wantlist(bytes: &[u8], message: &mut WireMessage) -> Result<(), MessageError> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            WANTLIST_ENTRIES => {
                if message.wantlist.entries.len() == ENTRIES_PER_MESSAGE_MAX {
                    return Err(MessageError::TooManyEntries);
                }
                message
                    .wantlist
                    .entries
                    .extend(decode_entry(value.bytes()?)?);
            }
            WANTLIST_FULL => message.wantlist.full = value.number()? != 0,
            _ => {}
        }
    }
    Ok(())
}

/// `None` is an entry about a CID that is well-formed, and of no use here.
fn decode_entry(bytes: &[u8]) -> Result<Option<Entry>, MessageError> {
    let (mut cid, mut priority, mut cancel, mut want_type, mut dont_have) = (None, 0, 0, 0, 0);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            ENTRY_BLOCK => cid = Some(decode_cid(value.bytes()?)?),
            ENTRY_PRIORITY => priority = value.number()?,
            ENTRY_CANCEL => cancel = value.number()?,
            ENTRY_WANT_TYPE => want_type = value.number()?,
            ENTRY_SEND_DONT_HAVE => dont_have = value.number()?,
            _ => {}
        }
    }
    let request = match (cancel, want_type) {
        (0, 0) => Request::Block,
        (0, 1) => Request::Have,
        (0, _) => return Err(malformed("a want of an unknown type")),
        _ => Request::Cancel,
    };
    let cid = cid.ok_or(malformed("a want without a CID"))?;
    Ok(cid.map(|cid| Entry {
        cid,
        // An int32 is sent as 64 bits, with its sign.
        priority: priority as i32,
        request,
        send_dont_have: dont_have != 0,
    }))
}

fn decode_payload(
    whole: &Bytes,
    bytes: &[u8],
    message: &mut WireMessage,
) -> Result<(), MessageError> {
    let (mut prefix, mut data) = (None, &bytes[..0]);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            PAYLOAD_PREFIX => prefix = Some(decode_prefix(value.bytes()?)?),
            PAYLOAD_DATA => data = value.bytes()?,
            _ => {}
        }
    }
    let prefix = prefix.ok_or(malformed("a block without a CID prefix"))?;
    add_block(message, prefix, whole.slice_ref(data))
}

fn add_block(message: &mut WireMessage, prefix: Prefix, bytes: Bytes) -> Result<(), MessageError> {
    if message.blocks.len() == BLOCKS_PER_MESSAGE_MAX {
        return Err(MessageError::TooManyBlocks);
    }
    if bytes.len() > BLOCK_SIZE_MAX {
        return Err(MessageError::BlockTooLarge { size: bytes.len() });
    }
    message.blocks.push(Payload { prefix, bytes });
    Ok(())
}

fn decode_prefix(mut bytes: &[u8]) -> Result<Prefix, MessageError> {
    let version = take_varint(&mut bytes)?;
    let codec = take_varint(&mut bytes)?;
    let code = take_varint(&mut bytes)?;
    let size = take_varint(&mut bytes)?;
    if code != HASH_SHA2_256 {
        return Err(MessageError::UnsupportedHash { code });
    }
    if size != DIGEST_SIZE || !bytes.is_empty() {
        return Err(malformed("a CID prefix with another digest"));
    }
    match version {
        0 if codec == CODEC_DAG_PB => Ok(Prefix::V0),
        1 => Ok(Prefix::V1 { codec }),
        _ => Err(malformed("a CID prefix of an unknown version")),
    }
}

fn decode_presence(bytes: &[u8], message: &mut WireMessage) -> Result<(), MessageError> {
    if message.presences.len() == PRESENCES_PER_MESSAGE_MAX {
        return Err(MessageError::TooManyPresences);
    }
    let (mut cid, mut kind) = (None, 0);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            PRESENCE_CID => cid = Some(decode_cid(value.bytes()?)?),
            PRESENCE_TYPE => kind = value.number()?,
            _ => {}
        }
    }
    if kind > 1 {
        return Err(malformed("a presence of an unknown type"));
    }
    let cid = cid.ok_or(malformed("a presence without a CID"))?;
    let have = kind == 0;
    message
        .presences
        .extend(cid.map(|cid| Presence { cid, have }));
    Ok(())
}

/// `None` is a well-formed CID whose digest is longer than any that this node knows.
fn decode_cid(bytes: &[u8]) -> Result<Option<Cid>, MessageError> {
    if bytes.len() > CID_SIZE_MAX {
        return Err(MessageError::CidTooLong { size: bytes.len() });
    }
    let mut rest = bytes;
    match Cid::read_bytes(&mut rest) {
        Ok(cid) if rest.is_empty() => Ok(Some(cid)),
        Ok(_) => Err(malformed("bytes after a CID")),
        Err(_) => check_long_cid(bytes).map(|()| None),
    }
}

fn check_long_cid(mut bytes: &[u8]) -> Result<(), MessageError> {
    let version = take_varint(&mut bytes)?;
    let _codec = take_varint(&mut bytes)?;
    let _code = take_varint(&mut bytes)?;
    let size = take_varint(&mut bytes)?;
    if version == 1 && size > DIGEST_SIZE_KNOWN && size == bytes.len() as u64 {
        Ok(())
    } else {
        Err(malformed("not a CID"))
    }
}

/// The value of a field.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no known field has.
    Other,
}

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, MessageError> {
        match self {
            Self::Number(number) => Ok(number),
            _ => Err(malformed("a field that is not a number")),
        }
    }

    fn bytes(self) -> Result<&'a [u8], MessageError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(malformed("a field that is not length-delimited")),
        }
    }
}

/// Bytes that fields are taken off, in whatever order they come.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, MessageError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = take_varint(&mut self.0)?;
        let value = match tag & 7 {
            WIRE_VARINT => Value::Number(take_varint(&mut self.0)?),
            WIRE_BYTES => {
                let size = take_varint(&mut self.0)?;
                Value::Bytes(self.take(size)?)
            }
            WIRE_FIXED64 => self.take(8).map(|_| Value::Other)?,
            WIRE_FIXED32 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(malformed("an unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn take(&mut self, size: u64) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = usize::try_from(size)
            .ok()
            .and_then(|size| self.0.split_at_checked(size))
            .ok_or(malformed("a field is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Takes a varint as protobuf has them: up to ten bytes, not always the shortest form.
fn take_varint(bytes: &mut &[u8]) -> Result<u64, MessageError> {
    let mut number = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            if i == 9 && byte > 1 {
                return Err(malformed("a varint above 64 bits"));
            }
            *bytes = &bytes[i + 1..];
            return Ok(number);
        }
    }
    Err(malformed("a varint is cut off or too long"))
}

fn malformed(what: &'static str) -> MessageError {
    MessageError::Malformed { what }
}

#[cfg(test)]
mod tests;
