//! The built program, run in an environment of its own.
#![allow(dead_code, reason = "each test file uses its own share of this")]

pub(crate) mod running;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// The program with a clean environment: no home, no terminal, no width.
pub(crate) fn souverain() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souverain"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    // What a coverage run counts is written where this says.
    if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", file);
    }
    command
}

/// A home, and room beside it.
pub(crate) struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The program with this home, in this directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = souverain();
        command
            .current_dir(self.directory.path())
            .env("SOUVERAIN_HOME", self.home())
            .env("HOME", self.directory.path())
            .args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(args, self.command(args).output().expect("runs"))
    }

    /// Runs, and expects it to work; gives standard output without its last newline.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).succeeded().stdout.trim_end().to_owned()
    }
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) args: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(args: &[&str], output: Output) -> Self {
        Self {
            args: args.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Expects an exit code and a text in what was said about it.
    pub(crate) fn failed(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// The objects that were printed, one a line.
    pub(crate) fn objects(&self) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
            .collect()
    }
}

/// Writes a small tree to export: files, a link and an empty directory.
pub(crate) fn write_tree(path: &Path) {
    std::fs::create_dir_all(path.join("empty")).expect("creates");
    std::fs::write(path.join("one.txt"), "one\n").expect("writes");
    let mut state = 7_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(3 << 20)
    .collect();
    std::fs::write(path.join("two.bin"), bytes).expect("writes");
    std::os::unix::fs::symlink("one.txt", path.join("link")).expect("links");
}
