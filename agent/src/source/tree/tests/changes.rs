//! What happens to a tree while it is read.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

thread_local! {
    /// What the next look at the clock does: it comes after a walk, and before what it found is read.
    static MEANWHILE: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::default();
}

fn meanwhile() -> SystemTime {
    if let Some(act) = MEANWHILE.with(|act| act.borrow_mut().take()) {
        act();
    }
    later()
}

/// Exports a tree to which `act` happens between walk and reading.
fn export_while(
    root: &Path,
    skip_unreadable: bool,
    act: impl FnOnce() + Send + 'static,
) -> Result<Export, SourceError> {
    MEANWHILE.with(|slot| *slot.borrow_mut() = Some(Box::new(act)));
    let options = TreeOptions {
        clock: meanwhile,
        skip_unreadable,
        ..TreeOptions::default()
    };
    export_again(root, options, Units::new())
}

fn unpacked(tar: &[u8]) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("temp");
    let tar_path = to.path().join("t");
    fs::write(&tar_path, tar).expect("tar");
    gnu_tar(&["-xp"], &tar_path, to.path());
    fs::remove_file(tar_path).expect("gone");
    to
}

#[test]
fn a_file_that_vanishes_is_left_out_and_named() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("f");
    fs::write(&file, b"f").expect("file");
    let gone = file.clone();
    let export = export_while(dir.path(), false, move || {
        fs::remove_file(gone).expect("gone")
    });
    let export = export.expect("no failure");
    let expected = ["./f vanished before it was read, and is left out"];
    assert_eq!(export.meta.warnings, expected);
    assert_eq!((export.written, export.abandoned), (0, 1));
    assert_eq!(names(unpacked(&export.tar).path()), [""; 0]);
}

#[test]
fn a_file_that_becomes_a_symlink_is_not_followed() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("f");
    let swap = |file: PathBuf| {
        move || {
            fs::remove_file(&file).expect("gone");
            symlink("/etc/passwd", &file).expect("symlink");
        }
    };
    fs::write(&file, b"f").expect("file");
    let refused = export_while(dir.path(), false, swap(file.clone()));
    assert!(matches!(refused, Err(SourceError::Io { path, .. }) if path == file));
    fs::remove_file(&file).expect("gone");
    fs::write(&file, b"f").expect("file");
    let export = export_while(dir.path(), true, swap(file)).expect("skipped");
    assert!(export.meta.warnings[0].starts_with("./f cannot be read, and is left out"));
    assert_eq!(names(unpacked(&export.tar).path()), [""; 0]);
}

#[test]
fn a_directory_that_becomes_a_symlink_is_not_followed() {
    let dir = tempfile::tempdir().expect("temp");
    let outside = tempfile::tempdir().expect("temp");
    fs::write(outside.path().join("f"), b"secret").expect("file");
    fs::create_dir(dir.path().join("d")).expect("dir");
    fs::write(dir.path().join("d/f"), b"f").expect("file");
    let (d, o) = (dir.path().join("d"), outside.path().to_owned());
    let swap = move || {
        fs::remove_dir_all(&d).expect("gone");
        symlink(&o, &d).expect("symlink");
    };
    let export = export_while(dir.path(), true, swap).expect("skipped");
    assert_eq!(export.meta.warnings.len(), 1, "{:?}", export.meta.warnings);
    assert!(!export.tar.windows(6).any(|w| w == b"secret"));
}

#[test]
fn a_file_that_becomes_a_fifo_does_not_block() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("f");
    fs::write(&file, b"f").expect("file");
    let export = export_while(dir.path(), true, move || {
        fs::remove_file(&file).expect("gone");
        rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).expect("fifo");
    });
    assert_eq!(export.expect("skipped").meta.warnings.len(), 1);
}

#[test]
fn a_file_that_is_replaced_is_kept_as_it_is_then() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("f");
    fs::write(&file, b"before").expect("file");
    let replaced = file.clone();
    let export = export_while(dir.path(), false, move || {
        fs::write(replaced.with_extension("new"), b"the new one").expect("file");
        fs::rename(replaced.with_extension("new"), replaced).expect("renamed");
    });
    let export = export.expect("no failure");
    assert_eq!(export.meta.warnings, [""; 0]);
    assert_eq!(
        (export.written, export.abandoned),
        (0, 1),
        "its key would lie"
    );
    let to = unpacked(&export.tar);
    assert_eq!(fs::read(to.path().join("f")).expect("file"), b"the new one");
}

/// Exports one large file, to which `act` happens when its first piece is out.
fn large_file_while(act: impl FnOnce(&Path) + Send) -> (Export, Vec<u8>) {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("large");
    let content = noise(40 << 20, 9);
    fs::write(&file, &content).expect("file");
    let mut source = TreeSource::open(&file, 0, settled()).expect("there");
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let intake = Intake::new(Cutter::new(&[7; 32]), sender, Box::new(|_| None));
    let export = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            // The source is stuck within a few MiB of this piece until the next is taken.
            let first = receiver.recv().expect("a piece");
            act(&file);
            let rest = receiver.iter();
            gather(
                std::iter::once(first).chain(rest),
                &Units::new(),
                &Mutex::default(),
            )
        });
        let meta = source.read(&intake).expect("readable");
        drop(intake);
        let mut export = reading.join().expect("no panic");
        export.meta = meta;
        export
    });
    (export, content)
}

#[test]
fn a_file_that_shrinks_is_filled_up_and_named() {
    let (export, mut content) = large_file_while(|path| {
        let file = OpenOptions::new().write(true).open(path).expect("file");
        file.set_len(20 << 20).expect("shorter");
    });
    let expected = "./large shrank to 20971520 bytes while it was read, \
                    and is filled up with zeros to 41943040";
    assert_eq!(export.meta.warnings, [expected]);
    assert_eq!((export.written, export.abandoned), (0, 1));
    content[20 << 20..].fill(0);
    let to = unpacked(&export.tar);
    assert!(fs::read(to.path().join("large")).expect("file") == content);
}

#[test]
fn a_file_that_grows_keeps_the_size_that_it_had() {
    let (export, content) = large_file_while(|path| {
        let mut file = OpenOptions::new().append(true).open(path).expect("file");
        file.write_all(b"more").expect("longer");
    });
    let expected = "./large grew while it was read; only the first 41943040 bytes are kept";
    assert_eq!(export.meta.warnings, [expected]);
    assert_eq!((export.written, export.abandoned), (0, 1));
    let to = unpacked(&export.tar);
    assert!(fs::read(to.path().join("large")).expect("file") == content);
}

#[test]
fn a_file_that_is_written_to_is_named() {
    let (export, _) = large_file_while(|path| {
        let file = OpenOptions::new().write(true).open(path).expect("file");
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 30 << 20).expect("written");
    });
    assert_eq!(export.meta.warnings, ["./large changed while it was read"]);
    assert_eq!((export.written, export.abandoned), (0, 1));
}

#[test]
fn a_small_file_that_never_stays_the_same_is_named() {
    // It says that it is empty, and has content.
    let export = export(Path::new("/proc/self/status"), settled());
    let expected = ["./status grew while it was read; only the first 0 bytes are kept"];
    assert_eq!(export.meta.warnings, expected);
}

#[test]
fn a_file_that_cannot_be_read_fails_the_export_or_is_named() {
    // It can be opened by its owner, and not be read.
    let path = Path::new("/proc/self/clear_refs");
    let refused = export_again(path, settled(), Units::new());
    assert!(matches!(refused, Err(SourceError::Io { path, .. }) if path.ends_with("clear_refs")));
    let options = TreeOptions {
        skip_unreadable: true,
        ..settled()
    };
    let export = export(path, options);
    assert!(export.meta.warnings[0].starts_with("./clear_refs cannot be read, and is left out"));
}

#[test]
fn what_is_forbidden_fails_the_export_or_is_named() {
    let dir = tempfile::tempdir().expect("temp");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    fs::create_dir(dir.path().join("d")).expect("dir");
    fs::write(dir.path().join("f"), b"f").expect("file");
    fs::hard_link(dir.path().join("f"), dir.path().join("g")).expect("link");
    fs::write(dir.path().join("z"), b"z").expect("file");
    let allow = |name: &str, mode| {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(dir.path().join(name), permissions).expect("mode");
    };
    allow("f", 0);
    allow("d", 0);
    let refused = unprivileged(|| export_again(dir.path(), settled(), Units::new()));
    assert!(refused.is_err_and(|error| error.to_string().contains("/d")));
    let options = TreeOptions {
        skip_unreadable: true,
        ..settled()
    };
    let export = unprivileged(|| export(dir.path(), options));
    let expected: Vec<_> = ["d", "f", "g"]
        .map(|name| {
            format!("./{name} cannot be read, and is left out: Permission denied (os error 13)")
        })
        .into();
    assert_eq!(export.meta.warnings, expected);
    assert_eq!(export.abandoned, 1);
    assert_eq!(names(unpacked(&export.tar).path()), ["d", "z"]);
    allow("d", 0o700);
}
