//! Writing messages: canonical protobuf, and large blocks as parts of their own.

use bytes::{Bytes, BytesMut};
use cid::Version;
use protocol::block::HASH_SHA2_256;

use super::{
    DIGEST_SIZE, ENTRY_BLOCK, ENTRY_CANCEL, ENTRY_PRIORITY, ENTRY_SEND_DONT_HAVE, ENTRY_WANT_TYPE,
    MESSAGE_PAYLOAD, MESSAGE_PENDING_BYTES, MESSAGE_PRESENCES, MESSAGE_WANTLIST, PAYLOAD_DATA,
    PAYLOAD_PREFIX, PRESENCE_CID, PRESENCE_TYPE, WANTLIST_ENTRIES, WANTLIST_FULL, WIRE_BYTES,
    WIRE_VARINT,
};
use crate::bitswap::message::{Entry, Payload, Prefix, Presence, Request, WireMessage};

/// Blocks up to this size are copied rather than sent as a part of their own.
const PART_SIZE_MIN: usize = 16 << 10;

pub(in crate::bitswap) fn encode(message: &WireMessage) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut out = BytesMut::with_capacity(small_parts_len(message));
    if !message.wantlist.entries.is_empty() || message.wantlist.full {
        put_head(&mut out, MESSAGE_WANTLIST, wantlist_len(message));
        for entry in &message.wantlist.entries {
            put_head(&mut out, WANTLIST_ENTRIES, entry_len(entry));
            put_entry(&mut out, entry);
        }
        put_number(&mut out, WANTLIST_FULL, message.wantlist.full.into());
    }
    for payload in &message.blocks {
        put_head(&mut out, MESSAGE_PAYLOAD, payload_len(payload));
        put_head(&mut out, PAYLOAD_PREFIX, prefix_len(payload.prefix));
        put_prefix(&mut out, payload.prefix);
        put_head(&mut out, PAYLOAD_DATA, payload.bytes.len());
        if payload.bytes.len() < PART_SIZE_MIN {
            out.extend_from_slice(&payload.bytes);
        } else {
            parts.push(out.split().freeze());
            parts.push(payload.bytes.clone());
        }
    }
    for presence in &message.presences {
        put_head(&mut out, MESSAGE_PRESENCES, presence_len(presence));
        put_head(&mut out, PRESENCE_CID, presence.cid.encoded_len());
        put_cid(&mut out, &presence.cid);
        put_number(&mut out, PRESENCE_TYPE, (!presence.have).into());
    }
    put_number(&mut out, MESSAGE_PENDING_BYTES, pending(message));
    if !out.is_empty() {
        parts.push(out.freeze());
    }
    parts
}

pub(in crate::bitswap) fn encoded_len(message: &WireMessage) -> usize {
    let mut len = number_len(pending(message));
    if !message.wantlist.entries.is_empty() || message.wantlist.full {
        len += field_len(wantlist_len(message));
    }
    for payload in &message.blocks {
        len += field_len(payload_len(payload));
    }
    for presence in &message.presences {
        len += field_len(presence_len(presence));
    }
    len
}

/// The bytes of a message that [`encode`] copies.
fn small_parts_len(message: &WireMessage) -> usize {
    let sizes = message.blocks.iter().map(|payload| payload.bytes.len());
    encoded_len(message) - sizes.filter(|size| *size >= PART_SIZE_MIN).sum::<usize>()
}

fn pending(message: &WireMessage) -> u64 {
    // The field is an int32.
    u64::from(message.pending_bytes).min(i32::MAX as u64)
}

fn wantlist_len(message: &WireMessage) -> usize {
    let entries = message.wantlist.entries.iter();
    entries.map(|e| field_len(entry_len(e))).sum::<usize>()
        + number_len(message.wantlist.full.into())
}

fn entry_numbers(entry: &Entry) -> [(u64, u64); 4] {
    [
        (ENTRY_PRIORITY, i64::from(entry.priority) as u64),
        (ENTRY_CANCEL, (entry.request == Request::Cancel).into()),
        (ENTRY_WANT_TYPE, (entry.request == Request::Have).into()),
        (ENTRY_SEND_DONT_HAVE, entry.send_dont_have.into()),
    ]
}

fn entry_len(entry: &Entry) -> usize {
    let numbers = entry_numbers(entry).map(|(_, number)| number_len(number));
    field_len(entry.cid.encoded_len()) + numbers.into_iter().sum::<usize>()
}

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_head(out, ENTRY_BLOCK, entry.cid.encoded_len());
    put_cid(out, &entry.cid);
    for (field, number) in entry_numbers(entry) {
        put_number(out, field, number);
    }
}

fn payload_len(payload: &Payload) -> usize {
    field_len(prefix_len(payload.prefix)) + field_len(payload.bytes.len())
}

fn prefix_parts(prefix: Prefix) -> [u64; 4] {
    let version = match prefix {
        Prefix::V0 => 0,
        Prefix::V1 { .. } => 1,
    };
    [version, prefix.codec(), HASH_SHA2_256, DIGEST_SIZE]
}

fn prefix_len(prefix: Prefix) -> usize {
    prefix_parts(prefix).into_iter().map(varint_len).sum()
}

fn put_prefix(out: &mut BytesMut, prefix: Prefix) {
    for part in prefix_parts(prefix) {
        put_varint(out, part);
    }
}

fn presence_len(presence: &Presence) -> usize {
    field_len(presence.cid.encoded_len()) + number_len((!presence.have).into())
}

fn put_cid(out: &mut BytesMut, cid: &cid::Cid) {
    let hash = cid.hash();
    if cid.version() == Version::V1 {
        put_varint(out, 1);
        put_varint(out, cid.codec());
    }
    put_varint(out, hash.code());
    put_varint(out, hash.digest().len() as u64);
    out.extend_from_slice(hash.digest());
}

fn put_head(out: &mut BytesMut, field: u64, len: usize) {
    put_varint(out, field << 3 | WIRE_BYTES);
    put_varint(out, len as u64);
}

/// Zero is the default, which proto3 leaves out.
fn put_number(out: &mut BytesMut, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3 | WIRE_VARINT);
        put_varint(out, number);
    }
}

fn put_varint(out: &mut BytesMut, number: u64) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    out.extend_from_slice(unsigned_varint::encode::u64(number, &mut buffer));
}

/// All field numbers are below 16, so that a tag is one byte.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn number_len(number: u64) -> usize {
    if number == 0 {
        0
    } else {
        1 + varint_len(number)
    }
}

fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}
