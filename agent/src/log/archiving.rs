//! Archiving: old entries of a log go into CAR files, with their sealed details.

use std::{path::Path, sync::atomic::Ordering};

use cid::Cid;
use jiff::{Span, Zoned, tz::TimeZone};
use protocol::{
    block::Block,
    log::{
        archive::{ARCHIVE_BUNDLES_MAX, Archived},
        entry::{SUBJECTS_MAX, UnverifiedEntry},
    },
};
use store::{
    StoreError,
    log::{Archiver, BUNDLE_WIDTH, LogReader},
};

use super::{
    LogError,
    details::{self, DetailsError},
    keys_of,
    own::signed_head,
    places,
};
use crate::progress::Progress;

/// Why entries are not archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveLogError {
    /// The log cannot be read, or does not hold.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Details cannot be read or removed.
    #[error(transparent)]
    Details(#[from] DetailsError),
    /// The home has no such log.
    #[error("this home has no such log")]
    NoLog,
    /// No time is so long ago.
    #[error("no time is so long ago")]
    Age(#[source] jiff::Error),
    /// The user wants to stop. What was archived before is.
    #[error("interrupted")]
    Interrupted,
}

impl From<StoreError> for ArchiveLogError {
    fn from(error: StoreError) -> Self {
        Self::Log(error.into())
    }
}

/// Which entries are to be archived.
#[derive(Clone, Copy, Debug)]
pub struct ToArchive {
    /// The log of another node, by its first entry, in place of the own.
    pub followed: Option<Cid>,
    /// Only entries that are older than this, in milliseconds since 1970, by their own word.
    pub before_ms: u64,
}

/// What was archived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchivedNow {
    /// The new archives.
    pub archives: Vec<Archived>,
    /// How many bytes that freed in the log's own file.
    pub freed: u64,
    /// How many entries more are as old; another run archives them.
    pub left: u64,
}

/// The time so long ago, in milliseconds since 1970.
///
/// # Errors
/// There is none.
pub fn long_ago_ms(age: Span) -> Result<u64, ArchiveLogError> {
    let now = Zoned::now().with_time_zone(TimeZone::UTC);
    let then = now.checked_sub(age.abs()).map_err(ArchiveLogError::Age)?;
    Ok(u64::try_from(then.timestamp().as_millisecond()).unwrap_or(0))
}

/// How many entries of a log are old enough to be archived, and were not.
///
/// # Errors
/// The home has no such log, or it cannot be read.
pub fn archivable(home: &Path, which: ToArchive) -> Result<u64, ArchiveLogError> {
    let archiver = open(home, which)?;
    let next = archiver.index().end();
    Ok(old_bundles(archiver.reader(), next, which.before_ms)? * BUNDLE_WIDTH)
}

/// Archives the full bundles of a log in which all entries are old enough, from the first that is not archived on; all but
/// the last one. Then takes them out of the log's own file. They are read as before.
///
/// # Errors
/// The home has no such log; or it cannot be read, written or freed. Nothing is lost, and a later run goes on.
pub fn archive(
    home: &Path,
    which: ToArchive,
    progress: &Progress,
) -> Result<ArchivedNow, ArchiveLogError> {
    let mut archiver = open(home, which)?;
    let checkpoint = signed_head(archiver.reader(), &keys_of(archiver.reader())?)?;
    let next = archiver.index().end();
    let mut left = old_bundles(archiver.reader(), next, which.before_ms)?;
    progress
        .bytes_total
        .store(left * BUNDLE_WIDTH, Ordering::Relaxed);
    let mut done = ArchivedNow {
        // What an earlier run did not get to.
        freed: archiver.free()?,
        ..ArchivedNow::default()
    };
    let mut kept = archiver.index().archives().last().copied();
    while left > 0 && done.archives.len() < SUBJECTS_MAX {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(ArchiveLogError::Interrupted);
        }
        let bundles = left.min(ARCHIVE_BUNDLES_MAX);
        let archived = archiver.write(bundles, &checkpoint, &mut |entry| {
            match which.followed {
                None => sealed_of(home, entry),
                // Those of others are not here.
                Some(_) => Ok(None),
            }
        })?;
        done.freed += archiver.free()?;
        for archived in kept.take().into_iter().chain([archived]) {
            remove_details(home, archiver.reader(), &archived)?;
        }
        done.archives.push(archived);
        left -= bundles;
        let read = done.archives.iter().map(|one| one.end - one.first).sum();
        progress.bytes_read.store(read, Ordering::Relaxed);
    }
    if let Some(archived) = kept {
        remove_details(home, archiver.reader(), &archived)?;
    }
    done.left = left * BUNDLE_WIDTH;
    Ok(done)
}

fn open(home: &Path, which: ToArchive) -> Result<Archiver, ArchiveLogError> {
    let dir = match &which.followed {
        None => places::own_dir(home),
        Some(genesis) => places::followed_dir(home, genesis),
    };
    Archiver::open(&dir)?.ok_or(ArchiveLogError::NoLog)
}

/// How many full bundles from an entry on have only entries that are older, and are not the log's last one.
fn old_bundles(reader: &LogReader, from: u64, before_ms: u64) -> Result<u64, ArchiveLogError> {
    let last = reader.head().size.saturating_sub(1) / BUNDLE_WIDTH;
    let first = from / BUNDLE_WIDTH;
    for bundle in first..last {
        let begin = bundle * BUNDLE_WIDTH;
        for (index, bytes) in (begin..).zip(reader.entries(begin..begin + BUNDLE_WIDTH)?) {
            let entry = UnverifiedEntry::parse(&bytes)
                .map_err(|reason| LogError::Entry { index, reason })?;
            if entry.draft_unverified().time_ms >= before_ms {
                return Ok(bundle - first);
            }
        }
    }
    Ok(last.saturating_sub(first))
}

/// The sealed details of an entry, if they are here.
fn sealed_of(home: &Path, entry: &[u8]) -> Result<Option<Block>, StoreError> {
    let entry = UnverifiedEntry::parse(entry).ok();
    let Some(cid) = entry.and_then(|entry| entry.draft_unverified().sealed) else {
        return Ok(None);
    };
    match details::in_file(home, &cid) {
        Ok(block) => Ok(block),
        // It is no use to anybody, and its entry holds all the same.
        Err(error) => {
            tracing::warn!(%error, "the details of an entry are not archived");
            Ok(None)
        }
    }
}

/// Removes the files of details that are in an archive.
fn remove_details(
    home: &Path,
    reader: &LogReader,
    archived: &Archived,
) -> Result<(), ArchiveLogError> {
    let sealed = match reader.archived_details(archived.first) {
        // Its owner put it elsewhere.
        Ok(None) | Err(StoreError::ArchiveMissing { .. }) => return Ok(()),
        Ok(Some(sealed)) => sealed,
        Err(error) => return Err(error.into()),
    };
    for cid in sealed.cids() {
        if sealed.block(cid)?.is_some() {
            details::remove_file(home, cid)?;
        }
    }
    Ok(())
}
