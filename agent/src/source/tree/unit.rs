//! Units of a tree: where they end, and the keys that they are known by.

use super::walk::{Entry, Kind};
use crate::archive::{BLOCK_SIZE, owners::Owners};

/// A group that is smaller than this, and has fewer entries than [`ENTRIES_MIN`], goes on.
const SIZE_MIN: u64 = 1 << 20;
/// A group that is larger than this ends.
const SIZE_MAX: u64 = 4 << 20;
const ENTRIES_MIN: usize = 256;
const ENTRIES_MAX: usize = 1024;
/// One path in so many ends a group, between minimum and maximum.
const END_ONE_IN: u8 = 32;

/// A run of small entries.
#[derive(Default)]
pub(super) struct Group {
    entries: Vec<Entry>,
    size: u64,
}

impl Group {
    /// Adds an entry. True if the group ends with it: a thing of the names and sizes in the group
    /// alone, so that further on, groups end where they did before a file was added.
    pub(super) fn push(&mut self, entry: Entry) -> bool {
        let ends = blake3::hash(&entry.path).as_bytes()[0] < u8::MAX / END_ONE_IN + 1;
        self.size += 3 * BLOCK_SIZE as u64;
        if matches!(entry.kind, Kind::File) {
            self.size += entry.meta.size;
        }
        self.entries.push(entry);
        let len = self.entries.len();
        let may = self.size >= SIZE_MIN || len >= ENTRIES_MIN;
        (ends && may) || self.size >= SIZE_MAX || len >= ENTRIES_MAX
    }

    /// Takes the entries out.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.size = 0;
        std::mem::take(&mut self.entries)
    }
}

/// The key of a unit: all that its bytes depend on, as far as metadata tell.
pub(super) fn key(entries: &[Entry], owners: &Owners) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(entries.len() * 160);
    for entry in entries {
        let meta = &entry.meta;
        let (kind, link): (u8, &[u8]) = match &entry.kind {
            Kind::Directory => (b'd', &[]),
            Kind::File => (b'f', &[]),
            Kind::Hard(first) => (b'h', first),
            Kind::Symlink(target) => (b'l', target),
            Kind::Fifo => (b'p', &[]),
        };
        bytes.push(kind);
        let (user, group) = (owners.user(meta.uid), owners.group(meta.gid));
        for text in [&entry.path, link, user.as_bytes(), group.as_bytes()] {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text);
        }
        for number in [meta.dev, meta.ino, meta.size] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for number in [meta.mode, meta.uid, meta.gid] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for time in [meta.mtime, meta.ctime] {
            bytes.extend_from_slice(&time.seconds.to_le_bytes());
            bytes.extend_from_slice(&time.nanos.to_le_bytes());
        }
    }
    blake3::derive_key("souverain 1 tree unit", &bytes)
}
