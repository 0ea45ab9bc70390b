//! `log`: what operations leave, what is shown and proven of it, and what does not hold.

mod souverain;

use std::{fs, path::Path};

use serde_json::Value;
use souverain::{Sandbox, write_tree};

/// A home with an export that was shared, one that failed and one that was refused.
fn logged() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    write_tree(&sandbox.path("data"));
    let cid = sandbox.ok(&["export", "data"]);
    sandbox.run(&["export", "nothing-there"]).failed(1, "");
    sandbox.ok(&["share", &cid, "--with", "public"]);
    sandbox
        .run(&["share", &cid, "--with", "nobody"])
        .failed(2, "no group");
    (sandbox, cid)
}

fn entries(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    let args = [&["--json", "log", "show"], args].concat();
    sandbox.run(&args).succeeded().objects()
}

fn told(entries: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let each = entries.iter();
    each.map(|entry| (text(&entry["action"]), text(&entry["outcome"])))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for file in fs::read_dir(from).expect("reads") {
        let file = file.expect("reads");
        fs::copy(file.path(), to.join(file.file_name())).expect("copies");
    }
}

#[test]
fn every_operation_leaves_an_entry_of_how_it_went() {
    let (sandbox, cid) = logged();
    let all = entries(&sandbox, &[]);
    let expected = [
        ("genesis", "ok"),
        ("export", "ok"),
        ("export", "failed"),
        ("share", "ok"),
        ("share", "refused"),
    ];
    let expected = expected.map(|(action, outcome)| (action.to_owned(), outcome.to_owned()));
    assert_eq!(told(&all), expected);
    assert_eq!(all[1]["subject"][0], cid.as_str());
    let sessions: std::collections::BTreeSet<&str> = all
        .iter()
        .filter_map(|entry| entry["session"].as_str())
        .collect();
    assert_eq!(sessions.len(), 5, "a session a run");
    // Reading leaves nothing.
    sandbox.ok(&["list"]);
    sandbox.ok(&["verify", &cid]);
    sandbox.ok(&["export", "data", "--dry-run"]);
    assert_eq!(entries(&sandbox, &[]).len(), 5);
    sandbox.ok(&["import", &cid, "--into", "restored"]);
    sandbox.ok(&["car", "export", &cid, "one.car"]);
    sandbox.ok(&["car", "import", "one.car"]);
    sandbox.ok(&["share", &cid, "--without", "all"]);
    let later = told(&entries(&sandbox, &["--from", "5"]));
    let actions: Vec<&str> = later.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["import", "car.import", "unshare"]);
    sandbox.ok(&["log", "verify"]);
}

#[test]
fn what_is_personal_is_committed_to_and_opens_with_the_identity_alone() {
    let (sandbox, _) = logged();
    let log = sandbox.home().join("log");
    let bytes = fs::read(log.join("own/entries")).expect("reads");
    let text = String::from_utf8_lossy(&bytes);
    for personal in ["data", "nothing-there", "nobody", "public"] {
        assert!(!text.contains(personal), "{personal}");
    }
    let shown = entries(&sandbox, &["--details"]);
    assert_eq!(shown[1]["details"]["source"], "data");
    assert_eq!(shown[2]["details"]["source"], "nothing-there");
    assert_eq!(shown[4]["details"]["with"], "nobody");
    for entry in &shown[1..] {
        let names = |of: &Value| -> Vec<String> {
            of.as_object().expect("fields").keys().cloned().collect()
        };
        assert_eq!(names(&entry["details"]), names(&entry["commit"]));
    }
    // Erased is what was removed, and the log still holds.
    fs::remove_dir_all(log.join("details")).expect("removes");
    let shown = entries(&sandbox, &["--details"]);
    assert!(shown[1].get("details").is_none());
    sandbox.ok(&["log", "verify"]);
}

#[test]
fn entries_are_found_by_what_they_tell() {
    let (sandbox, cid) = logged();
    let count = |args: &[&str]| entries(&sandbox, args).len();
    assert_eq!(count(&["--action", "export"]), 2);
    assert_eq!(count(&["--action", "export", "--outcome", "failed"]), 1);
    assert_eq!(count(&["--action", "share", "--action", "genesis"]), 3);
    assert_eq!(count(&["--about", &cid]), 3);
    assert_eq!(count(&["--from", "1", "--to", "2"]), 2);
    assert_eq!(count(&["--from", "77"]), 0);
}

#[test]
fn a_proof_needs_nothing_but_the_key() {
    let (sandbox, cid) = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    assert!(
        sandbox
            .ok(&["init", "--home", "other"])
            .contains("log: souverain/bafy")
    );
    sandbox.ok(&["log", "prove", &cid, "-o", "proof.txt"]);
    let nowhere = ["--home", "nowhere", "log", "verify", "proof.txt"];
    let proven = sandbox.ok(&[&nowhere[..], &["--vkey", &vkey]].concat());
    assert!(proven.starts_with("entry 3 of 5 is in "), "{proven}");
    assert!(proven.ends_with(&format!(": share {cid}")), "{proven}");
    sandbox
        .run(&nowhere)
        .failed(2, "whose key is not known here");
    sandbox.ok(&["log", "verify", "proof.txt"]);
    let other = sandbox.ok(&["--home", "other", "log", "vkey"]);
    sandbox
        .run(&[&nowhere[..], &["--vkey", &other]].concat())
        .failed(3, "is of the log");
    let good = fs::read_to_string(sandbox.path("proof.txt")).expect("reads");
    for bad in [
        good.replace("index 3", "index 2"),
        good.replacen("\n5\n", "\n6\n", 1),
        good[..good.len() / 2].to_owned(),
        good.replace("extra ", "extra AA"),
    ] {
        fs::write(sandbox.path("forged.txt"), bad).expect("writes");
        let forged = ["--home", "nowhere", "log", "verify", "forged.txt"];
        sandbox
            .run(&[&forged[..], &["--vkey", &vkey]].concat())
            .failed(3, "Error: ");
    }
    sandbox
        .run(&["log", "prove", "5"])
        .failed(1, "none of number 5");
    let proof = sandbox.run(&["log", "prove", "0"]).succeeded().stdout;
    fs::write(sandbox.path("genesis.txt"), proof).expect("writes");
    assert!(
        sandbox
            .ok(&["log", "verify", "genesis.txt"])
            .ends_with(": genesis")
    );
}

#[test]
fn a_log_that_was_changed_ends_with_3_and_the_entry() {
    let (sandbox, _) = logged();
    let (vkey, own) = (sandbox.ok(&["log", "vkey"]), sandbox.home().join("log/own"));
    copy(&own, &sandbox.path("copy"));
    let verify = ["--home", "nowhere", "log", "verify", "copy"];
    let with_key = [&verify[..], &["--vkey", &vkey]].concat();
    sandbox.ok(&with_key);
    let ran = sandbox.run(&verify).succeeded();
    assert!(
        ran.stderr.contains(&format!("vouched for by {vkey}")),
        "{ran:?}"
    );
    let change = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        copy(&own, &sandbox.path("copy"));
        let path = sandbox.path("copy").join(file);
        let mut bytes = fs::read(&path).expect("reads");
        change(&mut bytes);
        fs::write(&path, bytes).expect("writes");
        sandbox.run(&with_key).failed(3, "Error: ").stderr
    };
    let last = change("entries", &|bytes| {
        let end = bytes.len();
        bytes[end - 70] ^= 1;
    });
    assert!(last.contains("entry 4"), "{last}");
    let first = change("entries", &|bytes| bytes[40] ^= 1);
    assert!(first.contains("entry 0"), "{first}");
    let tile = change("tree0", &|bytes| bytes[32 * 2 + 5] ^= 1);
    assert!(
        tile.contains("tile/0/000.p/5") && tile.contains("entry 2"),
        "{tile}"
    );
    let by_tree = [&with_key[..], &["--tree"]].concat();
    sandbox.run(&by_tree).failed(3, "entry 2");
    copy(&own, &sandbox.path("copy"));
    let held = sandbox.ok(&by_tree);
    assert!(
        held.ends_with("5 entries are those that were signed"),
        "{held}"
    );
    let root = change("checkpoint", &|bytes| {
        let text = String::from_utf8_lossy(bytes).replacen("\n5\n", "\n4\n", 1);
        *bytes = text.into_bytes();
    });
    assert!(root.contains("checkpoint"), "{root}");
}

#[test]
fn an_origin_is_one() {
    let (sandbox, cid) = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    let origin = vkey.split('+').next().expect("a name");
    let none = format!("no log of {origin}");
    sandbox
        .run(&["log", "show", "--origin", origin])
        .failed(1, &none);
    sandbox
        .run(&["log", "show", "--origin", "souverain/x"])
        .failed(2, "is not the origin of a log");
    let checkpoint = sandbox.run(&["log", "checkpoint"]).succeeded().stdout;
    assert!(
        checkpoint.starts_with(&format!("{origin}\n5\n")),
        "{checkpoint}"
    );
    let object = &sandbox
        .run(&["--json", "log", "checkpoint"])
        .succeeded()
        .objects()[0];
    assert_eq!(object["checkpoint"], checkpoint.as_str());
    sandbox
        .run(&["log", "verify", "neither"])
        .failed(1, "neither a file");
    sandbox
        .run(&["log", "prove", &cid.replace("bafy", "bafk")])
        .failed(1, "");
}

#[test]
fn a_bundle_proves_its_entries_to_who_has_nothing_else() {
    let (sandbox, cid) = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    sandbox.ok(&["log", "bundle", "all.car"]);
    let some = ["log", "bundle", "some.car", "--from", "1", "--to", "2"];
    sandbox.ok(&[&some[..], &["--disclose", "source", "--details"]].concat());
    let verify = |file: &str, more: &[&str]| {
        let nowhere = ["--home", "nowhere", "log", "verify", file];
        sandbox.run(&[&nowhere[..], more].concat())
    };
    let all = verify("all.car", &["--vkey", &vkey]).succeeded().stdout;
    assert!(
        all.starts_with("entries 0 to 4 of 5 are in souverain/"),
        "{all}"
    );
    assert!(!all.contains("data"), "nothing is disclosed unasked: {all}");
    let some = verify("some.car", &["--vkey", &vkey]).succeeded().stdout;
    assert!(
        some.contains("\n  1  source: data\n  2  source: nothing-there\n"),
        "{some}"
    );
    let ran = verify("some.car", &[]).succeeded();
    assert!(
        ran.stderr.contains(&format!("vouched for by {vkey}")),
        "{ran:?}"
    );
    // Any tool for CARs reads it, and the snapshot's CID is in it.
    let bytes = fs::read(sandbox.path("all.car")).expect("reads");
    let subject: cid::Cid = cid.parse().expect("a CID");
    assert!(
        bytes
            .windows(36)
            .any(|window| window == &subject.to_bytes()[..])
    );
    sandbox.ok(&["init", "--home", "other"]);
    let other = sandbox.ok(&["--home", "other", "log", "vkey"]);
    verify("all.car", &["--vkey", &other]).failed(3, "is of the log");
    fs::write(sandbox.path("policy"), "quorum none\n").expect("writes");
    verify("all.car", &["--vkey", &vkey, "--policy", "policy"]).succeeded();
    let witness = "witness w witness.example+6f8b42a7+BGQ3f+rvYTqXSXS1ltmbVOMhSNMUwDpZ2KgLxXNmzFsV\nquorum w\n";
    fs::write(sandbox.path("policy"), witness).expect("writes");
    verify("all.car", &["--vkey", &vkey, "--policy", "policy"]).failed(2, "policy");
    for (from, to, code) in [("3", "2", 2), ("0", "5", 2)] {
        let none = ["log", "bundle", "none.car", "--from", from, "--to", to];
        sandbox.run(&none).failed(code, "are not");
        assert!(!sandbox.path("none.car").exists());
    }
}

#[test]
fn a_bundle_that_was_changed_is_refused() {
    let (sandbox, _) = logged();
    let vkey = sandbox.ok(&["log", "vkey"]);
    sandbox.ok(&["log", "bundle", "all.car"]);
    let good = fs::read(sandbox.path("all.car")).expect("reads");
    let refused = |bytes: &[u8]| {
        fs::write(sandbox.path("bad.car"), bytes).expect("writes");
        let verify = [
            "--home", "nowhere", "log", "verify", "bad.car", "--vkey", &vkey,
        ];
        sandbox.run(&verify).failed(3, "Error: ");
    };
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        refused(&bad);
    }
    for end in (1..good.len()).step_by(211) {
        refused(&good[..end]);
    }
    refused(&[&good[..], &good[good.len() - 40..]].concat());
}

#[test]
fn a_new_key_goes_on_and_the_recovery_key_takes_back() {
    let (sandbox, cid) = logged();
    let first = sandbox.ok(&["log", "vkey"]);
    let second = sandbox.ok(&["log", "key", "rotate"]);
    assert_ne!(first, second);
    assert_eq!(first.split('+').next(), second.split('+').next());
    sandbox.ok(&["share", &cid, "--without", "all"]);
    let verified = |count: u64, vkey: &str| {
        let ran = sandbox.run(&["log", "verify", "--vkey", vkey]).succeeded();
        assert!(
            ran.stdout.contains(&format!(": {count} entries hold")),
            "{ran:?}"
        );
        ran.stderr
    };
    for vkey in [&first, &second] {
        assert_eq!(verified(7, vkey), "");
    }
    let recovery = sandbox.home().join("log-recovery-1.key");
    let offline = sandbox.path("stick.key");
    fs::rename(recovery, &offline).expect("moves");
    sandbox
        .run(&["log", "key", "recover", "--from", "6"])
        .failed(1, "log-recovery-1.key");
    sandbox.ok(&["--home", "other", "init"]);
    let wrong = ["--recovery-file", "other/log-recovery-1.key"];
    sandbox
        .run(&[&["log", "key", "recover", "--from", "6"][..], &wrong].concat())
        .failed(1, "not the recovery key");
    fn recover(from: &str) -> [&str; 7] {
        let file = "stick.key";
        [
            "log",
            "key",
            "recover",
            "--from",
            from,
            "--recovery-file",
            file,
        ]
    }
    sandbox.run(&recover("0")).failed(3, "");
    let ran = sandbox.run(&recover("6")).succeeded();
    assert!(ran.stderr.contains("log-recovery-3.key"), "{ran:?}");
    let third = ran.stdout.trim_end().to_owned();
    let revoked = verified(8, &third);
    assert!(
        revoked.contains("1 entries were signed with a key that was revoked"),
        "{revoked}"
    );
    // What the recovery key opened is closed to it now; the next one works.
    sandbox.run(&recover("8")).failed(1, "not the recovery key");
    sandbox.ok(&["log", "bundle", "audit.car", "--from", "7"]);
    for vkey in [&first, &second, &third] {
        sandbox.ok(&[
            "--home",
            "nowhere",
            "log",
            "verify",
            "audit.car",
            "--vkey",
            vkey,
        ]);
    }
    let actions = told(&entries(&sandbox, &["--action", "key."]));
    let actions: Vec<&str> = actions.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["key.rotate", "key.recover"]);
}

#[test]
fn an_auditor_opens_the_details_from_when_it_is_one() {
    let (sandbox, _) = logged();
    sandbox.ok(&["--home", "auditor", "init"]);
    let identity = ["-i", "auditor/identity.txt"];
    let text = fs::read_to_string(sandbox.path("auditor/recipients.txt")).expect("reads");
    let recipient = text.trim_end();
    assert_eq!(sandbox.ok(&["log", "auditor", "list"]), "");
    sandbox
        .run(&["log", "auditor", "add", "nobody"])
        .failed(2, "neither a recipient");
    assert_eq!(sandbox.ok(&["log", "auditor", "add", recipient]), recipient);
    sandbox.run(&["export", "not-there-either"]).failed(1, "");
    sandbox.ok(&["log", "bundle", "audit.car", "--from", "6", "--details"]);
    // The auditor has no home of the log's, but the file; here the details are read where they are.
    let own = sandbox.home().join("identity.txt");
    fs::rename(&own, sandbox.path("away.txt")).expect("moves");
    let details = |seq: &str| {
        let show = ["log", "show", "--from", seq, "--to", seq, "--details"];
        sandbox.run(&[&show[..], &identity].concat())
    };
    let shown = details("6").succeeded().stdout;
    assert!(shown.contains("source: not-there-either"), "{shown}");
    details("1").failed(1, "cannot open the details");
    assert_eq!(sandbox.ok(&["log", "auditor", "remove", recipient]), "");
    sandbox.run(&["export", "nor-there"]).failed(1, "");
    details("8").failed(1, "cannot open the details");
}
