//! What differs between two snapshots.

use std::collections::{BTreeMap, HashMap};

use protocol::manifest::{Stream, StreamMeta};

use crate::{
    blocks::{Blocks, BlocksError},
    open::OpenSnapshot,
    progress::Progress,
    reading::{self, Item},
};

/// How a stream differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot has it.
    Added,
    /// Only the first snapshot has it.
    Removed,
    /// Its content differs.
    Changed,
    /// Its content is the same.
    Same,
}

/// A stream in two snapshots.
#[derive(Clone, Debug)]
pub struct StreamDiff {
    /// Name of the source.
    pub source: String,
    /// Name of the stream.
    pub stream: String,
    /// How it differs.
    pub change: Change,
    /// Bytes before and after.
    pub bytes: [Option<u64>; 2],
    /// Rows before and after, of a table.
    pub rows: [Option<u64>; 2],
    /// Bytes of pieces that only the first, or only the second snapshot has in this stream.
    pub only: [u64; 2],
}

/// Compares two snapshots, stream by stream.
///
/// # Errors
/// The store failed. Damaged lists count as having no pieces in common.
pub fn diff(
    blocks: &Blocks<'_>,
    before: &OpenSnapshot,
    after: &OpenSnapshot,
    progress: &Progress,
) -> Result<Vec<StreamDiff>, BlocksError> {
    let mut streams: BTreeMap<(String, String), [Option<&Stream>; 2]> = BTreeMap::new();
    for (side, snapshot) in [before, after].into_iter().enumerate() {
        for stream in &snapshot.manifest.streams {
            let source = &snapshot.manifest.sources[stream.meta.source as usize].name;
            let name = format!("{} {:?}", stream.meta.name, stream.meta.kind);
            streams.entry((source.clone(), name)).or_default()[side] = Some(stream);
        }
    }
    let mut found = Vec::with_capacity(streams.len());
    for ((source, _), [old, new]) in streams {
        let name = |s: &Stream| s.meta.name.clone();
        let change = match (old, new) {
            (Some(old), Some(new)) if old.meta.content == new.meta.content => Change::Same,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Removed,
            (None, _) => Change::Added,
        };
        let mut pieces: HashMap<[u8; 32], [u64; 2]> = HashMap::new();
        if change != Change::Same {
            for (side, (snapshot, stream)) in [(before, old), (after, new)].into_iter().enumerate()
            {
                count(blocks, snapshot, stream, side, &mut pieces, progress)?;
            }
        }
        let only = |side: usize| {
            pieces
                .values()
                .filter(|p| p[1 - side] == 0)
                .map(|p| p[side])
                .sum()
        };
        let of = |field: &dyn Fn(&StreamMeta) -> Option<u64>| {
            [old, new].map(|s| s.and_then(|s| field(&s.meta)))
        };
        found.push(StreamDiff {
            source,
            stream: old.or(new).map(name).unwrap_or_default(),
            change,
            bytes: of(&|meta| Some(meta.bytes)),
            rows: of(&|meta| meta.rows),
            only: [only(0), only(1)],
        });
    }
    Ok(found)
}

fn count(
    blocks: &Blocks<'_>,
    snapshot: &OpenSnapshot,
    stream: Option<&Stream>,
    side: usize,
    pieces: &mut HashMap<[u8; 32], [u64; 2]>,
    progress: &Progress,
) -> Result<(), BlocksError> {
    let Some(stream) = stream else { return Ok(()) };
    reading::read(
        blocks,
        &snapshot.identities,
        &[stream],
        &|_| false,
        progress,
        |items| {
            while let Some(item) = items.next_item()? {
                if let Item::Skipped(segment) = item {
                    pieces.entry(segment.piece).or_default()[side] += u64::from(segment.len);
                }
            }
            Ok(())
        },
    )
}
