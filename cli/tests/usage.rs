//! What every verb has in common: exit codes, errors as text and as JSON, quiet pipes.

mod souverain;

use std::process::Stdio;

use souverain::{Sandbox, souverain};

#[test]
fn a_wrong_command_line_exits_with_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["export"],
        &["export", ".", "--level", "0"],
        &["export", ".", "--mode", "public"],
        &["export", ".", "--to", "age1x", "--passphrase"],
        &["verify"],
        &["verify", "x.car", "--sample", "5"],
        &["verify", "x.car", "--sample", "0%"],
        &["verify", "x.car", "--keyless", "--identity", "x"],
        &["import", "x.car"],
        &["import", "x.car", "--into", "d", "--merge", "--replace"],
        &["init", "--recipient-only"],
        &["show", "x.car", "-q", "-v"],
        &["get", "short", "d"],
        &["show", ""],
        &["get", "bafybeig", ""],
        &["export", "mysql://h/d"],
        &["export", "csv:x"],
        &["export", ""],
        &["export", "sqlite:"],
        &["export", ".", "--to", "age1x"],
        &["init", "--recipient-only", "--to", "age1x"],
        &["import", "made.car", "--into", ""],
        &["import", "made.car", "--into", "sqlite:"],
        &["import", "made.car", "--into", "mysql://h/d"],
        &["recipients", "add", "bafybeig", "age1x"],
    ];
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    std::fs::create_dir(sandbox.path("tree")).expect("creates");
    sandbox.ok(&["export", "tree", "--car", "made.car"]);
    let cid = sandbox.ok(&["export", "tree"]);
    for args in cases {
        let fresh = args.first() == Some(&"init");
        let home = if fresh { "another" } else { "home" };
        let args: Vec<_> = args
            .iter()
            .map(|&arg| if arg == "bafybeig" { &cid[..] } else { arg })
            .collect();
        let mut command = sandbox.command(&args);
        let ran = command.env("SOUVERAIN_HOME", sandbox.path(home)).output();
        let ran = souverain::Ran::of(&args, ran.expect("runs"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stdout.is_empty(), "{ran:?}");
        assert!(
            ran.stderr.starts_with("Error: ") || args.is_empty(),
            "{ran:?}"
        );
    }
}

#[test]
fn in_json_a_usage_error_is_one_object_on_stdout() {
    let ran = Sandbox::new().run(&["export", "--json"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.is_empty(), "{ran:?}");
    let [error] = &ran.objects()[..] else {
        panic!("{ran:?}")
    };
    assert_eq!(error["v"], 1);
    assert_eq!(error["type"], "error");
    assert_eq!(error["exit"], 2);
    let text = error["error"].as_str().unwrap_or_default();
    assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    let hint = error["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("Usage: souverain export"), "{hint}");
    assert!(error["causes"].is_array());
}

#[test]
fn a_closed_pipe_is_quiet() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = souverain()
        .args(["completions", "bash"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_wrong_log_filter_is_a_usage_error() {
    let output = souverain()
        .args(["man"])
        .env("SOUVERAIN_LOG", "a=b=c")
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_a_home_it_says_how_to_name_one() {
    let output = souverain().arg("list").output().expect("runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("Hint: pass `--home DIR`"), "{stderr}");
}

#[test]
fn what_is_no_car_does_not_verify_wherever_it_is_read() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    std::fs::write(sandbox.path("empty.car"), "").expect("writes");
    std::fs::write(sandbox.path("junk.car"), [0x5b; 3000]).expect("writes");
    for file in ["empty.car", "junk.car"] {
        for args in [
            &["verify", file][..],
            &["verify", file, "--keyless"],
            &["show", file],
            &["import", file, "--into", "out"],
            &["car", "import", file],
        ] {
            sandbox.run(args).failed(3, "Hint: ");
        }
    }
}
