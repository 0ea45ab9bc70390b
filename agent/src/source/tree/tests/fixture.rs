//! A tree with everything in it, and all there is to know of a tree.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{self as sys, AtFlags, Mode, Timespec, Timestamps, XattrFlags};

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    sys::utimensat(sys::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("times");
}

pub(crate) fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = blake3::Hasher::new().update(&[seed]).finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

/// Makes a tree with everything in it that a tree can have.
pub(crate) fn torture(root: &Path) {
    let at = |name: &str| root.join(name);
    let bytes = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::create_dir_all(at("a/b/c")).expect("dir");
    fs::create_dir(at("empty")).expect("dir");
    fs::create_dir(at("sticky")).expect("dir");
    fs::write(at("a/zero"), b"").expect("file");
    fs::write(at("a/one"), b"1").expect("file");
    fs::write(at("a/b/block"), noise(512, 1)).expect("file");
    fs::write(at("a/b/big"), noise((3 << 20) + 17, 2)).expect("file");
    fs::write(at("a.b"), b"sorts between").expect("file");
    fs::write(at("setuid"), b"#!").expect("file");
    fs::write(at("old"), b"before 1970").expect("file");
    fs::write(at("older"), b"long before 1970").expect("file");
    fs::write(at("future"), b"after 2242").expect("file");
    fs::write(at("percent=%25"), b"x").expect("file");
    fs::write(bytes(b"latin1-\xe9\xff\n"), b"not UTF-8").expect("file");
    fs::write(at(&"n".repeat(100)), b"100").expect("file");
    fs::write(at(&"n".repeat(101)), b"101").expect("file");
    fs::write(at(&"n".repeat(255)), b"255").expect("file");
    let deep = at(&format!("{}/{}", "d".repeat(200), "e".repeat(200)));
    fs::create_dir_all(&deep).expect("dir");
    fs::write(deep.join("f".repeat(200)), b"deep").expect("file");
    symlink("nowhere", at("dangling")).expect("symlink");
    symlink("../a", at("empty/up")).expect("symlink");
    symlink("/etc/passwd", at("absolute")).expect("symlink");
    symlink("t".repeat(150), at("long-target")).expect("symlink");
    symlink(OsStr::from_bytes(b"t\xff"), bytes(b"s\xff")).expect("symlink");
    fs::hard_link(at("a/one"), at("one-again")).expect("link");
    fs::hard_link(at("a/one"), at("a/b/one-more")).expect("link");
    fs::hard_link(at("a/b/big"), at("zz-big")).expect("link");
    sys::mkfifoat(sys::CWD, at("fifo"), Mode::RUSR).expect("fifo");
    sparse(&at("hole-first"), &[(1 << 20, 5000)], (1 << 20) + 5000);
    sparse(&at("hole-last"), &[(0, 4096)], 5 << 20);
    sparse(&at("hole-only"), &[], 9 << 20);
    sparse(&at("hole-small"), &[(65536, 10)], 70_000);
    let many: Vec<_> = (0..60).map(|i| (i << 17, 4096)).collect();
    sparse(&at("holes"), &many, 60 << 17);
    sys::setxattr(at("a/one"), "user.what", b"\0=\n\xff", XattrFlags::empty()).expect("xattr");
    sys::setxattr(at("a/one"), "user.a=b%", b"", XattrFlags::empty()).expect("xattr");
    sys::setxattr(at("empty"), "user.dir", b"d", XattrFlags::empty()).expect("xattr");
    let mode = |name: &str, mode| {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("mode");
    };
    if is_root() {
        let owned = |name: &str, uid| {
            std::os::unix::fs::lchown(at(name), Some(uid), Some(uid + 1)).expect("owner");
        };
        owned("setuid", 4321);
        owned("dangling", 1234);
        owned("a", 3_000_000);
        owned("fifo", 7);
    }
    mode("setuid", 0o6751);
    mode("sticky", 0o1777);
    mode("a/zero", 0o000);
    mode("a/b/c", 0o500);
    set_mtime(&at("old"), -2, 500_000_000);
    set_mtime(&at("older"), -86_400, 0);
    set_mtime(&at("future"), 9_000_000_000, 1);
    set_mtime(&at("dangling"), 1_000_000_000, 123_456_789);
    set_mtime(&at("a/b"), 1_000_000_001, 0);
    set_mtime(&at("a"), 1_000_000_002, 999_999_999);
    set_mtime(root, 1_000_000_003, 5);
}

fn sparse(path: &Path, data: &[(u64, usize)], size: u64) {
    let file = File::create(path).expect("file");
    file.set_len(size).expect("size");
    for &(offset, len) in data {
        file.write_all_at(&noise(len, 3), offset).expect("write");
    }
}

/// All that there is to know of a tree.
pub(crate) fn facts(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut facts = BTreeMap::new();
    let mut firsts = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let at = if path.as_os_str().is_empty() {
            root.to_owned()
        } else {
            root.join(&path)
        };
        let meta = fs::symlink_metadata(&at).expect("there");
        let mut fact = format!(
            "{:o} {}:{} {}.{:09} {:?}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec(),
            xattrs_of(&at),
        );
        if meta.is_dir() {
            let names = fs::read_dir(&at)
                .expect("listed")
                .map(|e| e.expect("entry").file_name());
            todo.extend(names.map(|name| path.join(name)));
        } else {
            let first = firsts.entry(meta.ino()).or_insert_with(Vec::new);
            first.push(path.clone());
            fact += &format!(" {} {}", meta.size(), meta.nlink());
        }
        if meta.is_symlink() {
            fact += &format!(" -> {:?}", fs::read_link(&at).expect("link"));
        } else if meta.is_file() {
            fact += &format!(
                " {} {:?}",
                blake3::hash(&fs::read(&at).expect("readable")).to_hex(),
                holes(&File::open(&at).expect("readable"), meta.size()),
            );
        }
        facts.insert(path, fact);
    }
    for names in firsts.values_mut() {
        names.sort();
        for name in names.iter() {
            *facts.get_mut(name).expect("seen") += &format!(" is {:?}", names[0]);
        }
    }
    facts
}

fn holes(file: &File, size: u64) -> Vec<(u64, u64)> {
    let (mut holes, mut at) = (Vec::new(), 0);
    while at < size {
        let hole = sys::seek(file, sys::SeekFrom::Hole(at)).expect("seek");
        if hole == size {
            break;
        }
        at = sys::seek(file, sys::SeekFrom::Data(hole)).unwrap_or(size);
        holes.push((hole, at));
    }
    holes
}

fn xattrs_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let len = sys::llistxattr(path, &mut list[..]).expect("list");
    let names = list[..len]
        .split(|&b| b == 0)
        .filter(|name| name.starts_with(b"user."));
    names
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = sys::lgetxattr(path, name, &mut value[..]).expect("value");
            value.truncate(len);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect()
}

pub(crate) fn gnu_tar(arguments: &[&str], tar: &Path, directory: &Path) {
    let output = Command::new("tar")
        .args(arguments)
        .arg("-f")
        .arg(tar)
        .arg("-C")
        .arg(directory)
        .output()
        .expect("tar runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    // Dates out of the ordinary are all that it may have something to say about.
    let odd = stderr
        .lines()
        .find(|line| !line.contains("time stamp") && !line.contains("timestamp"));
    assert_eq!(odd, None);
}

/// Says what differs, not all there is.
pub(crate) fn pretty_assert(a: &BTreeMap<PathBuf, String>, b: &BTreeMap<PathBuf, String>) {
    let names = a.keys().chain(b.keys());
    for name in names {
        assert_eq!(a.get(name), b.get(name), "{}", name.display());
    }
}

/// Runs `work` in a thread that is nobody in particular.
pub(crate) fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_root() {
                let (uid, gid) = (sys::Uid::from_raw(65534), sys::Gid::from_raw(65534));
                rustix::thread::set_thread_groups(&[]).expect("groups");
                rustix::thread::set_thread_gid(gid).expect("gid");
                rustix::thread::set_thread_uid(uid).expect("uid");
            }
            work()
        });
        thread.join().expect("no panic")
    })
}

/// Lets everybody in.
pub(crate) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("mode");
}

pub(crate) fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).expect("listed");
    let names = names.map(|entry| entry.expect("entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
