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
    ];
    for args in cases {
        let ran = Sandbox::new().run(args);
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
    assert!(error["error"].as_str().is_some_and(|e| !e.is_empty()));
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
