//! Tars that lie.

use tar::{EntryType, Header};

use super::*;

/// Puts a tar together, one lie at a time.
#[derive(Default)]
struct Builder(Vec<u8>);

impl Builder {
    fn entry(self, kind: EntryType, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        self.with(kind, name, link, content, |_| {})
    }

    fn with(
        mut self,
        kind: EntryType,
        name: &[u8],
        link: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut Header),
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, b"", b"content")
    }

    fn symlink(self, name: &[u8], to: &[u8]) -> Self {
        self.entry(EntryType::Symlink, name, to, b"")
    }

    fn hard(self, name: &[u8], to: &[u8]) -> Self {
        self.entry(EntryType::Link, name, to, b"")
    }

    fn pax(self, records: &[u8]) -> Self {
        self.entry(EntryType::XHeader, b"x", b"", records)
    }

    fn long(self, name: &[u8]) -> Self {
        self.entry(EntryType::GNULongName, b"././@LongLink", b"", name)
    }

    /// A sparse file with these runs in its header.
    fn sparse(self, size: u64, runs: &[(u64, u64)], content: &[u8]) -> Self {
        self.with(EntryType::GNUSparse, b"s", b"", content, |header| {
            let gnu = header.as_gnu_mut().expect("gnu");
            gnu.set_real_size(size);
            for (slot, &(offset, len)) in gnu.sparse.iter_mut().zip(runs) {
                slot.set_offset(offset);
                slot.set_length(len);
            }
        })
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    crate::archive::pax::push(&mut records, key.as_bytes(), value);
    records
}

fn tar() -> Builder {
    Builder::default()
}

/// Each with the words that the refusal must have.
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let sparse_records = |map: &str| {
        let records = [
            record("GNU.sparse.major", b"1"),
            record("GNU.sparse.minor", b"0"),
            record("GNU.sparse.realsize", b"4096"),
        ];
        let mut map = map.as_bytes().to_vec();
        map.resize(512, 0);
        let tar = tar().pax(&records.concat());
        tar.entry(EntryType::Regular, b"s", b"", &map).end()
    };
    let size = |size: &[u8; 12]| {
        let set = |header: &mut Header| header.as_old_mut().size = *size;
        tar().with(EntryType::Regular, b"f", b"", b"", set).end()
    };
    vec![
        ("a path leads out", tar().file(b"../out").end()),
        ("a path leads out", tar().file(b"./a/../../out").end()),
        ("a path leads out", tar().file(b"a/..").end()),
        (
            "a path leads out",
            tar().pax(&record("path", b"../out")).file(b"a").end(),
        ),
        (
            "a path leads out",
            tar().long(b"x/../../out\0").file(b"a").end(),
        ),
        ("a path is absolute", tar().file(b"/tmp/out").end()),
        (
            "a path is absolute",
            tar().pax(&record("path", b"/out")).file(b"a").end(),
        ),
        (
            "a path contains NUL",
            tar().pax(&record("path", b"a\0b")).file(b"a").end(),
        ),
        (
            "a path contains NUL",
            tar().long(b"a\0b\0").file(b"a").end(),
        ),
        (
            "a name is too long",
            tar().long(&[b'n'; 256]).file(b"a").end(),
        ),
        (
            "a path is too long",
            tar()
                .pax(&record("path", &b"a/".repeat(2100)))
                .file(b"a")
                .end(),
        ),
        ("too long", tar().long(&b"a/".repeat(2100)).file(b"a").end()),
        (
            "too long",
            tar()
                .pax(&record("k", &vec![b'v'; 1 << 20]))
                .file(b"a")
                .end(),
        ),
        ("the root is not a directory", tar().file(b"./").end()),
        (
            "the root is not a directory",
            tar().symlink(b".", b"/etc").end(),
        ),
        (
            "device",
            tar().entry(EntryType::Char, b"null", b"", b"").end(),
        ),
        (
            "device",
            tar().entry(EntryType::Block, b"sda", b"", b"").end(),
        ),
        (
            "not known",
            tar().entry(EntryType::new(b'M'), b"m", b"", b"").end(),
        ),
        ("twice", tar().file(b"a").file(b"./a").end()),
        ("twice", tar().file(b"a").symlink(b"a", b"b").end()),
        ("twice", tar().symlink(b"a", b"b").file(b"a").end()),
        ("twice", tar().symlink(b"a", b"b").symlink(b"a", b"c").end()),
        ("twice", tar().file(b"a").file(b"a/b").end()),
        ("twice", tar().file(b"a/b").symlink(b"a", b"/etc").end()),
        ("twice", tar().file(b"a").hard(b"a", b"a").end()),
        ("twice", directory(directory(tar(), b"d/"), b"d").end()),
        ("twice", directory(tar().symlink(b"d", b"/tmp"), b"d").end()),
        (
            "below a symlink",
            tar().symlink(b"d", b"/tmp").file(b"d/out").end(),
        ),
        (
            "below a symlink",
            tar().symlink(b"d", b"..").file(b"d/e/out").end(),
        ),
        (
            "below a symlink",
            directory(tar().symlink(b"d", b"/tmp"), b"d/e").end(),
        ),
        ("no file before it", tar().hard(b"h", b"absent").end()),
        (
            "no file before it",
            tar().symlink(b"s", b"/etc/passwd").hard(b"h", b"s").end(),
        ),
        (
            "no file before it",
            directory(tar(), b"d").hard(b"h", b"d").end(),
        ),
        (
            "no file before it",
            tar()
                .entry(EntryType::Fifo, b"p", b"", b"")
                .hard(b"h", b"p")
                .end(),
        ),
        ("no file before it", tar().hard(b"h", b"h").end()),
        ("leads out", tar().hard(b"h", b"../../etc/passwd").end()),
        ("absolute", tar().hard(b"h", b"/etc/passwd").end()),
        ("leads nowhere", tar().symlink(b"s", b"").end()),
        (
            "leads nowhere",
            tar()
                .pax(&record("linkpath", b"a\0b"))
                .symlink(b"s", b"x")
                .end(),
        ),
        (
            "has content",
            tar()
                .entry(EntryType::Directory, b"d", b"", b"content")
                .end(),
        ),
        (
            "has content",
            tar().entry(EntryType::Link, b"d", b"x", b"content").end(),
        ),
        ("larger than the tar", size(b"77777777777\0")),
        (
            "larger than the tar",
            size(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ),
        (
            "larger than the tar",
            size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        ),
        (
            "the size is malformed",
            size(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ),
        ("the size is malformed", size(b"12345678901x")),
        (
            "larger than the tar",
            tar().pax(&record("size", b"99999")).file(b"a").end(),
        ),
        (
            "pax record size lies",
            tar().pax(&record("size", b"-1")).file(b"a").end(),
        ),
        (
            "pax record mtime lies",
            tar().pax(&record("mtime", b"now")).file(b"a").end(),
        ),
        (
            "owner is malformed",
            tar().pax(&record("uid", b"4294967295")).file(b"a").end(),
        ),
        (
            "a pax record is malformed",
            tar().pax(b"99 path=a\n").file(b"a").end(),
        ),
        (
            "a pax record is malformed",
            tar().pax(b"7 path=a").file(b"a").end(),
        ),
        (
            "a pax record is malformed",
            tar().pax(b"0 path=a\n").file(b"a").end(),
        ),
        (
            "not known",
            tar()
                .pax(&record("GNU.sparse.map", b"0,1"))
                .file(b"a")
                .end(),
        ),
        (
            "not known",
            tar()
                .pax(&record("GNU.sparse.major", b"2"))
                .file(b"a")
                .end(),
        ),
        (
            "the map of s lies",
            tar().sparse(100, &[(0, 8)], b"content").end(),
        ),
        (
            "the map of s lies",
            tar().sparse(100, &[(94, 7)], b"content").end(),
        ),
        (
            "the map of s lies",
            tar().sparse(100, &[(9, 3), (8, 4)], b"content").end(),
        ),
        (
            "the map of s lies",
            tar().sparse(1 << 63, &[(1, 7)], b"content").end(),
        ),
        (
            "the map of s lies",
            tar().sparse(u64::MAX, &[(u64::MAX, 7)], b"content").end(),
        ),
        ("the map of s lies", sparse_records("1\n0\n9\n")),
        ("malformed", sparse_records("99999999\n0\n9\n")),
        ("malformed", sparse_records("1\n0\nx\n")),
        ("malformed", sparse_records(&"1".repeat(512))),
        ("malformed", sparse_records("2\n0\n0\n")),
        (
            "something follows its end",
            [tar().file(b"a").end(), b"more".to_vec()].concat(),
        ),
        ("it ends early", Vec::new()),
        ("it ends early", tar().file(b"a").0),
        (
            "a header is malformed",
            [vec![b'x'; 512], tar().end()].concat(),
        ),
    ]
}

fn directory(tar: Builder, name: &[u8]) -> Builder {
    tar.entry(EntryType::Directory, name, b"", b"")
}

#[test]
fn each_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().expect("temp");
    let outside = dir.path().join("sentinel");
    fs::write(&outside, b"as it was").expect("file");
    for (number, (words, tar)) in lies().into_iter().enumerate() {
        let to = dir.path().join("to");
        match import(&tar, &to, Existing::Refuse) {
            Err(TargetError::Hostile { what, .. }) => {
                assert!(what.contains(words), "lie {number}: {what:?} for {words:?}");
            }
            other => panic!("lie {number}, {words}: {other:?}"),
        }
        assert_eq!(names(dir.path()), ["sentinel"], "lie {number}");
        assert_eq!(fs::read(&outside).expect("file"), b"as it was");
    }
}

#[test]
fn symlinks_that_lead_out_are_kept_and_not_followed() {
    let dir = tempfile::tempdir().expect("temp");
    let to = dir.path().join("to");
    let tar = tar()
        .symlink(b"s", b"/etc")
        .symlink(b"t/u", b"../../..")
        .end();
    import(&tar, &to, Existing::Refuse).expect("symlinks may say what they like");
    assert_eq!(
        fs::read_link(to.join("s")).expect("link"),
        Path::new("/etc")
    );
    assert_eq!(
        fs::read_link(to.join("t/u")).expect("link"),
        Path::new("../../..")
    );
}

#[test]
fn directories_may_come_after_what_is_in_them() {
    let dir = tempfile::tempdir().expect("temp");
    let to = dir.path().join("to");
    let change = |header: &mut Header| header.set_mode(0o711);
    let tar = tar()
        .file(b"d/e/f")
        .with(EntryType::Directory, b"d/", b"", b"", change);
    import(&tar.end(), &to, Existing::Refuse).expect("restored");
    assert_eq!(
        fs::metadata(to.join("d")).expect("dir").mode() & 0o7777,
        0o711
    );
    assert_eq!(
        fs::metadata(to.join("d/e")).expect("dir").mode() & 0o7777,
        0o755
    );
}

#[test]
fn a_tar_that_is_cut_is_refused_wherever() {
    let dir = tempfile::tempdir().expect("temp");
    let from = dir.path().join("from");
    fs::create_dir(&from).expect("dir");
    fs::write(from.join("f"), noise(3000, 1)).expect("file");
    fs::write(from.join("n".repeat(150)), noise(10, 1)).expect("file");
    let tar = export(&from, settled()).tar;
    for len in (0..tar.len() - 1024).step_by(100) {
        let to = dir.path().join("to");
        assert!(import(&tar[..len], &to, Existing::Refuse).is_err(), "{len}");
        assert_eq!(names(dir.path()), ["from"]);
    }
}

#[test]
fn streams_that_are_not_trees_are_refused() {
    let dir = tempfile::tempdir().expect("temp");
    let mut target = TreeTarget::open(dir.path());
    let source = SourceMeta {
        engine: Engine::Sqlite,
        name: "t".into(),
        version: None,
        warnings: Vec::new(),
    };
    let refused = target.begin(&source, ImportOptions::default());
    assert!(matches!(refused, Err(TargetError::Unsuitable(_))));
    let mut target = begin(dir.path(), ImportOptions::default()).expect("begun");
    let tar = tar().end();
    for expected in [true, false] {
        let mut content = Slice {
            bytes: &tar,
            gaps: &[],
        };
        assert_eq!(take(&mut target, tar.len(), &mut content).is_ok(), expected);
    }
    let unused = begin(&dir.path().join("x"), ImportOptions::default()).expect("begun");
    assert!(matches!(unused.commit(), Err(TargetError::Unsuitable(_))));
}
