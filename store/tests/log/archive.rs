//! Archives: what was taken out of a log is read as before, whatever fails on the way.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, LazyLock},
};

use ed25519_dalek::{Signer, SigningKey};
use protocol::{
    block::raw_cid,
    car,
    log::{
        archive::Archived,
        checkpoint::{Checkpoint, Origin, SignedCheckpoint},
        entry::{Action, Draft, Outcome, Session, Tenant},
        tree::{Edge, leaf_hash},
    },
    note::VerifierKey,
};
use souverain_store::{
    FaultKind, Faults, StoreError,
    log::{Archiver, LogReader, LogWriter},
};

/// Five bundles, and a part of one.
const SIZE: u64 = 5 * 256 + 40;
/// In a bundle of its own.
const MARKED: u64 = 2 * 256 + 9;

/// Entries that are some, though of no log.
static ENTRIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..SIZE + 256).map(entry).collect());

fn entry(seq: u64) -> Vec<u8> {
    let draft = Draft {
        tenant: Tenant([7; 16]),
        epoch: 1,
        seq: seq + 1,
        prev: Some(link()),
        time_ms: seq,
        session: Session(*b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f"),
        actor: "node".to_owned(),
        action: if seq == MARKED {
            Action::CONFIG
        } else {
            Action::PULL
        },
        outcome: Outcome::Ok,
        subject: vec![raw_cid(&[seq as u8; 32])],
        commit: BTreeMap::new(),
        sealed: None,
        control: None,
    };
    let entry = draft.sign_with(&SigningKey::from_bytes(&[7; 32]));
    entry.unwrap().bytes().to_vec()
}

/// A link to some entry.
fn link() -> cid::Cid {
    "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
        .parse()
        .unwrap()
}

fn is_marked(entry: &[u8]) -> bool {
    entry.windows(6).any(|word| word == b"config")
}

fn checkpoint(size: u64) -> SignedCheckpoint {
    let secret = SigningKey::from_bytes(&[7; 32]);
    let key = VerifierKey::new("example.com/log", secret.verifying_key().as_bytes()).unwrap();
    let mut edge = Edge::new();
    for entry in &ENTRIES[..size as usize] {
        edge.push(leaf_hash(entry)).unwrap();
    }
    let origin = Origin::new("example.com/log").unwrap();
    let checkpoint = Checkpoint::new(origin, size, edge.root()).unwrap();
    let signed = checkpoint.sign(&key, |text| secret.sign(text).to_bytes());
    signed.unwrap()
}

fn grow(dir: &Path, to: u64) {
    let (mut writer, _) = LogWriter::open(dir, is_marked).unwrap();
    let begin = writer.size() as usize;
    writer.stage(&ENTRIES[begin..to as usize]).unwrap();
    let note = checkpoint(to).to_string();
    writer.publish(note.as_bytes()).unwrap();
}

/// Archives two bundles, and then two more, and takes them out of the log.
fn archive(dir: &Path, faults: &Arc<Faults>) -> Result<u64, StoreError> {
    let mut archiver = Archiver::open_with_faults(dir, faults.clone())?.unwrap();
    let mut freed = archiver.free()?;
    while archiver.index().end() < 4 * 256 {
        archiver.write(2, &checkpoint(SIZE), &mut |_| Ok(None))?;
        freed += archiver.free()?;
    }
    Ok(freed)
}

fn check(dir: &Path, size: u64) {
    let reader = LogReader::open(dir).unwrap().unwrap();
    assert_eq!(reader.entries(0..size).unwrap(), ENTRIES[..size as usize]);
    assert_eq!(reader.entry(700).unwrap(), ENTRIES[700]);
    assert_eq!(reader.marks().unwrap(), [MARKED]);
    let edge = Edge::read(size, |level, index| reader.node(level, index)).unwrap();
    assert_eq!(edge.root(), reader.head().root);
}

fn made(home: &tempfile::TempDir) -> std::path::PathBuf {
    let dir = home.path().join("log");
    grow(&dir, SIZE);
    dir
}

#[test]
fn what_was_archived_is_read_as_before_and_takes_no_place_in_the_log() {
    let home = tempfile::tempdir().unwrap();
    let dir = made(&home);
    let before = fs::metadata(dir.join("entries")).unwrap().blocks();
    let freed = archive(&dir, &Arc::new(Faults::none())).unwrap();
    let bytes: usize = ENTRIES[..1024].iter().map(|entry| entry.len() + 2).sum();
    let kept: usize = ENTRIES[512..768].iter().map(|entry| entry.len() + 2).sum();
    assert_eq!(freed, (bytes - kept) as u64);
    let after = fs::metadata(dir.join("entries")).unwrap().blocks();
    assert!(
        before - after >= freed / 512 - 4 * 8,
        "{before} {after} {freed}"
    );
    check(&dir, SIZE);
    // The log goes on, and its other files are made again.
    grow(&dir, SIZE + 256);
    check(&dir, SIZE + 256);
    for file in ["tree0", "bundles", "marks"] {
        fs::remove_file(dir.join(file)).unwrap();
    }
    drop(LogWriter::open(&dir, is_marked).unwrap());
    check(&dir, SIZE + 256);
    assert_eq!(archive(&dir, &Arc::new(Faults::none())).unwrap(), 0);
}

#[test]
fn an_archive_is_a_car_of_bundles_and_details() {
    let home = tempfile::tempdir().unwrap();
    let dir = made(&home);
    let mut archiver = Archiver::open(&dir).unwrap().unwrap();
    let archived = archiver.write(3, &checkpoint(SIZE), &mut |_| Ok(None));
    let Archived { first, end, root } = archived.unwrap();
    assert_eq!((first, end), (0, 768));
    let file = File::open(dir.join("archive/0-767.car")).unwrap();
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    let mut car = car::Reader::new(std::io::BufReader::new(file)).unwrap();
    assert_eq!(car.roots(), [root]);
    let mut blocks = Vec::new();
    while let Some(block) = car.next_block().unwrap() {
        blocks.push(block);
    }
    // Three bundles, a checkpoint, and three folders.
    assert_eq!(blocks.len(), 7);
    let reader = LogReader::open(&dir).unwrap().unwrap();
    let bundle = reader.bundle("tile/entries/001".parse().unwrap()).unwrap();
    assert_eq!(blocks[1].bytes(), bundle);
    assert_eq!(*blocks[6].cid(), root);
    // The last bundle is not archived, nor is what is not there.
    for bundles in [0, 3, 300, u64::MAX] {
        let refused = archiver.write(bundles, &checkpoint(SIZE), &mut |_| Ok(None));
        assert!(matches!(refused, Err(StoreError::Tree(_))), "{bundles}");
    }
}

#[test]
fn no_fault_loses_an_entry() {
    let writes = {
        let home = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::none());
        archive(&made(&home), &faults).unwrap();
        faults.writes()
    };
    assert!(writes > 30, "{writes}");
    for kind in [
        FaultKind::Landed,
        FaultKind::Lost,
        FaultKind::Torn,
        FaultKind::NoSpace,
    ] {
        for nth in 0..writes {
            let home = tempfile::tempdir().unwrap();
            let dir = made(&home);
            let failed = archive(&dir, &Arc::new(Faults::new(nth, kind)));
            assert!(failed.is_err(), "{kind:?} {nth}");
            check(&dir, SIZE);
            archive(&dir, &Arc::new(Faults::none())).unwrap();
            check(&dir, SIZE);
            let archiver = Archiver::open(&dir).unwrap().unwrap();
            assert_eq!(archiver.index().end(), 1024, "{kind:?} {nth}");
            assert_eq!(archiver.free().unwrap(), 0);
        }
    }
}

#[test]
fn nothing_is_taken_out_that_is_not_in_its_archive() {
    let home = tempfile::tempdir().unwrap();
    let dir = made(&home);
    let mut archiver = Archiver::open(&dir).unwrap().unwrap();
    let written = archiver.write(2, &checkpoint(SIZE), &mut |_| Ok(None));
    written.unwrap();
    let car = dir.join("archive/0-511.car");
    let good = fs::read(&car).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 3] ^= 1;
    fs::write(&car, bad).unwrap();
    let refused = archiver.free();
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
    check(&dir, SIZE);
    fs::remove_file(&car).unwrap();
    let refused = archiver.free();
    assert!(matches!(refused, Err(StoreError::ArchiveMissing { .. })));
    check(&dir, SIZE);
    fs::write(&car, good).unwrap();
    assert!(archiver.free().unwrap() > 0);
    check(&dir, SIZE);
}

#[test]
fn an_archive_that_is_away_is_named_and_the_log_goes_on_without_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = made(&home);
    archive(&dir, &Arc::new(Faults::none())).unwrap();
    let away = home.path().join("away.car");
    fs::rename(dir.join("archive/512-1023.car"), &away).unwrap();
    let reader = LogReader::open(&dir).unwrap().unwrap();
    let missing = reader.entry(800).expect_err("it is away");
    assert!(
        matches!(
            missing,
            StoreError::ArchiveMissing {
                first: 512,
                last: 1023,
                ..
            }
        ),
        "{missing}"
    );
    for seq in [0, MARKED, SIZE - 1] {
        assert_eq!(reader.entry(seq).unwrap(), ENTRIES[seq as usize]);
    }
    grow(&dir, SIZE + 256);
    fs::rename(away, dir.join("archive/512-1023.car")).unwrap();
    check(&dir, SIZE + 256);
}

#[test]
fn who_opened_the_log_before_reads_on() {
    let home = tempfile::tempdir().unwrap();
    let dir = made(&home);
    let reader = LogReader::open(&dir).unwrap().unwrap();
    grow(&dir, SIZE + 256);
    let mut archiver = Archiver::open(&dir).unwrap().unwrap();
    let written = archiver.write(6, &checkpoint(SIZE + 256), &mut |_| Ok(None));
    written.unwrap();
    archiver.free().unwrap();
    assert_eq!(reader.entries(0..SIZE).unwrap(), ENTRIES[..SIZE as usize]);
    let bundle = reader.bundle("tile/entries/005.p/40".parse().unwrap());
    let bytes: usize = ENTRIES[1280..1320].iter().map(|e| e.len() + 2).sum();
    assert_eq!(bundle.unwrap().len(), bytes);
}
