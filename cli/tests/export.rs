//! `export`: the CID alone on standard output; an unchanged export writes next to nothing.

mod souverain;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

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
    let hint = "Hint: set SOUVERAIN_PASSPHRASE or pass `--passphrase-file FILE`";
    for verb in ["show", "verify"] {
        let ran = sandbox.run(&[verb, &cid]);
        let ran = ran.failed(1, "is sealed to a passphrase, and none was given");
        ran.failed(1, hint);
    }
    sandbox.ok(&["show", &cid, "--passphrase-file", "secret"]);
    let shown = sandbox
        .command(&["show", &cid])
        .env("SOUVERAIN_PASSPHRASE", "correct horse")
        .output();
    assert!(shown.expect("runs").status.success());
    fs::write(sandbox.path("wrong"), "battery\n").expect("writes");
    sandbox
        .run(&["show", &cid, "--passphrase-file", "wrong"])
        .failed(1, "the passphrase does not open")
        .failed(1, hint);
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
        .failed(2, "Hint: a SOURCE is");
    sandbox
        .run(&["export", "/dev/null"])
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
    assert_eq!(ran.stderr.matches("password").count(), 1, "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}

#[test]
fn a_car_on_standard_output_has_its_cid_on_standard_error() {
    let sandbox = sandbox();
    let ran = sandbox
        .run(&["export", "-q", "tree", "--car", "-"])
        .succeeded();
    let cid = ran.stderr.strip_prefix("cid: ").map(str::trim_end);
    assert!(
        cid.is_some_and(|cid| cid.starts_with("bafy")),
        "{:?}",
        ran.stderr
    );
}

#[test]
fn what_of_a_tree_is_not_kept_is_told() {
    let sandbox = sandbox();
    let links = ["tree/link", "tree/other"].map(|name| sandbox.path(name));
    fs::hard_link(&links[0], &links[1]).expect("links");
    let attribute = Command::new("setfattr")
        .args(["-n", "trusted.mine", "-v", "1"])
        .arg(sandbox.path("tree/one.txt"))
        .output();
    let has_attribute = attribute.is_ok_and(|output| output.status.success());
    let ran = sandbox.run(&["export", "tree"]).succeeded();
    for name in ["link", "other"] {
        let warning = format!("Warning: ./{name} has several names: each becomes a file");
        assert!(ran.stderr.contains(&warning), "{ran:?}");
    }
    if has_attribute {
        let warning = "Warning: ./one.txt has trusted extended attributes, which are not kept";
        assert!(ran.stderr.contains(warning), "{ran:?}");
    }
}
