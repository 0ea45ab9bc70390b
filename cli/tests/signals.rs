//! Signals: the first stops cleanly.

mod souverain;

use std::{
    io::Read,
    process::{Command, Stdio},
};

use souverain::{Ran, Sandbox, write_tree};

#[test]
fn an_interrupted_export_says_so_and_leaves_no_snapshot() {
    for signal in ["-INT", "-TERM"] {
        let sandbox = Sandbox::new();
        sandbox.ok(&["init"]);
        write_tree(&sandbox.path("tree"));
        let mut child = sandbox
            .command(&["export", "tree", "--car", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdout = child.stdout.take().expect("piped");
        // Its first byte says that it has begun; the rest does not fit into the pipe.
        stdout.read_exact(&mut [0]).expect("a CAR begins");
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(killed.expect("runs").success());
        std::io::copy(&mut stdout, &mut std::io::sink()).expect("reads the rest");
        let ran = Ran::of(&["export", signal], child.wait_with_output().expect("ends"));
        ran.failed(1, "Error: interrupted\nHint: run the same command again\n");
    }
}
