//! What the packs of a home really hold, read as the CARs that they are.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use agent::{
    blocks::{Blocks, BlocksError},
    catalog,
};
use cid::Cid;
use protocol::{
    block::check,
    car::Reader,
    snapshot::{Object, Visit, walk},
};
use store::{Store, Table};

/// A block in a pack.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its CID.
    pub cid: Cid,
    /// The pack.
    pub pack: PathBuf,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub len: u64,
}

/// All blocks of all packs of a home, in order, repeated ones too.
///
/// # Panics
/// A pack is no CAR.
#[must_use]
pub fn blocks(home: &Path) -> Vec<Place> {
    let mut packs: Vec<PathBuf> = fs::read_dir(home.join("packs"))
        .expect("packs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    packs.sort();
    packs.iter().flat_map(|pack| of_car(pack)).collect()
}

/// All blocks of a CAR.
///
/// # Panics
/// It is none.
#[must_use]
pub fn of_car(path: &Path) -> Vec<Place> {
    let file = File::open(path).expect("opens");
    let mut reader = Reader::new(BufReader::new(file)).expect("begins as a CAR");
    let mut found = Vec::new();
    while let Some(block) = reader.next_unverified().expect("whole sections") {
        let len = block.bytes.len() as u64;
        found.push(Place {
            cid: block.cid,
            pack: path.to_owned(),
            offset: reader.offset() - len,
            len,
        });
    }
    found
}

/// How many whole blocks the first pack has, whether or not a commit covers them.
///
/// # Panics
/// It is there, and is no CAR.
#[must_use]
pub fn whole(home: &Path) -> u64 {
    let Ok(file) = File::open(home.join("packs/00000000.car")) else {
        return 0;
    };
    let mut reader = Reader::new(BufReader::new(file)).expect("begins as a CAR");
    let mut count = 0;
    while let Ok(Some(block)) = reader.next_unverified() {
        count += u64::from(block.verify().is_ok());
    }
    count
}

/// Bytes of all packs, as their files are now.
#[must_use]
pub fn size(home: &Path) -> u64 {
    let len = |entry: fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    fs::read_dir(home.join("packs")).map_or(0, |packs| packs.flatten().map(len).sum())
}

/// Checks every block of every snapshot that is listed, each block once, and returns their roots.
///
/// # Panics
/// Something is missing or damaged.
#[must_use]
pub fn check_listed(store: &Store) -> Vec<Cid> {
    let blocks = Blocks::Store(store);
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    let listed = catalog::snapshots(store).expect("lists");
    for (root, _) in &listed {
        each_object(&blocks, root, &mut |object| {
            if seen.insert(object.block) {
                let block = store.get(&object.cid()).expect("reads").expect("is there");
                check(&object.cid(), &block.bytes).expect("matches its CID");
                assert_eq!(block.bytes.len(), object.len as usize);
            }
        });
    }
    listed.into_iter().map(|(root, _)| root).collect()
}

/// Goes through a snapshot, and returns its public blocks.
///
/// # Panics
/// A public block is missing or damaged.
pub fn each_object(blocks: &Blocks<'_>, root: &Cid, take: &mut dyn FnMut(&Object)) -> Vec<Cid> {
    let mut public = Vec::new();
    walk(root, &mut |cid| blocks.block(cid), &mut |visit| {
        match visit {
            Visit::Public { block, .. } => public.push(*block.cid()),
            Visit::Object(object) => take(&object),
            Visit::Damage(damage) => panic!("{damage:?}"),
        }
        Ok::<(), BlocksError>(())
    })
    .expect("walks");
    public
}

/// Blocks of the store that no snapshot and no record of a sealed piece names, by codec.
///
/// # Panics
/// A block is in the packs twice, or the records are malformed.
#[must_use]
pub fn unnamed(home: &Path) -> BTreeMap<u64, usize> {
    let store = Store::open(home, "a test").expect("the store opens");
    let mut unnamed = HashSet::new();
    for place in blocks(home) {
        assert!(unnamed.insert(place.cid), "{} is stored twice", place.cid);
    }
    let durable = store.blocks().expect("reads").count;
    assert_eq!(durable, unnamed.len() as u64, "blocks that the index has");
    for entry in store.scan(Table::Pieces) {
        let (key, _) = entry.expect("reads");
        let key = key.as_slice().try_into().expect("32 bytes");
        let kept = catalog::piece(&store, &key)
            .expect("reads")
            .expect("is there");
        unnamed.remove(&kept.segment.cid());
    }
    let from = Blocks::Store(&store);
    for (root, _) in catalog::snapshots(&store).expect("lists") {
        let mut named = Vec::new();
        named.extend(each_object(&from, &root, &mut |_| {}));
        unnamed.retain(|cid| !named.contains(cid));
    }
    let mut by_codec = BTreeMap::new();
    for cid in unnamed {
        *by_codec.entry(cid.codec()).or_default() += 1;
    }
    by_codec
}
