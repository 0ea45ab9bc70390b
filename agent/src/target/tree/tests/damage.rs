//! Tars with pieces missing.

use super::*;

/// Restores a tar with damage, and checks that what is there is right.
fn restore_damaged(tar: &[u8], whole: &Path, damage: Range<u64>) -> (usize, Vec<String>) {
    let dir = tempfile::tempdir().expect("temp");
    let to = dir.path().join("to");
    let options = ImportOptions {
        skip_damaged: true,
        ..ImportOptions::default()
    };
    let mut target = begin(&to, options).expect("begun");
    let mut content = Parts::new(tar, 100_000, vec![damage.clone()]);
    let report = take(&mut target, tar.len(), &mut content).expect("restored but for the damage");
    target.commit().expect("committed");
    let mut restored = 0;
    for path in facts(&to).into_keys() {
        let (a, b) = (whole.join(&path), to.join(&path));
        let meta = fs::symlink_metadata(&b).expect("there");
        let of_whole = fs::symlink_metadata(&a);
        let of_whole = of_whole.unwrap_or_else(|_| panic!("{damage:?} made {path:?}"));
        assert_eq!(
            meta.file_type(),
            of_whole.file_type(),
            "{damage:?} {path:?}"
        );
        if meta.is_file() {
            let same = fs::read(&a).expect("file") == fs::read(&b).expect("file");
            assert!(same, "{damage:?} {path:?}");
            restored += 1;
        }
    }
    (restored, report.skipped)
}

#[test]
fn what_is_not_damaged_is_restored() {
    let (_dir, from, _) = tortured();
    let tar = export(&from, settled()).tar;
    let all = facts(&from)
        .keys()
        .filter(|path| from.join(path).is_file())
        .count();
    let len = tar.len() as u64;
    // Somewhere in each of the entries, and across several of them.
    for (start, size) in (0..len)
        .step_by(150_000)
        .zip([1, 600, 5000, 200_000].into_iter().cycle())
    {
        let (restored, skipped) = restore_damaged(&tar, &from, start..(start + size).min(len));
        assert!(restored > all / 3, "{start}: {restored} of {all}");
        let end = start + size < len - 1024;
        assert!(!end || restored == all || !skipped.is_empty(), "{start}");
    }
}

#[test]
fn each_file_is_there_or_named() {
    let dir = tempfile::tempdir().expect("temp");
    let from = dir.path().join("from");
    fs::create_dir(&from).expect("dir");
    for i in 0..20 {
        fs::write(from.join(format!("f{i:02}")), noise(1000 + i, 1)).expect("file");
    }
    let tar = export(&from, settled()).tar;
    // A header, a pax header, content, padding: all that there is in 512 steps.
    for start in (0..tar.len() as u64 - 1024).step_by(512) {
        let (restored, skipped) = restore_damaged(&tar, &from, start..start + 1);
        assert_eq!(skipped.len(), 1, "{start}: {skipped:?}");
        assert!((18..=20).contains(&restored), "{start}");
        let named = skipped[0].contains("is damaged") || skipped[0].contains("are damaged");
        assert!(named, "{start}: {skipped:?}");
    }
}

#[test]
fn content_that_looks_like_a_header_leads_nowhere() {
    let (dir, from, _) = tortured();
    let inner = export(&from, settled()).tar;
    let outer = dir.path().join("outer");
    fs::create_dir(&outer).expect("dir");
    fs::write(outer.join("archive.tar"), &inner).expect("file");
    let tar = export(&outer, settled()).tar;
    let to = dir.path().join("to");
    let options = ImportOptions {
        skip_damaged: true,
        ..ImportOptions::default()
    };
    let mut target = begin(&to, options).expect("begun");
    let mut content = Parts::new(&tar, 4096, std::iter::once(1024..3000).collect());
    let report = take(&mut target, tar.len(), &mut content).expect("restored");
    target.commit().expect("committed");
    assert!(!report.skipped.is_empty());
    assert_eq!(names(dir.path()), ["from", "outer", "to"]);
}

#[test]
fn without_leave_damage_is_not_skipped() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
    impl BufRead for Broken {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Err(io::ErrorKind::InvalidData.into())
        }
        fn consume(&mut self, _: usize) {}
    }
    impl Content for Broken {
        fn gaps(&self) -> &[Range<u64>] {
            &[]
        }
    }
    let dir = tempfile::tempdir().expect("temp");
    let mut target = begin(&dir.path().join("to"), ImportOptions::default()).expect("begun");
    let failed = take(&mut target, 5000, &mut Broken);
    assert!(matches!(failed, Err(TargetError::Content { .. })));
}
