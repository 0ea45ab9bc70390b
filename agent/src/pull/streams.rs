//! Some streams of a snapshot: their lists, then their segments, in the order in which they are read.

use cid::Cid;
use protocol::{
    list::Segment,
    manifest::{ListRef, Stream},
    seal::Opener,
};
use store::Store;

use super::{Arrivals, PullError, PullReport, Puller, PullerError, Scope};
use crate::{
    blocks::{Blocks, BlocksError},
    open::OpenSnapshot,
    progress::Progress,
    reading,
};

/// Lists that are pulled before the segments of the first of them.
const LISTS_AT_ONCE: usize = 16;

/// Pulls all lists and segments of some streams. What came is durable on return, and not listed.
///
/// # Errors
/// A list is not what the manifest says of it; or as [`Puller::pull`].
pub fn pull_streams(
    puller: &Puller,
    snapshot: &OpenSnapshot,
    streams: &[&Stream],
    created: &str,
    arrivals: &Arrivals,
    progress: &Progress,
) -> Result<PullReport, PullerError> {
    let _end = arrivals.end_on_drop();
    let store = puller.store().map_err(PullError::from)?;
    let mut report = PullReport::default();
    let mut pull = |objects: Vec<Cid>| -> Result<(), PullerError> {
        if objects.is_empty() {
            return Ok(());
        }
        let scope = Scope::Objects(objects);
        report.add(puller.pull(&scope, created, arrivals, progress)?);
        Ok(())
    };
    let lists: Vec<_> = streams.iter().flat_map(|stream| &stream.lists).collect();
    for lists in lists.chunks(LISTS_AT_ONCE) {
        pull(lists.iter().map(|list| list.cid()).collect())?;
        let mut segments = Vec::new();
        for list in lists {
            segments.extend(open(&store, snapshot, list)?);
            while segments.len() >= Scope::OBJECTS_MAX {
                let rest = segments.split_off(Scope::OBJECTS_MAX);
                pull(std::mem::replace(&mut segments, rest))?;
            }
        }
        pull(segments)?;
    }
    Ok(report)
}

/// The CIDs of a list's segments.
fn open(store: &Store, snapshot: &OpenSnapshot, list: &ListRef) -> Result<Vec<Cid>, PullError> {
    let root = snapshot.root;
    let mut opener = Opener::new(&snapshot.identities).map_err(|error| PullError::NotSnapshot {
        root,
        reason: error.to_string(),
    })?;
    let segments = reading::segments(
        &Blocks::Store(store),
        &mut opener,
        list,
        &Progress::default(),
    );
    match segments {
        Ok(Ok(segments)) => Ok(segments.iter().map(Segment::cid).collect()),
        Ok(Err(reason)) => Err(PullError::NotSnapshot {
            root,
            reason: format!("{}: {reason}", list.cid()),
        }),
        Err(BlocksError::Store(error)) => Err(error.into()),
        Err(other) => unreachable!("a store fails as a store: {other}"),
    }
}
