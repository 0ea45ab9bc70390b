//! Exports real trees.

mod changes;
pub(crate) mod fixture;
mod units;

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use protocol::cut::Cutter;

use self::fixture::*;
use super::*;
use crate::{
    catalog::Kept,
    compare::tree::compare,
    intake::{Body, Message},
    progress::Progress,
};

/// What came out of one export.
pub(crate) struct Export {
    pub(crate) tar: Vec<u8>,
    pub(crate) meta: SourceMeta,
    pub(crate) units: Units,
    pub(crate) reused: usize,
    pub(crate) written: usize,
    pub(crate) abandoned: usize,
    pub(crate) bytes_read: u64,
}

/// The bytes of finished units.
pub(crate) type Units = HashMap<[u8; 32], Vec<u8>>;

/// Some time after everything that a test wrote.
pub(crate) fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

pub(crate) fn settled() -> TreeOptions {
    TreeOptions {
        clock: later,
        ..TreeOptions::default()
    }
}

pub(crate) fn export(path: &Path, options: TreeOptions) -> Export {
    export_again(path, options, Units::new()).expect("a readable tree")
}

pub(crate) fn export_again(
    path: &Path,
    options: TreeOptions,
    known: Units,
) -> Result<Export, SourceError> {
    let mut source = TreeSource::open(path, 0, options)?;
    let (sender, receiver) = crossbeam_channel::bounded(4);
    let hits = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::new(known);
    let (looked_up, taken) = (known.clone(), hits.clone());
    let lookup = move |key: &[u8; 32]| -> Option<Vec<Kept>> {
        looked_up.get(key)?;
        taken.lock().expect("no panic").push(*key);
        Some(Vec::new())
    };
    let progress = Progress::default();
    let intake =
        Intake::new(Cutter::new(&[7; 32]), sender, Box::new(lookup)).with_progress(&progress);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || gather(receiver.iter(), &known, &hits));
        let result = source.read(&intake);
        let bytes_read = progress
            .bytes_read
            .load(std::sync::atomic::Ordering::Relaxed);
        drop(intake);
        let mut export = reading.join().expect("no panic");
        export.meta = result?;
        export.bytes_read = bytes_read;
        Ok(export)
    })
}

fn gather(
    messages: impl Iterator<Item = Message>,
    known: &Units,
    hits: &Mutex<Vec<[u8; 32]>>,
) -> Export {
    let mut export = Export {
        tar: Vec::new(),
        meta: SourceMeta {
            engine: Engine::Tree,
            name: String::new(),
            version: None,
            warnings: Vec::new(),
        },
        units: Units::new(),
        reused: 0,
        written: 0,
        abandoned: 0,
        bytes_read: 0,
    };
    let mut begun = 0;
    for message in messages {
        match message.body {
            Body::Piece { bytes, .. } => export.tar.extend(bytes),
            Body::Reused(_) => {
                let key = hits.lock().expect("no panic")[export.reused];
                export.units.insert(key, known[&key].clone());
                export.tar.extend(&known[&key]);
                export.reused += 1;
                begun = export.tar.len();
            }
            Body::UnitEnd([0, 0, 0, 0, ..]) => {
                export.abandoned += 1;
                begun = export.tar.len();
            }
            Body::UnitEnd(key) => {
                export.units.insert(key, export.tar[begun..].to_vec());
                export.written += 1;
                begun = export.tar.len();
            }
            Body::End(end) => assert_eq!(end.decl.kind, StreamKind::Tree),
        }
    }
    export
}

#[test]
fn gnu_tar_extracts_all_of_it_exactly() {
    let dir = tempfile::tempdir().expect("temp");
    let (from, to, tar) = (
        dir.path().join("from"),
        dir.path().join("to"),
        dir.path().join("t"),
    );
    fs::create_dir(&from).expect("dir");
    fs::create_dir(&to).expect("dir");
    torture(&from);
    let _socket = UnixListener::bind(from.join("socket")).expect("socket");
    set_mtime(&from, 1_000_000_003, 5);
    let export = export(&from, settled());
    assert_eq!(
        export.meta.warnings,
        ["./socket is a socket, and is left out"]
    );
    fs::write(&tar, &export.tar).expect("tar");
    gnu_tar(&["-xp", "--xattrs", "--delay-directory-restore"], &tar, &to);
    fs::remove_file(from.join("socket")).expect("gone");
    set_mtime(&from, 1_000_000_003, 5);
    pretty_assert(&facts(&from), &facts(&to));
    assert_eq!(compare(&from, &to).expect("compared"), []);
}

#[test]
fn a_file_is_a_tar_of_one_entry() {
    let dir = tempfile::tempdir().expect("temp");
    let (from, tar) = (dir.path().join("a file"), dir.path().join("t"));
    fs::write(&from, noise(1000, 1)).expect("file");
    fs::create_dir(dir.path().join("to")).expect("dir");
    let export = export(&from, settled());
    assert_eq!(export.meta.name, "a file");
    fs::write(&tar, &export.tar).expect("tar");
    gnu_tar(&["-xp"], &tar, &dir.path().join("to"));
    assert_eq!(names(&dir.path().join("to")), ["a file"]);
    assert_eq!(
        compare(&from, &dir.path().join("to/a file")).expect("compared"),
        []
    );
}

#[test]
fn a_symlink_to_a_tree_is_followed() {
    let dir = tempfile::tempdir().expect("temp");
    fs::create_dir(dir.path().join("real")).expect("dir");
    fs::write(dir.path().join("real/f"), b"f").expect("file");
    std::os::unix::fs::symlink("real", dir.path().join("link")).expect("symlink");
    let [real, link] = ["real", "link"].map(|name| export(&dir.path().join(name), settled()));
    assert_eq!(real.tar, link.tar);
    assert_eq!(link.meta.name, "real");
}

#[test]
fn what_is_excluded_is_left_out() {
    let dir = tempfile::tempdir().expect("temp");
    fs::create_dir_all(dir.path().join("a/home/b")).expect("dir");
    fs::write(dir.path().join("a/home/b/c"), b"c").expect("file");
    let exclude = vec![dir.path().join("a/b/../home")];
    fs::create_dir(dir.path().join("a/b")).expect("dir");
    let options = TreeOptions {
        exclude,
        ..settled()
    };
    let tar = export(dir.path(), options).tar;
    let list = dir.path().join("t");
    fs::write(&list, tar).expect("tar");
    let output = std::process::Command::new("tar")
        .arg("-tf")
        .arg(list)
        .output()
        .expect("tar");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "./\n./a/\n./a/b/\n"
    );
}

#[test]
fn names_what_is_not_there_or_not_a_tree() {
    let dir = tempfile::tempdir().expect("temp");
    let absent = TreeSource::open(&dir.path().join("absent"), 0, settled());
    assert!(matches!(absent, Err(SourceError::Io { path, .. }) if path.ends_with("absent")));
    let device = TreeSource::open(Path::new("/dev/null"), 0, settled());
    assert!(matches!(device, Err(SourceError::Special { .. })));
}

#[test]
fn very_deep_trees_are_walked() {
    let dir = tempfile::tempdir().expect("temp");
    let mut deep = dir.path().to_owned();
    for _ in 0..200 {
        deep.push("d");
        fs::create_dir(&deep).expect("dir");
        fs::write(deep.join("e"), b"e").expect("file");
        fs::write(deep.join("a"), b"a").expect("file");
    }
    let (tar, to) = (
        export(dir.path(), settled()).tar,
        tempfile::tempdir().expect("temp"),
    );
    fs::write(to.path().join("t"), tar).expect("tar");
    let into = to.path().join("to");
    fs::create_dir(&into).expect("dir");
    gnu_tar(
        &["-xp", "--delay-directory-restore"],
        &to.path().join("t"),
        &into,
    );
    assert_eq!(compare(dir.path(), &into).expect("compared"), []);
}
