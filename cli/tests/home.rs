//! One process writes to a home at a time; others read meanwhile. Secrets stay out of logs.

mod souverain;

use std::{fs, io::Write, process::Stdio};

use souverain::{Sandbox, write_tree};

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    write_tree(&sandbox.path("tree"));
    let cid = sandbox.ok(&["export", "tree"]);
    sandbox.ok(&["car", "export", &cid, "x.car"]);
    let car = fs::read(sandbox.path("x.car")).expect("reads");
    let mut writer = sandbox
        .command(&["car", "import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let mut stdin = writer.stdin.take().expect("piped");
    // More than the pipe holds: when it is written, the store is open and being written to.
    let (first, rest) = car.split_at(1 << 20);
    stdin.write_all(first).expect("is read");
    sandbox
        .run(&["export", "tree"])
        .failed(1, "in use by process")
        .failed(1, "Hint: wait until it is done");
    assert_eq!(sandbox.ok(&["list"]).lines().count(), 1);
    sandbox.ok(&["verify", &cid]);
    stdin.write_all(rest).expect("is read");
    drop(stdin);
    assert!(writer.wait().expect("ends").success());
    sandbox.ok(&["export", "tree"]);
}

#[test]
fn a_home_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    let identity = sandbox.home().join("identity.txt");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).expect("changes");
    sandbox
        .run(&["list"])
        .failed(1, "can be read or changed by others")
        .failed(1, "Hint: run `chmod 600 ");
}

#[test]
fn logs_name_the_session_and_no_secret() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    write_tree(&sandbox.path("tree"));
    let logged = |args: &[&str]| {
        let mut command = sandbox.command(args);
        let output = command
            .env("SOUVERAIN_LOG", "trace")
            .output()
            .expect("runs");
        assert!(output.status.success(), "{output:?}");
        let cid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (cid, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (cid, exporting) = logged(&["export", "tree"]);
    let (_, restoring) = logged(&["import", &cid, "--into", "out"]);
    assert!(exporting.contains("run{session="), "{exporting}");
    let identity = fs::read_to_string(sandbox.home().join("identity.txt")).expect("reads");
    let secret = identity.lines().last().expect("a line");
    for log in [exporting, restoring] {
        assert!(!log.contains(secret) && !log.contains("AGE-SECRET-KEY-1"));
    }
}
