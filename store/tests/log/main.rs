//! The files of a log, under faults, damage and kills, through the crate's public face alone.
#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod archive;
mod damage;
mod faults;
mod reading;

use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use protocol::{
    log::{
        checkpoint::{Checkpoint, Origin},
        tree::{Edge, Hash, leaf_hash},
    },
    note::VerifierKey,
};
use souverain_store::log::{LogReader, LogWriter};

/// An entry of some size, unlike every other. Each tenth is marked.
fn entry(seq: u64) -> Vec<u8> {
    let mut entry = format!("entry {seq} ").into_bytes();
    if seq.is_multiple_of(10) {
        entry.insert(0, b'!');
    }
    entry.resize(entry.len() + (seq as usize * 7) % 90, b'.');
    entry
}

fn is_marked(entry: &[u8]) -> bool {
    entry[0] == b'!'
}

fn root(size: u64) -> Hash {
    let mut edge = Edge::new();
    for seq in 0..size {
        edge.push(leaf_hash(&entry(seq))).unwrap();
    }
    edge.root()
}

fn note(size: u64, root: Hash) -> Vec<u8> {
    let secret = SigningKey::from_bytes(&[7; 32]);
    let key = VerifierKey::new("example.com/log", secret.verifying_key().as_bytes()).unwrap();
    let origin = Origin::new("example.com/log").unwrap();
    let checkpoint = Checkpoint::new(origin, size, root).unwrap();
    let signed = checkpoint.sign(&key, |text| secret.sign(text).to_bytes());
    signed.unwrap().to_string().into_bytes()
}

/// Appends the entries up to a size, and publishes it.
fn grow(writer: &mut LogWriter, to: u64) {
    let entries: Vec<Vec<u8>> = (writer.size()..to).map(entry).collect();
    writer.stage(&entries).unwrap();
    let note = note(writer.size(), writer.root());
    writer.publish(&note).unwrap();
}

fn made(dir: &Path, size: u64) {
    let (mut writer, recovered) = LogWriter::open(dir, is_marked).unwrap();
    assert!(recovered.is_empty());
    grow(&mut writer, size);
}

/// Checks all that a log of this size holds.
fn check(reader: &LogReader, size: u64) {
    assert_eq!(reader.head().size, size);
    assert_eq!(reader.head().root, root(size));
    let entries = reader.entries(0..size).unwrap();
    assert!(
        entries
            .iter()
            .zip(0..)
            .all(|(found, seq)| *found == entry(seq))
    );
    let marks: Vec<u64> = (0..size).filter(|seq| is_marked(&entry(*seq))).collect();
    assert_eq!(reader.marks().unwrap(), marks);
    let edge = Edge::read(size, |level, index| reader.node(level, index)).unwrap();
    assert_eq!(edge.root(), root(size));
}
