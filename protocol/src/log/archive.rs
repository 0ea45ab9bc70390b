//! Archives: old entries of a log in CAR files, and the index that says which are where.
//!
//! An archive is a CARv1 with one root, a folder: `checkpoint`, which covers all that is in it, and its bundles below
//! `tile/entries`, as the C2SP's tlog-tiles has them; `details/CID` are the sealed details of its entries. The blocks of the
//! bundles come first and in their order, then those of details, then the rest. `docs/log.md`, section 10.

use std::{fmt, ops::Range, str::FromStr};

use cid::Cid;

use super::{tile::TILE_WIDTH, tree::TREE_SIZE_MAX};
use crate::{
    block::{CODEC_DAG_PB, digest_of, raw_cid},
    car::{HEADER_LEN_ONE_ROOT, section_bytes},
};

/// Most bundles of an archive.
pub const ARCHIVE_BUNDLES_MAX: u64 = 256;
/// Most archives of a log.
pub const ARCHIVES_MAX: usize = 1 << 16;
/// Largest index that is read, in bytes.
pub const INDEX_SIZE_MAX: usize = ARCHIVES_MAX * 128;

/// Entries of a log that are in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Index of the first: a multiple of [`TILE_WIDTH`].
    pub first: u64,
    /// Index of the one behind the last: another.
    pub end: u64,
    /// Root of the archive.
    pub root: Cid,
}

impl Archived {
    /// Its bundles, by their number in the log.
    #[must_use]
    pub fn bundles(&self) -> Range<u64> {
        self.first / u64::from(TILE_WIDTH)..self.end / u64::from(TILE_WIDTH)
    }

    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.car", self.first, self.end - 1)
    }

    fn is_one(&self) -> bool {
        let bundles = self.bundles();
        let width = u64::from(TILE_WIDTH);
        let count = bundles.end.saturating_sub(bundles.start);
        (1..=ARCHIVE_BUNDLES_MAX).contains(&count)
            && self.first.is_multiple_of(width)
            && self.end.is_multiple_of(width)
            && self.end <= TREE_SIZE_MAX
            && self.root.version() == cid::Version::V1
            && self.root.codec() == CODEC_DAG_PB
            && digest_of(&self.root).is_some()
    }
}

/// Where the bytes of a bundle begin in its archive: the sizes are those of the bundles before it there, and its own.
#[must_use]
pub fn bundle_offset(sizes: &[u64]) -> u64 {
    // All bundles have CIDs of one length.
    let cid = raw_cid(&[0; 32]);
    let head = |size: &u64| section_bytes(&cid, *size as usize).len() as u64;
    let before = sizes.split_last().map_or(&[][..], |(_, before)| before);
    let heads: u64 = sizes.iter().map(head).sum();
    HEADER_LEN_ONE_ROOT as u64 + heads + before.iter().sum::<u64>()
}

/// Why a text is no index of archives, or one cannot be put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not the next archive of a log")]
pub struct IndexError {
    /// The line, from 1.
    pub line: usize,
}

/// The archives of a log, which follow each other from its first entry on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveIndex {
    archives: Vec<Archived>,
}

impl ArchiveIndex {
    /// The archives, the first one first.
    #[must_use]
    pub fn archives(&self) -> &[Archived] {
        &self.archives
    }

    /// How many entries are archived.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.archives.last().map_or(0, |last| last.end)
    }

    /// The archive that an entry is in.
    #[must_use]
    pub fn of_entry(&self, seq: u64) -> Option<&Archived> {
        let after = self.archives.partition_point(|one| one.end <= seq);
        self.archives.get(after)
    }

    /// Adds the next archive.
    ///
    /// # Errors
    /// It is not the next, or none.
    pub fn push(&mut self, next: Archived) -> Result<(), IndexError> {
        let line = self.archives.len() + 1;
        if next.first != self.end() || !next.is_one() || line > ARCHIVES_MAX {
            return Err(IndexError { line });
        }
        self.archives.push(next);
        Ok(())
    }
}

impl fmt::Display for ArchiveIndex {
    /// A line an archive: its first entry, its last, and its root.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.archives.iter();
        lines.try_for_each(|one| writeln!(f, "{} {} {}", one.first, one.end - 1, one.root))
    }
}

impl FromStr for ArchiveIndex {
    type Err = IndexError;

    fn from_str(text: &str) -> Result<Self, IndexError> {
        let mut index = Self::default();
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let bad = IndexError { line: at + 1 };
            let next = parse_line(line).ok_or(bad)?;
            index.push(next)?;
        }
        match index.to_string() == text {
            true => Ok(index),
            // The same, written in another way.
            false => Err(IndexError { line: 1 }),
        }
    }
}

fn parse_line(line: &str) -> Option<Archived> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let first = words.next()?.parse().ok()?;
    let last: u64 = words.next()?.parse().ok()?;
    let root = words.next()?.parse().ok()?;
    let end = last.checked_add(1)?;
    let whole = words.next().is_none();
    whole.then_some(Archived { first, end, root })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::cid_of;

    fn archived(first: u64, end: u64) -> Archived {
        Archived {
            first,
            end,
            root: cid_of(CODEC_DAG_PB, &first.to_le_bytes()),
        }
    }

    #[test]
    fn an_index_finds_what_was_put_into_it_and_is_read_as_it_is_written() {
        let mut index = ArchiveIndex::default();
        assert_eq!(index.of_entry(0), None);
        index.push(archived(0, 512)).expect("the first");
        index.push(archived(512, 512 + 65_536)).expect("the next");
        assert_eq!(index.end(), 512 + 65_536);
        for (seq, found) in [(0, 0), (511, 0), (512, 512), (66_047, 512)] {
            let one = index.of_entry(seq).map(|one| one.first);
            assert_eq!(one, Some(found), "{seq}");
        }
        assert_eq!(index.of_entry(66_048), None);
        let text = index.to_string();
        assert_eq!(text.parse(), Ok(index));
        assert_eq!("".parse(), Ok(ArchiveIndex::default()));
        assert!(text.starts_with("0 511 bafybei"), "{text}");
    }

    #[test]
    fn refuses_gaps_overlaps_and_other_ways_to_write_it() {
        let line = |first, end| format!("{first} {end} {}\n", archived(first, end).root);
        let good = line(0, 511);
        assert!(good.parse::<ArchiveIndex>().is_ok());
        for bad in [
            line(0, 510),
            line(256, 511),
            line(0, 65_536 + 255),
            format!("{good}{}", line(1024, 2047)),
            format!("{good}{}", line(0, 511)),
            good.trim_end().to_owned(),
            good.replace("0 511", "00 511"),
            good.replace("0 511", "+0 511"),
            good.replace(" 511", "  511"),
            good.replace('\n', " \n"),
            format!("0 511 {}\n", crate::block::raw_cid(&[7; 32])),
            format!("{good}\n"),
        ] {
            assert!(bad.parse::<ArchiveIndex>().is_err(), "{bad:?}");
        }
    }
}
