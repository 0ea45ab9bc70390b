//! The index of the process that holds the lock.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
};

use crate::{
    StoreError, Table,
    disk::Disk,
    head::Head,
    index::{Blocks, Changes, Index, Location, Page},
    pack::failed,
};

/// The index, for all threads of the process that holds it.
#[derive(Debug)]
pub(crate) struct Owned {
    dir: PathBuf,
    disk: Arc<Disk>,
    head: Head,
    index: RwLock<Option<Index>>,
    /// Held for writing while the index shows what is not durable yet.
    published: RwLock<()>,
}

impl Owned {
    pub(crate) fn new(dir: &Path, disk: Arc<Disk>, head: Head, index: Index) -> Self {
        Self {
            dir: dir.to_owned(),
            disk,
            head,
            index: RwLock::new(Some(index)),
            published: RwLock::default(),
        }
    }

    /// Where a block is. May be ahead of what is durable by what a commit just writes, which the
    /// writer knows anyway.
    pub(crate) fn locate(&self, multihash: &[u8]) -> Result<Option<Location>, StoreError> {
        self.ask(|index| index.locate(multihash))
    }

    /// A value of a table. May be ahead as [`Owned::locate`] is.
    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|index| index.value(table, key))
    }

    pub(crate) fn locate_durable(&self, multihash: &[u8]) -> Result<Option<Location>, StoreError> {
        let _published = self.published.read().expect("no panic while it is held");
        self.locate(multihash)
    }

    pub(crate) fn value_durable(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let _published = self.published.read().expect("no panic while it is held");
        self.value(table, key)
    }

    /// Durable entries of a table.
    pub(crate) fn page(&self, table: Table, after: Option<&[u8]>) -> Result<Page, StoreError> {
        let _published = self.published.read().expect("no panic while it is held");
        self.ask(|index| index.page(table, after))
    }

    /// How many blocks are durable.
    pub(crate) fn blocks(&self) -> Result<Blocks, StoreError> {
        let _published = self.published.read().expect("no panic while it is held");
        self.ask(Index::blocks)
    }

    /// Makes changes durable. After a failure it is unknown whether they are, until they
    /// are tried again.
    pub(crate) fn commit(&self, changes: &Changes<'_>) -> io::Result<()> {
        let _published = self.published.write().expect("no panic while it is held");
        self.reopen()?;
        let done = {
            let index = self.index.read().expect("no panic while it is held");
            let index = index.as_ref().expect("it was just opened");
            index
                .commit(changes, &self.disk)
                .and_then(|commits| self.head.write(commits, &self.disk))
        };
        if done.is_err() {
            // sled refuses everything after an error; what is durable is read anew.
            *self.index.write().expect("no panic while it is held") = None;
        }
        done
    }

    fn ask<T>(&self, question: impl Fn(&Index) -> io::Result<T>) -> Result<T, StoreError> {
        loop {
            if let Some(index) = &*self.index.read().expect("no panic while it is held") {
                return question(index).map_err(|e| failed("read", &self.dir, e));
            }
            self.reopen().map_err(|e| failed("open", &self.dir, e))?;
        }
    }

    /// Opens the index again if a failed commit closed it.
    fn reopen(&self) -> io::Result<()> {
        let mut index = self.index.write().expect("no panic while it is held");
        if index.is_none() {
            *index = Some(Index::open(&self.dir, &self.disk)?);
        }
        Ok(())
    }
}
