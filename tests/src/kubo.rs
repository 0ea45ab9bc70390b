//! A Kubo daemon, built from its module, confined to loopback, with peers that the test names alone.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
};

use tempfile::TempDir;

use crate::go;

/// What keeps a node from speaking with anybody but those it is told.
const CONFINED: &[(&str, &str)] = &[
    (
        "Addresses.Swarm",
        r#"["/ip4/127.0.0.1/tcp/0","/ip4/127.0.0.1/udp/0/quic-v1"]"#,
    ),
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

/// The socket of the RPC, in the repository.
const SOCKET: &str = "rpc.sock";

/// The program, built once.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| go::build("kubo", "github.com/ipfs/kubo/cmd/ipfs", "kubo-0.43.0/ipfs"))
}

/// A daemon; killed when it is dropped.
#[derive(Debug)]
pub struct Kubo {
    repository: TempDir,
    daemon: Mutex<Child>,
    /// What lets one in, if not everybody may.
    auth: Option<String>,
}

impl Kubo {
    /// Starts a daemon with an empty repository.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start() -> Self {
        Self::configured(&[])
    }

    /// Starts one that speaks with those alone who have the key in this file.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start_in_private_network(key: &Path) -> Self {
        Self::start_with(&[], |repository| {
            std::fs::copy(key, repository.join("swarm.key")).expect("copies");
        })
    }

    /// Starts a daemon with an empty repository, further settings (keys and JSON), and its RPC on a socket too.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn configured(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, |_| ())
    }

    /// Starts one whose repository is prepared.
    fn start_with(settings: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Self {
        let repository = tempfile::tempdir().expect("a temporary directory");
        let run = |args: &[&str]| {
            let output = command(repository.path(), args).output().expect("runs");
            assert!(output.status.success(), "{args:?}: {output:?}");
        };
        run(&["init", "--profile=test"]);
        let socket = repository.path().join(SOCKET);
        let api = format!("[\"/ip4/127.0.0.1/tcp/0\",\"/unix{}\"]", socket.display());
        let api = ("Addresses.API", api.as_str());
        for (key, value) in CONFINED.iter().chain([&api]).chain(settings) {
            run(&["config", "--json", key, value]);
        }
        prepare(repository.path());
        let daemon = Mutex::new(daemon(repository.path()));
        Self {
            repository,
            daemon,
            auth: None,
        }
    }

    /// Starts a daemon whose RPC wants a secret, in the form of `API.Authorizations`.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn guarded(secret: &str, paths: &[&str]) -> Self {
        let guest = serde_json::json!({ "AuthSecret": secret, "AllowedPaths": paths });
        let all = serde_json::json!({ "AuthSecret": "bearer:owner", "AllowedPaths": ["/api/v0"] });
        let users = serde_json::json!({ "guest": guest, "owner": all }).to_string();
        let mut kubo = Self::configured(&[("API.Authorizations", &users)]);
        kubo.auth = Some("bearer:owner".to_owned());
        kubo
    }

    /// Kills the daemon, as a crash would.
    ///
    /// # Panics
    /// It has no process.
    pub fn kill(&self) {
        let mut daemon = self.daemon.lock().expect("not poisoned");
        daemon.kill().expect("is killed");
        daemon.wait().expect("ends");
    }

    /// Sends a signal to the daemon.
    ///
    /// # Panics
    /// It has no process.
    pub fn signal(&self, signal: &str) {
        let id = self.daemon.lock().expect("not poisoned").id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("runs").success());
    }

    /// Starts the daemon again after it was killed. Its RPC is at another port then.
    ///
    /// # Panics
    /// It does not get ready.
    pub fn restart(&self) {
        // What a crash leaves of a socket is in the way of the next one.
        let _ = std::fs::remove_file(self.socket());
        *self.daemon.lock().expect("not poisoned") = daemon(self.repository.path());
    }

    /// Where the RPC is, as a multiaddr.
    ///
    /// # Panics
    /// It was never ready.
    #[must_use]
    pub fn api(&self) -> String {
        let file = self.repository.path().join("api");
        std::fs::read_to_string(file)
            .expect("it was ready")
            .trim()
            .to_owned()
    }

    /// Where the RPC is, as an address of TCP.
    ///
    /// # Panics
    /// It was never ready.
    #[must_use]
    pub fn api_socket(&self) -> std::net::SocketAddr {
        let api = self.api();
        let port = api.rsplit('/').next().expect("a port");
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    /// Where its gateway is, as a URL; it has one if it is configured to.
    ///
    /// # Panics
    /// It has none.
    #[must_use]
    pub fn gateway(&self) -> String {
        let file = self.repository.path().join("gateway");
        let url = std::fs::read_to_string(file).expect("it has a gateway");
        url.trim().to_owned()
    }

    /// The socket that its RPC is at, too.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.repository.path().join(SOCKET)
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be run.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = command(self.repository.path(), args);
        if let Some(auth) = &self.auth {
            command.arg(format!("--api-auth={auth}"));
        }
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
        let daemon = self.daemon.get_mut().expect("not poisoned");
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

/// Starts a daemon, and waits until it is ready.
fn daemon(repository: &Path) -> Child {
    let mut daemon = command(repository, &["daemon"])
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
    daemon
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
