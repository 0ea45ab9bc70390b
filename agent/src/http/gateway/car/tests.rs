//! Walks over DAGs of a store of the test's own.

use std::collections::BTreeSet;

use protocol::{
    block::{CODEC_DAG_PB, raw_cid, sha256},
    car::Reader,
    unixfs::{BuildError, Entry, Link, Part, directory, file},
};
use store::Store;

use super::*;
use crate::sharing::{self, Share};

struct Fixture {
    _home: tempfile::TempDir,
    store: Arc<Store>,
    shelf: Arc<Shelf>,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Store::open(home.path(), "test").expect("opens"));
        let shelf = Arc::new(Shelf::new(store.clone()));
        let _home = home;
        Self {
            _home,
            store,
            shelf,
        }
    }

    fn leaf(&self, bytes: &[u8]) -> Cid {
        let cid = raw_cid(&sha256(bytes));
        let block = Block::verify(cid, bytes.to_vec()).expect("its own hash");
        self.store.put(block).expect("puts");
        cid
    }

    fn node(&self, node: &Node) -> Cid {
        let bytes = node.encode().expect("no leaf");
        let hash = *raw_cid(&sha256(&bytes)).hash();
        let cid = Cid::new_v1(CODEC_DAG_PB, hash);
        let block = Block::verify(cid, bytes).expect("its own hash");
        self.store.put(block).expect("puts");
        cid
    }

    fn directory(&self, entries: Vec<Entry>) -> Link {
        let keep = &mut |block| {
            self.store
                .put(block)
                .map(drop)
                .map_err(|_| BuildError::NoLeaves)
        };
        directory::<BuildError>(entries, keep).expect("builds")
    }

    /// A file of leaves of `size` bytes, in nodes of 1,024 parts.
    fn file(&self, leaves: u32, size: usize) -> (Link, Vec<Cid>) {
        let leaf = |n: u32| {
            let mut bytes = vec![0; size];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            self.leaf(&bytes)
        };
        let all: Vec<Cid> = (0..leaves).map(leaf).collect();
        let with_len: Vec<(Cid, u64)> = all.iter().map(|cid| (*cid, size as u64)).collect();
        let keep = &mut |block| {
            self.store
                .put(block)
                .map(drop)
                .map_err(|_| BuildError::NoLeaves)
        };
        (file::<BuildError>(&with_len, keep).expect("builds"), all)
    }

    fn share(&self, root: &Cid, public: bool) {
        self.store.commit().expect("commits");
        let share = Share {
            public,
            ..Share::default()
        };
        sharing::set_share(&self.store, root, &share).expect("sets");
        self.shelf.refresh().expect("refreshes");
    }

    fn begin(&self, root: Cid, path: &[&str], scope: Scope) -> Result<Walk, u16> {
        let path = path.iter().map(|&name| name.to_owned()).collect();
        let ask = CarAsk { root, path, scope };
        Walk::begin(&self.shelf, &ask).map_err(|refusal| refusal.status)
    }

    /// The blocks of the CAR that is made, in order.
    fn car(&self, root: Cid, path: &[&str], scope: Scope) -> Vec<Cid> {
        let mut walk = self.begin(root, path, scope).expect("begins");
        let mut bytes = Vec::new();
        loop {
            let step = walk.step().expect("goes on");
            if step.is_empty() {
                break;
            }
            bytes.extend_from_slice(&step);
        }
        let mut reader = Reader::new(&bytes[..]).expect("a CAR");
        assert_eq!(reader.roots(), [root]);
        let mut found = Vec::new();
        while let Some(block) = reader.next_unverified().expect("a block") {
            found.push(*block.verify().expect("undamaged").cid());
        }
        let once: BTreeSet<&Cid> = found.iter().collect();
        assert_eq!(once.len(), found.len(), "no block twice");
        found
    }
}

fn entry(name: &str, link: Link) -> Entry {
    Entry {
        name: name.to_owned(),
        cid: link.cid,
        tsize: link.tsize,
    }
}

fn link(cid: Cid) -> Link {
    Link { cid, tsize: 9 }
}

const ALL: Scope = Scope::All;
const ENTITY: Scope = Scope::Entity(None);

#[test]
fn a_path_leads_to_what_its_scope_says() {
    let on = Fixture::new();
    let (one, two) = (on.leaf(b"one"), on.leaf(b"two"));
    let inner = on.directory(vec![entry("one", link(one)), entry("two", link(two))]);
    let root = on
        .directory(vec![entry("again", link(one)), entry("inner", inner)])
        .cid;
    on.share(&root, true);
    let inner = inner.cid;
    assert_eq!(on.car(root, &[], ALL), [root, one, inner, two]);
    assert_eq!(on.car(root, &[], ENTITY), [root]);
    assert_eq!(on.car(root, &[], Scope::Block), [root]);
    assert_eq!(on.car(root, &["inner"], ALL), [root, inner, one, two]);
    assert_eq!(on.car(root, &["inner"], ENTITY), [root, inner]);
    assert_eq!(on.car(root, &["inner", "two"], ALL), [root, inner, two]);
    assert_eq!(on.car(one, &[], ALL), [one]);
    for path in [&["outer"][..], &["again", "x"], &["inner", "three"]] {
        assert_eq!(on.begin(root, path, ALL).err(), Some(404), "{path:?}");
    }
    on.share(&root, false);
    assert_eq!(on.begin(root, &[], ALL).err(), Some(404));
}

#[test]
fn a_sharded_directory_is_followed_and_listed() {
    let on = Fixture::new();
    let leaf = on.leaf(b"leaf");
    let other = on.leaf(b"other");
    let name = |n: u32| format!("{n:0250}");
    let mut entries: Vec<Entry> = (0..2000).map(|n| entry(&name(n), link(leaf))).collect();
    entries[1234].cid = other;
    let root = on.directory(entries).cid;
    on.share(&root, true);
    let all = on.car(root, &[], ALL);
    let shards = on.car(root, &[], ENTITY);
    assert!(shards.len() > 100, "{}", shards.len());
    assert!(shards.iter().all(|cid| cid.codec() == CODEC_DAG_PB));
    assert_eq!(all.len(), shards.len() + 2);
    let path = on.car(root, &[&name(1234)], ALL);
    assert_eq!((path.first(), path.last()), (Some(&root), Some(&other)));
    assert!(path.len() > 2 && path.len() < 6, "{path:?}");
    assert_eq!(on.begin(root, &["absent"], ALL).err(), Some(404));
}

#[test]
fn a_part_of_a_file_takes_the_blocks_that_it_is_in() {
    let on = Fixture::new();
    let (file, leaves) = on.file(2500, 10);
    on.share(&file.cid, true);
    let root = file.cid;
    let leaves_of = |from, to| {
        let found = on.car(root, &[], Scope::Entity(Some(ByteRange { from, to })));
        let leaf = |cid: &Cid| leaves.iter().position(|leaf| leaf == cid);
        let nodes = found.iter().filter(|cid| leaf(cid).is_none()).count();
        let of_file: Vec<usize> = found.iter().filter_map(leaf).collect();
        (nodes, of_file)
    };
    assert_eq!(leaves_of(0, Some(0)), (2, vec![0]));
    assert_eq!(leaves_of(15, Some(30)), (2, vec![1, 2, 3]));
    assert_eq!(leaves_of(10_239, Some(10_240)), (3, vec![1023, 1024]));
    assert_eq!(leaves_of(-1, None), (2, vec![2499]));
    assert_eq!(leaves_of(25_000, None), (1, vec![]), "beyond the end");
    assert_eq!(leaves_of(0, None).1.len(), 2500);
    assert_eq!(on.car(root, &[], ENTITY), on.car(root, &[], ALL));
}

#[test]
fn a_block_that_is_gone_or_taken_back_ends_the_car() {
    let on = Fixture::new();
    let here = on.leaf(b"here");
    let absent = raw_cid(&sha256(b"absent"));
    let root = on
        .directory(vec![entry("a", link(here)), entry("b", link(absent))])
        .cid;
    on.share(&root, true);
    let mut walk = on.begin(root, &[], ALL).expect("begins");
    assert!(matches!(walk.step(), Err(CarFailure::Missing { cid }) if cid == absent));

    let (file, _) = on.file(1000, 1000);
    on.share(&file.cid, true);
    let mut walk = on.begin(file.cid, &[], ALL).expect("begins");
    assert!(!walk.step().expect("goes on").is_empty());
    on.share(&file.cid, false);
    assert!(matches!(walk.step(), Err(CarFailure::Missing { .. })));
}

#[test]
fn a_dag_that_doubles_at_each_level_takes_no_longer() {
    let on = Fixture::new();
    let mut below = on.leaf(b"x");
    let mut len = 1;
    for _ in 0..40 {
        let part = Part {
            link: link(below),
            len,
        };
        below = on.node(&Node::File(File {
            raw: false,
            data: Vec::new(),
            parts: vec![part, part],
        }));
        len *= 2;
    }
    on.share(&below, true);
    assert_eq!(on.car(below, &[], ALL).len(), 41);
    let range = ByteRange { from: 0, to: None };
    let mut walk = on
        .begin(below, &[], Scope::Entity(Some(range)))
        .expect("begins");
    assert!(matches!(walk.step(), Err(CarFailure::Shape)));
}
