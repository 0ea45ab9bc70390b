//! Archives of a log: its oldest entries in CAR files, from which they are read once they were taken out of the log's own file.
//!
//! An archive is durable before the index names it, and read again, against the log's tree, before anything is taken out.
//! So a crash leaves a file that no index names, or entries that are in both places; both are put right by the next run.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use cid::Cid;
use protocol::{
    block::{Block, UnverifiedBlock, raw_cid},
    car::{self, CarError, header_bytes, section_bytes},
    log::{
        archive::{
            ARCHIVE_BUNDLES_MAX, ArchiveIndex, Archived, INDEX_SIZE_MAX, IndexError, bundle_offset,
        },
        checkpoint::SignedCheckpoint,
        tile::{TileKind, TilePath, received_bundle_block},
        tree::{Hash, TreeError, leaf_hash, node_over},
    },
    unixfs::{BuildError, Link, folder},
};

use super::{
    files::{BUNDLE_WIDTH, Growing, Part, split_entries},
    reader::LogReader,
    writer::take_turn,
};
use crate::{StoreError, disk::Disk, error::is_full, pack::failed};

/// What is given of an entry's details: their sealed block, if it has some that are here.
type DetailsOf<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Option<Block>, StoreError>;

/// Archives entries of a log. Nobody else does while this lives; the log may grow meanwhile.
#[derive(Debug)]
pub struct Archiver {
    dir: PathBuf,
    disk: Arc<Disk>,
    _lock: File,
    reader: LogReader,
    index: ArchiveIndex,
}

impl Archiver {
    /// Opens the archives of the log in a directory; nothing if there is no log.
    ///
    /// # Errors
    /// Another process archives for too long; or a file cannot be read or made.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        Self::open_on(dir, Arc::new(Disk::default()))
    }

    /// The same, with writes that fail as a test wants.
    ///
    /// # Errors
    /// As [`Archiver::open`], and the fault.
    #[cfg(feature = "fault")]
    pub fn open_with_faults(
        dir: &Path,
        faults: Arc<crate::Faults>,
    ) -> Result<Option<Self>, StoreError> {
        Self::open_on(dir, Arc::new(Disk::faulty(faults)))
    }

    fn open_on(dir: &Path, disk: Arc<Disk>) -> Result<Option<Self>, StoreError> {
        let Some(reader) = LogReader::open(dir)? else {
            return Ok(None);
        };
        let archive = archive_dir(dir);
        if !archive.exists() {
            disk.create_dir(&archive)
                .and_then(|()| disk.sync_dir(dir))
                .map_err(|e| failed("create", &archive, e))?;
        }
        Ok(Some(Self {
            _lock: take_turn(&archive)?,
            index: load_index(dir)?,
            dir: dir.to_owned(),
            disk,
            reader,
        }))
    }

    /// The log as its checkpoint covers it.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// The archives that there are.
    #[must_use]
    pub fn index(&self) -> &ArchiveIndex {
        &self.index
    }

    /// Writes the next bundles into an archive, which is durable, and named by the index, when this returns. Of
    /// the last bundle of a log nothing is archived. `checkpoint` is the log's, and covers them.
    ///
    /// # Errors
    /// There are none, or too many of them; they cannot be read; or [`StoreError::LogFull`]: nothing is archived, and
    /// it can be tried again.
    pub fn write(
        &mut self,
        bundles: u64,
        checkpoint: &SignedCheckpoint,
        details_of: DetailsOf<'_>,
    ) -> Result<Archived, StoreError> {
        let (first, size) = (self.index.end(), self.reader.head().size);
        let end = first.saturating_add(bundles.saturating_mul(BUNDLE_WIDTH));
        if !(1..=ARCHIVE_BUNDLES_MAX).contains(&bundles) || end >= size {
            return Err(TreeError::BeyondTree { index: end, size }.into());
        }
        let mut archived = Archived {
            first,
            end,
            root: raw_cid(&[0; 32]),
        };
        let path = archive_dir(&self.dir).join(archived.file_name());
        let written = self.write_car(&path, &archived, checkpoint, details_of);
        archived.root = match written {
            Err(ArchiveError::Store(error)) => return Err(error),
            Err(ArchiveError::Io(cause)) => {
                // What no index names is in nobody's way.
                let _ = self.disk.remove(&path);
                return Err(not_written(path, cause));
            }
            Ok(root) => root,
        };
        let mut index = self.index.clone();
        index
            .push(archived)
            .map_err(|error| damaged(&index_file(&self.dir), error.to_string()))?;
        let path = index_file(&self.dir);
        self.disk
            .replace(&path, index.to_string().as_bytes())
            .map_err(|cause| not_written(path, cause))?;
        self.index = index;
        Ok(archived)
    }

    fn write_car(
        &self,
        path: &Path,
        archived: &Archived,
        checkpoint: &SignedCheckpoint,
        details_of: DetailsOf<'_>,
    ) -> Result<Cid, ArchiveError> {
        if path.exists() {
            self.disk.remove(path)?;
        }
        let file = self.disk.create_file(path)?;
        let mut end = header_bytes(&[archived.root]).len() as u64;
        let mut put = |block: &Block| -> io::Result<Link> {
            let head = section_bytes(block.cid(), block.bytes().len());
            self.disk
                .write(&file, path, end, [head.as_slice(), block.bytes()])?;
            end += (head.len() + block.bytes().len()) as u64;
            Ok(Link {
                cid: *block.cid(),
                tsize: block.bytes().len() as u64,
            })
        };
        let mut files = Vec::new();
        for bundle in archived.bundles() {
            let path = self.path_of(bundle)?;
            let bytes = self.reader.bundle(path)?;
            let block = received_bundle_block(path, bytes).map_err(StoreError::from)?;
            files.push((path.to_string(), put(&block)?));
        }
        for bundle in archived.bundles() {
            let first = bundle * BUNDLE_WIDTH;
            for entry in self.reader.entries(first..first + BUNDLE_WIDTH)? {
                if let Some(block) = details_of(&entry)? {
                    files.push((format!("details/{}", block.cid()), put(&block)?));
                }
            }
        }
        files.push(("checkpoint".to_owned(), put(&checkpoint.block())?));
        let root = folder(files, &mut |block| {
            put(&block)?;
            Ok::<_, ArchiveError>(())
        })?;
        let header = header_bytes(&[root.cid]);
        self.disk.write(&file, path, 0, [&[], &header])?;
        self.disk.sync(&file, path)?;
        self.disk.sync_dir(&archive_dir(&self.dir))?;
        Ok(root.cid)
    }

    /// Takes what is archived out of the log's own file, once it was seen to be in the archives. Bundles with a
    /// marked entry stay: without them the log cannot be opened. Returns how many bytes that freed.
    ///
    /// # Errors
    /// An archive does not have what it should; or the file system cannot free parts of a file. Nothing is lost.
    pub fn free(&self) -> Result<u64, StoreError> {
        let marks = self.reader.marks()?;
        let kept: Vec<u64> = marks.iter().map(|seq| seq / BUNDLE_WIDTH).collect();
        let own = Growing::open_to_write(&self.dir, Part::Entries, &self.disk)?;
        let mut freed = 0;
        for archived in self.index.archives() {
            let all: Vec<u64> = archived.bundles().collect();
            for run in all.split(|bundle| kept.binary_search(bundle).is_ok()) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else {
                    continue;
                };
                let mut size = 0;
                for bundle in run {
                    if !self.reader.is_freed(*bundle)? {
                        self.reader.archived_bundle(*bundle)?;
                        let place = self.reader.place_of(*bundle)?;
                        size += place.end - place.start;
                    }
                }
                if size > 0 {
                    let begin = self.reader.place_of(*first)?.start;
                    let len = self.reader.place_of(*last)?.end - begin;
                    self.disk
                        .punch(&own.file, begin, len)
                        .map_err(|e| failed("free a part of", &own.path, e))?;
                    freed += size;
                }
            }
        }
        Ok(freed)
    }

    fn path_of(&self, bundle: u64) -> Result<TilePath, StoreError> {
        let size = self.reader.head().size;
        TilePath::at(TileKind::Entries, bundle, size)
            .ok_or(StoreError::Tree(TreeError::TooLarge { size }))
    }
}

/// Why an archive is not written.
enum ArchiveError {
    /// The log cannot be read.
    Store(StoreError),
    /// The file cannot be written.
    Io(io::Error),
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<BuildError> for ArchiveError {
    fn from(error: BuildError) -> Self {
        Self::Io(io::Error::other(error))
    }
}

fn archive_dir(dir: &Path) -> PathBuf {
    dir.join("archive")
}

fn index_file(dir: &Path) -> PathBuf {
    archive_dir(dir).join("index")
}

/// The index of the archives of a log, which is empty if there is none.
fn load_index(dir: &Path) -> Result<ArchiveIndex, StoreError> {
    let path = index_file(dir);
    let file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(ArchiveIndex::default()),
        opened => opened.map_err(|e| failed("open", &path, e))?,
    };
    let mut text = String::new();
    file.take(INDEX_SIZE_MAX as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|e| failed("read", &path, e))?;
    text.parse()
        .map_err(|error: IndexError| damaged(&path, error.to_string()))
}

impl LogReader {
    /// The archive that a bundle is in, if it is in one, and its file.
    fn archive_of(&self, bundle: u64) -> Result<Option<(Archived, Growing)>, StoreError> {
        let index = load_index(self.dir())?;
        let Some(archived) = index.of_entry(bundle * BUNDLE_WIDTH).copied() else {
            return Ok(None);
        };
        let car = open_archive(self.dir(), &archived)?;
        Ok(Some((archived, car)))
    }

    /// A bundle out of its archive, if it is in one. It is that of the log's tree.
    pub(super) fn archived_bundle(&self, bundle: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let size = self.head().size;
        if bundle >= size / BUNDLE_WIDTH {
            // The log has grown since, and what was its last bundle is archived.
            let later = Self::open(self.dir())?;
            let later = later.filter(|later| later.head().size > size);
            return later.map_or(Ok(None), |later| later.archived_bundle(bundle));
        }
        let Some((archived, car)) = self.archive_of(bundle)? else {
            return Ok(None);
        };
        let sizes = (archived.first / BUNDLE_WIDTH..=bundle)
            .map(|bundle| self.place_of(bundle).map(|place| place.end - place.start))
            .collect::<Result<Vec<u64>, _>>()?;
        let size = sizes.last().copied().unwrap_or(0) as usize;
        let bytes = car.read(bundle_offset(&sizes), size)?;
        let (entries, taken) = split_entries(&bytes, BUNDLE_WIDTH);
        let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        let whole = leaves.len() as u64 == BUNDLE_WIDTH && taken == size;
        if !whole || node_over(&leaves) != self.node(8, bundle)? {
            let first = bundle * BUNDLE_WIDTH;
            return Err(car.damaged(&format!(
                "it does not have entries {first} to {} of the log",
                first + BUNDLE_WIDTH - 1
            )));
        }
        Ok(Some(bytes))
    }

    /// Whether a bundle was taken out of the log's own file.
    fn is_freed(&self, bundle: u64) -> Result<bool, StoreError> {
        let place = self.place_of(bundle)?;
        let begin = self.entries.read(place.start, 2)?;
        Ok(begin == [0, 0])
    }

    /// The sealed details in the archive that an entry is in; nothing if it is in none.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn archived_details(&self, seq: u64) -> Result<Option<ArchivedDetails>, StoreError> {
        let bundle = seq / BUNDLE_WIDTH;
        let Some((archived, car)) = self.archive_of(bundle)? else {
            return Ok(None);
        };
        let path = &car.path;
        let unread = |error: CarError| damaged(path, error.to_string());
        let input = car.file.try_clone().map_err(|e| failed("read", path, e))?;
        let mut blocks = car::Reader::new(BufReader::new(input)).map_err(unread)?;
        let mut places = HashMap::new();
        let mut skipped = archived.bundles();
        while let Some(block) = blocks.next_unverified().map_err(unread)? {
            if skipped.next().is_none() {
                let size = block.bytes.len();
                places.insert(block.cid, (blocks.offset() - size as u64, size));
            }
        }
        Ok(Some(ArchivedDetails {
            entries: archived.first..archived.end,
            file: car,
            places,
        }))
    }
}

/// The sealed details in an archive.
#[derive(Debug)]
pub struct ArchivedDetails {
    entries: Range<u64>,
    file: Growing,
    /// Where each block is, and its size.
    places: HashMap<Cid, (u64, usize)>,
}

impl ArchivedDetails {
    /// The entries that are in the archive.
    #[must_use]
    pub fn entries(&self) -> &Range<u64> {
        &self.entries
    }

    /// The CIDs of its blocks.
    pub fn cids(&self) -> impl Iterator<Item = &Cid> {
        self.places.keys()
    }

    /// A block of them, if it is there.
    ///
    /// # Errors
    /// It cannot be read, or is another.
    pub fn block(&self, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let Some((offset, size)) = self.places.get(cid) else {
            return Ok(None);
        };
        let bytes = self.file.read(*offset, *size)?;
        let block = UnverifiedBlock { cid: *cid, bytes };
        let verified = block.verify();
        verified
            .map(Some)
            .map_err(|error| self.file.damaged(&error.to_string()))
    }
}

/// The archives of a log, read from their beginnings on: to make its other files again.
#[derive(Debug)]
pub(super) struct Bundles {
    dir: PathBuf,
    index: ArchiveIndex,
    /// The archive that is read, and its bundles that were not.
    open: Option<(car::Reader<BufReader<File>>, Range<u64>, PathBuf)>,
}

impl Bundles {
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            dir: dir.to_owned(),
            index: load_index(dir)?,
            open: None,
        })
    }

    /// A bundle that is in an archive, behind all that were asked for before; nothing if it is in none.
    pub(super) fn get(&mut self, bundle: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let is_open = (self.open.as_ref()).is_some_and(|(_, left, _)| left.contains(&bundle));
        if !is_open {
            let archived = self.index.of_entry(bundle * BUNDLE_WIDTH);
            let Some(archived) = archived else {
                return Ok(None);
            };
            let car = open_archive(&self.dir, archived)?;
            let reader = car::Reader::new(BufReader::new(car.file));
            let reader = reader.map_err(|error| damaged(&car.path, error.to_string()))?;
            self.open = Some((reader, archived.bundles(), car.path));
        }
        let Some((reader, left, path)) = &mut self.open else {
            return Ok(None);
        };
        let unread = |error: CarError| damaged(path, error.to_string());
        for number in left {
            if number == bundle {
                let block = reader.next_block().map_err(unread)?;
                let block = block.ok_or_else(|| damaged(path, "it ends too early".to_owned()))?;
                return Ok(Some(block.into_bytes()));
            }
            reader.next_unverified().map_err(unread)?;
        }
        Ok(None)
    }
}

/// Opens the file of an archive.
fn open_archive(dir: &Path, archived: &Archived) -> Result<Growing, StoreError> {
    let path = archive_dir(dir).join(archived.file_name());
    match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::ArchiveMissing {
            first: archived.first,
            last: archived.end - 1,
            root: archived.root,
            path,
        }),
        opened => {
            let file = opened.map_err(|e| failed("open", &path, e))?;
            Ok(Growing { file, path })
        }
    }
}

fn damaged(path: &Path, what: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        what,
    }
}

fn not_written(path: PathBuf, cause: io::Error) -> StoreError {
    if is_full(&cause) {
        return StoreError::LogFull { path, cause };
    }
    failed("write", &path, cause)
}
