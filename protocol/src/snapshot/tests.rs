use std::collections::HashMap;

use super::*;
use crate::{
    block::{Block, CODEC_DAG_PB, CODEC_RAW, UnverifiedBlock, raw_cid, sha256},
    seal::Sealed,
    unixfs::{self, BuildError, Entry, File, Link, Node, Part, SHARD_DEPTH_MAX, Slot},
};

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Blocks by their CIDs.
#[derive(Clone, Default)]
struct Blocks(HashMap<Cid, Vec<u8>>);

impl Blocks {
    fn keep(&mut self, block: Block) -> Result<(), TestError> {
        self.0.insert(*block.cid(), block.into_bytes());
        Ok(())
    }

    fn get(&self, cid: &Cid) -> Result<Option<UnverifiedBlock>, TestError> {
        let bytes = self.0.get(cid).cloned();
        Ok(bytes.map(|bytes| UnverifiedBlock { cid: *cid, bytes }))
    }

    fn read(&self, root: &Cid) -> Result<Layout, TestError> {
        Layout::read(root, &mut |cid| self.get(cid))
    }

    fn walk(&self, root: &Cid) -> (Summary, Vec<Object>, Vec<Damage>) {
        let (mut objects, mut damages) = (Vec::new(), Vec::new());
        let summary = walk::<TestError>(root, &mut |cid| self.get(cid), &mut |visit| {
            match visit {
                Visit::Object(object) => objects.push(object),
                Visit::Damage(damage) => damages.push(damage),
                Visit::Public { .. } => {}
            }
            Ok(())
        });
        (summary.expect("no error of its own"), objects, damages)
    }
}

fn objects(numbers: std::ops::Range<u32>) -> Vec<Object> {
    numbers
        .map(|n| Object {
            block: *blake3::hash(&n.to_le_bytes()).as_bytes(),
            len: 1 + n % (1 << 20),
        })
        .collect()
}

/// Bytes of which no two blocks are the same.
fn bytes(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|at| fill ^ (at >> 18) as u8).collect()
}

fn sealed(len: usize, fill: u8) -> Sealed {
    Sealed::new(bytes(len, fill))
}

fn build(blocks: &mut Blocks, capsule: Option<usize>, manifest: usize, count: u32) -> Cid {
    let parts = Parts {
        capsule: capsule.map(|len| sealed(len, 1)),
        manifest: sealed(manifest, 2),
        objects: &mut objects(0..count),
    };
    assemble::<TestError>(parts, &mut |block| blocks.keep(block)).expect("assembles")
}

#[test]
fn what_is_assembled_reads_and_walks_back() {
    for (capsule, manifest, count) in [
        (Some(300), 500, 0),
        (None, 1 << 20, 1),
        (Some(2 << 20), (1 << 20) + 1, 3000),
        (None, 5 << 20, 700_000 / 256),
    ] {
        let mut blocks = Blocks::default();
        let root = build(&mut blocks, capsule, manifest, count);
        let layout = blocks.read(&root).expect("reads");
        assert_eq!(layout.capsule, capsule.map(|len| bytes(len, 1)));
        assert_eq!(layout.manifest, bytes(manifest, 2));
        assert_eq!(layout.recover_sh, crate::recover::RECOVER_SH.as_bytes());
        let (summary, mut found, damages) = blocks.walk(&root);
        assert!(damages.is_empty(), "{damages:?}");
        assert!(!summary.other_texts);
        let mut expected = objects(0..count);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert_eq!(summary.objects, u64::from(count));
        assert_eq!(summary.public_blocks, blocks.0.len() as u64);
    }
}

#[test]
fn a_million_objects_make_small_blocks_and_a_change_rewrites_few() {
    let mut all = objects(0..1_000_000);
    let mut emitted = HashMap::new();
    let mut build = |all: &mut [Object]| {
        let parts = Parts {
            capsule: None,
            manifest: sealed(100, 2),
            objects: all,
        };
        let mut fresh = Vec::new();
        let root = assemble::<TestError>(parts, &mut |block| {
            let len = block.bytes().len();
            if emitted.insert(*block.cid(), len).is_none() {
                fresh.push(len);
            }
            Ok(())
        });
        (root.expect("assembles"), fresh)
    };
    let (before, blocks) = build(&mut all);
    let largest = blocks.iter().max().expect("some");
    assert!(*largest <= unixfs::DIRECTORY_SIZE_MAX, "{largest}");
    all[123_456].block[7] ^= 1;
    let (after, blocks) = build(&mut all);
    assert_ne!(after, before);
    assert!(blocks.len() <= 6, "{blocks:?}");
    assert!(blocks.iter().sum::<usize>() < 64 << 10, "{blocks:?}");
}

#[test]
fn the_order_and_repetition_of_objects_do_not_matter() {
    let mut blocks = Blocks::default();
    let root = build(&mut blocks, None, 9, 1000);
    let mut shuffled = objects(0..1000);
    shuffled.reverse();
    shuffled.extend(objects(5..50));
    let parts = Parts {
        capsule: None,
        manifest: sealed(9, 2),
        objects: &mut shuffled,
    };
    let again = assemble::<TestError>(parts, &mut |_| Ok(())).expect("assembles");
    assert_eq!(again, root);
}

#[test]
fn refuses_to_assemble_what_readers_refuse() {
    let mut two_sizes = objects(0..3);
    two_sizes.push(Object {
        len: 77,
        ..two_sizes[0]
    });
    let mut empty = objects(0..3);
    empty[1].len = 0;
    let mut large = objects(0..3);
    large[1].len = (1 << 20) + 1;
    for mut objects in [two_sizes, empty, large] {
        let parts = Parts {
            capsule: None,
            manifest: sealed(9, 2),
            objects: &mut objects,
        };
        assert!(assemble::<TestError>(parts, &mut |_| Ok(())).is_err());
    }
    let parts = Parts {
        capsule: Some(sealed(5 << 20, 1)),
        manifest: sealed(9, 2),
        objects: &mut [],
    };
    assert!(assemble::<TestError>(parts, &mut |_| Ok(())).is_err());
}

#[test]
fn another_capsule_leaves_everything_else() {
    let mut blocks = Blocks::default();
    let root = build(&mut blocks, Some(300), 500, 300);
    let layout = blocks.read(&root).expect("reads");
    let mut fresh = Vec::new();
    let other = layout
        .replace_capsule::<TestError>(sealed(301, 7), &mut |block| {
            fresh.push(block.clone());
            blocks.keep(block)
        })
        .expect("replaces");
    assert_eq!(fresh.len(), 2);
    let (summary, _, damages) = blocks.walk(&other);
    assert_eq!((summary.objects, damages.len()), (300, 0));
    assert_eq!(
        blocks.read(&other).expect("reads").capsule,
        Some(bytes(301, 7))
    );
}

#[test]
fn folders_are_the_last_two_characters() {
    let mut seen = std::collections::HashSet::new();
    for last in 0..=u8::MAX {
        let mut digest = sha256(&[last]);
        digest[31] = last;
        let name = raw_cid(&digest).to_string();
        assert_eq!(folder(&digest), name[name.len() - 2..]);
        seen.insert(folder(&digest));
    }
    assert_eq!(seen.len(), 256);
}

#[test]
fn a_lost_or_changed_block_is_named_and_the_rest_is_walked() {
    let mut blocks = Blocks::default();
    let mut crowd = objects(0..3000);
    crowd.iter_mut().take(2950).for_each(|o| o.block[31] = 9);
    let parts = Parts {
        capsule: Some(sealed(300, 1)),
        manifest: sealed(3 << 20, 2),
        objects: &mut crowd,
    };
    let root = assemble::<TestError>(parts, &mut |block| blocks.keep(block)).expect("assembles");
    let mut places = Vec::new();
    let get = &mut |cid: &Cid| blocks.get(cid);
    let whole = walk::<TestError>(&root, get, &mut |visit| {
        if let Visit::Public { path, block } = visit {
            places.push((path.to_owned(), *block.cid()));
        }
        Ok(())
    });
    assert_eq!(whole.expect("walks").objects, 3000);
    // Of the many shards of the crowded folder, some.
    let shard = |path: &str| path == format!("s/{}", folder(&[9; 32]));
    let mut shards = 0;
    places.retain(|(path, _)| {
        shards += u32::from(shard(path));
        !shard(path) || shards % 16 == 1
    });
    for (path, cid) in places {
        let bytes = blocks.0.remove(&cid).expect("visited");
        let (summary, found, damages) = blocks.walk(&root);
        let [damage] = &damages[..] else {
            panic!("{damages:?}");
        };
        assert_eq!((&damage.path, damage.cid), (&path, cid));
        assert!(matches!(damage.reason, Reason::Missing));
        match path.as_str() {
            "." | "s" => assert_eq!(found.len(), 0),
            path if path.starts_with("s/") => assert!((1..3000).contains(&found.len())),
            _ => assert_eq!(found.len(), 3000),
        }
        let mut changed = bytes.clone();
        changed[0] ^= 1;
        blocks.0.insert(cid, changed);
        let (again, _, damages) = blocks.walk(&root);
        assert_eq!(again, summary);
        assert!(matches!(damages[0].reason, Reason::Mismatch(_)));
        assert_eq!(blocks.read(&root).is_err(), !path.starts_with('s'));
        blocks.0.insert(cid, bytes);
    }
}

#[test]
fn every_lost_leaf_of_a_file_is_named() {
    let mut blocks = Blocks::default();
    let root = build(&mut blocks, None, 4 << 20, 5);
    blocks
        .0
        .retain(|cid, bytes| cid.codec() != CODEC_RAW || bytes.len() < 1 << 20);
    let (summary, _, damages) = blocks.walk(&root);
    assert_eq!((summary.objects, damages.len()), (5, 4));
    assert!(damages.iter().all(|damage| damage.path == MANIFEST));
}

fn link(blocks: &mut Blocks, node: &Node) -> Link {
    let block = Block::node(node.encode().expect("not raw"));
    let tsize = node.tsize(&block).expect("small");
    let cid = *block.cid();
    blocks.keep(block).expect("kept");
    Link { cid, tsize }
}

fn entry(name: &str, link: Link) -> Entry {
    assemble::entry(name, link)
}

fn leaf(blocks: &mut Blocks, bytes: &[u8]) -> Link {
    let cid = raw_cid(&sha256(bytes));
    blocks.0.insert(cid, bytes.to_vec());
    Link {
        cid,
        tsize: bytes.len() as u64,
    }
}

fn directory(blocks: &mut Blocks, mut entries: Vec<Entry>) -> Link {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    link(blocks, &Node::Directory(entries))
}

/// A root with this manifest and `s`, and one more entry.
fn root(blocks: &mut Blocks, manifest: Link, objects: Link, more: Option<Entry>) -> Cid {
    let text = leaf(blocks, b"other text");
    let entries = [
        entry("RECOVER.md", text),
        entry("recover.sh", text),
        entry(MANIFEST, manifest),
        entry(OBJECTS, objects),
    ];
    directory(blocks, entries.into_iter().chain(more).collect()).cid
}

/// A snapshot whose `s` has one folder, of this name.
fn with_folder(blocks: &mut Blocks, name: &str, folder: Link) -> Cid {
    let manifest = leaf(blocks, b"manifest");
    let objects = directory(blocks, vec![entry(name, folder)]);
    root(blocks, manifest, objects, None)
}

fn with_entry(blocks: &mut Blocks, folder: &str, name: &str, link: Link) -> Cid {
    let directory = directory(blocks, vec![entry(name, link)]);
    with_folder(blocks, folder, directory)
}

fn file_of(blocks: &mut Blocks, lens: &[usize]) -> Link {
    let parts = lens.iter().map(|&len| Part {
        link: leaf(blocks, &bytes(len, 3)),
        len: len as u64,
    });
    let file = File {
        raw: false,
        data: Vec::new(),
        parts: parts.collect(),
    };
    link(blocks, &Node::File(file))
}

/// A folder of one shard for each of these depths, the last with two entries.
fn shards(blocks: &mut Blocks, depth: usize, entries: Vec<Entry>) -> Link {
    let slots = if depth == 0 {
        let hash = |e: &Entry| unixfs::name_hash(&e.name).to_be_bytes()[0];
        let mut slots: Vec<(u8, Slot)> = entries
            .into_iter()
            .map(|e| (hash(&e), Slot::Entry(e)))
            .collect();
        slots.sort_by_key(|(index, _)| *index);
        slots.dedup_by_key(|(index, _)| *index);
        slots
    } else {
        vec![(7, Slot::Shard(shards(blocks, depth - 1, entries)))]
    };
    link(blocks, &Node::Shard(slots))
}

/// Entries that belong in the folder `aa`.
fn good_entries(count: u32) -> Vec<Entry> {
    let fix = |mut object: Object| {
        object.block[31] = 0;
        let link = Link {
            cid: object.cid(),
            tsize: u64::from(object.len),
        };
        entry(&object.cid().to_string(), link)
    };
    objects(0..count).into_iter().map(fix).collect()
}

type Hostile = fn(&mut Blocks) -> Cid;

const HOSTILE: &[(&str, Hostile)] = &[
    ("in a wrong folder", |blocks| {
        let good = good_entries(1).remove(0);
        let link = Link {
            cid: good.cid,
            tsize: 1,
        };
        with_entry(blocks, "ae", &good.name, link)
    }),
    ("a folder of another name", |blocks| {
        let folder = directory(blocks, good_entries(1));
        with_folder(blocks, "ab", folder)
    }),
    ("a name that is not its CID", |blocks| {
        let good = good_entries(1).remove(0);
        let link = Link {
            cid: good.cid,
            tsize: 1,
        };
        with_entry(blocks, "aa", "x", link)
    }),
    ("not a raw SHA-256 CID", |blocks| {
        let cid = Cid::new_v1(CODEC_DAG_PB, *good_entries(1)[0].cid.hash());
        with_entry(blocks, "aa", &cid.to_string(), Link { cid, tsize: 1 })
    }),
    ("not a raw SHA-256 CID", |blocks| {
        let hash = multihash::Multihash::wrap(0, &[0; 32]).expect("fits");
        let cid = Cid::new_v1(CODEC_RAW, hash);
        with_entry(blocks, "aa", &cid.to_string(), Link { cid, tsize: 1 })
    }),
    ("an impossible size", |blocks| {
        let Entry { name, cid, .. } = good_entries(1).remove(0);
        with_entry(blocks, "aa", &name, Link { cid, tsize: 0 })
    }),
    ("an impossible size", |blocks| {
        let Entry { name, cid, .. } = good_entries(1).remove(0);
        let tsize = BLOCK_SIZE_MAX as u64 + 1;
        with_entry(blocks, "aa", &name, Link { cid, tsize })
    }),
    ("an empty folder", |blocks| {
        let folder = directory(blocks, vec![]);
        with_folder(blocks, "aa", folder)
    }),
    ("not a folder", |blocks| {
        let folder = file_of(blocks, &[3, 4]);
        with_folder(blocks, "aa", folder)
    }),
    ("a large folder that is not sharded", |blocks| {
        let folder = directory(blocks, good_entries(3000));
        with_folder(blocks, "aa", folder)
    }),
    ("a small folder that is sharded", |blocks| {
        let folder = shards(blocks, 0, good_entries(10));
        with_folder(blocks, "aa", folder)
    }),
    ("in a wrong shard", |blocks| {
        let folder = shards(blocks, 1, good_entries(10));
        with_folder(blocks, "aa", folder)
    }),
    ("in a wrong shard", |blocks| {
        let slot = (0, Slot::Entry(good_entries(1).remove(0)));
        let folder = link(blocks, &Node::Shard(vec![slot]));
        with_folder(blocks, "aa", folder)
    }),
    ("a shard for a single entry", |blocks| {
        let entry = good_entries(1).remove(0);
        let [first, second, ..] = unixfs::name_hash(&entry.name).to_be_bytes();
        let below = link(blocks, &Node::Shard(vec![(second, Slot::Entry(entry))]));
        let folder = link(blocks, &Node::Shard(vec![(first, Slot::Shard(below))]));
        with_folder(blocks, "aa", folder)
    }),
    ("not a shard", |blocks| {
        let below = directory(blocks, good_entries(2));
        let folder = link(blocks, &Node::Shard(vec![(3, Slot::Shard(below))]));
        with_folder(blocks, "aa", folder)
    }),
    ("shards that are too deep", |blocks| {
        let folder = shards(blocks, SHARD_DEPTH_MAX, good_entries(2));
        with_folder(blocks, "aa", folder)
    }),
    ("a size other than its link says", |blocks| {
        let mut folder = directory(blocks, good_entries(2));
        folder.tsize += 1;
        with_folder(blocks, "aa", folder)
    }),
    ("not a directory of folders", |blocks| {
        let manifest = leaf(blocks, b"manifest");
        let objects = shards(blocks, 0, good_entries(2));
        root(blocks, manifest, objects, None)
    }),
    ("a CID of another version, codec or hash", |blocks| {
        let manifest = leaf(blocks, b"manifest");
        let objects = leaf(blocks, b"objects");
        root(blocks, manifest, objects, None)
    }),
    ("a CID of another version, codec or hash", |blocks| {
        let manifest = leaf(blocks, b"manifest");
        let link = directory(blocks, vec![]);
        let cid = Cid::new_v0(*link.cid.hash()).expect("v0");
        root(blocks, manifest, Link { cid, ..link }, None)
    }),
    ("a name that no snapshot has", |blocks| {
        let manifest = leaf(blocks, b"manifest");
        let objects = directory(blocks, vec![]);
        root(blocks, manifest, objects, Some(entry("zz", manifest)))
    }),
    ("no manifest.age where it should be", |blocks| {
        let manifest = leaf(blocks, b"manifest");
        let objects = directory(blocks, vec![]);
        root(blocks, manifest, objects, Some(entry("d", manifest)))
    }),
    ("a root that is not a directory", |blocks| {
        file_of(blocks, &[3, 4]).cid
    }),
    ("a CID of another version, codec or hash", |blocks| {
        leaf(blocks, b"a root that is raw").cid
    }),
    ("a file of another shape", |blocks| {
        with_manifest(blocks, &[7])
    }),
    ("a file of another shape", |blocks| {
        with_manifest(blocks, &[7, 8])
    }),
    ("a file of another shape", |blocks| {
        with_manifest(blocks, &[BLOCK_SIZE_MAX, 0])
    }),
    ("a file of another shape", |blocks| {
        with_manifest(blocks, &[BLOCK_SIZE_MAX, BLOCK_SIZE_MAX + 1])
    }),
    ("a file that is too large", |blocks| {
        with_manifest(blocks, &[BLOCK_SIZE_MAX; 82])
    }),
    ("a leaf that is too large", |blocks| {
        let manifest = leaf(blocks, &bytes(BLOCK_SIZE_MAX + 1, 3));
        let objects = directory(blocks, vec![]);
        root(blocks, manifest, objects, None)
    }),
    ("not a file", |blocks| {
        let objects = directory(blocks, vec![]);
        root(blocks, objects, objects, None)
    }),
    ("a size other than its link says", |blocks| {
        let mut manifest = leaf(blocks, b"manifest");
        manifest.tsize += 1;
        let objects = directory(blocks, vec![]);
        root(blocks, manifest, objects, None)
    }),
];

fn with_manifest(blocks: &mut Blocks, lens: &[usize]) -> Cid {
    let manifest = file_of(blocks, lens);
    let objects = directory(blocks, vec![]);
    root(blocks, manifest, objects, None)
}

#[test]
fn rejects_hostile_snapshots() {
    let mut blocks = Blocks::default();
    let folder = directory(&mut blocks, good_entries(10));
    let good = with_folder(&mut blocks, "aa", folder);
    let (summary, _, damages) = blocks.walk(&good);
    assert!(damages.is_empty() && summary.other_texts, "{damages:?}");
    for (expected, hostile) in HOSTILE {
        let mut blocks = Blocks::default();
        let root = hostile(&mut blocks);
        let (summary, _, damages) = blocks.walk(&root);
        assert_eq!(summary.damages, damages.len() as u64);
        let found = damages
            .iter()
            .any(|d| matches!(d.reason, Reason::Unexpected { what } if what == *expected));
        assert!(found, "{expected}: {damages:?}");
    }
}

#[test]
fn a_bomb_of_shards_is_cut_short() {
    // Each level is one block with 256 links to the next: 256^6 ways, and no sizes that add up.
    let mut blocks = Blocks::default();
    let mut below = shards(&mut blocks, 0, good_entries(2));
    for _ in 0..6 {
        below.tsize = 9;
        let slots = (0..=u8::MAX).map(|i| (i, Slot::Shard(below))).collect();
        below = link(&mut blocks, &Node::Shard(slots));
    }
    let root = with_folder(&mut blocks, "aa", below);
    let (summary, _, damages) = blocks.walk(&root);
    assert_eq!(summary.objects, 0);
    assert_eq!(damages.len(), 256);
}
