//! The index, wherever it is: held by this process, or asked of the one that holds it.
//!
//! Holding begins with the lock, then the index is opened and the packs are recovered: the same
//! steps after a crash and after a clean end.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, RwLock, Weak},
    time::{Duration, Instant},
};

pub(crate) use crate::owned::Owned;
use crate::{
    StoreError, Table,
    disk::Disk,
    head::Head,
    index::{Blocks, Changes, Index, Location, Page, SCHEMA, SCHEMA_OLDEST},
    lock::Lock,
    pack::{self, Leftovers, failed},
    socket::{Client, ClientError, Server, ask_for_lock},
};

/// How long to wait for a process that is about to let go of the store.
const IN_USE_WAIT: Duration = Duration::from_millis(400);
/// How often in a row the process that holds the store may be gone when it is asked.
const ATTACH_MAX: u32 = 16;

/// What a writer begins with.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) packs: BTreeMap<u32, u64>,
    pub(crate) blocks: Blocks,
}

/// Answers where blocks are and what tables hold.
#[derive(Debug)]
pub(crate) struct Catalog {
    home: PathBuf,
    purpose: String,
    disk: Arc<Disk>,
    access: Arc<RwLock<Access>>,
}

#[derive(Debug)]
enum Access {
    Owner(Owner),
    Remote(Client),
    /// Nobody was asked yet, or the lock was handed over.
    Detached,
}

/// A holder of the store that only reads, and lets go of it when a writer asks.
#[derive(Debug)]
pub(crate) struct Reader {
    access: Weak<RwLock<Access>>,
}

impl Reader {
    /// Closes the index, and gives the lock; nothing if the store is being dropped.
    pub(crate) fn let_go(self) -> Option<Lock> {
        let access = self.access.upgrade()?;
        let mut access = access.write().expect("no panic while it is held");
        match std::mem::replace(&mut *access, Access::Detached) {
            Access::Owner(Owner {
                server,
                owned,
                lock,
            }) => {
                drop((server, owned));
                Some(lock)
            }
            other => {
                *access = other;
                None
            }
        }
    }
}

/// What the holder of the store has, in the order in which it lets go.
#[derive(Debug)]
struct Owner {
    server: Option<Server>,
    owned: Arc<Owned>,
    lock: Lock,
}

pub(crate) fn packs_dir(home: &Path) -> PathBuf {
    home.join("packs")
}

fn index_dir(home: &Path) -> PathBuf {
    home.join("index")
}

impl Catalog {
    /// Takes hold of the store to write; it is created if there is none.
    pub(crate) fn open(
        home: &Path,
        purpose: &str,
        disk: Arc<Disk>,
        beyond: Leftovers<'_>,
    ) -> Result<(Self, Loaded), StoreError> {
        if !home.is_dir() {
            disk.create_dir(home)
                .map_err(|e| failed("create", home, e))?;
        }
        let lock = patiently(|| match Lock::take(home, purpose, &disk) {
            Err(in_use @ StoreError::InUse { .. }) => {
                let given = ask_for_lock(home).ok_or(in_use)?;
                Lock::adopt(given, home, purpose, &disk)
            }
            taken => taken,
        })?;
        let (owner, loaded) = own(home, lock, &disk, None, beyond)?;
        Ok((Self::new(home, purpose, disk, Access::Owner(owner)), loaded))
    }

    /// Finds a way to read the store.
    pub(crate) fn open_read(
        home: &Path,
        purpose: &str,
        disk: Arc<Disk>,
    ) -> Result<Self, StoreError> {
        if !index_dir(home).is_dir() {
            require_index(home)?;
            return Err(StoreError::Missing {
                home: home.to_owned(),
            });
        }
        let catalog = Self::new(home, purpose, disk, Access::Detached);
        catalog.attach()?;
        Ok(catalog)
    }

    fn new(home: &Path, purpose: &str, disk: Arc<Disk>, access: Access) -> Self {
        Self {
            home: home.to_owned(),
            purpose: purpose.to_owned(),
            disk,
            access: Arc::new(RwLock::new(access)),
        }
    }

    pub(crate) fn locate(&self, multihash: &[u8]) -> Result<Option<Location>, StoreError> {
        self.ask(|own| own.locate(multihash), |far| far.locate(multihash))
    }

    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|own| own.value(table, key), |far| far.value(table, key))
    }

    pub(crate) fn page(&self, table: Table, after: Option<&[u8]>) -> Result<Page, StoreError> {
        self.ask(|own| own.page(table, after), |far| far.page(table, after))
    }

    pub(crate) fn blocks(&self) -> Result<Blocks, StoreError> {
        self.ask(Owned::blocks, Client::blocks)
    }

    /// Makes changes durable, as [`Owned::commit`] does.
    pub(crate) fn commit(&self, changes: &Changes<'_>) -> io::Result<()> {
        match &*self.access.read().expect("no panic while it is held") {
            Access::Owner(owner) => owner.owned.commit(changes),
            Access::Remote(_) | Access::Detached => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Asks whoever holds the store, which may become this process if the one that did is gone.
    fn ask<T>(
        &self,
        own: impl Fn(&Owned) -> Result<T, StoreError>,
        far: impl Fn(&Client) -> Result<T, ClientError>,
    ) -> Result<T, StoreError> {
        for _ in 0..ATTACH_MAX {
            match &*self.access.read().expect("no panic while it is held") {
                Access::Owner(owner) => return own(&owner.owned),
                Access::Remote(client) => match far(client) {
                    Ok(answer) => return Ok(answer),
                    Err(ClientError::Failed(error)) => return Err(error),
                    Err(ClientError::Gone) => {}
                },
                Access::Detached => {}
            }
            self.attach()?;
        }
        Err(StoreError::Answer {
            what: format!("it was gone {ATTACH_MAX} times in a row"),
        })
    }

    /// Takes hold of the store to read, or finds the process that holds it, unless that was done
    /// meanwhile.
    fn attach(&self) -> Result<(), StoreError> {
        let mut access = self.access.write().expect("no panic while it is held");
        match &*access {
            Access::Owner(_) => return Ok(()),
            Access::Remote(client) if !client.is_gone() => return Ok(()),
            Access::Remote(_) | Access::Detached => {}
        }
        let (home, disk) = (&self.home, &self.disk);
        *access = patiently(|| match Lock::take(home, &self.purpose, disk) {
            Ok(lock) => {
                let reader = Reader {
                    access: Arc::downgrade(&self.access),
                };
                Ok(Access::Owner(
                    own(home, lock, disk, Some(reader), Leftovers::Stay)?.0,
                ))
            }
            Err(in_use @ StoreError::InUse { .. }) => {
                Client::connect(home).map(Access::Remote).ok_or(in_use)
            }
            Err(error) => Err(error),
        })?;
        Ok(())
    }
}

/// Tries again while the store is in use, for a short time.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let began = Instant::now();
    loop {
        match attempt() {
            Err(StoreError::InUse { .. }) if began.elapsed() < IN_USE_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// Opens the index and begins to serve it.
fn own(
    home: &Path,
    lock: Lock,
    disk: &Arc<Disk>,
    reader: Option<Reader>,
    beyond: Leftovers<'_>,
) -> Result<(Owner, Loaded), StoreError> {
    // Before the index is opened, which may take long: readers wait rather than give up.
    let socket = Server::bind(home, disk);
    let (index, head, loaded) = load(home, disk, beyond)?;
    let owned = Arc::new(Owned::new(&index_dir(home), disk.clone(), head, index));
    let server = socket.and_then(|socket| Server::start(socket, owned.clone(), reader));
    let server = server
        .inspect_err(|e| tracing::warn!(error = %e, "others cannot read the store meanwhile"))
        .ok();
    let owner = Owner {
        server,
        owned,
        lock,
    };
    Ok((owner, loaded))
}

/// Opens the index and recovers the packs.
fn load(
    home: &Path,
    disk: &Disk,
    beyond: Leftovers<'_>,
) -> Result<(Index, Head, Loaded), StoreError> {
    require_index(home)?;
    let (packs_dir, index_dir) = (packs_dir(home), index_dir(home));
    for dir in [&packs_dir, &index_dir] {
        if !dir.is_dir() {
            disk.create_dir(dir).map_err(|e| failed("create", dir, e))?;
        }
    }
    let index = Index::open(&index_dir, disk).map_err(|e| index_failed("open", &index_dir, e))?;
    let read = |e| index_failed("read", &index_dir, e);
    match index.schema().map_err(read)? {
        None if index.is_empty() && !pack::any(&packs_dir)? => {
            begin(home, &index, disk)?;
        }
        None => {
            return Err(StoreError::Damaged {
                path: index_dir,
                what: "it is not the index of the packs that are there".to_owned(),
            });
        }
        Some(found) if is_known(&found) => {}
        Some(found) => {
            let found = <[u8; 4]>::try_from(found.as_slice()).map_or_else(
                |_| format!("{found:?}"),
                |number| u32::from_be_bytes(number).to_string(),
            );
            return Err(StoreError::Schema {
                found,
                known: SCHEMA,
            });
        }
    }
    let head = Head::check(home, index.commits().map_err(read)?, disk)?;
    let packs = index.packs().map_err(read)?;
    let blocks = index.blocks().map_err(read)?;
    pack::recover(&packs_dir, &packs, disk, beyond)?;
    Ok((index, head, Loaded { packs, blocks }))
}

/// Whether this program reads a schema.
fn is_known(schema: &[u8]) -> bool {
    <[u8; 4]>::try_from(schema)
        .is_ok_and(|number| (SCHEMA_OLDEST..=SCHEMA).contains(&u32::from_be_bytes(number)))
}

/// Refuses packs whose index is gone, before a new one is made.
fn require_index(home: &Path) -> Result<(), StoreError> {
    let (packs_dir, index_dir) = (packs_dir(home), index_dir(home));
    if index_dir.is_dir() || !packs_dir.is_dir() || !pack::any(&packs_dir)? {
        return Ok(());
    }
    Err(StoreError::Damaged {
        path: index_dir,
        what: "it is missing, and the packs are there".to_owned(),
    })
}

/// Tells an index that cannot be understood from a file that cannot be read.
fn index_failed(what: &'static str, dir: &Path, cause: io::Error) -> StoreError {
    match cause.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StoreError::Damaged {
            path: dir.to_owned(),
            what: cause.to_string(),
        },
        _ => failed(what, dir, cause),
    }
}

/// Makes an empty store durable, names included, before anything is promised.
fn begin(home: &Path, index: &Index, disk: &Disk) -> Result<(), StoreError> {
    let dir = index_dir(home);
    index
        .begin(SCHEMA, disk)
        .map_err(|e| failed("write", &dir, e))?;
    let conf = dir.join("conf");
    let file = std::fs::File::open(&conf).map_err(|e| failed("open", &conf, e))?;
    disk.sync(&file, &conf)
        .map_err(|e| failed("sync", &conf, e))?;
    let parent = home.parent().filter(|path| !path.as_os_str().is_empty());
    for dir in [Some(dir.as_path()), Some(home), parent]
        .into_iter()
        .flatten()
    {
        disk.sync_dir(dir).map_err(|e| failed("sync", dir, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use protocol::block::{Block, raw_cid, sha256};

    use super::*;
    use crate::Store;

    fn index(home: &Path) -> (Index, Disk) {
        let disk = Disk::default();
        drop(Store::open(home, "test").unwrap());
        (Index::open(&index_dir(home), &disk).unwrap(), disk)
    }

    #[test]
    fn refuses_a_schema_that_it_does_not_know() {
        let home = tempfile::tempdir().unwrap();
        let (index, disk) = index(home.path());
        index.begin(SCHEMA + 1, &disk).unwrap();
        drop(index);
        match Store::open(home.path(), "test") {
            Err(StoreError::Schema { found, known }) => {
                assert_eq!((found.as_str(), known), ("3", 2));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refuses_an_entry_that_points_outside_of_its_pack() {
        let home = tempfile::tempdir().unwrap();
        let (index, disk) = index(home.path());
        let store_a_pack = packs_dir(home.path()).join("00000000.car");
        std::fs::write(store_a_pack, pack::HEADER).unwrap();
        let cid = |n: u8| raw_cid(&[n; 32]);
        let at = |pack, offset, size| Location {
            pack,
            offset,
            size,
            codec: 0x55,
            checksum: None,
        };
        let keys = [0, 1, 2].map(|n| cid(n).hash().to_bytes());
        let places = [at(0, 18, 1), at(7, 18, 1), at(0, 0, u32::MAX)];
        let changes = Changes {
            blocks: keys.iter().map(Vec::as_slice).zip(places).collect(),
            packs: vec![(0, pack::HEADER.len() as u64)],
            ..Changes::default()
        };
        index.commit(&changes, &disk).unwrap();
        drop(index);
        let store = Store::open(home.path(), "test").unwrap();
        for n in 0..3 {
            let found = store.get(&cid(n));
            assert!(
                matches!(found, Err(StoreError::Damaged { .. })),
                "{n}: {found:?}"
            );
        }
    }

    /// A store of the oldest schema, whose entries have 24 bytes.
    fn older(home: &Path, texts: &[&[u8]]) {
        drop(Store::open(home, "test").unwrap());
        let mut pack = pack::HEADER.to_vec();
        let mut entries = Vec::new();
        for text in texts {
            let cid = raw_cid(&sha256(text));
            pack.extend(pack::frame_head(&cid, text.len()));
            let mut entry = vec![0; 4];
            entry.extend((pack.len() as u64).to_be_bytes());
            entry.extend((text.len() as u32).to_be_bytes());
            entry.extend(0x55u64.to_be_bytes());
            assert_eq!(entry.len(), 24);
            pack.extend(*text);
            entries.push((cid.hash().to_bytes(), Location::from_bytes(&entry).unwrap()));
            assert_eq!(entries.last().unwrap().1.to_bytes(), entry);
        }
        std::fs::write(packs_dir(home).join("00000000.car"), &pack).unwrap();
        let disk = Disk::default();
        let index = Index::open(&index_dir(home), &disk).unwrap();
        let changes = Changes {
            blocks: entries.iter().map(|(key, at)| (&key[..], *at)).collect(),
            packs: vec![(0, pack.len() as u64)],
            total: Blocks {
                count: texts.len() as u64,
                size_bytes: texts.iter().map(|text| text.len() as u64).sum(),
            },
            ..Changes::default()
        };
        index.commit(&changes, &disk).unwrap();
        std::fs::write(home.join("head"), format!("{:020}\n", 1)).unwrap();
        index.begin(SCHEMA_OLDEST, &disk).unwrap();
    }

    fn schema(home: &Path) -> Option<Vec<u8>> {
        let index = Index::open(&index_dir(home), &Disk::default()).unwrap();
        index.schema().unwrap()
    }

    #[test]
    fn reads_a_store_of_the_oldest_schema_and_makes_it_the_current_one() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        older(home, &[b"one", b"two"]);
        let pack = packs_dir(home).join("00000000.car");
        let mut bytes = std::fs::read(&pack).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&pack, bytes).unwrap();
        let given = |store: &Store, text: &[u8]| match store
            .get_checked(&raw_cid(&sha256(text)), Vec::with_capacity)
        {
            Ok(bytes) => bytes.as_deref() == Some(text),
            Err(StoreError::DamagedBlock { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        {
            let store = Store::open_read(home, "test").unwrap();
            assert!(given(&store, b"one"), "its hash tells that it is sound");
            assert!(!given(&store, b"two"));
        }
        assert_eq!(schema(home).unwrap(), SCHEMA_OLDEST.to_be_bytes());
        {
            let store = Store::open(home, "test").unwrap();
            let three = Block::verify(raw_cid(&sha256(b"three")), b"three".to_vec()).unwrap();
            store.put(three).unwrap();
            store.commit().unwrap();
        }
        assert_eq!(schema(home).unwrap(), SCHEMA.to_be_bytes());
        let store = Store::open(home, "test").unwrap();
        let all = [b"one".as_slice(), b"two", b"three"].map(|text| given(&store, text));
        assert_eq!(all, [true, false, true]);
        assert_eq!(store.blocks().unwrap().count, 3);
    }
}
