//! Records that the agent keeps in the store: sealed pieces, unchanged units, snapshots.

use std::time::{SystemTime, UNIX_EPOCH};

use cid::Cid;
use protocol::{block::Block, keys::capsule::Mode, list::Segment};
use serde::{Deserialize, Serialize};
use store::{Store, StoreError, Table};

/// A sealed piece that is in the store, and what it is sealed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The piece and its block.
    pub segment: Segment,
    /// Length of the block in bytes.
    pub sealed_len: u32,
    /// Number of the epoch, within the class that the record was looked up for.
    pub epoch: u32,
}

const KEPT_SIZE: usize = 32 + 32 + 4 * 4;

impl Kept {
    fn encode(&self) -> [u8; KEPT_SIZE] {
        let mut out = [0; KEPT_SIZE];
        out[..32].copy_from_slice(&self.segment.block);
        out[32..64].copy_from_slice(&self.segment.piece);
        let numbers = [
            self.segment.len,
            self.segment.rows,
            self.sealed_len,
            self.epoch,
        ];
        for (slot, number) in out[64..].chunks_exact_mut(4).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8; KEPT_SIZE]) -> Self {
        let field = |at: usize| -> [u8; 32] {
            bytes[at..at + 32]
                .try_into()
                .expect("32 bytes of a longer array")
        };
        let number = |i: usize| -> u32 {
            let at = 64 + 4 * i;
            u32::from_le_bytes(
                bytes[at..at + 4]
                    .try_into()
                    .expect("4 bytes of a longer array"),
            )
        };
        Self {
            segment: Segment {
                block: field(0),
                piece: field(32),
                len: number(0),
                rows: number(1),
            },
            sealed_len: number(2),
            epoch: number(3),
        }
    }
}

/// A finished snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Start of the export, RFC 3339 in UTC.
    pub created: String,
    /// Portable or erasable.
    pub mode: Mode,
    /// Epoch that the manifest is sealed to; 0 when the snapshot came from elsewhere.
    pub epoch: u32,
    /// Bytes of all streams; 0 when the snapshot came from elsewhere and was not opened.
    pub bytes: u64,
    /// Number of segments, lists included.
    pub segments: u64,
    /// Names of the sources; empty when the snapshot came from elsewhere.
    pub sources: Vec<String>,
}

/// A record as it is stored.
#[derive(Serialize, Deserialize)]
struct Recorded<R> {
    /// When the home recorded it, in nanoseconds since 1970; 0 in records of earlier versions.
    #[serde(default)]
    recorded_ns: u64,
    #[serde(flatten)]
    record: R,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not as this program writes it.
    #[error("a record of table {table} is malformed")]
    Malformed {
        /// Which table.
        table: &'static str,
    },
}

/// Looks up a sealed piece.
///
/// # Errors
/// The store failed, or the record is malformed.
pub fn piece(store: &Store, key: &[u8; 32]) -> Result<Option<Kept>, CatalogError> {
    let Some(value) = store.value(Table::Pieces, key)? else {
        return Ok(None);
    };
    let bytes = value
        .as_slice()
        .try_into()
        .map_err(|_| CatalogError::Malformed { table: "pieces" })?;
    Ok(Some(Kept::decode(bytes)))
}

/// Puts the block of a sealed piece and stages its record: both become durable together.
///
/// # Errors
/// The store failed.
pub fn put_piece(
    store: &Store,
    key: &[u8; 32],
    kept: &Kept,
    block: Block,
) -> Result<(), StoreError> {
    store.put_with(block, Table::Pieces, key, &kept.encode())?;
    Ok(())
}

/// Remembers that a block is damaged, so that no export counts on it. [`Store::put_checked`] forgets it.
///
/// # Errors
/// The store failed.
pub fn set_damaged(store: &Store, cid: &Cid) -> Result<(), StoreError> {
    store.set(Table::Damaged, &cid.hash().to_bytes(), &[])
}

/// Whether a block can be counted on: it is stored, and was not found damaged.
///
/// # Errors
/// The store failed.
pub fn is_sound(store: &Store, cid: &Cid) -> Result<bool, StoreError> {
    let damaged = store.value(Table::Damaged, &cid.hash().to_bytes())?;
    Ok(damaged.is_none() && store.contains(cid)?)
}

/// Most segments of a unit that are remembered; a larger unit is read again each time.
pub const UNIT_SEGMENTS_MAX: usize = 8192;

/// Looks up the segments of a unit.
///
/// # Errors
/// The store failed, or the record is malformed.
pub fn unit(store: &Store, key: &[u8; 32]) -> Result<Option<Vec<Kept>>, CatalogError> {
    let Some(value) = store.value(Table::Units, key)? else {
        return Ok(None);
    };
    let (chunks, rest) = value.as_chunks::<KEPT_SIZE>();
    if !rest.is_empty() || chunks.len() > UNIT_SEGMENTS_MAX {
        return Err(CatalogError::Malformed { table: "units" });
    }
    Ok(Some(chunks.iter().map(Kept::decode).collect()))
}

/// Stages the segments of a unit.
///
/// # Errors
/// The store failed.
pub fn set_unit(store: &Store, key: &[u8; 32], kept: &[Kept]) -> Result<(), StoreError> {
    let value: Vec<u8> = kept.iter().flat_map(Kept::encode).collect();
    store.set(Table::Units, key, &value)
}

/// Stages the record of a finished snapshot.
///
/// # Errors
/// The store failed.
pub fn set_snapshot(store: &Store, root: &Cid, record: &SnapshotRecord) -> Result<(), StoreError> {
    let recorded = Recorded {
        recorded_ns: now_ns(),
        record,
    };
    let value = serde_json::to_vec(&recorded).expect("plain structures serialize");
    store.set(Table::Snapshots, &root.to_bytes(), &value)
}

/// The record of one snapshot.
///
/// # Errors
/// The store failed, or the record is malformed.
pub fn snapshot(store: &Store, root: &Cid) -> Result<Option<SnapshotRecord>, CatalogError> {
    let Some(value) = store.value(Table::Snapshots, &root.to_bytes())? else {
        return Ok(None);
    };
    Ok(Some(decode_snapshot(&value)?.record))
}

/// All finished snapshots, in the order in which this home recorded them: one that was sealed
/// anew to others comes after all that were there.
///
/// # Errors
/// The store failed, or a record is malformed.
pub fn snapshots(store: &Store) -> Result<Vec<(Cid, SnapshotRecord)>, CatalogError> {
    let mut found = Vec::new();
    for entry in store.scan(Table::Snapshots) {
        let (key, value) = entry?;
        let root = Cid::try_from(key.as_slice())
            .map_err(|_| CatalogError::Malformed { table: "snapshots" })?;
        found.push((root, decode_snapshot(&value)?));
    }
    // Records of earlier versions do not say when they were made, but when the export began.
    found.sort_by(|(root_a, a), (root_b, b)| {
        let key = |r: &Recorded<SnapshotRecord>| (r.recorded_ns, r.record.created.clone());
        (key(a), root_a).cmp(&(key(b), root_b))
    });
    let records = found.into_iter().map(|(root, r)| (root, r.record));
    Ok(records.collect())
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

fn decode_snapshot(value: &[u8]) -> Result<Recorded<SnapshotRecord>, CatalogError> {
    serde_json::from_slice(value).map_err(|_| CatalogError::Malformed { table: "snapshots" })
}
