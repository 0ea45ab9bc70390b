//! The log under kills, under many at once, and on a full disk: nothing that was acknowledged is lost, and nothing is ever
//! signed in another's place. `SOUVERAIN_KILLS` says how many operations are killed.

use std::{collections::BTreeMap, fs, process::Stdio, time::Duration};

use souverain_tests::{
    disk::SmallDisk,
    program::{Ran, Random, Sandbox, note},
};

/// Longest that an operation goes on before it is killed.
const LONGEST_US: u64 = 80_000;

fn kills() -> u64 {
    std::env::var("SOUVERAIN_KILLS").map_or(100, |text| text.parse().expect("a number"))
}

/// The CIDs of all entries, by number; the log holds.
fn entries(sandbox: &Sandbox) -> BTreeMap<u64, String> {
    sandbox.ok(&["log", "verify"]);
    let shown = sandbox
        .run(&["--json", "log", "show"])
        .succeeded()
        .objects();
    let each = shown.iter().map(|entry| {
        let seq = entry["seq"].as_u64().expect("a number");
        (seq, entry["cid"].as_str().expect("a CID").to_owned())
    });
    each.collect()
}

fn group(name: &str) -> [String; 4] {
    let peer = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
    ["group", name, "--add", peer].map(str::to_owned)
}

#[test]
fn a_killed_operation_never_has_another_signed_in_its_place() {
    let mut random = Random::printed("log kills");
    let sandbox = Sandbox::new();
    let mut known = entries(&sandbox);
    let mut acknowledged = 0;
    for round in 0..kills() {
        let args = group(&format!("g{}", round % 16));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = sandbox.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        // From before it has begun to after it is done.
        std::thread::sleep(Duration::from_micros(random.below(LONGEST_US)));
        let _ = child.kill();
        let output = child.wait_with_output().expect("ends");
        // What was read of the log stays as it was read, whatever was killed when.
        let now = entries(&sandbox);
        for (seq, cid) in &known {
            assert_eq!(
                now.get(seq),
                Some(cid),
                "entry {seq} is another, round {round}"
            );
        }
        acknowledged += u64::from(!output.stdout.is_empty());
        assert!(now.len() as u64 > acknowledged, "round {round}");
        known = now;
    }
    note(format!("{acknowledged} were done, {} entries", known.len()));
    assert!(known.len() > 1, "all were killed before they began");
    sandbox.ok(&["group", "last", "--add", group("x")[3].as_str()]);
    assert!(entries(&sandbox).len() > known.len());
}

#[test]
fn many_at_once_leave_an_entry_each() {
    let sandbox = Sandbox::new();
    let before = entries(&sandbox).len();
    // Failures need no store, so that nobody waits for it.
    let children: Vec<_> = (0..24)
        .map(|n| {
            let missing = format!("missing-{n}");
            let mut command = sandbox.command(&["export", &missing]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("starts")
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().expect("ends").code(), Some(1));
    }
    assert_eq!(entries(&sandbox).len(), before + 24);
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_the_log_holds() {
    let sandbox = Sandbox::empty();
    fs::create_dir(sandbox.home()).expect("creates");
    let Some(disk) = SmallDisk::mount(&sandbox.home(), 56) else {
        return;
    };
    let run = |args: &[&str]| Ran::of(disk.on(&sandbox.command(args)).output().expect("runs"));
    let _ = run(&["init"]).succeeded();
    let entries = || {
        let _ = run(&["log", "verify"]).succeeded();
        let shown = run(&["--json", "log", "show"]).succeeded().objects();
        shown.len()
    };
    let begun = entries();
    let filler = disk.fill();
    let auditor = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let ran = run(&["log", "auditor", "add", auditor]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    // Its failure is told, if there is room for that.
    let full = entries();
    assert!((begun..=begun + 1).contains(&full), "{full}");
    assert_eq!(run(&["log", "auditor", "list"]).succeeded().stdout, "");
    fs::remove_file(filler).expect("removes");
    let _ = run(&["log", "auditor", "add", auditor]).succeeded();
    // And if there was room for the entry and not for its checkpoint, it is told now.
    assert!((full + 1..=full + 2).contains(&entries()), "{full}");
}
