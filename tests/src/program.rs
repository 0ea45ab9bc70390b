//! The built program, run as people run it: its own home, a clean environment, exit codes.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::wire::Port;

/// Where the program is: beside the directory that test executables are in.
///
/// # Panics
/// It was not built: `cargo test` builds the tests only.
#[must_use]
pub fn program() -> PathBuf {
    let program = beside("souverain");
    assert!(
        program.is_file(),
        "{} is missing: run `cargo build -p souverain` with the profile of the tests",
        program.display()
    );
    program
}

/// A program that is built with the tests.
pub(crate) fn beside(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test.parent().and_then(Path::parent);
    profile.expect("target/PROFILE/deps/TEST").join(name)
}

/// A home, and room beside it.
#[derive(Debug)]
pub struct Sandbox {
    directory: TempDir,
    port: Option<Port>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// A sandbox without a home.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            port: None,
        }
    }

    /// The same, whose programs run at a port of a wire.
    #[must_use]
    pub fn at(self, port: Port) -> Self {
        let port = Some(port);
        Self { port, ..self }
    }

    /// A sandbox whose home is initialised.
    #[must_use]
    pub fn new() -> Self {
        let sandbox = Self::empty();
        sandbox.ok(&["init"]);
        sandbox
    }

    /// A path in the sandbox.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The program with this home, in this directory, with nothing else in its environment.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = match &self.port {
            Some(port) => port.command(program()),
            None => Command::new(program()),
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SOUVERAIN_HOME", self.home())
            .env("HOME", self.directory.path())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .args(args);
        // What a coverage run counts is written where this says.
        if let Some(file) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", file);
        }
        command
    }

    /// Runs to the end.
    #[must_use]
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ran {
        Ran::of(self.command(args).output().expect("runs"))
    }

    /// Runs, expects it to work, and gives standard output without its last newline.
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        self.run(args).succeeded().stdout.trim_end().to_owned()
    }

    /// Starts the program, its output captured.
    #[must_use]
    pub fn spawn<S: AsRef<OsStr>>(&self, args: &[S]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("starts")
    }

    /// The CIDs that `list` prints.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        self.ok(&["list"]).lines().map(first).collect()
    }
}

/// What a run printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, if it was not killed.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The answer.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Ran {
    /// What became of a process.
    #[must_use]
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Expects exit code 0.
    #[must_use]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Expects an exit code, an error with `text` in it, and a hint.
    pub fn failed(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let has = |label: &str| lines.iter().any(|line| line.starts_with(label));
        assert!(has("Error: "), "no error in {self:#?}");
        assert!(has("Hint: "), "no hint in {self:#?}");
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// The objects that `--json` printed, one a line.
    #[must_use]
    pub fn objects(&self) -> Vec<serde_json::Value> {
        let object = |line| serde_json::from_str(line).expect("a JSON object a line");
        self.stdout.lines().map(object).collect()
    }
}

/// Everything below a directory: paths, and what is there (content, link or directory).
///
/// # Panics
/// It cannot be read.
#[must_use]
pub fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let kind = path.symlink_metadata().expect("metadata").file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "directory".to_owned()
            } else if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("a link").display())
            } else {
                blake3::hash(&fs::read(&path).expect("a file")).to_string()
            };
            let name = path.strip_prefix(root).expect("below the root").to_owned();
            found.insert(name, what);
        }
    }
    found
}

/// `len` bytes that do not compress, the same for the same seed.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out
}

/// Says something that whoever reads the output of a test wants to know.
#[expect(
    clippy::print_stderr,
    reason = "tests tell their seeds and what they did"
)]
pub fn note(text: impl std::fmt::Display) {
    eprintln!("{text}");
}

/// Random numbers, the same for the same seed.
#[derive(Debug)]
pub struct Random(blake3::OutputReader);

impl Random {
    /// From the variable `SOUVERAIN_SEED`, or anew; printed, so that a failure can be repeated.
    ///
    /// # Panics
    /// The variable is not a number.
    #[must_use]
    pub fn printed(name: &str) -> Self {
        let fresh = || {
            let id = format!("{:?}", std::time::Instant::now());
            let hash = blake3::hash(format!("{id} {}", std::process::id()).as_bytes());
            u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
        };
        let seed = std::env::var("SOUVERAIN_SEED").map_or_else(
            |_| fresh(),
            |text| text.parse().expect("SOUVERAIN_SEED is a number"),
        );
        note(format_args!("{name}: SOUVERAIN_SEED={seed}"));
        Self::seeded(name, seed)
    }

    /// From a seed; each name has numbers of its own.
    #[must_use]
    pub fn seeded(name: &str, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(name.as_bytes()).update(&seed.to_le_bytes());
        Self(hasher.finalize_xof())
    }

    /// Below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit.max(1)
    }
}
