//! What the tar of a file tree is made of, for its source and its target: limits, times,
//! pax records, owners' names, and directories opened without following a symlink.
//!
//! The dialect is GNU's: long names in `L` and `K` entries, as raw bytes of no charset, holes in
//! `S` entries; pax records say only what that cannot: times to the nanosecond and extended
//! attributes. GNU tar and libarchive read the mixture.

pub(crate) mod dirs;
pub(crate) mod owners;
pub(crate) mod pax;

/// Longest path and link target, in bytes: what Linux takes.
pub(crate) const PATH_SIZE_MAX: usize = 4095;
/// Longest name of a file, in bytes: what Linux takes.
pub(crate) const NAME_SIZE_MAX: usize = 255;
/// Most runs of data between the holes of a sparse file.
pub(crate) const EXTENTS_MAX: usize = 1 << 16;
/// Size of the blocks of a tar, in bytes.
pub(crate) const BLOCK_SIZE: usize = 512;

/// A point in time, in seconds since 1970 and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// Bytes that fill `len` bytes up to whole blocks.
pub(crate) fn padding(len: u64) -> usize {
    let block = BLOCK_SIZE as u64;
    usize::try_from((block - len % block) % block).expect("less than a block")
}
