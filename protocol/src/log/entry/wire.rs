//! Entries in DAG-CBOR: a map, whose keys the codec sorts by length and then by bytes.

use std::collections::BTreeMap;

use cid::Cid;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::{Action, Draft, ENTRY_VERSION, EntryError, Outcome, Session, Tenant};
use crate::log::keys::Control;

#[derive(Serialize, Deserialize)]
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
    /// Put in by hand, so that an entry is encoded once to be compared and to be checked.
    #[serde(skip_serializing, default)]
    sig: Option<ByteArray<64>>,
}

/// What tells a later version from garbage.
#[derive(Deserialize)]
struct Version {
    v: u64,
}

/// What comes before the signature's bytes: the text `sig`, and the head of 64 bytes.
const SIG_HEAD: [u8; 6] = [0x63, b's', b'i', b'g', 0x58, 64];

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

/// The bytes of an entry as they are signed, out of those that have the signature in them.
pub(super) fn unsigned(bytes: &[u8], seq: u64) -> Vec<u8> {
    let (before, rest) = bytes.split_at(signature_at(seq));
    let mut unsigned = [before, &rest[SIG_HEAD.len() + 64..]].concat();
    unsigned[0] -= 1;
    unsigned
}

/// Writes an entry, with its signature or as it is signed.
pub(super) fn encode(draft: Draft, signature: Option<[u8; 64]>) -> Vec<u8> {
    let seq = draft.seq;
    let commit = draft.commit.into_iter();
    let wire = Wire {
        v: ENTRY_VERSION,
        tenant: draft.tenant,
        epoch: draft.epoch,
        seq: draft.seq,
        prev: draft.prev,
        time: draft.time_ms,
        session: draft.session,
        actor: draft.actor,
        action: draft.action,
        outcome: draft.outcome,
        subject: draft.subject,
        commit: commit.map(|(k, v)| (k, ByteArray::new(v))).collect(),
        sealed: draft.sealed,
        control: draft.control,
        sig: None,
    };
    let mut bytes = serde_ipld_dagcbor::to_vec(&wire).expect("plain structures serialize");
    if let Some(signature) = signature {
        let at = signature_at(seq);
        bytes.splice(at..at, SIG_HEAD.into_iter().chain(signature));
        bytes[0] += 1;
    }
    bytes
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
