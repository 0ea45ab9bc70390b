//! Appends to a log.
//!
//! Entries are staged (durable, but covered by no checkpoint), then a checkpoint that covers them is published
//! in place of the one before. What a crash leaves staged is given back when the log is opened
//! next, and is staged again: an entry is signed, so it is never given up for another in its place.

use std::{
    fs::File,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::log::tree::{Edge, Hash};
use rustix::fs::{FlockOperation, flock};

use super::{
    appending::{Added, Files},
    archive::Bundles,
    files::{BUNDLE_WIDTH, HASH_SIZE, OFFSET_SIZE, bundles_of, hashes_at, split_entries},
    reader::{Head, LogReader},
};
use crate::{StoreError, disk::Disk, error::is_full, pack::failed};

/// How long others may append before it is this one's turn.
const TURN_WAIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it is.
const TURN_EVERY: Duration = Duration::from_millis(2);
/// Entries that are read at a time to make the tree again.
const REBUILT_AT_ONCE: u64 = 4 * BUNDLE_WIDTH;

/// A log, to append to. Nobody else can while this lives.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    disk: Arc<Disk>,
    _lock: File,
    is_marked: fn(&[u8]) -> bool,
    head: Option<Head>,
    /// Of what is staged too.
    edge: Edge,
    files: Files,
    stopped: bool,
}

impl LogWriter {
    /// Opens the log in a directory to append to it, and makes one if there is none. Returns the whole entries
    /// that a crash left without a checkpoint that covers them: they are staged again, with
    /// [`LogWriter::stage`], or they stay in nobody's way until others are staged in their place.
    ///
    /// `is_marked` says which entries [`LogReader::marks`] is to tell.
    ///
    /// # Errors
    /// Another process appends for too long; a file cannot be read or made; the log is damaged.
    pub fn open(
        dir: &Path,
        is_marked: fn(&[u8]) -> bool,
    ) -> Result<(Self, Vec<Vec<u8>>), StoreError> {
        Self::open_on(dir, is_marked, Arc::new(Disk::default()))
    }

    /// Opens the log as [`LogWriter::open`], with writes that fail as a test wants.
    ///
    /// # Errors
    /// As [`LogWriter::open`], and the fault.
    #[cfg(feature = "fault")]
    pub fn open_with_faults(
        dir: &Path,
        is_marked: fn(&[u8]) -> bool,
        faults: Arc<crate::Faults>,
    ) -> Result<(Self, Vec<Vec<u8>>), StoreError> {
        Self::open_on(dir, is_marked, Arc::new(Disk::faulty(faults)))
    }

    /// Opens the log as [`LogWriter::open`], on a disk.
    ///
    /// # Errors
    /// As [`LogWriter::open`].
    pub fn open_on(
        dir: &Path,
        is_marked: fn(&[u8]) -> bool,
        disk: Arc<Disk>,
    ) -> Result<(Self, Vec<Vec<u8>>), StoreError> {
        if !dir.exists() {
            let parent = dir.parent().unwrap_or(dir);
            disk.create_dir(dir)
                .and_then(|()| disk.sync_dir(parent))
                .map_err(|e| failed("create", dir, e))?;
        }
        let lock = take_turn(dir)?;
        let head = Head::load(dir)?;
        let files = Files::open(dir, &disk)?;
        let mut writer = Self {
            dir: dir.to_owned(),
            disk,
            _lock: lock,
            is_marked,
            head,
            edge: Edge::new(),
            files,
            stopped: false,
        };
        let recovered = writer.load()?;
        Ok((writer, recovered))
    }

    /// The checkpoint, if there is one.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// How many entries there are, those that are staged included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The edge of their tree.
    #[must_use]
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The root of their tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.edge.root()
    }

    /// Appends entries, which are durable when this returns, and are to be read when a
    /// checkpoint covers them.
    ///
    /// # Errors
    /// [`StoreError::LogFull`]: nothing is staged, and it can be tried again. After any other error it is not
    /// known what is durable, and the writer stops.
    pub fn stage<T: AsRef<[u8]>>(&mut self, entries: &[T]) -> Result<(), StoreError> {
        if self.stopped {
            return Err(StoreError::Stopped);
        }
        let mut edge = self.edge.clone();
        let mut added = Added::default();
        for entry in entries.iter().map(AsRef::as_ref) {
            added.entry(entry, self.files.entries.1, &mut edge, self.is_marked)?;
        }
        match self.files.append(&added, &self.disk) {
            Ok(()) => {
                self.edge = edge;
                self.files.cut(&self.disk)
            }
            Err((path, cause)) if is_full(&cause) => match self.files.cut(&self.disk) {
                Ok(()) => Err(StoreError::LogFull { path, cause }),
                Err(error) => {
                    self.stopped = true;
                    Err(error)
                }
            },
            Err((path, cause)) => {
                self.stopped = true;
                Err(failed("write", &path, cause))
            }
        }
    }

    /// Puts a checkpoint that covers all that is staged in the place of the one before. It is durable when
    /// this returns.
    ///
    /// # Errors
    /// It says another size or root. [`StoreError::LogFull`]: the one before is still there, and it can be tried
    /// again. After any other error it is not known which of them is durable, and the writer stops.
    pub fn publish(&mut self, note: &[u8]) -> Result<(), StoreError> {
        if self.stopped {
            return Err(StoreError::Stopped);
        }
        let path = self.dir.join("checkpoint");
        let damaged = |what: String| StoreError::Damaged {
            path: path.clone(),
            what,
        };
        let head = Head::parse(note.to_vec()).map_err(damaged)?;
        if (head.size, head.root) != (self.edge.size(), self.edge.root()) {
            return Err(damaged("it does not cover what is staged".to_owned()));
        }
        match self.disk.replace(&path, note) {
            Ok(()) => {
                self.head = Some(head);
                Ok(())
            }
            Err(cause) if is_full(&cause) => Err(StoreError::LogFull { path, cause }),
            Err(cause) => {
                self.stopped = true;
                Err(failed("write", &path, cause))
            }
        }
    }

    /// The log as its checkpoint covers it, to read; nothing if it has none.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn reader(&self) -> Result<Option<LogReader>, StoreError> {
        LogReader::open(&self.dir)
    }

    /// Finds the edge of what the head covers, and the whole entries behind it.
    fn load(&mut self) -> Result<Vec<Vec<u8>>, StoreError> {
        if let Some(reader) = self.reader_if_whole()? {
            let head = reader.head();
            self.edge = Edge::read(head.size, |level, index| reader.node(level, index))?;
        }
        let root = self.head.as_ref().map(|head| head.root);
        if root.is_some_and(|root| root != self.edge.root()) {
            self.rebuild()?;
        }
        let size = self.edge.size();
        self.files.bundles.1 = bundles_of(size) * OFFSET_SIZE;
        for (level, tree) in self.files.tree.iter_mut().enumerate() {
            tree.1 = hashes_at(level, size) * HASH_SIZE;
        }
        self.files.entries.1 = self.end_of_entries(size)?;
        self.files.marks.1 = match self.reader()? {
            Some(reader) => reader.marks()?.len() as u64 * OFFSET_SIZE,
            None => 0,
        };
        let recovered = self.files.entries.0.tail(self.files.entries.1)?;
        self.files.cut_derived(&self.disk)?;
        Ok(recovered)
    }

    /// The log to read, if all files are as long as the head needs them.
    fn reader_if_whole(&self) -> Result<Option<LogReader>, StoreError> {
        let Some(head) = &self.head else {
            return Ok(None);
        };
        let trees = self.files.tree.iter().enumerate();
        for (level, tree) in trees {
            if tree.0.len()? < hashes_at(level, head.size) * HASH_SIZE {
                return Ok(None);
            }
        }
        if self.files.bundles.0.len()? < bundles_of(head.size) * OFFSET_SIZE {
            return Ok(None);
        }
        self.reader()
    }

    /// Where the first so many entries end.
    fn end_of_entries(&self, size: u64) -> Result<u64, StoreError> {
        if size == 0 {
            return Ok(0);
        }
        let entries = &self.files.entries.0;
        let bundle = (size - 1) / BUNDLE_WIDTH;
        let begin = self.files.bundles.0.number(bundle)?;
        let wanted = size - bundle * BUNDLE_WIDTH;
        let (found, taken) = entries.bundle_at(begin, wanted)?;
        if found < wanted {
            return Err(entries.damaged("it ends before the checkpoint's last entry"));
        }
        Ok(begin + taken)
    }

    /// Makes the tree and all else again that follows from the entries.
    fn rebuild(&mut self) -> Result<(), StoreError> {
        let Some(head) = self.head.clone() else {
            return Ok(());
        };
        tracing::warn!(dir = %self.dir.display(), "the tree of a log is made again from its entries");
        self.edge = Edge::new();
        self.files.forget();
        self.files.cut_derived(&self.disk)?;
        let mut archived = Bundles::open(&self.dir)?;
        while self.edge.size() < head.size {
            let most = REBUILT_AT_ONCE.min(head.size - self.edge.size());
            let entries = self.files.entries.0.some(self.files.entries.1, most)?;
            if !entries.is_empty() {
                self.rebuild_some(&entries)?;
                continue;
            }
            // Whole bundles are taken out of the file.
            let bundle = match self.edge.size().is_multiple_of(BUNDLE_WIDTH) {
                true => archived.get(self.edge.size() / BUNDLE_WIDTH)?,
                false => None,
            };
            let bundle = bundle.ok_or_else(|| {
                let file = &self.files.entries.0;
                file.damaged("it ends before the checkpoint's last entry")
            })?;
            self.rebuild_some(&split_entries(&bundle, BUNDLE_WIDTH).0)?;
        }
        if self.edge.root() != head.root {
            let file = &self.files.entries.0;
            return Err(file.damaged("its entries are not those of the checkpoint"));
        }
        Ok(())
    }

    /// Goes on with the next entries, which are in their file.
    fn rebuild_some<T: AsRef<[u8]>>(&mut self, entries: &[T]) -> Result<(), StoreError> {
        let mut added = Added::default();
        let mut edge = self.edge.clone();
        for entry in entries.iter().map(AsRef::as_ref) {
            added.entry(entry, self.files.entries.1, &mut edge, self.is_marked)?;
        }
        self.files
            .append_derived(&mut added, &self.disk)
            .map_err(|(path, cause)| failed("write", &path, cause))?;
        self.edge = edge;
        Ok(())
    }
}

/// Waits until nobody else has the lock of a directory.
pub(super) fn take_turn(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| failed("open", &path, e))?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < TURN_WAIT => {
                std::thread::sleep(TURN_EVERY);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::InUse {
                    pid: 0,
                    purpose: "appending to the log".to_owned(),
                });
            }
            Err(e) => return Err(failed("lock", &path, e.into())),
        }
    }
}
