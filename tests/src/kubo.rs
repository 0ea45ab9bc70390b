//! A Kubo daemon, built from its module, confined to loopback, with peers that the test names alone.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

/// What keeps a node from speaking with anybody but those it is told.
const CONFINED: &[(&str, &str)] = &[
    (
        "Addresses.Swarm",
        r#"["/ip4/127.0.0.1/tcp/0","/ip4/127.0.0.1/udp/0/quic-v1"]"#,
    ),
    ("Addresses.API", r#""/ip4/127.0.0.1/tcp/0""#),
    ("Addresses.Gateway", "[]"),
    ("AutoConf.Enabled", "false"),
    ("AutoNAT.ServiceMode", r#""disabled""#),
    ("Bootstrap", "[]"),
    ("DNS.Resolvers", "{}"),
    ("Discovery.MDNS.Enabled", "false"),
    ("Ipns.DelegatedPublishers", "[]"),
    ("Provide.Enabled", "false"),
    ("Routing.DelegatedRouters", "[]"),
    ("Routing.Type", r#""none""#),
    ("Swarm.RelayClient.Enabled", "false"),
    ("Swarm.RelayService.Enabled", "false"),
];

/// The program, built once.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let test = std::env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let program = target.join("tools/kubo-0.43.0/ipfs");
        let status = Command::new("go")
            .current_dir(manifest.join("go/kubo"))
            .env("GOFLAGS", "-mod=readonly")
            .args(["build", "-o"])
            .arg(&program)
            .arg("github.com/ipfs/kubo/cmd/ipfs")
            .status()
            .expect("Go, 1.26.5 or later, is installed");
        assert!(status.success(), "Kubo 0.43.0 does not build");
        program
    })
}

/// A running daemon; killed when it is dropped.
#[derive(Debug)]
pub struct Kubo {
    repository: TempDir,
    daemon: Child,
}

impl Kubo {
    /// Starts a daemon with an empty repository.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts one that speaks with those alone who have the key in this file.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start_in_private_network(key: &Path) -> Self {
        Self::start_with(|repository| {
            std::fs::copy(key, repository.join("swarm.key")).expect("copies");
        })
    }

    /// Starts one whose repository is prepared.
    fn start_with(prepare: impl FnOnce(&Path)) -> Self {
        let repository = tempfile::tempdir().expect("a temporary directory");
        let run = |args: &[&str]| {
            let output = command(repository.path(), args).output().expect("runs");
            assert!(output.status.success(), "{args:?}: {output:?}");
        };
        run(&["init", "--profile=test"]);
        for (key, value) in CONFINED {
            run(&["config", "--json", key, value]);
        }
        prepare(repository.path());
        let mut daemon = command(repository.path(), &["daemon"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(daemon.stdout.take().expect("piped")).lines();
        let is_ready =
            |line: std::io::Result<String>| line.is_ok_and(|line| line.contains("Daemon is ready"));
        assert!(lines.any(is_ready), "Kubo does not get ready");
        // The rest must be read, or the daemon would wait for it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { repository, daemon }
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = command(self.repository.path(), args);
        command.output().expect("runs")
    }

    /// Runs a command, expects it to work, and gives standard output without its last newline.
    ///
    /// # Panics
    /// It fails.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    /// Where it listens, over TCP or QUIC.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn address(&self, part: &str) -> String {
        let all = self.ok(&["id", "-f", "<addrs>"]);
        let found = all
            .lines()
            .find(|line| line.contains(part) && !line.contains("webtransport"));
        found.expect("it listens there").to_owned()
    }
}

impl Drop for Kubo {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn command(repository: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .env_clear()
        .env("IPFS_PATH", repository)
        .env("HOME", repository)
        .env("IPFS_TELEMETRY", "off")
        .stdin(Stdio::null())
        .args(args);
    command
}
