//! What was put and set since the last commit, and the pack that puts go to.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cid::Cid;
use protocol::block::Block;

use crate::{
    Table,
    disk::Disk,
    index::{Blocks, Location, checksum},
    pack::{HEADER, Salvaged, frame_head, pack_path},
};

/// Most blocks that wait for a commit; one more makes the blocks (not the values) durable.
pub const PENDING_BLOCKS_MAX: usize = 16 << 10;
/// Most bytes of keys and values that wait for a commit.
pub const PENDING_VALUES_SIZE_MAX: usize = 16 << 20;

/// A block that is in a pack, but not in the index.
#[derive(Clone, Debug)]
pub(crate) struct StagedBlock {
    pub(crate) cid: Cid,
    pub(crate) location: Location,
    /// It takes the place of a damaged copy that the index counts already.
    pub(crate) replaces: bool,
}

/// A set of changes that becomes durable together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    pub(crate) blocks: HashMap<Vec<u8>, StagedBlock>,
    pub(crate) values: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    pub(crate) values_size: usize,
    /// The length of each pack up to the last block that is in the set.
    pub(crate) packs: BTreeMap<u32, u64>,
}

impl Staged {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.values.is_empty()
    }

    /// Stages a value; `None` removes the key. False if that would be too much.
    pub(crate) fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> bool {
        let size = key.len() + value.map_or(0, <[u8]>::len);
        let place = (table, key.to_vec());
        let old = self
            .values
            .get(&place)
            .map_or(0, |value| key.len() + value.as_ref().map_or(0, Vec::len));
        let total = self.values_size - old + size;
        if total > PENDING_VALUES_SIZE_MAX {
            return false;
        }
        self.values_size = total;
        self.values.insert(place, value.map(<[u8]>::to_vec));
        true
    }

    /// Takes the blocks out, and the values too if `values`.
    pub(crate) fn take(&mut self, values: bool) -> Self {
        if values {
            return std::mem::take(self);
        }
        Self {
            blocks: std::mem::take(&mut self.blocks),
            packs: std::mem::take(&mut self.packs),
            ..Self::default()
        }
    }

    /// Puts a set back that was staged before this one.
    pub(crate) fn put_back(&mut self, older: Self) {
        self.blocks.extend(older.blocks);
        for (number, len) in older.packs {
            self.packs.entry(number).or_insert(len);
        }
        for (place, value) in older.values {
            let size = place.1.len() + value.as_ref().map_or(0, Vec::len);
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.values.entry(place) {
                vacant.insert(value);
                self.values_size += size;
            }
        }
    }
}

/// A pack that is appended to, or was since the last commit.
#[derive(Clone, Debug)]
pub(crate) struct OpenPack {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    /// Its length up to the last whole frame, in bytes.
    pub(crate) len: u64,
}

/// What is to be synced before the index may name what is staged.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    pub(crate) packs: BTreeMap<u32, OpenPack>,
    /// A pack was created since the directory was synced.
    pub(crate) dir: bool,
    /// Packs of which a sync failed: what is pending in them must be written again.
    pub(crate) suspect: bool,
}

impl Unsynced {
    pub(crate) fn put_back(&mut self, older: Self) {
        for (number, pack) in older.packs {
            self.packs.entry(number).or_insert(pack);
        }
        self.dir |= older.dir;
        self.suspect |= older.suspect;
    }
}

/// Why a block could not be appended.
#[derive(Debug)]
pub(crate) struct AppendFailed {
    pub(crate) path: PathBuf,
    pub(crate) cause: io::Error,
    /// What was written in part could not be taken back.
    pub(crate) torn: bool,
}

/// What the writer of a store knows beyond the index.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) pending: Staged,
    /// The set that a commit is just making durable.
    pub(crate) committing: Option<Arc<Staged>>,
    pub(crate) current: Option<OpenPack>,
    pub(crate) pack_next: u32,
    pub(crate) unsynced: Unsynced,
    /// Blocks that are durable.
    pub(crate) durable: Blocks,
    /// Bytes appended since free space was looked at.
    pub(crate) unchecked: u64,
    /// A write failed in a way that leaves unknown what is on disk.
    pub(crate) stopped: bool,
}

impl State {
    /// Begins where the last commit ended. `packs` are the durable lengths.
    pub(crate) fn load(
        dir: &Path,
        packs: &BTreeMap<u32, u64>,
        durable: Blocks,
    ) -> io::Result<Self> {
        let mut state = Self {
            durable,
            ..Self::default()
        };
        if let Some((&number, &len)) = packs.last_key_value() {
            let path = pack_path(dir, number);
            let file = File::options().read(true).write(true).open(&path)?;
            state.current = Some(OpenPack {
                number,
                path,
                file: Arc::new(file),
                len,
            });
            state.pack_next = number + 1;
        }
        Ok(state)
    }

    /// Takes in blocks that are in packs and that no commit covers, as if they had just been put.
    pub(crate) fn salvage(&mut self, dir: &Path, found: Vec<Salvaged>) -> io::Result<()> {
        for salvaged in found {
            let (number, len) = (salvaged.pack, salvaged.len);
            let path = pack_path(dir, number);
            let file = File::options().read(true).write(true).open(&path)?;
            let pack = OpenPack {
                number,
                path,
                file: Arc::new(file),
                len,
            };
            self.unsynced.dir |= number >= self.pack_next;
            self.pack_next = self.pack_next.max(number + 1);
            self.pending.packs.insert(number, len);
            self.unsynced.packs.insert(number, pack.clone());
            for block in salvaged.blocks {
                let multihash = block.cid.hash().to_bytes();
                self.pending.blocks.insert(multihash, block);
            }
            self.current = Some(pack);
        }
        Ok(())
    }

    pub(crate) fn block(&self, multihash: &[u8]) -> Option<&StagedBlock> {
        self.pending.blocks.get(multihash).or_else(|| {
            self.committing
                .as_ref()
                .and_then(|set| set.blocks.get(multihash))
        })
    }

    /// The value that is staged for a key, if any; `Some(None)` if it is to be removed.
    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let place = (table, key.to_vec());
        self.pending
            .values
            .get(&place)
            .or_else(|| {
                self.committing
                    .as_ref()
                    .and_then(|set| set.values.get(&place))
            })
            .cloned()
    }

    /// Appends a block that is not stored yet, or only as a damaged copy.
    pub(crate) fn append(
        &mut self,
        dir: &Path,
        block: &Block,
        replaces: bool,
        disk: &Disk,
    ) -> Result<(), AppendFailed> {
        let head = frame_head(block.cid(), block.bytes().len());
        let frame_size = (head.len() + block.bytes().len()) as u64;
        let fits = |pack: &OpenPack| pack.len + frame_size <= disk.pack_size_max;
        if !self.current.as_ref().is_some_and(fits) {
            self.roll(dir, disk)?;
        }
        let pack = self
            .current
            .as_mut()
            .expect("rolling leaves a current pack");
        disk.write(&pack.file, &pack.path, pack.len, [&head, block.bytes()])
            .map_err(|cause| AppendFailed {
                torn: disk.truncate(&pack.file, pack.len).is_err(),
                path: pack.path.clone(),
                cause,
            })?;
        let location = Location {
            pack: pack.number,
            offset: pack.len + head.len() as u64,
            size: u32::try_from(block.bytes().len()).expect("a block is at most 2 MiB"),
            codec: block.cid().codec(),
            checksum: Some(checksum(block.bytes())),
        };
        pack.len += frame_size;
        self.unchecked += frame_size;
        self.pending.packs.insert(pack.number, pack.len);
        self.unsynced.packs.insert(pack.number, pack.clone());
        self.pending.blocks.insert(
            block.cid().hash().to_bytes(),
            StagedBlock {
                cid: *block.cid(),
                location,
                replaces,
            },
        );
        Ok(())
    }

    fn roll(&mut self, dir: &Path, disk: &Disk) -> Result<(), AppendFailed> {
        let path = pack_path(dir, self.pack_next);
        let failed = |torn, cause| AppendFailed {
            path: path.clone(),
            cause,
            torn,
        };
        let file = disk.create_file(&path).map_err(|e| failed(false, e))?;
        if let Err(cause) = disk.write(&file, &path, 0, [&HEADER, &[]]) {
            return Err(failed(disk.remove(&path).is_err(), cause));
        }
        self.current = Some(OpenPack {
            number: self.pack_next,
            path,
            file: Arc::new(file),
            len: HEADER.len() as u64,
        });
        self.pack_next += 1;
        self.unsynced.dir = true;
        Ok(())
    }
}
