//! Restores trees.

mod damage;
mod existing;
mod hostile;
mod shapes;

use std::{
    fs,
    io::{self, BufRead, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use super::*;
use crate::{
    source::tree::tests::{export, fixture::*, settled},
    target::Existing,
};

/// Content that comes in small parts, some of them damaged.
struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
    step: usize,
    damage: Vec<Range<u64>>,
    known: usize,
    part: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn new(bytes: &'a [u8], step: usize, damage: Vec<Range<u64>>) -> Self {
        let (at, known, part) = (0, 0, Vec::new());
        Self {
            bytes,
            at,
            step,
            damage,
            known,
            part,
        }
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.part.is_empty() {
            let end = (self.at + self.step).min(self.bytes.len());
            self.part = self.bytes[self.at..end].to_vec();
            let (start, end) = (self.at as u64, end as u64);
            for (number, gap) in self.damage.iter().enumerate() {
                let (from, to) = (gap.start.max(start), gap.end.min(end));
                if from < to {
                    let [from, to] = [from, to].map(|at| (at - start) as usize);
                    self.part[from..to].fill(0);
                    self.known = number + 1;
                }
            }
        }
        Ok(&self.part)
    }

    fn consume(&mut self, len: usize) {
        self.part.drain(..len);
        self.at += len;
    }
}

impl Content for Parts<'_> {
    fn gaps(&self) -> &[Range<u64>] {
        &self.damage[..self.known]
    }
}

fn begin(to: &Path, options: ImportOptions) -> Result<Box<TreeTarget>, TargetError> {
    let mut target = Box::new(TreeTarget::open(to));
    let source = SourceMeta {
        engine: Engine::Tree,
        name: "t".into(),
        version: None,
        warnings: Vec::new(),
    };
    target.begin(&source, options)?;
    Ok(target)
}

fn take(
    target: &mut TreeTarget,
    len: usize,
    content: &mut dyn Content,
) -> Result<StreamReport, TargetError> {
    let meta = StreamMeta {
        source: 0,
        kind: StreamKind::Tree,
        name: "t".into(),
        head: 0,
        tail: 0,
        bytes: len as u64,
        rows: None,
        columns: Vec::new(),
        content: String::new(),
    };
    target.stream(&meta, content)
}

fn import(tar: &[u8], to: &Path, existing: Existing) -> Result<StreamReport, TargetError> {
    let options = ImportOptions {
        existing,
        ..ImportOptions::default()
    };
    let mut target = begin(to, options)?;
    let mut content = Slice {
        bytes: tar,
        gaps: &[],
    };
    let report = take(&mut target, tar.len(), &mut content)?;
    target.commit()?;
    Ok(report)
}

/// A directory with a tree of everything in `from`.
fn tortured() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("temp");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).expect("dir");
    torture(&from);
    (dir, from, to)
}

#[test]
fn restores_all_of_it_exactly() {
    let (dir, from, to) = tortured();
    let report = import(&export(&from, settled()).tar, &to, Existing::Refuse).expect("restored");
    assert_eq!(report.skipped, [""; 0]);
    pretty_assert(&facts(&from), &facts(&to));
    assert_eq!(report.entries as usize, facts(&from).len());
    assert_eq!(names(dir.path()), ["from", "to"]);
}

#[test]
fn what_comes_in_small_parts_is_the_same() {
    let (_dir, from, to) = tortured();
    let tar = export(&from, settled()).tar;
    for step in [1 << 20, 4095, 77] {
        let mut target = begin(&to, ImportOptions::default()).expect("begun");
        let mut content = Parts::new(&tar, step, Vec::new());
        take(&mut target, tar.len(), &mut content).expect("restored");
        target.commit().expect("committed");
        pretty_assert(&facts(&from), &facts(&to));
        fs::remove_dir_all(&to).expect("gone");
    }
}

#[test]
fn restores_what_gnu_tar_writes() {
    let (dir, from, to) = tortured();
    let tar = dir.path().join("t");
    let formats: [&[&str]; 3] = [
        &["--format=gnu", "-S"],
        &["--format=gnu", "-S", "-b", "100", "--numeric-owner"],
        &["--format=posix", "-S", "--xattrs"],
    ];
    for format in formats {
        let output = std::process::Command::new("tar")
            .arg("-c")
            .args(format)
            .arg("-f")
            .args([&tar, Path::new("-C"), &from, Path::new(".")])
            .output()
            .expect("tar runs");
        assert!(output.status.success(), "{output:?}");
        let bytes = fs::read(&tar).expect("tar");
        let report = import(&bytes, &to, Existing::Refuse).expect("restored");
        assert_eq!(report.skipped, [""; 0]);
        let mut facts = [&from, &to].map(|root| facts(root));
        if format[0] == "--format=gnu" {
            facts
                .iter_mut()
                .flat_map(|facts| facts.values_mut())
                .for_each(coarsen);
        }
        pretty_assert(&facts[0], &facts[1]);
        fs::remove_dir_all(&to).expect("gone");
    }
}

/// Drops what GNU's own format has no room for: nanoseconds and attributes.
fn coarsen(fact: &mut String) {
    let at = |what| fact.find(what).expect("part of every fact");
    *fact = format!("{}{}", &fact[..at('.')], &fact[at('}')..]);
}

#[test]
fn a_file_is_restored_into_a_directory() {
    let dir = tempfile::tempdir().expect("temp");
    let (from, to) = (dir.path().join("file"), dir.path().join("a/b/to"));
    fs::write(&from, b"f").expect("file");
    import(&export(&from, settled()).tar, &to, Existing::Refuse).expect("restored");
    assert_eq!(fs::read(to.join("file")).expect("file"), b"f");
}

#[test]
fn who_is_not_root_gets_no_owners_and_no_setuid() {
    let dir = tempfile::tempdir().expect("temp");
    open_to_all(dir.path());
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).expect("dir");
    fs::write(from.join("setuid"), b"#!").expect("file");
    fs::create_dir(from.join("locked")).expect("dir");
    fs::write(from.join("locked/f"), b"f").expect("file");
    for (name, mode) in [("setuid", 0o6755), ("locked", 0o500), ("", 0o555)] {
        fs::set_permissions(from.join(name), fs::Permissions::from_mode(mode)).expect("mode");
    }
    let tar = export(&from, settled()).tar;
    let me = unprivileged(|| {
        import(&tar, &to, Existing::Refuse).expect("restored");
        rustix::process::geteuid().as_raw()
    });
    let setuid = fs::metadata(to.join("setuid")).expect("file");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid()), (0o755, me));
    assert_eq!(fs::metadata(&to).expect("root").mode() & 0o7777, 0o555);
    assert_eq!(names(dir.path()), ["from", "to"]);
}
