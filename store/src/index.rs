//! The index in sled: where blocks are, how long packs are, and the tables. Only this module names sled.
//!
//! All keys live in one tree, so that one batch changes all of them or none.
//! sled keeps a node of large values in files that it never syncs; values are
//! therefore cut into parts that keep every node small.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    ops::Bound,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::disk::{Disk, Extent};

/// Largest key of a table, in bytes.
pub const KEY_SIZE_MAX: usize = 256;
/// Largest value of a table, in bytes.
pub const VALUE_SIZE_MAX: usize = 4 << 20;
/// Largest part of a value that is one sled value. Times 17 entries it stays under the
/// 128 KiB from which sled moves a node to a file of its own.
const PART_SIZE_MAX: usize = 4 << 10;
/// Values of about this many bytes come in one page of a scan.
pub(crate) const PAGE_SIZE: usize = 256 << 10;
/// What an entry takes in a page beyond its key and value, in bytes.
pub(crate) const ENTRY_OVERHEAD: usize = 6;
/// Memory that sled may use for its cache, in bytes.
const CACHE_SIZE: u64 = 16 << 20;
/// Version of everything that is written here and in packs.
pub(crate) const SCHEMA: u32 = 2;
/// Oldest version that is read; the first commit makes it the current one. Its blocks have no checksums.
pub(crate) const SCHEMA_OLDEST: u32 = 1;
/// How long to wait for sled's own threads to let go of its file.
const RELEASE_WAIT: Duration = Duration::from_secs(2);

const BLOCK: u8 = b'b';
const PACK: u8 = b'p';
const VALUE: u8 = b't';
const PART: u8 = b'v';
const META_SCHEMA: &[u8] = b"mschema";
const META_BLOCKS: &[u8] = b"mblocks";
const META_COMMITS: &[u8] = b"mcommits";

/// A small table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Pieces that were sealed, by their keyed hash.
    Pieces = 1,
    /// Units whose segments can be reused unread, by their key.
    Units = 2,
    /// Snapshots that are finished.
    Snapshots = 3,
    /// Class identities, by class and epoch.
    Epochs = 4,
    /// Everything else that a node remembers.
    Config = 5,
    /// Blocks that were found damaged, by multihash, until they are put again.
    Damaged = 6,
}

impl Table {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Pieces,
            Self::Units,
            Self::Snapshots,
            Self::Epochs,
            Self::Config,
            Self::Damaged,
        ]
        .into_iter()
        .find(|table| *table as u8 == byte)
    }
}

/// How many blocks a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// Their number.
    pub count: u64,
    /// Their size without frames, in bytes.
    pub size_bytes: u64,
}

/// Where a block's bytes are, and how to tell whether they are still what was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: u32,
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) codec: u64,
    /// The [`checksum`] of the bytes; an entry of the oldest schema has none.
    pub(crate) checksum: Option<u64>,
}

impl Location {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&self.pack.to_be_bytes());
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(&self.codec.to_be_bytes());
        if let Some(checksum) = self.checksum {
            bytes.extend_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (bytes, rest) = bytes.split_first_chunk::<24>()?;
        let checksum = match rest {
            [] => None,
            rest => Some(u64::from_be_bytes(rest.try_into().ok()?)),
        };
        Some(Self {
            pack: u32::from_be_bytes(bytes[..4].try_into().ok()?),
            offset: u64::from_be_bytes(bytes[4..12].try_into().ok()?),
            size: u32::from_be_bytes(bytes[12..16].try_into().ok()?),
            codec: u64::from_be_bytes(bytes[16..].try_into().ok()?),
            checksum,
        })
    }
}

/// What tells damaged bytes from those that were put. It is no defence against who forges them.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

impl Blocks {
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.count.to_be_bytes());
        bytes[8..].copy_from_slice(&self.size_bytes.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        Some(Self {
            count: u64::from_be_bytes(bytes[..8].try_into().ok()?),
            size_bytes: u64::from_be_bytes(bytes[8..].try_into().ok()?),
        })
    }
}

/// Removes what a process that was killed had begun to write of a snapshot of sled's own. sled 0.34.7 writes such a
/// file under this name before it puts it in its place, and takes one that it finds for a snapshot that is damaged.
/// Nobody needs it: the one before is still there, or all is read from sled's log.
fn remove_unfinished(dir: &Path, disk: &Disk) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::info!(%name, "an unfinished snapshot of the index is removed");
            disk.remove(&entry.path())?;
        }
    }
    Ok(())
}

/// What one commit changes.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    pub(crate) blocks: Vec<(&'a [u8], Location)>,
    pub(crate) values: Vec<Value<'a>>,
    pub(crate) packs: Vec<(u32, u64)>,
    pub(crate) total: Blocks,
}

/// A value that is set, or removed if there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) table: Table,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

/// Some entries of a table, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// There may be more behind the last of them.
    pub(crate) more: bool,
}

/// sled, opened.
pub(crate) struct Index {
    db: sled::Db,
    file: File,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Index")
    }
}

impl Index {
    /// Opens the index in a directory, which must be there.
    pub(crate) fn open(dir: &Path, disk: &Disk) -> io::Result<Self> {
        remove_unfinished(dir, disk)?;
        let began = Instant::now();
        let mut db = None;
        disk.step(|_| {
            db = Some(loop {
                match config(dir).open() {
                    Err(e) if is_held(&e) && began.elapsed() < RELEASE_WAIT => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    other => break other.map_err(cause)?,
                }
            });
            Ok(())
        })?;
        let db = db.ok_or_else(|| io::Error::other("the index was not opened"))?;
        restrict(dir)?;
        let file = File::open(dir.join("db"))?;
        Ok(Self { db, file })
    }

    /// The schema that is recorded, if any.
    pub(crate) fn schema(&self) -> io::Result<Option<Vec<u8>>> {
        self.get(META_SCHEMA)
    }

    /// Whether nothing at all is recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// Records the schema in a new index.
    pub(crate) fn begin(&self, schema: u32, disk: &Disk) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        batch.insert(META_SCHEMA, &schema.to_be_bytes());
        self.apply(batch, disk)
    }

    /// The durable length of each pack.
    pub(crate) fn packs(&self) -> io::Result<BTreeMap<u32, u64>> {
        let mut packs = BTreeMap::new();
        for entry in self.db.scan_prefix([PACK]) {
            let (key, value) = entry.map_err(cause)?;
            let number = key[1..].try_into().map(u32::from_be_bytes);
            let len = value.as_ref().try_into().map(u64::from_be_bytes);
            let (Ok(number), Ok(len)) = (number, len) else {
                return Err(malformed("the length of a pack"));
            };
            packs.insert(number, len);
        }
        Ok(packs)
    }

    /// How many blocks there are.
    pub(crate) fn blocks(&self) -> io::Result<Blocks> {
        match self.get(META_BLOCKS)? {
            None => Ok(Blocks::default()),
            Some(bytes) => Blocks::from_bytes(&bytes).ok_or_else(|| malformed("the block count")),
        }
    }

    /// How many commits there were.
    pub(crate) fn commits(&self) -> io::Result<u64> {
        match self.get(META_COMMITS)? {
            None => Ok(0),
            Some(bytes) => <[u8; 8]>::try_from(bytes)
                .map(u64::from_be_bytes)
                .map_err(|_| malformed("the number of commits")),
        }
    }

    /// Where the block with this multihash is.
    pub(crate) fn locate(&self, multihash: &[u8]) -> io::Result<Option<Location>> {
        self.get(&block_key(multihash))?
            .map(|bytes| Location::from_bytes(&bytes).ok_or_else(|| malformed("a block")))
            .transpose()
    }

    /// A value of a table.
    pub(crate) fn value(&self, table: Table, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.get(&value_key(table, key))?
            .map(|record| self.whole(table, key, &record))
            .transpose()
    }

    /// The entries behind a key, or the first ones.
    pub(crate) fn page(&self, table: Table, after: Option<&[u8]>) -> io::Result<Page> {
        let from = match after {
            Some(key) => Bound::Excluded(value_key(table, key)),
            None => Bound::Included(value_key(table, &[])),
        };
        let to = Bound::Excluded(vec![VALUE, table as u8 + 1]);
        let mut page = Page::default();
        let mut size = 0;
        for entry in self.db.range((from, to)) {
            let (key, record) = entry.map_err(cause)?;
            if size >= PAGE_SIZE {
                page.more = true;
                break;
            }
            let key = key[2..].to_vec();
            let value = self.whole(table, &key, &record)?;
            size += ENTRY_OVERHEAD + key.len() + value.len();
            page.entries.push((key, value));
        }
        Ok(page)
    }

    /// Makes all changes, or none, and makes them durable. Returns how many commits there are now.
    pub(crate) fn commit(&self, changes: &Changes<'_>, disk: &Disk) -> io::Result<u64> {
        let commits = self.commits()? + 1;
        let mut batch = sled::Batch::default();
        for (multihash, location) in &changes.blocks {
            batch.insert(block_key(multihash), location.to_bytes());
        }
        for (number, len) in &changes.packs {
            let mut key = vec![PACK];
            key.extend_from_slice(&number.to_be_bytes());
            batch.insert(key, &len.to_be_bytes());
        }
        for Value { table, key, value } in changes.values.iter().copied() {
            let old = match self.get(&value_key(table, key))? {
                Some(record) => parts(&record)?.0,
                None => 0,
            };
            let new = insert_value(&mut batch, table, key, value);
            for part in new..old {
                batch.remove(part_key(table, key, part));
            }
        }
        batch.insert(META_SCHEMA, &SCHEMA.to_be_bytes());
        batch.insert(META_BLOCKS, &changes.total.to_bytes());
        batch.insert(META_COMMITS, &commits.to_be_bytes());
        self.apply(batch, disk)?;
        Ok(commits)
    }

    fn apply(&self, batch: sled::Batch, disk: &Disk) -> io::Result<()> {
        disk.step(|extent| {
            self.db.apply_batch(batch).map_err(cause)?;
            if extent == Extent::Whole {
                self.db.flush().map_err(cause)?;
                // On Linux sled flushes with sync_file_range, which makes neither the length of
                // the file durable nor what the drive caches.
                self.file.sync_all()?;
            }
            Ok(())
        })
    }

    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let found = self.db.get(key).map_err(cause)?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// The value that a record stands for: it is in the record, or in parts.
    fn whole(&self, table: Table, key: &[u8], record: &[u8]) -> io::Result<Vec<u8>> {
        let (parts, size) = parts(record)?;
        if parts == 0 {
            return Ok(record[1..].to_vec());
        }
        let mut value = Vec::with_capacity(size);
        for part in 0..parts {
            let bytes = self
                .get(&part_key(table, key, part))?
                .ok_or_else(|| malformed("a value without its parts"))?;
            value.extend_from_slice(&bytes);
        }
        if value.len() != size {
            return Err(malformed("a value whose parts have another size"));
        }
        Ok(value)
    }
}

const RECORD_WHOLE: u8 = 0;
const RECORD_PARTS: u8 = 1;

/// The number of parts of a record (none if the value follows in it), and the value's size.
fn parts(record: &[u8]) -> io::Result<(u32, usize)> {
    match record.split_first() {
        Some((&RECORD_WHOLE, value)) => Ok((0, value.len())),
        Some((&RECORD_PARTS, size)) => {
            let size = size
                .try_into()
                .map(u32::from_be_bytes)
                .ok()
                .filter(|size| *size as usize <= VALUE_SIZE_MAX)
                .ok_or_else(|| malformed("the size of a value"))?;
            Ok((size.div_ceil(PART_SIZE_MAX as u32), size as usize))
        }
        _ => Err(malformed("a value")),
    }
}

/// Puts a value into a batch and returns how many parts it has.
fn insert_value(batch: &mut sled::Batch, table: Table, key: &[u8], value: Option<&[u8]>) -> u32 {
    let Some(value) = value else {
        batch.remove(value_key(table, key));
        return 0;
    };
    let mut record = Vec::with_capacity(1 + value.len().min(PART_SIZE_MAX));
    if value.len() <= PART_SIZE_MAX {
        record.push(RECORD_WHOLE);
        record.extend_from_slice(value);
        batch.insert(value_key(table, key), record);
        return 0;
    }
    let size = u32::try_from(value.len()).expect("a value is at most VALUE_SIZE_MAX");
    record.push(RECORD_PARTS);
    record.extend_from_slice(&size.to_be_bytes());
    batch.insert(value_key(table, key), record);
    let mut count = 0;
    for part in value.chunks(PART_SIZE_MAX) {
        batch.insert(part_key(table, key, count), part);
        count += 1;
    }
    count
}

fn block_key(multihash: &[u8]) -> Vec<u8> {
    [&[BLOCK], multihash].concat()
}

fn value_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[VALUE, table as u8], key].concat()
}

fn part_key(table: Table, key: &[u8], part: u32) -> Vec<u8> {
    let len = u16::try_from(key.len()).expect("a key is at most KEY_SIZE_MAX");
    [
        &[PART, table as u8],
        len.to_be_bytes().as_slice(),
        key,
        &part.to_be_bytes(),
    ]
    .concat()
}

/// Keeps others from what sled made readable for all. (`snap.*`, which come later, hold no values.)
fn restrict(dir: &Path) -> io::Result<()> {
    for (name, mode) in [("conf", 0o600), ("db", 0o600), ("blobs", 0o700)] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn config(dir: &Path) -> sled::Config {
    // Only a commit writes; nothing becomes durable behind its back.
    sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_SIZE)
        .flush_every_ms(None)
}

fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn cause(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(e) => e,
        // All others are about what is on disk, in words that say nothing to who uses the store.
        other => {
            tracing::debug!(error = %other, "sled refuses the index");
            let what = match other {
                sled::Error::Corruption { .. } => "it does not match its checksums",
                _ => "it is of a form that is not known",
            };
            io::Error::new(io::ErrorKind::InvalidData, what)
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the index holds {what} in a form that is not known"),
    )
}
