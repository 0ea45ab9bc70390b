//! Recovery without this program: `recover.sh` in an environment that holds only a shell,
//! coreutils, age and zstd.

use std::{fs, path::Path, process::Output, sync::LazyLock};

use fixture::{Fixture, Shell, Stream, run};
use souverain_tests::postgres::PostgresServer;

mod exported;
mod fixture;
#[path = "../postgres/same.rs"]
mod same;

static SERVER: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);

const ARGS: [&str; 2] = ["../mine.txt", "../out"];
const SQL: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);\n";

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn rows(range: std::ops::Range<u32>) -> Vec<u8> {
    let row = |i| format!("INSERT INTO t VALUES ({i}, 'row {i} \\ ''quoted''');\n");
    range.map(row).collect::<String>().into_bytes()
}

/// A tar of real files, cut at odd places.
fn tar(folder: &Path) -> Vec<Vec<u8>> {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("empty")).expect("made");
    fs::write(tree.join("large"), noise(2_000_000, 1)).expect("written");
    fs::write(tree.join("small"), "small\n").expect("written");
    let tar = run("tar", &["-c", "-f", "-", "-C", "tree", "."], folder, b"");
    tar.chunks(700_001).map(<[u8]>::to_vec).collect()
}

fn streams(folder: &Path) -> Vec<Stream<'static>> {
    let sql = |kind, pieces| Stream {
        file: "1-shop.sql",
        source: 1,
        kind,
        pieces,
    };
    vec![
        Stream {
            file: "0-photos.tar",
            source: 0,
            kind: "tree",
            pieces: tar(folder),
        },
        sql("before", vec![SQL.into()]),
        sql("table", vec![rows(0..400), rows(400..900), rows(900..1000)]),
        sql("after", vec![b"CREATE INDEX i ON t (v);\n".to_vec()]),
        Stream {
            file: "2-crm.sql",
            source: 2,
            kind: "before",
            pieces: vec![],
        },
    ]
}

/// A snapshot, its manifest, and the pieces of its streams.
fn snapshot() -> (Fixture, String, Vec<Vec<Vec<u8>>>) {
    let fixture = Fixture::new();
    let streams = streams(fixture.root.path());
    let manifest = fixture.streams(&streams);
    fixture.manifest(&manifest);
    (
        fixture,
        manifest,
        streams.into_iter().map(|s| s.pieces).collect(),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn check(output: &Output, code: i32, says: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.contains(says), "{says:?} is not in:\n{stderr}");
    assert!(!stderr.contains("AGE-SECRET-KEY"), "{stderr}");
    assert!(!stderr.contains("not found"), "{stderr}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("read");
    let mut names: Vec<String> = entries
        .map(|entry| text(entry.expect("read").file_name().as_encoded_bytes()))
        .collect();
    names.sort();
    names
}

#[test]
fn every_shell_restores_every_stream() {
    let (fixture, _, pieces) = snapshot();
    for shell in [Shell::dash(), Shell::bash(), Shell::busybox()] {
        let output = fixture.recover(&shell, &ARGS);
        check(&output, 0, "All 5 streams are restored");
        assert_eq!(
            names(&fixture.path("out")),
            ["0-photos.tar", "1-shop.sql", "2-crm.sql", "load.sh"]
        );
        assert!(fixture.restored("0-photos.tar") == pieces[0].concat());
        assert!(fixture.restored("1-shop.sql") == pieces[1..4].concat().concat());
        assert_eq!(fixture.restored("2-crm.sql"), b"");
        assert_eq!(
            text(&output.stdout),
            "sh ../out/load.sh tar 0-photos.tar NEW_DIRECTORY\n\
             sh ../out/load.sh sqlite 1-shop.sql NEW_DATABASE.db\n\
             sh ../out/load.sh postgres 2-crm.sql CONNECTION\n"
        );
        fs::remove_dir_all(fixture.path("out")).expect("removed");
    }
}

#[test]
fn what_is_left_loads_with_stock_clients() {
    let (fixture, ..) = snapshot();
    check(&fixture.recover(&Shell::dash(), &ARGS), 0, "");
    let root = fixture.root.path();
    run(
        "sh",
        &["out/load.sh", "tar", "0-photos.tar", "back"],
        root,
        b"",
    );
    run("diff", &["-r", "tree", "back"], root, b"");
    run(
        "sh",
        &["out/load.sh", "sqlite", "1-shop.sql", "back.db"],
        root,
        b"",
    );
    let query = ["back.db", "SELECT count(*), sum(length(v)) FROM t"];
    assert_eq!(text(&run("sqlite3", &query, root, b"")), "1000|17890\n");
}

#[test]
fn a_damaged_segment_costs_no_more_than_itself() {
    let (fixture, manifest, mut pieces) = snapshot();
    let tar = fixture.cids(&manifest, 0, false);
    let table = fixture.cids(&manifest, 2, false);
    fs::remove_file(fixture.object(&tar[1])).expect("removed");
    let mut bytes = fs::read(fixture.object(&table[0])).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(fixture.object(&table[0]), bytes).expect("written");
    let output = fixture.recover(&Shell::dash(), &ARGS);
    check(
        &output,
        3,
        &format!("stream 0 (0-photos.tar): segment {}", tar[1]),
    );
    check(&output, 3, "it is missing");
    check(
        &output,
        3,
        &format!("stream 2 (1-shop.sql): segment {}", table[0]),
    );
    check(&output, 3, "its bytes were changed");
    assert_eq!(
        names(&fixture.path("out")),
        [
            "0-photos.tar.part",
            "1-shop.sql.part",
            "2-crm.sql",
            "load.sh"
        ]
    );
    pieces[0][1].fill(0);
    assert!(fixture.restored("0-photos.tar.part") == pieces[0].concat());
    pieces[2].remove(0);
    assert!(fixture.restored("1-shop.sql.part") == pieces[1..4].concat().concat());
}

#[test]
fn a_damaged_list_costs_its_segments() {
    let (fixture, manifest, pieces) = snapshot();
    let lists = fixture.cids(&manifest, 0, true);
    fs::write(fixture.object(&lists[0]), "junk").expect("written");
    let output = fixture.recover(&Shell::busybox(), &ARGS);
    check(
        &output,
        3,
        &format!("list {} (2 segments, 1400002 bytes)", lists[0]),
    );
    let mut expected = pieces[0].concat();
    expected[..1_400_002].fill(0);
    assert!(fixture.restored("0-photos.tar.part") == expected);
    assert!(fixture.path("out/1-shop.sql").exists());
}

#[test]
fn a_segment_in_the_place_of_another_is_noticed() {
    let (fixture, manifest, _) = snapshot();
    let table = fixture.cids(&manifest, 2, false);
    fs::copy(fixture.object(&table[1]), fixture.object(&table[0])).expect("copied");
    check(
        &fixture.recover(&Shell::dash(), &ARGS),
        3,
        "its bytes were changed",
    );
    // Without a tool that hashes, the length still tells.
    fs::remove_dir_all(fixture.path("out")).expect("removed");
    let output = fixture.recover(&Shell::dash().without("sha256sum"), &ARGS);
    check(&output, 3, "neither sha256sum nor shasum");
    check(&output, 3, "it holds more than");
}

#[test]
fn rejects_a_segment_that_holds_more_than_promised() {
    let fixture = Fixture::new();
    let bomb = fixture.put(&fixture.seal(&vec![0; 64 << 20], 0));
    let list = format!("{bomb} 1000 0 {}\n", "ab".repeat(32));
    let cid = fixture.put(&fixture.seal(list.as_bytes(), 0));
    let mut manifest = fixture.streams(&[]);
    manifest.push_str("stream 0 0-a.tar {\"source\":0,\"bytes\":1000}\n");
    manifest.push_str(&format!("list {cid} {} 1 1000\n", list.len()));
    fixture.manifest(&manifest);
    let output = fixture.recover(&Shell::dash(), &ARGS);
    check(&output, 3, "it holds more than 1000 bytes");
    assert!(fixture.restored("0-a.tar.part") == vec![0; 1000]);
}

#[test]
fn rejects_a_manifest_that_lies() {
    let (fixture, good, _) = snapshot();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let list = good.lines().find(|l| l.starts_with("list ")).expect("one");
    let tables = [
        (
            replaced("manifest 1", "manifest 2"),
            "another format version",
        ),
        (replaced("souverain", "sovereign"), "its first line"),
        (
            replaced("0-photos.tar", "../photos.tar"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", "/etc/passwd"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", ".profile"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", "load.sh"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", "1-shop.sql.part"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", "$(touch x)"),
            "the file name in line 6",
        ),
        (
            replaced("0-photos.tar", &"a".repeat(129)),
            "the file name in line 6",
        ),
        (replaced("stream 0 ", "stream 1 "), "the number in line 6"),
        (
            replaced("stream 0 ", "stream a[$(touch x)] "),
            "the number in line 6",
        ),
        (
            replaced("\"source\":0", "\"source\":3"),
            "the source in line 6",
        ),
        (
            replaced("\"source\":0", "\"source\":-1"),
            "the source in line 6",
        ),
        (replaced(&format!("{list}\n"), ""), "the lists before line"),
        (
            replaced(list, &list.replace("bafkrei", "bafy")),
            "the list in line 7",
        ),
        (
            replaced(list, &list.replace("bafkrei", "../../")),
            "the list in line 7",
        ),
        (replaced(list, &format!("{list} 1")), "the list in line 7"),
        (replaced("list ", "lists "), "the keyword in line 7"),
        (good.trim_end().to_owned(), "it ends early"),
        (String::new(), "it ends early"),
    ];
    let shell = Shell::dash();
    for (manifest, says) in tables {
        fixture.manifest(&manifest);
        check(&fixture.recover(&shell, &ARGS), 1, says);
        assert!(names(&fixture.path("out")).is_empty(), "{manifest}");
        assert!(!fixture.path("snapshot/x").exists());
    }
}

#[test]
fn an_erasable_snapshot_needs_its_capsule() {
    let (fixture, ..) = snapshot();
    fs::rename(
        fixture.path("snapshot/capsule.age"),
        fixture.path("kept.age"),
    )
    .expect("moved");
    let shell = Shell::dash();
    check(&fixture.recover(&shell, &ARGS), 1, "no identity matched");
    check(
        &fixture.recover(&shell, &["-", "../out"]),
        1,
        "there is no capsule",
    );
    let restores = |args: &[&str], capsule: Option<&str>| {
        let mut command = shell.command(&fixture.path("snapshot"));
        let command = command
            .args(args)
            .envs(capsule.map(|path| ("CAPSULE", path)));
        check(&command.output().expect("runs"), 0, "All 5 streams");
        fs::remove_dir_all(fixture.path("out")).expect("removed");
    };
    restores(&["../mine.txt", "../out", "../kept.age"], None);
    restores(&ARGS, Some("../kept.age"));
    restores(&["../ids.txt", "../out"], None);
}

#[test]
fn says_what_is_wrong_before_it_writes() {
    let (fixture, ..) = snapshot();
    let shell = Shell::dash();
    let recover = |args: &[&str]| fixture.recover(&shell, args);
    check(
        &recover(&[]),
        2,
        "usage: sh recover.sh IDENTITY_FILE OUT_DIR",
    );
    check(&recover(&["../mine.txt"]), 2, "usage:");
    check(
        &recover(&["../none.txt", "../out"]),
        1,
        "cannot read ../none.txt",
    );
    fs::create_dir(fixture.path("full")).expect("made");
    fs::write(fixture.path("full/.file"), "").expect("written");
    check(
        &recover(&["../mine.txt", "../full"]),
        1,
        "../full is not empty",
    );
    run("age-keygen", &["-o", "other.txt"], fixture.root.path(), b"");
    check(
        &recover(&["../other.txt", "../out"]),
        1,
        "cannot open ./capsule.age",
    );
    for tool in ["age", "zstd"] {
        let output = fixture.recover(&Shell::dash().without(tool), &ARGS);
        check(&output, 1, &format!("{tool} is not installed"));
    }
    fs::write(fixture.path("snapshot/manifest.age"), "junk").expect("written");
    check(&recover(&ARGS), 1, "cannot open ./manifest.age");
    fs::remove_file(fixture.path("snapshot/manifest.age")).expect("removed");
    check(&recover(&ARGS), 1, "./manifest.age is not there");
    assert!(names(&fixture.path("out")).is_empty());
}

#[test]
fn a_passphrase_opens_a_snapshot_sealed_with_one() {
    let (fixture, ..) = snapshot();
    let root = fixture.root.path();
    fs::remove_file(root.join("snapshot/capsule.age")).expect("removed");
    // age asks for passphrases on a terminal; `script` is one.
    let answer =
        |command: &str, lines: &[u8]| run("script", &["-qec", command, "/dev/null"], root, lines);
    answer(
        "age -p -o snapshot/capsule.age ids.txt",
        b"correct horse\ncorrect horse\n",
    );
    let said = answer("sh snapshot/recover.sh - out", b"correct horse\n");
    assert!(text(&said).contains("All 5 streams"), "{}", text(&said));
    assert!(root.join("out/0-photos.tar").exists());
}
