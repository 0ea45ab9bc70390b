//! What is there already.

use std::{
    collections::BTreeMap,
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use super::*;

/// A tar, and a directory with something else in `to`.
fn two_trees() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().expect("temp");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for (root, text) in [(&from, "new"), (&to, "old")] {
        fs::create_dir_all(root.join("both/deep")).expect("dir");
        fs::create_dir_all(root.join(format!("only-{text}/d"))).expect("dir");
        fs::write(root.join("both/deep/f"), text).expect("file");
        fs::write(root.join(format!("both/{text}")), text).expect("file");
        fs::write(root.join(format!("only-{text}/f")), text).expect("file");
    }
    symlink("only-old", to.join("link")).expect("symlink");
    symlink("only-old/f", to.join("both/to-file")).expect("symlink");
    fs::write(from.join("both/to-file"), "new").expect("file");
    let tar = export(&from, settled()).tar;
    (dir, to, tar)
}

#[test]
fn refuses_what_is_not_empty() {
    let (dir, to, tar) = two_trees();
    let before = facts(dir.path());
    let refused = import(&tar, &to, Existing::Refuse);
    assert!(matches!(refused, Err(TargetError::NotEmpty(path)) if path.ends_with("/to")));
    pretty_assert(&before, &facts(dir.path()));
}

#[test]
fn an_empty_directory_is_taken() {
    let (dir, _, tar) = two_trees();
    let to = dir.path().join("empty");
    fs::create_dir(&to).expect("dir");
    import(&tar, &to, Existing::Refuse).expect("restored");
    pretty_assert(&facts(&dir.path().join("from")), &facts(&to));
    assert_eq!(names(dir.path()), ["empty", "from", "to"]);
}

#[test]
fn what_came_meanwhile_is_not_replaced() {
    let (dir, _, tar) = two_trees();
    let to = dir.path().join("empty");
    let mut target = begin(&to, ImportOptions::default()).expect("begun");
    let mut content = Parts::new(&tar, 4096, Vec::new());
    take(&mut target, tar.len(), &mut content).expect("unpacked");
    fs::create_dir(&to).expect("dir");
    fs::write(to.join("came"), b"first").expect("file");
    target.commit().expect_err("not empty");
    assert_eq!(names(&to), ["came"]);
    assert_eq!(names(dir.path()), ["empty", "from", "to"]);
}

#[test]
fn dropped_without_commit_it_leaves_nothing() {
    let (dir, to, tar) = two_trees();
    let before = facts(dir.path());
    for place in [to, dir.path().join("x/y/z")] {
        let options = ImportOptions {
            existing: Existing::Merge,
            ..ImportOptions::default()
        };
        let mut target = begin(&place, options).expect("begun");
        let mut content = Parts::new(&tar, 4096, Vec::new());
        take(&mut target, tar.len(), &mut content).expect("unpacked");
        drop(target);
    }
    let after = facts(dir.path());
    let without_root = |mut facts: BTreeMap<PathBuf, String>| {
        facts.remove(Path::new(""));
        facts
    };
    pretty_assert(&without_root(before), &without_root(after));
}

#[test]
fn merging_keeps_what_is_there_and_replaces_files() {
    let (dir, to, tar) = two_trees();
    import(&tar, &to, Existing::Merge).expect("merged");
    assert_eq!(names(&to), ["both", "link", "only-new", "only-old"]);
    assert_eq!(names(&to.join("both")), ["deep", "new", "old", "to-file"]);
    let read = |path: &str| fs::read_to_string(to.join(path)).expect("file");
    assert_eq!(read("both/deep/f"), "new");
    assert_eq!(read("only-new/f"), "new");
    assert_eq!(read("both/old"), "old");
    // The symlink was replaced, not what it led to.
    assert_eq!(read("both/to-file"), "new");
    assert_eq!(read("only-old/f"), "old");
    assert_eq!(names(dir.path()), ["from", "to"]);
}

#[test]
fn merging_never_goes_through_a_symlink() {
    let (dir, to, tar) = two_trees();
    let outside = dir.path().join("outside");
    fs::rename(to.join("both/deep"), &outside).expect("moved");
    symlink("../../outside", to.join("both/deep")).expect("symlink");
    let before = facts(&to);
    let refused = import(&tar, &to, Existing::Merge);
    assert!(matches!(refused, Err(TargetError::Unsuitable(what)) if what.contains("both/deep")));
    pretty_assert(&before, &facts(&to));
    assert_eq!(fs::read(outside.join("f")).expect("file"), b"old");
    assert_eq!(names(dir.path()), ["from", "outside", "to"]);
}

#[test]
fn merging_does_not_replace_a_directory_by_a_file() {
    let (_dir, to, tar) = two_trees();
    fs::create_dir(to.join("both/new")).expect("dir");
    let before = facts(&to);
    let refused = import(&tar, &to, Existing::Merge);
    assert!(matches!(refused, Err(TargetError::Unsuitable(what)) if what.contains("both/new")));
    pretty_assert(&before, &facts(&to));
}

#[test]
fn a_merge_that_fails_half_way_is_taken_back() {
    let (_dir, to, tar) = two_trees();
    let options = ImportOptions {
        existing: Existing::Merge,
        ..ImportOptions::default()
    };
    open_to_all(_dir.path());
    open_to_all(&to);
    open_to_all(&to.join("both"));
    // The last place that is moved into may not be written to.
    fs::set_permissions(to.join("both/deep"), fs::Permissions::from_mode(0o555)).expect("mode");
    let before: Vec<_> = facts(&to).into_keys().collect();
    unprivileged(|| {
        let mut target = begin(&to, options).expect("begun");
        let mut content = Parts::new(&tar, 4096, Vec::new());
        take(&mut target, tar.len(), &mut content).expect("unpacked");
        let failed = target.commit();
        assert!(matches!(failed, Err(TargetError::Io { .. })), "{failed:?}");
    });
    let after: Vec<_> = facts(&to).into_keys().collect();
    assert_eq!(before, after);
    let read = |path: &str| fs::read_to_string(to.join(path)).expect("file");
    assert_eq!(read("both/deep/f"), "old");
    assert!(
        fs::symlink_metadata(to.join("both/to-file"))
            .expect("there")
            .is_symlink()
    );
}

#[test]
fn replacing_leaves_nothing_of_what_was_there() {
    let (dir, to, tar) = two_trees();
    import(&tar, &to, Existing::Replace).expect("replaced");
    pretty_assert(&facts(&dir.path().join("from")), &facts(&to));
    assert_eq!(names(dir.path()), ["from", "to"]);
    let file = dir.path().join("from/only-new/f");
    import(&tar, &file, Existing::Replace).expect("replaced");
    assert_eq!(names(&file), ["both", "only-new"]);
}

#[test]
fn a_file_in_the_place_is_refused() {
    let (_dir, to, tar) = two_trees();
    let file = to.join("both/old");
    for existing in [Existing::Refuse, Existing::Merge] {
        let refused = import(&tar, &file, existing);
        assert!(matches!(refused, Err(TargetError::Unsuitable(_))));
    }
    assert_eq!(fs::read(&file).expect("file"), b"old");
}

#[test]
fn a_place_whose_parent_may_not_be_written_to_is_filled_from_inside() {
    let (dir, to, tar) = two_trees();
    let from = facts(&dir.path().join("from"));
    let names_of = |facts: &BTreeMap<PathBuf, String>| facts.keys().cloned().collect::<Vec<_>>();
    for (name, existing) in [("full", Existing::Replace), ("empty", Existing::Refuse)] {
        let place = dir.path().join(name);
        fs::create_dir(&place).expect("dir");
        if existing == Existing::Replace {
            fs::write(place.join("old"), b"old").expect("file");
        }
        open_to_all(&place);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("mode");
        if is_root() {
            std::os::unix::fs::chown(&place, Some(65534), Some(65534)).expect("owner");
        }
        unprivileged(|| import(&tar, &place, existing).expect("restored"));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
        let restored = facts(&place);
        assert_eq!(names_of(&from), names_of(&restored));
        let root = Path::new("");
        let time = |fact: &str| fact.split(' ').nth(2).map(str::to_owned);
        assert_eq!(time(&from[root]), time(&restored[root]));
    }
    drop(to);
}

#[test]
fn a_symlink_to_the_place_is_followed() {
    let (dir, to, tar) = two_trees();
    let link = dir.path().join("link");
    symlink("to", &link).expect("symlink");
    import(&tar, &link, Existing::Replace).expect("replaced");
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    pretty_assert(&facts(&dir.path().join("from")), &facts(&to));
}

#[test]
fn nobody_else_enters_a_staging_directory() {
    let (dir, _, tar) = two_trees();
    let mut target = begin(&dir.path().join("new"), ImportOptions::default()).expect("begun");
    let mut content = Parts::new(&tar, 4096, Vec::new());
    take(&mut target, tar.len(), &mut content).expect("unpacked");
    let staging = names(dir.path())
        .into_iter()
        .find(|name| name.starts_with(".souverain-import-"))
        .expect("a staging directory");
    let mode = fs::metadata(dir.path().join(staging))
        .expect("there")
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_a_killed_import_left_is_removed() {
    let (dir, _, tar) = two_trees();
    let leftover = |name: &str, in_old: bool, hours: u64| {
        let path = dir.path().join(format!(".souverain-import-{name}"));
        fs::create_dir_all(path.join("new/d")).expect("dir");
        fs::write(path.join("new/d/f"), "plaintext").expect("file");
        fs::create_dir_all(path.join("old")).expect("dir");
        if in_old {
            fs::write(path.join("old/0"), "moved out of a target").expect("file");
        }
        let made = SystemTime::now() - Duration::from_secs(3600 * hours);
        let directory = fs::File::open(&path).expect("opens");
        directory.set_modified(made).expect("is its owner's");
        directory
    };
    leftover("dead", false, 1);
    leftover("moved", true, 1);
    leftover("young", false, 0);
    let held = leftover("alive", false, 1);
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("free");
    import(&tar, &dir.path().join("new"), Existing::Refuse).expect("restored");
    let staging = |name: &str| format!(".souverain-import-{name}");
    let there = [staging("alive"), staging("moved"), staging("young")];
    let found = names(dir.path());
    let found: Vec<_> = found.iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(found, there.iter().collect::<Vec<_>>());
}
