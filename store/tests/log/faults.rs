//! Each write fails in each way; what was staged or published before is there afterwards.

use std::{path::Path, sync::Arc};

use souverain_store::{
    FaultKind, Faults, StoreError,
    log::{LogReader, LogWriter},
};

use crate::{check, entry, is_marked, note, root};

/// Sizes that are staged, and published or not before the next ones are.
const SCRIPT: &[(u64, bool)] = &[
    (1, true),
    (3, false),
    (4, true),
    (254, true),
    (258, false),
    (259, true),
    (520, true),
];

/// How far it came: what was acknowledged as staged, and as published.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    staged: u64,
    published: u64,
}

/// Goes through the script from where the log is.
fn run(dir: &Path, faults: &Arc<Faults>, reached: &mut Reached) -> Result<(), StoreError> {
    let (mut writer, recovered) = LogWriter::open_with_faults(dir, is_marked, faults.clone())?;
    assert!(
        recovered
            .iter()
            .zip(writer.size()..)
            .all(|(e, seq)| *e == entry(seq))
    );
    if !recovered.is_empty() {
        writer.stage(&recovered)?;
    }
    for (size, publish) in SCRIPT {
        let entries: Vec<Vec<u8>> = (writer.size()..*size).map(entry).collect();
        if !entries.is_empty() {
            writer.stage(&entries)?;
            reached.staged = writer.size();
        }
        let covered = writer.head().map_or(0, |head| head.size);
        if *publish && covered < writer.size() {
            writer.publish(&note(writer.size(), writer.root()))?;
            reached.published = writer.size();
        }
    }
    Ok(())
}

fn writes() -> u64 {
    let home = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::none());
    run(&home.path().join("log"), &faults, &mut Reached::default()).unwrap();
    faults.writes()
}

#[test]
fn no_fault_loses_what_was_staged_or_published() {
    let writes = writes();
    assert!(writes > 60, "{writes}");
    for kind in [FaultKind::Landed, FaultKind::Lost, FaultKind::Torn] {
        for nth in 0..writes {
            let home = tempfile::tempdir().unwrap();
            let dir = home.path().join("log");
            let mut reached = Reached::default();
            let faults = Arc::new(Faults::new(nth, kind));
            assert!(run(&dir, &faults, &mut reached).is_err());
            let context = format!("{kind:?} {nth} {reached:?}");
            let (writer, recovered) = LogWriter::open(&dir, is_marked).expect(&context);
            let published = writer.head().map_or(0, |head| head.size);
            assert!(published >= reached.published, "{context}: {published}");
            let staged = published + recovered.len() as u64;
            assert!(staged >= reached.staged, "{context}: {staged}");
            drop(writer);
            if let Some(reader) = LogReader::open(&dir).unwrap() {
                check(&reader, published);
            }
            run(&dir, &Arc::new(Faults::none()), &mut reached).expect(&context);
            check(&LogReader::open(&dir).unwrap().unwrap(), 520);
        }
    }
}

#[test]
fn a_second_crash_while_recovering_loses_nothing_either() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("base");
    let (mut writer, _) = LogWriter::open(&base, is_marked).unwrap();
    writer.stage(&[entry(0), entry(1)]).unwrap();
    drop(writer);
    for kind in [FaultKind::Landed, FaultKind::Lost, FaultKind::Torn] {
        for nth in 0..100 {
            let dir = home.path().join(format!("{kind:?}{nth}"));
            std::fs::create_dir(&dir).unwrap();
            for file in std::fs::read_dir(&base).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), dir.join(file.file_name())).unwrap();
            }
            let faults = Arc::new(Faults::new(nth, kind));
            let done = run(&dir, &faults, &mut Reached::default());
            let (writer, recovered) = LogWriter::open(&dir, is_marked).unwrap();
            let there = writer.size() + recovered.len() as u64;
            assert!(there >= 2, "{kind:?} {nth}");
            if done.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_keeps_nothing_of_an_entry_and_is_not_the_end() {
    let mut refused = 0;
    for nth in 0..writes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        let faults = Arc::new(Faults::new(nth, FaultKind::NoSpace));
        let Ok((mut writer, _)) = LogWriter::open_with_faults(&dir, is_marked, faults) else {
            continue;
        };
        for (size, _) in SCRIPT {
            let entries: Vec<Vec<u8>> = (writer.size()..*size).map(entry).collect();
            let before = writer.size();
            if let Err(error) = writer.stage(&entries) {
                assert!(matches!(error, StoreError::LogFull { .. }), "{nth} {error}");
                assert_eq!(writer.size(), before);
                writer.stage(&entries).unwrap();
                refused += 1;
            }
            let note = note(*size, root(*size));
            if let Err(error) = writer.publish(&note) {
                assert!(matches!(error, StoreError::LogFull { .. }), "{nth} {error}");
                writer.publish(&note).unwrap();
                refused += 1;
            }
        }
        check(&LogReader::open(&dir).unwrap().unwrap(), 520);
    }
    assert!(refused > 50, "{refused}");
}
