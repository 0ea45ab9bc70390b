//! Archives of a log: everything that is asked of it is answered as before, by the home, by its agent and to its peers.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use agent::{
    home::Home,
    log::{Event, OwnLog, now_ms},
};
use protocol::log::entry::Action;
use souverain_tests::{kubo::Kubo, program::Sandbox, running::Running, web::curl};

/// Four bundles, and a part of one.
const SIZE: u64 = 4 * 256 + 50;
/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);
const SESSION: [u8; 16] = *b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f";

/// A home whose log has so many entries, with details, of which none is old.
fn logged() -> Sandbox {
    let sandbox = Sandbox::new();
    grow(&sandbox, SIZE, true);
    sandbox
}

/// Makes the log of a home so long.
fn grow(sandbox: &Sandbox, size: u64, with_details: bool) {
    let home = Home::open(&sandbox.home()).expect("a home");
    let log = OwnLog::new(&home, SESSION);
    let event = |n: u64| Event {
        details: match with_details {
            true => vec![("source", format!("folder {n}"))],
            false => Vec::new(),
        },
        ..Event::of(Action::EXPORT)
    };
    let begun = log.record(now_ms(), &[event(0)]).expect("records").size;
    let events: Vec<_> = (begun..size).map(event).collect();
    assert_eq!(log.record(now_ms(), &events).expect("records").size, size);
}

fn files_below(dir: &Path) -> usize {
    let each = fs::read_dir(dir).into_iter().flatten();
    let each = each.map(|file| file.expect("reads").path());
    each.map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

fn shown(sandbox: &Sandbox) -> Vec<serde_json::Value> {
    let to = (SIZE - 1).to_string();
    let args = ["--json", "log", "show", "--details", "--to", &to];
    sandbox.run(&args).succeeded().objects()
}

#[test]
fn what_is_archived_is_shown_proven_and_bundled_as_before() {
    let sandbox = logged();
    let before = shown(&sandbox);
    assert_eq!(before.len() as u64, SIZE);
    assert_eq!(before[700]["details"]["source"], "folder 700");
    let plan = |age: &str| {
        let args = ["--json", "log", "archive", "--older-than", age, "--dry-run"];
        sandbox.run(&args).succeeded().objects()[0]["entries"].clone()
    };
    assert_eq!((plan("90d"), plan("0s")), (0.into(), 1024.into()));
    assert_eq!(sandbox.ok(&["log", "archive"]), "");
    let entries = sandbox.home().join("log/own/entries");
    let details = sandbox.home().join("log/details");
    let blocks = fs::metadata(&entries).expect("reads").blocks();
    let there = files_below(&details);
    let args = ["--json", "log", "archive", "--older-than", "0s"];
    let archives = sandbox.run(&args).succeeded().objects();
    let [archive] = &archives[..] else {
        panic!("{archives:?}");
    };
    assert_eq!(
        (&archive["from"], &archive["to"]),
        (&0.into(), &1023.into())
    );
    // The first bundle has the keys, and stays.
    assert!(fs::metadata(&entries).expect("reads").blocks() <= blocks / 2);
    assert_eq!(there - files_below(&details), 1023);
    assert_eq!(shown(&sandbox), before);
    let root = archive["cid"].as_str().expect("a CID");
    let told = sandbox.ok(&["log", "show", "--action", "archive"]);
    assert!(told.contains(root), "{told}");
    assert_eq!(plan("0s"), 0);

    let vkey = sandbox.ok(&["log", "vkey"]);
    let held = sandbox.ok(&["log", "verify"]);
    assert!(
        held.contains(&format!("{} entries hold", SIZE + 1)),
        "{held}"
    );
    sandbox.ok(&["log", "prove", "700", "-o", "proof.txt"]);
    sandbox.ok(&[
        "log",
        "bundle",
        "audit.car",
        "--from",
        "300",
        "--to",
        "1060",
        "--details",
    ]);
    for file in ["proof.txt", "audit.car"] {
        sandbox.ok(&["--home", "nowhere", "log", "verify", file, "--vkey", &vkey]);
    }
    let disclosed = [
        "log",
        "bundle",
        "told.car",
        "--from",
        "700",
        "--to",
        "700",
        "--disclose",
        "source",
    ];
    sandbox.ok(&disclosed);
    let told = sandbox.ok(&["log", "verify", "told.car", "--vkey", &vkey]);
    assert!(told.contains("folder 700"), "{told}");
    // Nothing that opens the details is in the archive.
    let path = archive["path"].as_str().expect("a path");
    let car = fs::read(path).expect("reads");
    assert!(!String::from_utf8_lossy(&car).contains("folder 7"));
}

#[test]
fn an_archive_that_is_kept_elsewhere_is_asked_for_by_name() {
    let sandbox = logged();
    sandbox.ok(&["log", "archive", "--older-than", "0s"]);
    let (here, away) = (
        sandbox.home().join("log/own/archive/0-1023.car"),
        sandbox.path("away.car"),
    );
    fs::rename(&here, &away).expect("renames");
    for args in [
        &["log", "show", "--from", "700", "--to", "700"][..],
        &["log", "verify"],
        &["log", "prove", "700"],
        &["log", "bundle", "audit.car"],
    ] {
        let failed = sandbox
            .run(args)
            .failed(1, "0-1023.car, which is not there");
        assert!(failed.stderr.contains("put the archive back"), "{failed:?}");
    }
    // What comes is appended and proven, and the tree is there.
    fs::create_dir(sandbox.path("data")).expect("creates");
    let root = sandbox.ok(&["export", "data"]);
    sandbox.ok(&["log", "prove", &root, "-o", "proof.txt"]);
    sandbox.ok(&["log", "verify", "proof.txt"]);
    sandbox.ok(&["log", "archive", "--older-than", "0s"]);
    fs::rename(&away, &here).expect("renames");
    sandbox.ok(&["log", "verify"]);
    let mut bad = fs::read(&here).expect("reads");
    // In its second bundle.
    bad[150_000] ^= 1;
    fs::write(&here, bad).expect("writes");
    sandbox
        .run(&["log", "verify"])
        .failed(1, "0-1023.car is damaged");
}

#[test]
fn an_agent_serves_its_archives_and_they_are_folders_for_kubo() {
    let (sandbox, reader) = (logged(), Sandbox::new());
    let vkey = sandbox.ok(&["log", "vkey"]);
    let agent = Running::start(&sandbox, &["--http", "127.0.0.1:0"]);
    let url = agent.url("/log");
    let before = curl(&format!("{url}/tile/entries/002"), &[]).body;
    // While it runs.
    let args = ["--json", "log", "archive", "--older-than", "0s"];
    let archive = sandbox.run(&args).succeeded().objects().remove(0);
    assert_eq!(curl(&format!("{url}/tile/entries/002"), &[]).body, before);
    let held = reader.ok(&["log", "verify", &url, "--vkey", &vkey]);
    assert!(held.contains("entries hold"), "{held}");

    let other = Running::start(&reader, &[]);
    for (home, peer) in [(&sandbox, &reader), (&reader, &sandbox)] {
        home.ok(&["peer", "add", &peer.ok(&["peer", "invite"])]);
    }
    let origin = vkey.split('+').next().expect("a name");
    let began = Instant::now();
    while reader
        .run(&["log", "prove", "700", "--origin", origin])
        .code
        != Some(0)
    {
        assert!(began.elapsed() < PATIENCE, "the log does not arrive");
    }
    // The log of another is archived too, without details.
    let args = ["log", "archive", "--older-than", "0s", "--origin", origin];
    assert!(reader.ok(&args).contains("0-1023.car"));
    let held = reader.ok(&["log", "verify", origin, "--vkey", &vkey]);
    assert!(held.contains("entries hold"), "{held}");
    other.stop();
    agent.stop();

    let kubo = Kubo::start();
    let (path, root) = (archive["path"].as_str(), archive["cid"].as_str());
    let (path, root) = (path.expect("a path"), root.expect("a CID"));
    kubo.ok(&["dag", "import", "--offline", path]);
    let folder = sandbox.path("folder");
    kubo.ok(&[
        "--offline",
        "get",
        "-o",
        folder.to_str().expect("UTF-8"),
        root,
    ]);
    let bundle = fs::read(folder.join("tile/entries/002")).expect("reads");
    assert_eq!(bundle, before);
    assert_eq!(files_below(&folder.join("details")), 1023);
}

#[test]
fn an_agent_archives_what_became_old_by_itself() {
    let sandbox = Sandbox::new();
    grow(&sandbox, 17 * 256 + 9, false);
    let agent = Running::start(&sandbox, &["--archive-log", "0s"]);
    let began = Instant::now();
    let told = loop {
        let told = sandbox.ok(&["log", "show", "--action", "archive"]);
        if !told.is_empty() {
            break told;
        }
        assert!(began.elapsed() < PATIENCE, "nothing is archived");
    };
    agent.stop();
    assert_eq!(told.lines().count(), 1);
    let index = fs::read_to_string(sandbox.home().join("log/own/archive/index"));
    let index = index.expect("reads");
    let root = told.split("  ").last().expect("a CID");
    assert_eq!(index, format!("0 4351 {root}\n"));
    sandbox.ok(&["log", "verify"]);
}
