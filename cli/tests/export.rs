//! `export`: the CID alone on standard output; an unchanged export writes next to nothing.

mod souverain;

use std::{fs, os::unix::fs::PermissionsExt, process::Stdio};

use souverain::{Ran, Sandbox, souverain, write_tree};

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    write_tree(&sandbox.path("tree"));
    sandbox
}

#[test]
fn prints_the_cid_alone_and_reuses_what_is_there() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["export", "tree"]).succeeded();
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    assert!(ran.stdout.starts_with("bafybei"), "{ran:?}");
    let again = sandbox.run(&["export", "tree", "--json"]).succeeded();
    let exported = &again.objects()[0];
    assert_eq!(exported["v"], 1);
    assert_eq!(exported["type"], "exported");
    assert_eq!(exported["segments"], exported["segments_reused"]);
    assert!(
        exported["bytes_written"].as_u64() < Some(64 << 10),
        "{again:?}"
    );
    assert_eq!(sandbox.ok(&["list"]).lines().count(), 2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["export", "tree", "--dry-run"]).succeeded();
    assert!(ran.stdout.starts_with("would have read "), "{ran:?}");
    assert_eq!(sandbox.ok(&["list"]), "");
}

#[test]
fn a_car_needs_neither_store_nor_home() {
    let sandbox = sandbox();
    let recipient = fs::read_to_string(sandbox.home().join("recipients.txt")).expect("reads");
    let ran = |car: &str| {
        let mut command = souverain();
        command
            .current_dir(sandbox.path(""))
            .env("HOME", sandbox.path("nobody"))
            .args(["export", "tree", "--to", recipient.trim(), "--car", car]);
        command
    };
    let output = ran("-").stdout(Stdio::piped()).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
    fs::write(sandbox.path("piped.car"), &output.stdout).expect("writes");
    let to_file = Ran::of(&["export"], ran("file.car").output().expect("runs")).succeeded();
    assert!(to_file.stdout.starts_with("bafybei"), "{to_file:?}");
    assert!(!sandbox.path("nobody").exists());
    for car in ["piped.car", "file.car"] {
        sandbox.ok(&["verify", car]);
        sandbox.ok(&["import", car, "--into", &format!("{car}.tree")]);
        let one = fs::read(sandbox.path(&format!("{car}.tree/one.txt"))).expect("restored");
        assert_eq!(one, b"one\n");
    }
    Ran::of(&["export"], ran("file.car").output().expect("runs")).failed(1, "exists already");
}

#[test]
fn a_passphrase_alone_opens_what_it_sealed() {
    let sandbox = sandbox();
    fs::write(sandbox.path("secret"), "correct horse\n").expect("writes");
    let cid = sandbox.ok(&["export", "tree", "--passphrase-file", "secret"]);
    sandbox.run(&["show", &cid]).failed(1, "Error: ");
    sandbox.ok(&["show", &cid, "--passphrase-file", "secret"]);
    let shown = sandbox
        .command(&["show", &cid])
        .env("SOUVERAIN_PASSPHRASE", "correct horse")
        .output();
    assert!(shown.expect("runs").status.success());
    fs::write(sandbox.path("wrong"), "battery\n").expect("writes");
    sandbox
        .run(&["show", &cid, "--passphrase-file", "wrong"])
        .failed(1, "Hint: ");
    let asked = sandbox.run(&["export", "tree", "--passphrase"]);
    assert_eq!(asked.code, Some(1), "there is no terminal: {asked:?}");
}

#[test]
fn an_erasable_snapshot_keeps_its_keys_at_home() {
    let sandbox = sandbox();
    let cid = sandbox.ok(&["export", "tree", "--mode", "erasable"]);
    sandbox.ok(&["verify", &cid]);
    sandbox.ok(&["car", "export", &cid, "out.car"]);
    sandbox.ok(&["verify", "out.car", "--keyless"]);
    sandbox.run(&["show", "out.car"]).failed(1, "is erasable");
    sandbox
        .run(&["export", "tree", "--mode", "erasable", "--car", "x.car"])
        .failed(2, "erasable");
}

#[test]
fn what_cannot_be_read_is_told_or_skipped() {
    let sandbox = sandbox();
    sandbox
        .run(&["export", "none"])
        .failed(1, "cannot read none");
    sandbox
        .run(&["export", "ftp:x"])
        .failed(1, "Hint: a SOURCE is");
    let secret = sandbox.path("tree/secret");
    fs::write(&secret, "x").expect("writes");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("hides");
    if fs::read(&secret).is_ok() {
        return; // Nothing is hidden from root.
    }
    sandbox
        .run(&["export", "tree"])
        .failed(1, "--skip-unreadable");
    let ran = sandbox
        .run(&["export", "tree", "--skip-unreadable"])
        .succeeded();
    assert!(ran.stderr.contains("Warning: "), "{ran:?}");
}

#[test]
fn a_password_in_an_argument_is_warned_of_and_not_repeated() {
    let sandbox = sandbox();
    let ran = sandbox.run(&["export", "postgres://me:hunter2@127.0.0.1:1/db"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("Warning: "), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}
