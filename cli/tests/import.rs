//! `import`, with `verify` and `show`: what comes back is what was exported, or it is told why not.

mod souverain;

use std::{
    fs::{self, File, OpenOptions},
    io::BufReader,
    os::unix::fs::FileExt,
    process::Command,
};

use protocol::car::Reader;
use souverain::{Sandbox, write_tree};

fn sqlite(sandbox: &Sandbox, file: &str, sql: &str) -> String {
    let output = Command::new("sqlite3")
        .arg(sandbox.path(file))
        .arg(sql)
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A home with a snapshot of a tree and a database; gives its CID.
fn exported() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    write_tree(&sandbox.path("tree"));
    sqlite(
        &sandbox,
        "shop.sqlite",
        "CREATE TABLE a(x, y); INSERT INTO a VALUES(1, 'one'), (2, NULL); CREATE TABLE b(z); INSERT INTO b VALUES(7);",
    );
    let cid = sandbox.ok(&["export", "tree", "sqlite:shop.sqlite"]);
    (sandbox, cid)
}

/// Changes a byte in the largest section of the CAR: a segment of the tree.
fn damage(sandbox: &Sandbox, car: &str) {
    let path = sandbox.path(car);
    let mut reader = Reader::new(BufReader::new(File::open(&path).expect("opens"))).expect("a CAR");
    let mut largest = (0, 0);
    while let Some(block) = reader.next_unverified().expect("reads") {
        largest = largest.max((block.bytes.len() as u64, reader.offset()));
    }
    let middle = largest.1 - largest.0 / 2;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], middle).expect("writes");
}

#[test]
fn restores_every_source_below_a_directory() {
    let (sandbox, cid) = exported();
    let dry = sandbox.ok(&["import", &cid, "--into", "out", "--dry-run"]);
    assert!(
        dry.contains("would restore shop/a to out/shop.sqlite"),
        "{dry}"
    );
    assert!(!sandbox.path("out").exists());
    sandbox.ok(&["import", &cid, "--into", "out"]);
    assert_eq!(
        fs::read(sandbox.path("out/tree/one.txt")).expect("restored"),
        b"one\n"
    );
    let rows = sqlite(&sandbox, "out/shop.sqlite", "SELECT * FROM a ORDER BY x");
    assert_eq!(rows, "1|one\n2|\n");
    sandbox.run(&["import", &cid, "--into", "out"]).failed(
        1,
        "is not empty\nHint: name an empty target, or pass `--merge` or `--replace`",
    );
    sandbox.ok(&["import", &cid, "--into", "out", "--replace"]);
}

#[test]
fn restores_one_stream_of_one_source() {
    let (sandbox, cid) = exported();
    sandbox.ok(&[
        "import",
        &cid,
        "--source",
        "shop",
        "--stream",
        "b",
        "--into",
        "sqlite:b.sqlite",
    ]);
    assert_eq!(sqlite(&sandbox, "b.sqlite", "SELECT * FROM b"), "7\n");
    sandbox
        .run(&["import", &cid, "--stream", "c", "--into", "sqlite:c.sqlite"])
        .failed(1, "Hint: `souverain show`");
    sandbox
        .run(&["import", &cid, "--into", "sqlite:all.sqlite"])
        .failed(1, "--source NAME");
}

#[test]
fn another_identity_does_not_open_it() {
    let (sandbox, cid) = exported();
    sandbox.ok(&["car", "export", &cid, "x.car"]);
    let other = Sandbox::new();
    other.ok(&["init"]);
    let car = sandbox.path("x.car").display().to_string();
    for verb in ["show", "verify"] {
        other.run(&[verb, &car]).failed(1, "no identity matches");
    }
    other.ok(&["verify", &car, "--keyless"]);
    let identity = sandbox.home().join("identity.txt").display().to_string();
    let verified = other
        .run(&["verify", &car, "-i", &identity, "--json"])
        .succeeded();
    let verified = &verified.objects()[0];
    assert_eq!(verified["ok"], true);
    assert_eq!(verified["opened"]["rows"], 3);
    // A bare machine: no home at all.
    let bare = Sandbox::new();
    bare.ok(&["import", &car, "-i", &identity, "--into", "back"]);
    assert!(bare.path("back/tree/empty").is_dir());
}

#[test]
fn damage_is_reported_and_the_rest_restored() {
    let (sandbox, cid) = exported();
    sandbox.ok(&["car", "export", &cid, "x.car"]);
    damage(&sandbox, "x.car");
    for args in [&["verify", "x.car"][..], &["verify", "x.car", "--keyless"]] {
        let ran = sandbox.run(args).failed(3, "did not verify");
        assert!(ran.stdout.contains("does not match its CID"), "{ran:?}");
        assert!(!ran.stdout.contains("in no segment list"), "{ran:?}");
    }
    let ran = sandbox.run(&["verify", "x.car", "--json"]);
    let objects = ran.objects();
    assert_eq!(ran.code, Some(3));
    assert_eq!(objects.last().expect("an error")["exit"], 3);
    assert!(
        objects
            .iter()
            .any(|o| o["type"] == "damage" && o["stream"] == "tree"),
        "{objects:?}"
    );
    sandbox
        .run(&["import", "x.car", "--into", "out"])
        .failed(3, "--skip-damaged");
    assert!(!sandbox.path("out").exists());
    sandbox
        .run(&["import", "x.car", "--into", "out", "--skip-damaged"])
        .failed(3, "Warning: ./two.bin is damaged, and is left out");
    assert_eq!(
        sqlite(&sandbox, "out/shop.sqlite", "SELECT count(*) FROM a"),
        "2\n"
    );
    sandbox
        .run(&["car", "import", "x.car"])
        .failed(3, "bad block");
}

#[test]
fn show_and_diff_tell_what_is_inside() {
    let (sandbox, cid) = exported();
    let shown = sandbox.ok(&["show", &cid[..20]]);
    for line in [
        "source tree: files",
        "  a: table, 2 rows",
        "source shop: SQLite 3",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    sqlite(&sandbox, "shop.sqlite", "INSERT INTO b VALUES(8)");
    let later = sandbox.ok(&["export", "tree", "sqlite:shop.sqlite"]);
    let diff = sandbox.ok(&["diff", &cid, &later]);
    assert_eq!(diff.lines().count(), 1, "{diff}");
    assert!(
        diff.starts_with("~ shop/b: ") && diff.ends_with("rows 1 -> 2"),
        "{diff}"
    );
    assert_eq!(sandbox.ok(&["diff", &cid, &cid]), "");
}

#[test]
fn get_gives_a_folder_that_recovers_itself() {
    let (sandbox, cid) = exported();
    sandbox.ok(&["get", &cid, "folder"]);
    sandbox
        .run(&["get", &cid, "folder"])
        .failed(1, "Hint: name a directory");
    let identity = sandbox.home().join("identity.txt");
    let output = Command::new("sh")
        .arg("recover.sh")
        .arg(identity)
        .arg("../recovered")
        .current_dir(sandbox.path("folder"))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    assert!(
        fs::read_dir(sandbox.path("recovered"))
            .expect("made")
            .count()
            >= 2
    );
}

/// What is in the sandbox beside the home, with sizes and times.
fn beside_the_home(sandbox: &Sandbox) -> String {
    let output = Command::new("find")
        .args([
            ".",
            "-path",
            "./home",
            "-prune",
            "-o",
            "-printf",
            "%p %s %T@\n",
        ])
        .current_dir(sandbox.path("."))
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn sources_of_one_name_are_told_apart() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    for (directory, text) in [("shop", "a"), ("b/shop", "b")] {
        fs::create_dir_all(sandbox.path(directory)).expect("creates");
        fs::write(sandbox.path(directory).join("in"), text).expect("writes");
    }
    sqlite(
        &sandbox,
        "shop.sqlite",
        "CREATE TABLE t(a); INSERT INTO t VALUES(7)",
    );
    let cid = sandbox.ok(&["export", "shop", "sqlite:shop.sqlite", "b/shop"]);
    assert!(sandbox.ok(&["list"]).ends_with("shop, shop-2, shop-3"));
    let shown = sandbox.ok(&["show", &cid]);
    for line in [
        "source shop: files",
        "source shop-2: SQLite",
        "source shop-3: files",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let read = |path: &str| fs::read_to_string(sandbox.path(path)).expect("restored");
    sandbox.ok(&["import", &cid, "--into", "all"]);
    assert_eq!(
        (read("all/shop/in"), read("all/shop-3/in")),
        ("a".into(), "b".into())
    );
    assert_eq!(
        sqlite(&sandbox, "all/shop-2.sqlite", "SELECT * FROM t"),
        "7\n"
    );
    sandbox.ok(&["import", &cid, "--source", "shop-3", "--into", "one"]);
    assert_eq!(read("one/in"), "b");
    let two = ["--source", "shop-3", "--source", "shop-2", "--into", "two"];
    sandbox.ok(&[&["import", &cid][..], &two].concat());
    assert_eq!(read("two/shop-3/in"), "b");
    assert!(!sandbox.path("two/shop").exists());
    sandbox
        .run(&[
            "import", &cid, "--source", "shop", "--source", "x", "--into", "none",
        ])
        .failed(1, "no source is called x");
}

#[test]
fn places_that_collide_are_told_apart_before_anything_is_written() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    fs::create_dir(sandbox.path("shop.sqlite")).expect("creates");
    fs::write(sandbox.path("shop.sqlite/in"), "1").expect("writes");
    sqlite(
        &sandbox,
        "shop.db",
        "CREATE TABLE t(a); INSERT INTO t VALUES(7)",
    );
    let cid = sandbox.ok(&["export", "shop.sqlite", "sqlite:shop.db"]);
    sandbox.ok(&["import", &cid, "--into", "out"]);
    assert!(sandbox.path("out/shop.sqlite/in").exists());
    assert_eq!(
        sqlite(&sandbox, "out/shop-2.sqlite", "SELECT * FROM t"),
        "7\n"
    );
}

#[test]
fn a_dry_run_refuses_what_the_import_refuses() {
    let (sandbox, cid) = exported();
    fs::create_dir_all(sandbox.path("full/tree")).expect("creates");
    fs::write(sandbox.path("full/tree/in"), "1").expect("writes");
    fs::create_dir(sandbox.path("half")).expect("creates");
    sqlite(&sandbox, "half/shop.sqlite", "CREATE TABLE t(a)");
    fs::write(sandbox.path("file"), "no directory").expect("writes");
    sqlite(&sandbox, "full.sqlite", "CREATE TABLE t(a)");
    let shop = ["--source", "shop"];
    let tree = ["--source", "tree"];
    let cases: &[(&[&str], &str, &[&str])] = &[
        (&[], "full", &[]),
        (&[], "half", &[]),
        (&[], "file", &[]),
        (&[], "absent/absent", &[]),
        (&tree, "full", &[]),
        (&tree, "file", &["--merge"]),
        (&tree, "file/below", &[]),
        (&shop, "sqlite:full.sqlite", &[]),
        (&shop, "sqlite:file", &["--merge"]),
        (&shop, "sqlite:full", &[]),
        (&shop, "sqlite:file/below", &[]),
    ];
    for (source, into, how) in cases {
        let args = [&["import", &cid, "--into", into][..], source, how].concat();
        let before = beside_the_home(&sandbox);
        let dry = sandbox.run(&[&args[..], &["--dry-run"]].concat());
        assert_eq!(beside_the_home(&sandbox), before, "{args:?}");
        let real = sandbox.run(&args);
        assert_eq!(dry.code, Some(1), "{dry:?}");
        assert_eq!(
            (dry.code, &dry.stderr),
            (real.code, &real.stderr),
            "{args:?}"
        );
        assert_eq!(dry.stdout, "", "{args:?}");
    }
    for args in [
        &["--into", "new"][..],
        &["--into", "full", "--replace"],
        &["--into", "new/below", "--source", "tree"],
        &[
            "--into",
            "sqlite:full.sqlite",
            "--source",
            "shop",
            "--merge",
        ],
        &["--into", "sqlite:new/below.sqlite", "--source", "shop"],
    ] {
        let before = beside_the_home(&sandbox);
        sandbox.ok(&[&["import", &cid, "--dry-run"][..], args].concat());
        assert_eq!(beside_the_home(&sandbox), before, "{args:?}");
    }
}

#[test]
fn streams_of_one_name_are_told_apart() {
    let (sandbox, cid) = exported();
    let kinds = |args: &[&str]| {
        let ran = sandbox.run(&[&["import", &cid, "--into", "out", "--json"][..], args].concat());
        let objects = ran.succeeded().objects();
        let of = |o: &serde_json::Value| format!("{}/{}", o["stream"], o["kind"]).replace('"', "");
        objects.iter().map(of).collect::<Vec<_>>().join(" ")
    };
    let expected = "tree/tree shop/before a/table b/table shop/after";
    assert_eq!(kinds(&["--dry-run"]), expected);
    assert_eq!(kinds(&[]), expected);
    let said = sandbox.ok(&["import", &cid, "--into", "again"]);
    assert!(said.contains("sqlite: schema, "), "{said}");
    assert!(said.contains("sqlite: indexes and constraints, "), "{said}");
}

#[test]
fn a_sample_of_little_is_one_segment_and_counts_what_it_read() {
    let (sandbox, cid) = exported();
    for _ in 0..4 {
        let ran = sandbox.run(&["verify", &cid, "--sample", "0.0001%", "--json"]);
        let verified = ran.succeeded().objects().remove(0);
        assert_eq!(verified["opened"]["segments"], 1, "{verified}");
        let rows = verified["opened"]["rows"].as_u64().expect("a number");
        assert!(rows < 3, "{verified}");
        let keyless = sandbox.run(&["verify", &cid, "--sample", "0.0001%", "--keyless", "--json"]);
        let whole = sandbox.run(&["verify", &cid, "--keyless", "--json"]);
        let blocks = |ran: souverain::Ran| ran.objects()[0]["blocks"].as_u64().expect("a number");
        let (some, all) = (blocks(keyless), blocks(whole));
        let objects = verified["segments"].as_u64().expect("a number");
        assert_eq!(some, all - objects + 1);
    }
}

#[test]
fn a_block_that_is_damaged_counts_once() {
    let (sandbox, cid) = exported();
    sandbox.ok(&["car", "export", &cid, "x.car"]);
    damage(&sandbox, "x.car");
    sandbox
        .run(&["verify", "x.car"])
        .failed(3, "did not verify: 1 thing is wrong");
}
