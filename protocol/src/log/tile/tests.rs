//! Paths, tiles and bundles against the examples of the specification, and against the tree.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    block::BLOCK_SIZE_MAX,
    log::{
        entry::{Action, ENTRY_SIZE_MAX},
        testing::{Log, public, sign},
        tree::{self, Edge, leaf_hash},
    },
};

#[derive(Debug, PartialEq, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Tile(#[from] TileError),
    #[error("no tile {0}")]
    Missing(TilePath),
}

/// A log's tiles, grown from one size to the next as a log writes them.
#[derive(Default)]
struct Tiles {
    edge: Edge,
    levels: Vec<Vec<Hash>>,
    tiles: BTreeMap<TilePath, Vec<u8>>,
}

impl Tiles {
    fn grow(&mut self, size: u64) {
        let from = self.edge.size();
        for i in from..size {
            let leaf = leaf_hash(&i.to_le_bytes());
            let pushed = self.edge.push_with(leaf, |level, _, hash| {
                if level % TILE_HEIGHT == 0 {
                    let level = usize::from(level / TILE_HEIGHT);
                    self.levels
                        .resize(self.levels.len().max(level + 1), Vec::new());
                    self.levels[level].push(*hash);
                }
            });
            pushed.expect("room");
        }
        for path in tiles_grown(from, size) {
            let start = path.index() as usize * 256;
            let range = start..start + usize::from(path.width());
            if let TileKind::Hashes(level) = path.kind() {
                let hashes = &self.levels[usize::from(level)][range];
                self.tiles.insert(path, hashes.as_flattened().to_vec());
            }
        }
    }

    fn node(&self, size: u64) -> impl Fn(u8, u64) -> Result<Hash, ReadError> {
        move |level, index| {
            read_node(level, index, size, |path| {
                let bytes = self.tiles.get(&path).ok_or(ReadError::Missing(path))?;
                Ok(UnverifiedTile::new(path, bytes)?)
            })
        }
    }
}

fn paths(tiles: impl Iterator<Item = TilePath>) -> Vec<String> {
    tiles.map(|path| path.to_string()).collect()
}

#[test]
fn has_the_tiles_of_the_specification() {
    let all = paths(tiles(70_000));
    let of = |prefix: &str| {
        let partial = |path: &&&String| path.contains(".p/");
        let all: Vec<_> = all.iter().filter(|path| path.starts_with(prefix)).collect();
        let partial: Vec<_> = all
            .iter()
            .filter(partial)
            .map(|path| path.as_str())
            .collect();
        (all.len() - partial.len(), partial.join(" "))
    };
    assert_eq!(of("tile/entries/"), (273, "tile/entries/273.p/112".into()));
    assert_eq!(of("tile/0/"), (273, "tile/0/273.p/112".into()));
    assert_eq!(of("tile/1/"), (1, "tile/1/001.p/17".into()));
    assert_eq!(of("tile/2/"), (0, "tile/2/000.p/1".into()));
    assert_eq!(all.len(), 2 * 274 + 2 + 1);
    assert_eq!(
        paths(tiles(256)),
        ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    );
    assert_eq!(paths(tiles(0)), [""; 0]);
}

#[test]
fn a_tree_that_grows_has_the_tiles_that_changed() {
    let grown = |from, to| paths(tiles_grown(from, to)).join(" ");
    assert_eq!(grown(0, 1), "tile/entries/000.p/1 tile/0/000.p/1");
    assert_eq!(grown(1, 1), "");
    assert_eq!(grown(2, 1), "");
    assert_eq!(
        grown(255, 256),
        "tile/entries/000 tile/0/000 tile/1/000.p/1"
    );
    assert_eq!(
        grown(256, 513),
        "tile/entries/001 tile/entries/002.p/1 tile/0/001 tile/0/002.p/1 tile/1/000.p/2"
    );
    assert_eq!(grown(0, TREE_SIZE_MAX + 1), "");
}

#[test]
fn reads_back_the_paths_that_it_writes() {
    for (text, kind, index, width) in [
        ("tile/0/x001/x234/067", TileKind::Hashes(0), 1_234_067, 256),
        ("tile/entries/x001/000.p/1", TileKind::Entries, 1_000, 1),
        ("tile/3/999.p/255", TileKind::Hashes(3), 999, 255),
        ("tile/7/000.p/127", TileKind::Hashes(7), 0, 127),
        (
            "tile/entries/x036/x028/x797/x018/x963/967.p/255",
            TileKind::Entries,
            TREE_SIZE_MAX >> 8,
            255,
        ),
    ] {
        let path = TilePath { kind, index, width };
        assert_eq!(path.to_string(), text);
        assert_eq!(text.parse(), Ok(path));
    }
}

#[test]
fn rejects_what_is_no_path_of_a_tile() {
    for bad in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x01/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/X001/000",
        "tile/0/xx001/000",
        "tile/0//000",
        "tile/00/000",
        "tile/+0/000",
        "tile/-0/000",
        "tile/0/+00",
        "tile/8/000.p/1",
        "tile/63/000.p/1",
        "tile/7/000",
        "tile/7/000.p/128",
        "tile/256/000",
        "tile/Entries/000",
        "tile/data/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/+1",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000.p/1.p/1",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/000 ",
        "tile/0/../000",
        "tile/entries/x036/x028/x797/x018/x963/967",
        "tile/entries/x036/x028/x797/x018/x963/968.p/1",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
    ] {
        assert_eq!(bad.parse::<TilePath>(), Err(TileError::Path), "{bad}");
    }
}

#[test]
fn proofs_are_made_from_tiles_alone() {
    let mut log = Tiles::default();
    let mut before = Edge::new();
    for size in [1, 2, 255, 256, 257, 511, 600, 65_536, 65_537, 70_000] {
        log.grow(size);
        let root = log.edge.root();
        assert_eq!(tree::root(size, log.node(size)), Ok(root));
        assert_eq!(Edge::read(size, log.node(size)).as_ref(), Ok(&log.edge));
        for index in [0, size / 3, size / 2, size - 1] {
            let proof = tree::prove_inclusion(index, size, log.node(size)).expect("proven");
            let leaf = leaf_hash(&index.to_le_bytes());
            let verified = tree::verify_inclusion(&leaf, index, size, &proof, &root);
            assert_eq!(verified, Ok(()), "{index} of {size}");
        }
        let from = before.size();
        let proof = tree::prove_consistency(from, size, log.node(size)).expect("proven");
        let verified = tree::verify_consistency(from, &before.root(), size, &root, &proof);
        assert_eq!(verified, Ok(()), "{from} to {size}");
        before = log.edge.clone();
    }
}

#[test]
fn a_full_tile_is_checked_by_the_one_above() {
    let mut log = Tiles::default();
    log.grow(600);
    let tile = |path: &str| {
        let path: TilePath = path.parse().expect("a path");
        UnverifiedTile::new(path, &log.tiles[&path]).expect("a tile")
    };
    let above = tile("tile/1/000.p/2");
    let (first, second) = (tile("tile/0/000"), tile("tile/0/001"));
    assert_eq!(first.verify(&above.hashes()[0]), Ok(()));
    assert_eq!(second.verify(&above.hashes()[1]), Ok(()));
    let path = second.path();
    let other = Err(TileError::OtherHash { path });
    assert_eq!(second.verify(&above.hashes()[0]), other);
    assert!(above.verify(&above.hashes()[0]).is_err());
    assert_eq!(above.node(8, 1), Ok(above.hashes()[1]));
    assert_eq!(first.node(7, 1), Ok(node_over(&first.hashes()[128..])));
    for (level, index) in [(7, 2), (0, 256), (8, 0), (64, 0), (7, u64::MAX)] {
        assert!(first.node(level, index).is_err(), "{level} {index}");
    }
    assert!(above.node(8, 2).is_err() && above.node(10, 0).is_err());
}

#[test]
fn rejects_tiles_and_bundles_of_another_width() {
    let hashes: TilePath = "tile/0/000.p/2".parse().expect("a path");
    let entries: TilePath = "tile/entries/000.p/2".parse().expect("a path");
    assert!(UnverifiedTile::new(hashes, &[0; 64]).is_ok());
    for size in [0, 32, 63, 65, 96] {
        let tile = UnverifiedTile::new(hashes, &vec![0; size]);
        assert_eq!(tile, Err(TileError::Width { path: hashes }), "{size}");
    }
    let tile = UnverifiedTile::new(entries, &[0; 64]);
    assert_eq!(tile, Err(TileError::Kind { path: entries }));

    let good = encode_bundle(&[&b"one"[..], b""]).expect("short");
    assert_eq!(good, b"\0\x03one\0\0");
    assert_eq!(parse_bundle(entries, &good), Ok(vec![&b"one"[..], b""]));
    for bad in [
        &b""[..],
        b"\0\x03one",
        b"\0\x03one\0",
        b"\0\x03one\0\x01",
        b"\0\x03one\0\0\0",
        b"\0\x03one\0\0\0\0",
        b"\xff\xffone\0\0",
    ] {
        let refused = Err(TileError::Width { path: entries });
        assert_eq!(parse_bundle(entries, bad), refused, "{bad:?}");
    }
    let kind = Err(TileError::Kind { path: hashes });
    assert_eq!(parse_bundle(hashes, &good), kind);
    let size = BUNDLED_ENTRY_SIZE_MAX + 1;
    let large = Err(TileError::EntrySize { size });
    assert_eq!(encode_bundle(&[vec![0; size]]), large);
    assert!(encode_bundle(&[vec![0; size - 1]]).is_ok());
    for count in [0, 257] {
        let refused = Err(TileError::EntryCount { count });
        assert_eq!(encode_bundle(&vec![b"one"; count]), refused);
    }
}

#[test]
fn the_largest_bundle_of_entries_is_one_block() {
    let entry = vec![0; ENTRY_SIZE_MAX];
    let bundle = encode_bundle(&vec![entry; TILE_WIDTH.into()]).expect("short");
    assert_eq!(bundle.len(), BLOCK_SIZE_MAX);
    let draft = Log::new().draft(Action::EXPORT);
    let entry = draft.sign(&public(1), sign(1)).expect("signs");
    let block = bundle_block(std::slice::from_ref(&entry)).expect("short");
    assert_eq!(&block.bytes()[2..], entry.bytes());
    let path: TilePath = "tile/0/000.p/1".parse().expect("a path");
    let tile = UnverifiedTile::new(path, &entry.leaf_hash()).expect("a tile");
    assert_eq!(tile.block().bytes(), entry.leaf_hash());
}

proptest! {
    #[test]
    fn every_node_is_in_a_tile_that_its_tree_has(
        size in 1..=TREE_SIZE_MAX, level in 0..63_u8, at in any::<u64>(),
    ) {
        let level = level.min(size.ilog2() as u8);
        let index = at % (size >> level);
        let path = TilePath::of_node(level, index, size).expect("the tree has it");
        prop_assert!(path.is_in(size) && path.full().width() == TILE_WIDTH);
        prop_assert_eq!(path.to_string().parse(), Ok(path));
        let hashes = vec![[7; 32]; path.width().into()];
        let tile = UnverifiedTile::new(path, hashes.as_flattened()).expect("as wide");
        prop_assert!(tile.node(level, index).is_ok());
        prop_assert_eq!(TilePath::of_node(level, size >> level, size), None);
        prop_assert_eq!(TilePath::of_entry(size, size), None);
        prop_assert!(TilePath::of_entry(size - 1, size).is_some());
    }

    #[test]
    fn reading_any_text_as_a_path_gives_it_back_or_nothing(text in "(tile/)?[0-9entris]{0,3}(/x?[0-9]{1,4}){0,4}(.p/[0-9]{1,3})?") {
        if let Ok(path) = text.parse::<TilePath>() {
            prop_assert_eq!(path.to_string(), text);
        }
    }
}
