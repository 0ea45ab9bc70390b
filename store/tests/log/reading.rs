//! What is read of a log, also while it grows.

use protocol::log::{
    tile::{TileKind, encode_bundle, tiles},
    tree::{leaf_hash, prove_inclusion, verify_inclusion},
};
use souverain_store::{
    StoreError,
    log::{LogReader, LogWriter},
};

use crate::{check, entry, grow, is_marked, made, root};

#[test]
fn logs_of_all_sizes_are_read_as_they_were_written() {
    for size in [1, 2, 255, 256, 257, 600] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        made(&dir, size);
        let reader = LogReader::open(&dir).unwrap().unwrap();
        check(&reader, size);
        for path in tiles(size) {
            if path.kind() == TileKind::Entries {
                let first = path.index() * 256;
                let entries = (first..first + u64::from(path.width())).map(entry);
                let bundle = encode_bundle(&entries.collect::<Vec<_>>()).unwrap();
                assert_eq!(reader.bundle(path).unwrap(), bundle, "{path}");
            } else {
                assert_eq!(reader.tile(path).unwrap().path(), path);
            }
        }
        for index in [0, size / 2, size - 1] {
            let node = |level, index| reader.node(level, index);
            let proof = prove_inclusion(index, size, node).unwrap();
            let leaf = leaf_hash(&entry(index));
            verify_inclusion(&leaf, index, size, &proof, &root(size)).unwrap();
        }
    }
}

#[test]
fn what_is_staged_is_not_read_before_a_checkpoint_covers_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    assert!(LogReader::open(&dir).unwrap().is_none());
    made(&dir, 250);
    let mut reader = LogReader::open(&dir).unwrap().unwrap();
    let (mut writer, _) = LogWriter::open(&dir, is_marked).unwrap();
    let staged: Vec<Vec<u8>> = (250..300).map(entry).collect();
    writer.stage(&staged).unwrap();
    assert!(!reader.refresh().unwrap());
    check(&reader, 250);
    assert!(matches!(reader.entry(250), Err(StoreError::Tree(_))));
    grow(&mut writer, 70_000);
    check(&reader, 250);
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.head().size, 70_000);
    assert_eq!(reader.entry(69_999).unwrap(), entry(69_999));
    check(&reader, 70_000);
}

#[test]
fn a_checkpoint_that_does_not_cover_what_is_staged_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let (mut writer, _) = LogWriter::open(&dir, is_marked).unwrap();
    writer.stage(&[entry(0)]).unwrap();
    for (size, root) in [(1, root(2)), (2, root(2)), (0, root(0))] {
        assert!(writer.publish(&crate::note(size, root)).is_err(), "{size}");
    }
    assert!(writer.publish(b"nothing").is_err());
    assert!(LogReader::open(&dir).unwrap().is_none());
    grow(&mut writer, 3);
    check(&LogReader::open(&dir).unwrap().unwrap(), 3);
}

#[test]
fn entries_that_cannot_be_counted_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (mut writer, _) = LogWriter::open(&home.path().join("log"), is_marked).unwrap();
    for size in [0, 1 << 16] {
        let refused = writer.stage(&[vec![b'x'; size]]);
        assert!(
            matches!(refused, Err(StoreError::TooLarge { .. })),
            "{size}"
        );
    }
    writer.stage(&[vec![b'x'; u16::MAX.into()]]).unwrap();
    assert_eq!(writer.size(), 1);
}

#[test]
fn one_appends_at_a_time_and_the_next_goes_on_from_there() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    made(&dir, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let (mut writer, recovered) = LogWriter::open(&dir, is_marked).unwrap();
                    assert!(recovered.is_empty());
                    let next = writer.size() + 1;
                    grow(&mut writer, next);
                }
            });
        }
    });
    check(&LogReader::open(&dir).unwrap().unwrap(), 101);
}
