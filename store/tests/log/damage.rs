//! What is damaged is made again from the entries, or refused.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use souverain_store::{
    StoreError,
    log::{LogReader, LogWriter},
};

use crate::{check, entry, grow, is_marked, made};

type Damage = fn(&File);

#[test]
fn the_tree_is_made_again_from_the_entries() {
    let damages: [(&str, Damage); 5] = [
        ("tree0", |file| file.set_len(10).unwrap()),
        ("tree0", |file| file.write_all_at(b"xx", 599 * 32).unwrap()),
        ("tree1", |file| file.set_len(0).unwrap()),
        ("tree1", |file| file.write_all_at(b"xx", 32).unwrap()),
        ("bundles", |file| file.set_len(3).unwrap()),
    ];
    for (name, damage) in damages {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        made(&dir, 600);
        damage(&File::options().write(true).open(dir.join(name)).unwrap());
        let (mut writer, recovered) = LogWriter::open(&dir, is_marked).unwrap();
        assert!(recovered.is_empty(), "{name}");
        check(&LogReader::open(&dir).unwrap().unwrap(), 600);
        grow(&mut writer, 900);
        check(&LogReader::open(&dir).unwrap().unwrap(), 900);
    }
}

#[test]
fn entries_that_are_gone_or_others_are_refused_and_left_as_they_are() {
    let damages: [Damage; 2] = [
        |file| file.set_len(1_000).unwrap(),
        |file| {
            file.set_len(1_000).unwrap();
            file.set_len(100_000).unwrap();
        },
    ];
    for damage in damages {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        made(&dir, 600);
        let path = dir.join("entries");
        damage(&File::options().write(true).open(&path).unwrap());
        let before = fs::read(&path).unwrap();
        for _ in 0..2 {
            let refused = LogWriter::open(&dir, is_marked);
            assert!(matches!(refused, Err(StoreError::Damaged { .. })));
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    made(&dir, 3);
    fs::write(dir.join("checkpoint"), "nonsense").unwrap();
    assert!(matches!(
        LogReader::open(&dir),
        Err(StoreError::Damaged { .. })
    ));
    let refused = LogWriter::open(&dir, is_marked);
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
}

#[test]
fn rubbish_behind_the_entries_is_in_nobodys_way() {
    for rubbish in [&b"\x00"[..], b"\x00\x09abc", &[0; 5000], &[0xff; 70_000]] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        made(&dir, 300);
        let path = dir.join("entries");
        let bytes = [&fs::read(&path).unwrap()[..], rubbish].concat();
        fs::write(&path, bytes).unwrap();
        let (mut writer, recovered) = LogWriter::open(&dir, is_marked).unwrap();
        assert!(recovered.iter().all(|found| *found != entry(300)));
        grow(&mut writer, 301);
        drop(writer);
        check(&LogReader::open(&dir).unwrap().unwrap(), 301);
        let (_, recovered) = LogWriter::open(&dir, is_marked).unwrap();
        assert!(recovered.is_empty());
    }
}
