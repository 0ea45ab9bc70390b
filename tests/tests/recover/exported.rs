//! Snapshots of real sources, made by the exporter, come back as they were.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, PermissionsExt, symlink},
    },
    path::Path,
};

use agent::{
    blocks::Blocks,
    export::{Destination, ExportOptions},
    handover::get,
    progress::Progress,
    source::{SourceOptions, open},
};
use souverain_tests::{node::Node, program::Sandbox};

use crate::{
    SERVER, check,
    fixture::{Shell, run},
    names, noise,
    same::assert_same,
    text,
};

/// Exports sources, and gets the snapshot as a folder named `snapshot`.
fn snapshot(sources: &[&OsStr], padded: bool) -> Node {
    let node = Node::new();
    let store = node.store();
    let open = |(index, source): (usize, &&OsStr)| {
        let index = u32::try_from(index).expect("few");
        open(source, index, &SourceOptions::default()).expect("opens")
    };
    let sources = sources.iter().enumerate().map(open).collect();
    let options = ExportOptions {
        padded,
        ..ExportOptions::default()
    };
    let report = node.try_export_all(Destination::Store(&store), sources, &options);
    let root = report.expect("exports").root.expect("a root");
    let folder = node.path("snapshot");
    get(&Blocks::Store(&store), &root, &folder, &Progress::default()).expect("written");
    node
}

/// Runs the snapshot's own script, and returns what is in `out`.
fn recover(node: &Node, shell: &Shell) -> Vec<String> {
    let args = ["../identity.txt", "../out"];
    let output = shell.run(&node.path("snapshot"), &args);
    check(&output, 0, "streams are restored");
    names(&node.path("out"))
}

fn load(node: &Node, kind: &str, file: &str, target: &str) {
    let args = ["out/load.sh", kind, file, target];
    run("sh", &args, &node.path(""), b"");
}

fn tree(root: &Path) {
    let at = |name: &str| root.join(name);
    let odd = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::create_dir_all(at("a/b")).expect("made");
    fs::create_dir(at("empty")).expect("made");
    fs::write(at("a/big"), noise(3 << 20, 1)).expect("written");
    fs::write(at("a/zero"), "").expect("written");
    fs::write(at("n".repeat(255).as_str()), "long").expect("written");
    let deep = at(&format!("{}/{}", "d".repeat(200), "e".repeat(200)));
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("f"), "deep").expect("written");
    fs::write(odd(b"latin1-\xe9\n'\"\\"), "not UTF-8").expect("written");
    symlink("nowhere", at("dangling")).expect("linked");
    symlink("../a", at("empty/up")).expect("linked");
    fs::hard_link(at("a/big"), at("big-again")).expect("linked");
    let sparse = fs::File::create(at("holes")).expect("created");
    sparse.set_len(9 << 20).expect("sized");
    for i in 0..40 {
        sparse.write_all_at(b"data", i << 17).expect("written");
    }
    for i in 0..2000 {
        fs::write(at(&format!("a/b/{i}")), noise(i % 700, 7)).expect("written");
    }
    let mode = |name, mode| fs::set_permissions(at(name), fs::Permissions::from_mode(mode));
    mode("a/zero", 0o4750).expect("set");
    mode("empty", 0o1700).expect("set");
    run(
        "touch",
        &["-h", "-d", "1999-12-31 23:59:59.123456789 UTC", "dangling"],
        root,
        b"",
    );
    run(
        "touch",
        &["-d", "1969-07-20 20:17:40 UTC", "a/b"],
        root,
        b"",
    );
}

/// What `find` says of everything below a directory.
fn listing(folder: &Path) -> String {
    let facts = "%P|%y|%m|%U|%G|%s|%T@|%l|%n\\n";
    let all = run("find", &[".", "-printf", facts], folder, b"");
    // Names are bytes, and one has a newline in it: compare as they are, in order.
    let mut lines: Vec<&[u8]> = all.split(|&b| b == b'\n').collect();
    lines.sort_unstable();
    // The size of a directory is the file system's own affair.
    let lines = lines.iter().map(|line| text(line));
    let size = |line: String| match line.split('|').collect::<Vec<_>>()[..] {
        [name, "d", mode, uid, gid, _, time, ..] => format!("{name}|d|{mode}|{uid}|{gid}|{time}"),
        _ => line,
    };
    lines.map(size).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_tree_comes_back() {
    let source = tempfile::tempdir().expect("temporary directory");
    let root = source.path().join("photos");
    fs::create_dir(&root).expect("made");
    tree(&root);
    let node = snapshot(&[root.as_os_str()], true);
    for (shell, target) in [(Shell::dash(), "back"), (Shell::busybox(), "again")] {
        assert_eq!(recover(&node, &shell), ["0-photos.tar", "load.sh"]);
        load(&node, "tar", "0-photos.tar", target);
        let back = node.path(target);
        let args = [
            "-r",
            "--no-dereference",
            root.to_str().expect("UTF-8"),
            target,
        ];
        run("diff", &args, &node.path(""), b"");
        assert_eq!(listing(&root), listing(&back));
        fs::remove_dir_all(node.path("out")).expect("removed");
    }
}

/// The schema and all rows, in an order that does not depend on how they came in.
fn dump(database: &Path) -> Vec<String> {
    let database = database.to_str().expect("UTF-8");
    let pragmas = "PRAGMA encoding; PRAGMA page_size; PRAGMA user_version; PRAGMA integrity_check;";
    let args = [database, ".dump", pragmas];
    let text = text(&run("sqlite3", &args, Path::new("."), b""));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_sqlite_database_comes_back() {
    let source = tempfile::tempdir().expect("temporary directory");
    let database = source.path().join("shop.db");
    let rows: String = (0..60_000)
        .map(|i| {
            format!(
                "INSERT INTO bulk VALUES({i}, 'it''s {i}\n\\', x'00{:06x}ff', {i}.125);\n",
                i
            )
        })
        .collect();
    let script = format!(
        "PRAGMA user_version=7;\n{}\nBEGIN;\nCREATE TABLE bulk (id INTEGER PRIMARY KEY, t TEXT, b BLOB, r REAL);\n\
         CREATE INDEX bulk_t ON bulk (t);\n{rows}\
         INSERT INTO bulk VALUES(-1, '', x'', NULL);\nINSERT INTO bulk VALUES(-2, NULL, zeroblob(3000000), 1e308);\nCOMMIT;\n",
        include_str!("../../../agent/tests/sqlite/torture.sql")
    );
    // Not through the shell of sqlite3, which does not take every statement as it is.
    let connection = rusqlite::Connection::open(&database).expect("opens");
    connection.execute_batch(&script).expect("sound SQL");
    drop(connection);
    let name = database.to_str().expect("UTF-8");
    let node = snapshot(&[OsStr::new(&format!("sqlite:{name}"))], false);
    assert_eq!(recover(&node, &Shell::dash()), ["0-shop.sql", "load.sh"]);
    load(&node, "sqlite", "0-shop.sql", "back.db");
    let (before, after) = (dump(&database), dump(&node.path("back.db")));
    assert!(before.len() > 60_000);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
}

#[test]
fn a_postgres_database_comes_back() {
    let url = SERVER.create_database("recovered from");
    let torture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/torture.sql");
    SERVER.load(&url, Path::new(torture));
    SERVER.psql(
        &url,
        "CREATE TABLE bulk AS SELECT i AS id, md5(i::text) || E'\\t\\n\\\\' AS v FROM generate_series(1, 50000) i",
    );
    let node = snapshot(&[OsStr::new(&url)], false);
    let left = recover(&node, &Shell::dash());
    let [script, load_sh] = &left[..] else {
        panic!("{left:?}");
    };
    assert_eq!(load_sh, "load.sh");
    let target = SERVER.create_database("recovered to");
    load(&node, "postgres", script, &target);
    assert_same(&url, &target);
}

#[test]
fn several_sources_come_back_from_one_snapshot() {
    let source = tempfile::tempdir().expect("temporary directory");
    let notes = source.path().join("notes");
    fs::create_dir(&notes).expect("made");
    fs::write(notes.join("one"), "one\n").expect("written");
    let database = source.path().join("odd name'.db");
    let name = database.to_str().expect("UTF-8");
    run(
        "sqlite3",
        &[name, "CREATE TABLE t(a); INSERT INTO t VALUES(1)"],
        source.path(),
        b"",
    );
    let only = notes.join("one");
    let sqlite = format!("sqlite:{name}");
    let node = snapshot(
        &[notes.as_os_str(), OsStr::new(&sqlite), only.as_os_str()],
        true,
    );
    assert_eq!(
        recover(&node, &Shell::dash()),
        ["0-notes.tar", "1-odd_name_.sql", "2-one.tar", "load.sh"]
    );
    load(&node, "tar", "2-one.tar", "one");
    assert_eq!(names(&node.path("one")), ["one"]);
    load(&node, "sqlite", "1-odd_name_.sql", "back.db");
    assert_eq!(dump(&database), dump(&node.path("back.db")));
}

#[test]
fn an_erasable_snapshot_comes_back_with_its_capsule() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("data")).expect("made");
    fs::write(sandbox.path("data/f"), "kept").expect("written");
    let portable = sandbox.ok(&["export", "data"]);
    sandbox
        .run(&["get", &portable, "no", "--capsule", "no.age"])
        .failed(1, "keeps no capsule");
    let cid = sandbox.ok(&["export", "data", "--mode", "erasable"]);
    sandbox.ok(&["get", &cid, "snapshot", "--capsule", "capsule.age"]);
    assert!(!sandbox.path("snapshot/capsule.age").exists());
    let mode = fs::metadata(sandbox.path("capsule.age")).expect("there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let identity = sandbox.home().join("identity.txt");
    let identity = identity.to_str().expect("plain");
    let args = ["recover.sh", identity, "../out", "../capsule.age"];
    run("sh", &args, &sandbox.path("snapshot"), b"");
    let tar = ["-xOf", "0-data.tar", "./f"];
    assert_eq!(run("tar", &tar, &sandbox.path("out"), b""), b"kept");
}
