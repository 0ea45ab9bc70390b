//! What a store promises, tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod basics;
mod child;
mod concurrent;
mod damage;
mod faults;
mod full;
mod kill;
mod model;
mod processes;

use std::{collections::BTreeMap, path::Path};

use cid::Cid;
use multihash::Multihash;
use protocol::block::{Block, sha256};
use souverain_store::{Store, Table};

/// All tables.
const TABLES: [Table; 6] = [
    Table::Pieces,
    Table::Units,
    Table::Snapshots,
    Table::Epochs,
    Table::Config,
    Table::Damaged,
];

/// A block of `size` bytes that no other seed gives. `size` is 4 at least.
fn block(seed: u32, size: usize) -> Block {
    let mut bytes = vec![0; size];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = (n as u32).wrapping_mul(seed | 1).to_le_bytes()[1];
    }
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let hash = Multihash::wrap(0x12, &sha256(&bytes)).unwrap();
    Block::verify(Cid::new_v1(0x55, hash), bytes).unwrap()
}

/// Reads a block back and checks it.
fn read(store: &Store, block: &Block) -> Option<Block> {
    let found = store.get(block.cid()).unwrap()?;
    assert_eq!(
        store.block_len(block.cid()).unwrap(),
        Some(found.bytes.len() as u64)
    );
    Some(found.verify().unwrap())
}

/// All that the tables hold.
fn values(store: &Store) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for table in TABLES {
        for entry in store.scan(table) {
            let (key, value) = entry.unwrap();
            all.insert((table, key), value);
        }
    }
    all
}

/// Reads all packs as any CAR reader does, and returns how often each block is in them.
fn blocks_in_packs(home: &Path) -> BTreeMap<Cid, usize> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(home.join("packs")).unwrap() {
        let pack = std::fs::read(entry.unwrap().path()).unwrap();
        let (header_size, rest) = unsigned_varint::decode::usize(&pack).unwrap();
        let (header, mut rest) = rest.split_at(header_size);
        assert_eq!(header, b"\xa2\x65roots\x80\x67version\x01");
        while !rest.is_empty() {
            let (size, after) = unsigned_varint::decode::usize(rest).unwrap();
            let (mut frame, after) = after.split_at(size);
            let cid = Cid::read_bytes(&mut frame).unwrap();
            Block::verify(cid, frame.to_vec()).unwrap();
            *found.entry(cid).or_default() += 1;
            rest = after;
        }
    }
    found
}
