//! `completions`: scripts that the shells accept.

mod souverain;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use souverain::Sandbox;

#[test]
fn names_the_verbs_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Sandbox::new().ok(&["completions", shell]);
        for verb in ["export", "recipients", "quickstart", "skip-damaged"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn bash_accepts_its_script() {
    let script = Sandbox::new().ok(&["completions", "bash"]);
    let mut bash = Command::new("bash")
        .args(["--norc", "-n"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash is there");
    let mut stdin = bash.stdin.take().expect("piped");
    stdin.write_all(script.as_bytes()).expect("reads all");
    drop(stdin);
    let output = bash.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
