//! `import`, with `verify` and `show`: what comes back is what was exported, or it is told why not.

mod souverain;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    process::Command,
};

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
    let middle = fs::metadata(&path).expect("is there").len() / 2;
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
        .failed(3, "Warning: left out: ");
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
