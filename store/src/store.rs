//! The store, as others see it: puts, sets, commits, reads.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use cid::Cid;
use protocol::block::{Block, UnverifiedBlock, check};

use crate::{
    Blocks, KEY_SIZE_MAX, StoreError, Table, VALUE_SIZE_MAX,
    catalog::{Catalog, packs_dir},
    commit::explain,
    disk::Disk,
    index::{Location, checksum},
    pack::{Leftovers, PackFiles, failed},
    staged::{PENDING_BLOCKS_MAX, PENDING_VALUES_SIZE_MAX, State},
};

/// The durable state of a node. All threads of a process share one.
///
/// Dropping it forgets what was not committed.
#[derive(Debug)]
pub struct Store {
    pub(crate) home: PathBuf,
    pub(crate) packs_dir: PathBuf,
    pub(crate) disk: Arc<Disk>,
    pub(crate) catalog: Catalog,
    files: PackFiles,
    writer: Option<Writer>,
}

#[derive(Debug)]
pub(crate) struct Writer {
    state: Mutex<State>,
    /// Held by the one commit that runs.
    pub(crate) turn: Mutex<()>,
}

impl Writer {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Store {
    /// Opens the store in `home` to write, and creates it if there is none. `purpose` is told to
    /// whoever finds the store in use.
    ///
    /// # Errors
    /// Another process holds the store; it is damaged or of an unknown schema; files cannot be
    /// read or made.
    pub fn open(home: &Path, purpose: &str) -> Result<Self, StoreError> {
        Self::open_on(home, purpose, Disk::default(), Leftovers::Remove)
    }

    /// Opens the store to write, as [`Store::open`], and keeps the whole blocks that were put before a
    /// crash and that no commit covers: they can be read, and are durable after the next commit. Had
    /// somebody else opened the store to write meanwhile, they would be gone. Returns how many they are.
    ///
    /// For who gets blocks from elsewhere, and would have to get them again.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_salvaging(home: &Path, purpose: &str) -> Result<(Self, u64), StoreError> {
        let mut found = Vec::new();
        let beyond = Leftovers::Salvage(&mut found);
        let store = Self::open_on(home, purpose, Disk::default(), beyond)?;
        for block in found.iter_mut().flat_map(|one| &mut one.blocks) {
            let known = store.catalog.locate(&block.cid.hash().to_bytes())?;
            block.replaces = known.is_some();
        }
        let count = found.iter().map(|one| one.blocks.len() as u64).sum();
        let packs_dir = &store.packs_dir;
        store
            .writer()?
            .state()
            .salvage(packs_dir, found)
            .map_err(|e| failed("open", packs_dir, e))?;
        Ok((store, count))
    }

    /// Opens the store in `home` to read what is committed, also while another process writes.
    ///
    /// # Errors
    /// As [`Store::open`]; there is no store.
    pub fn open_read(home: &Path, purpose: &str) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::default());
        let catalog = Catalog::open_read(home, purpose, disk.clone())?;
        Ok(Self::new(home, disk, catalog, None))
    }

    /// Opens the store to write, with writes that fail as a test wants.
    ///
    /// # Errors
    /// As [`Store::open`], and the fault.
    #[cfg(feature = "fault")]
    pub fn open_with_faults(
        home: &Path,
        purpose: &str,
        faults: Arc<crate::Faults>,
    ) -> Result<Self, StoreError> {
        Self::open_on(home, purpose, Disk::faulty(faults), Leftovers::Remove)
    }

    fn open_on(
        home: &Path,
        purpose: &str,
        disk: Disk,
        beyond: Leftovers<'_>,
    ) -> Result<Self, StoreError> {
        let disk = Arc::new(disk);
        let (catalog, loaded) = Catalog::open(home, purpose, disk.clone(), beyond)?;
        let packs_dir = packs_dir(home);
        let state = State::load(&packs_dir, &loaded.packs, loaded.blocks)
            .map_err(|e| failed("open", &packs_dir, e))?;
        let writer = Writer {
            state: Mutex::new(state),
            turn: Mutex::default(),
        };
        Ok(Self::new(home, disk, catalog, Some(writer)))
    }

    fn new(home: &Path, disk: Arc<Disk>, catalog: Catalog, writer: Option<Writer>) -> Self {
        let packs_dir = packs_dir(home);
        Self {
            home: home.to_owned(),
            files: PackFiles::new(packs_dir.clone()),
            packs_dir,
            disk,
            catalog,
            writer,
        }
    }

    /// Puts a block. True if it was new: one that is stored already is not written again.
    ///
    /// It can be read at once, and is durable after the next [`Store::commit`].
    ///
    /// # Errors
    /// No space, or a failed write; the block is then not stored.
    pub fn put(&self, block: Block) -> Result<bool, StoreError> {
        self.append(block, None, false)
    }

    /// Puts a block as [`Store::put`] does, but takes a stored copy for one only if it matches its
    /// CID: a damaged one is replaced, and no longer remembered as damaged.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_checked(&self, block: Block) -> Result<bool, StoreError> {
        let cid = *block.cid();
        if !self.contains(&cid)? || self.is_sound(&cid)? {
            return self.put(block);
        }
        self.append(block, None, true)?;
        self.remove(Table::Damaged, &cid.hash().to_bytes())?;
        Ok(true)
    }

    /// Whether the stored copy of a block matches its CID.
    fn is_sound(&self, cid: &Cid) -> Result<bool, StoreError> {
        match self.get(cid) {
            Ok(found) => Ok(found.is_some_and(|block| block.verify().is_ok())),
            // A bad sector, or a pack that ends too early.
            Err(StoreError::Io { .. } | StoreError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a block and stages the value that tells of it, so that no commit covers one of
    /// them alone: a block that nothing tells of would be sealed again.
    ///
    /// # Errors
    /// As [`Store::put`] and [`Store::set`].
    pub fn put_with(
        &self,
        block: Block,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<bool, StoreError> {
        self.append(block, Some((table, key, value)), false)
    }

    /// Stages a value, to become durable with the next [`Store::commit`], together with all that
    /// was put and set before it. [`Store::value`] sees it at once, others when it is durable.
    ///
    /// # Errors
    /// Key or value are too large, or too much waits for a commit.
    pub fn set(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.stage(table, key, Some(value))
    }

    /// Stages the removal of a value, as [`Store::set`] does.
    ///
    /// # Errors
    /// As [`Store::set`].
    pub fn remove(&self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        self.stage(table, key, None)
    }

    /// Makes everything durable that was put and set before the call, by whichever thread.
    ///
    /// Others may go on to put and set meanwhile. After a crash, what one commit covers is there
    /// in whole, or not at all. (Blocks may be there earlier, see [`PENDING_BLOCKS_MAX`].)
    ///
    /// # Errors
    /// [`StoreError::Full`]: nothing is lost, and a later commit can succeed. After any other
    /// error it is not known whether the changes are durable, and the store stops.
    pub fn commit(&self) -> Result<(), StoreError> {
        self.commit_staged(self.writer()?, true)
    }

    /// Whether a block is stored, durably or not yet.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn contains(&self, cid: &Cid) -> Result<bool, StoreError> {
        Ok(self.locate(cid)?.is_some())
    }

    /// The size of a block in bytes, if it is stored.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn block_len(&self, cid: &Cid) -> Result<Option<u64>, StoreError> {
        Ok(self.locate(cid)?.map(|location| u64::from(location.size)))
    }

    /// A block, if it is stored. Its bytes are as the disk gave them: verify them.
    ///
    /// # Errors
    /// The index or the pack cannot be read, or the pack is shorter than the index says.
    pub fn get(&self, cid: &Cid) -> Result<Option<UnverifiedBlock>, StoreError> {
        let Some(location) = self.locate(cid)? else {
            return Ok(None);
        };
        let bytes = self.files.read(&location, |size| vec![0; size])?;
        Ok(Some(UnverifiedBlock { cid: *cid, bytes }))
    }

    /// The bytes of a block as they were put, if it is stored: for who gives them to others, that verify
    /// them. They are checked by the checksum beside the block's place, which finds damage but no forgery;
    /// where an older program left none, against the CID. `buffer` is asked for memory of a size, and what is
    /// in it already does not matter.
    ///
    /// # Errors
    /// As [`Store::get`]; or the stored copy is damaged ([`StoreError::DamagedBlock`]).
    pub fn get_checked(
        &self,
        cid: &Cid,
        buffer: impl FnOnce(usize) -> Vec<u8>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(location) = self.locate(cid)? else {
            return Ok(None);
        };
        let bytes = self.files.read(&location, buffer)?;
        let is_sound = match location.checksum {
            Some(expected) => checksum(&bytes) == expected,
            None => check(cid, &bytes).is_ok(),
        };
        match is_sound {
            true => Ok(Some(bytes)),
            false => Err(StoreError::DamagedBlock { cid: *cid }),
        }
    }

    /// A value of a table, the one that is staged if there is one.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(writer) = &self.writer
            && let Some(staged) = writer.state().value(table, key)
        {
            return Ok(staged);
        }
        self.catalog.value(table, key)
    }

    /// All that a table holds as of the last commit, in the order of the keys. A commit during
    /// the scan may show in what is still to come.
    #[must_use]
    pub fn scan(&self, table: Table) -> Scan<'_> {
        Scan {
            catalog: &self.catalog,
            table,
            page: Vec::new().into_iter(),
            after: None,
            more: true,
        }
    }

    /// How many blocks are durable.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn blocks(&self) -> Result<Blocks, StoreError> {
        self.catalog.blocks()
    }

    fn append(
        &self,
        block: Block,
        value: Option<(Table, &[u8], &[u8])>,
        replaces: bool,
    ) -> Result<bool, StoreError> {
        let writer = self.writer()?;
        let multihash = block.cid().hash().to_bytes();
        let tell = |state: &mut State| match value {
            Some((table, key, value)) => stage(state, table, key, Some(value)),
            None => Ok(()),
        };
        loop {
            let mut state = writer.state();
            if state.stopped {
                return Err(StoreError::Stopped);
            }
            let durable = self.catalog.locate(&multihash)?.is_some();
            if !replaces && (durable || state.block(&multihash).is_some()) {
                tell(&mut state)?;
                return Ok(false);
            }
            if state.pending.blocks.len() >= PENDING_BLOCKS_MAX {
                drop(state);
                self.commit_staged(writer, false)?;
                continue;
            }
            self.check_space(&mut state)?;
            return match state.append(&self.packs_dir, &block, durable, &self.disk) {
                Ok(()) => tell(&mut state).map(|()| true),
                Err(failure) => {
                    state.stopped |= failure.torn;
                    Err(explain(&state, "write", &failure.path, failure.cause))
                }
            };
        }
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        self.writer.as_ref().ok_or(StoreError::ReadOnly)
    }

    fn stage(&self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let mut state = self.writer()?.state();
        if state.stopped {
            return Err(StoreError::Stopped);
        }
        stage(&mut state, table, key, value)
    }

    fn locate(&self, cid: &Cid) -> Result<Option<Location>, StoreError> {
        let multihash = cid.hash().to_bytes();
        if let Some(writer) = &self.writer
            && let Some(staged) = writer.state().block(&multihash)
        {
            return Ok(Some(staged.location));
        }
        self.catalog.locate(&multihash)
    }
}

fn stage(
    state: &mut State,
    table: Table,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), StoreError> {
    limit("a key", key.len(), KEY_SIZE_MAX)?;
    limit("a value", value.map_or(0, <[u8]>::len), VALUE_SIZE_MAX)?;
    if state.pending.set(table, key, value) {
        Ok(())
    } else {
        Err(StoreError::TooMuchPending {
            limit: PENDING_VALUES_SIZE_MAX,
        })
    }
}

fn limit(what: &'static str, size: usize, limit: usize) -> Result<(), StoreError> {
    if size > limit {
        return Err(StoreError::TooLarge { what, size, limit });
    }
    Ok(())
}

/// Goes through a table, a page at a time.
#[derive(Debug)]
pub struct Scan<'a> {
    catalog: &'a Catalog,
    table: Table,
    page: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    after: Option<Vec<u8>>,
    more: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if !self.more {
                return None;
            }
            match self.catalog.page(self.table, self.after.as_deref()) {
                Ok(page) => {
                    self.more = page.more;
                    self.after = page.entries.last().map(|(key, _)| key.clone());
                    self.page = page.entries.into_iter();
                }
                Err(e) => {
                    self.more = false;
                    return Some(Err(e));
                }
            }
        }
    }
}
