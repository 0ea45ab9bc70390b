//! What is unchanged is known without being read.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn many(root: &Path, files: usize) {
    fs::create_dir(root).expect("dir");
    for i in 0..files {
        fs::write(root.join(format!("f{i:05}")), noise(i % 700, 1)).expect("file");
    }
}

#[test]
fn unchanged_files_are_not_even_opened() {
    let dir = tempfile::tempdir().expect("temp");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let root = dir.path().join("root");
    many(&root, 700);
    fs::write(root.join("large"), noise(2 << 20, 2)).expect("file");
    let first = export(&root, settled());
    assert!(first.written >= 3);
    assert_eq!((first.reused, first.abandoned), (0, 0));
    // Not to be read by the one who exports again, and known by when that was so.
    for name in names(&root) {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o0)).expect("mode");
    }
    let second = export(&root, settled());
    let again = unprivileged(|| export_again(&root, settled(), second.units)).expect("not read");
    assert_eq!((again.written, again.abandoned), (0, 0));
    assert_eq!(again.reused, second.written);
    assert_eq!(again.tar, second.tar);
    assert_eq!(again.bytes_read, 1024, "the two blocks at the end");
}

#[test]
fn what_was_just_written_is_not_recorded() {
    let dir = tempfile::tempdir().expect("temp");
    fs::write(dir.path().join("f"), b"f").expect("file");
    let export = export(dir.path(), TreeOptions::default());
    assert_eq!((export.written, export.abandoned), (0, 1));
}

#[test]
fn adding_a_file_changes_the_group_around_it_only() {
    let dir = tempfile::tempdir().expect("temp");
    let root = dir.path().join("root");
    many(&root, 6000);
    let first = export(&root, settled());
    assert!(first.written > 10, "{}", first.written);
    fs::write(root.join("f03000x"), b"new").expect("file");
    let again = export_again(&root, settled(), first.units).expect("readable");
    // The group it falls into, which may now end elsewhere, and the one of the root.
    assert!(again.written <= 4, "{} of {}", again.written, first.written);
    assert!(again.reused + 4 >= first.written);
    assert_eq!(again.tar, export(&root, settled()).tar);
}

#[test]
fn any_change_of_metadata_changes_the_key() {
    let dir = tempfile::tempdir().expect("temp");
    let file = dir.path().join("f");
    fs::write(&file, b"1").expect("file");
    std::os::unix::fs::symlink("a", dir.path().join("s")).expect("symlink");
    let changes: [(&str, &dyn Fn()); 5] = [
        ("content of the same size", &|| {
            fs::write(&file, b"2").expect("file")
        }),
        ("mode", &|| {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("mode");
        }),
        ("time", &|| set_mtime(&file, 1, 1)),
        ("attribute", &|| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(&file, "user.x", b"x", flags).expect("xattr");
        }),
        ("link", &|| {
            fs::remove_file(dir.path().join("s")).expect("gone");
            std::os::unix::fs::symlink("b", dir.path().join("s")).expect("symlink");
        }),
    ];
    let mut known = export(dir.path(), settled()).units;
    for (what, change) in changes {
        change();
        let again = export_again(dir.path(), settled(), known).expect("readable");
        assert_eq!((again.reused, again.written), (0, 1), "{what}");
        known = again.units;
    }
}
