//! Entries in DAG-CBOR: a map, whose keys are sorted by length and then by bytes.

use std::collections::BTreeMap;

use cid::Cid;
use serde::Deserialize;
use serde_bytes::ByteArray;

use super::{Action, Draft, ENTRY_DOMAIN, ENTRY_VERSION, EntryError, Outcome, Session, Tenant};
use crate::log::keys::Control;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    v: u64,
    tenant: Tenant,
    epoch: u64,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    prev: Option<Cid>,
    time: u64,
    session: Session,
    actor: String,
    action: Action,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    subject: Vec<Cid>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    commit: BTreeMap<String, ByteArray<32>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sealed: Option<Cid>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    control: Option<Control>,
    #[serde(default)]
    sig: Option<ByteArray<64>>,
}

/// What tells a later version from garbage.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// What comes before the signature's bytes: the text `sig`, and the head of 64 bytes.
const SIG_HEAD: [u8; 6] = [0x63, b's', b'i', b'g', 0x58, 64];
/// Room for most entries.
const USUAL_SIZE: usize = 512;

/// The major types of CBOR that an entry has.
const NUMBER: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// The tag of CIDs.
const TAG_CID: u64 = 42;

/// Where the signature is in an entry: after the two shorter and lesser keys, `v` and `seq`.
fn signature_at(seq: u64) -> usize {
    let number = match seq {
        ..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    };
    b"\xaaav\x01cseq".len() + number
}

/// What is signed of an entry, out of its bytes.
pub(super) fn message_of(bytes: &[u8], seq: u64) -> Vec<u8> {
    let (before, rest) = bytes.split_at(signature_at(seq));
    let domain = ENTRY_DOMAIN.as_bytes();
    let mut message = [domain, before, &rest[SIG_HEAD.len() + 64..]].concat();
    message[domain.len()] -= 1;
    message
}

/// What is signed of an entry.
pub(super) fn message(draft: &Draft) -> Vec<u8> {
    let mut message = Vec::with_capacity(USUAL_SIZE);
    message.extend_from_slice(ENTRY_DOMAIN.as_bytes());
    write(draft, None, &mut message);
    message
}

/// Writes an entry with its signature.
pub(super) fn encode(draft: &Draft, signature: &[u8; 64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_SIZE);
    write(draft, Some(signature), &mut bytes);
    bytes
}

/// Writes the map. By hand, as a log is as fast as this: the codec sorts the keys of each map anew.
fn write(draft: &Draft, signature: Option<&[u8; 64]>, out: &mut Vec<u8>) {
    let there = [
        signature.is_some(),
        draft.prev.is_some(),
        !draft.commit.is_empty(),
        draft.sealed.is_some(),
        draft.control.is_some(),
        !draft.subject.is_empty(),
    ];
    let always = 9;
    head(MAP, always + there.map(u64::from).iter().sum::<u64>(), out);
    text("v", out);
    head(NUMBER, ENTRY_VERSION, out);
    text("seq", out);
    head(NUMBER, draft.seq, out);
    if let Some(signature) = signature {
        out.extend_from_slice(&SIG_HEAD);
        out.extend_from_slice(signature);
    }
    if let Some(prev) = &draft.prev {
        text("prev", out);
        link(prev, out);
    }
    text("time", out);
    head(NUMBER, draft.time_ms, out);
    text("actor", out);
    text(&draft.actor, out);
    text("epoch", out);
    head(NUMBER, draft.epoch, out);
    text("action", out);
    text(draft.action.as_str(), out);
    if !draft.commit.is_empty() {
        text("commit", out);
        commitments(draft, out);
    }
    if let Some(sealed) = &draft.sealed {
        text("sealed", out);
        link(sealed, out);
    }
    text("tenant", out);
    bytes(&draft.tenant.0, out);
    if let Some(control) = &draft.control {
        text("control", out);
        serde_ipld_dagcbor::to_writer(&mut *out, control).expect("plain structures serialize");
    }
    text("outcome", out);
    text(draft.outcome.as_str(), out);
    text("session", out);
    bytes(&draft.session.0, out);
    if !draft.subject.is_empty() {
        text("subject", out);
        head(LIST, draft.subject.len() as u64, out);
        draft.subject.iter().for_each(|cid| link(cid, out));
    }
}

/// Writes what the entry commits to, names that are shorter first.
fn commitments(draft: &Draft, out: &mut Vec<u8>) {
    let mut commit: Vec<_> = draft.commit.iter().collect();
    commit.sort_by_key(|(name, _)| name.len());
    head(MAP, commit.len() as u64, out);
    for (name, hash) in commit {
        text(name, out);
        bytes(hash, out);
    }
}

fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let wide = number.to_be_bytes();
    match number {
        ..24 => out.push(major | wide[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, wide[7]]),
        0x100..0x1_0000 => out.extend_from_slice(&[major | 25, wide[6], wide[7]]),
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&wide[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&wide);
        }
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    head(TEXT, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    head(BYTES, bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn link(cid: &Cid, out: &mut Vec<u8>) {
    head(TAG, TAG_CID, out);
    head(BYTES, 1 + cid.encoded_len() as u64, out);
    out.push(0);
    cid.write_bytes(&mut *out).expect("a vector takes all");
}

/// Reads an entry.
pub(super) fn decode(bytes: &[u8]) -> Result<(Draft, Option<[u8; 64]>), EntryError> {
    let wire: Wire =
        serde_ipld_dagcbor::from_slice(bytes).map_err(
            |error| match serde_ipld_dagcbor::from_slice(bytes) {
                Ok(Version { v }) if v > ENTRY_VERSION => EntryError::LaterVersion { version: v },
                _ => EntryError::Malformed(error.to_string()),
            },
        )?;
    if wire.v > ENTRY_VERSION {
        return Err(EntryError::LaterVersion { version: wire.v });
    }
    let commit = wire.commit.into_iter();
    let draft = Draft {
        tenant: wire.tenant,
        epoch: wire.epoch,
        seq: wire.seq,
        prev: wire.prev,
        time_ms: wire.time,
        session: wire.session,
        actor: wire.actor,
        action: wire.action,
        outcome: wire.outcome,
        subject: wire.subject,
        commit: commit.map(|(k, v)| (k, v.into_array())).collect(),
        sealed: wire.sealed,
        control: wire.control,
    };
    Ok((draft, wire.sig.map(ByteArray::into_array)))
}
