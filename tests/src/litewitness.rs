//! A witness that is not ours: torchwood's `litewitness`, built from its Go module, with its key in an `ssh-agent`.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::OnceLock,
    thread::JoinHandle,
};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::go;

/// Base64 of the root of a tree without leaves.
const EMPTY_ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// The program, built once.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        go::build(
            "litewitness",
            "filippo.io/torchwood/cmd/litewitness",
            "litewitness-0.9.0/litewitness",
        )
    })
}

/// A running witness; killed when it is dropped.
#[derive(Debug)]
pub struct Litewitness {
    directory: TempDir,
    agent: Child,
    witness: Child,
    /// Reads what it says, so that it never waits.
    _said: JoinHandle<()>,
    /// What checks its cosignatures.
    pub vkey: String,
    /// Where it is.
    pub url: String,
}

impl Litewitness {
    /// Starts a witness of a name, with a new key, that knows no log yet.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let (socket, key) = (path("agent.sock"), path("key"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status();
        assert!(made.expect("ssh-keygen runs").success());
        let mut agent = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh-agent is installed");
        // It says where it listens when it does.
        let stdout = agent.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("reads");
        let added = Command::new("ssh-add")
            .env("SSH_AUTH_SOCK", &socket)
            .arg("-q")
            .arg(&key)
            .status();
        assert!(added.expect("ssh-add runs").success(), "{line}");
        let printed = Command::new("ssh-keygen").arg("-lf").arg(&key).output();
        let printed = printed.expect("ssh-keygen runs").stdout;
        let printed = String::from_utf8(printed).expect("UTF-8");
        let fingerprint = printed.split(' ').nth(1).expect("a fingerprint");
        let listen = free_address();
        let mut witness = Command::new(program())
            .args(["-name", name, "-key", fingerprint, "-listen", &listen])
            .arg("-db")
            .arg(path("witness.db"))
            .arg("-ssh-agent")
            .arg(&socket)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut said = BufReader::new(witness.stderr.take().expect("piped"));
        let vkey = vkey_of(&mut said);
        let said = std::thread::spawn(move || {
            let _ = std::io::copy(&mut said, &mut std::io::sink());
        });
        let url = format!("http://{listen}");
        while !answers(&listen) {
            let ended = witness.try_wait().expect("can be asked");
            assert!(ended.is_none(), "litewitness does not get ready");
            std::thread::yield_now();
        }
        Self {
            directory,
            agent,
            witness,
            _said: said,
            vkey,
            url,
        }
    }

    /// Tells it of a log, as its `witnessctl add-log` and `add-key` do.
    ///
    /// # Panics
    /// Its database is another.
    pub fn add_log(&self, vkey: &str) {
        let (origin, _) = vkey.split_once('+').expect("a verifier key");
        let database = Connection::open(self.directory.path().join("witness.db")).expect("opens");
        let log = "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)";
        database.execute(log, (origin, EMPTY_ROOT)).expect("adds");
        let key = "INSERT INTO key (origin, key) VALUES (?, ?)";
        database.execute(key, (origin, vkey)).expect("adds");
    }

    /// A policy whose quorum is this witness, in a file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_policy(&self, path: &Path, log: &str) {
        let (vkey, url) = (&self.vkey, &self.url);
        let policy = format!("log {log}\nwitness lite {vkey} {url}\nquorum lite\n");
        fs::write(path, policy).expect("writes");
    }
}

impl Drop for Litewitness {
    fn drop(&mut self) {
        for child in [&mut self.witness, &mut self.agent] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address on loopback that nobody listens on.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("an address").to_string()
}

fn answers(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

/// The key that it says it has.
fn vkey_of(said: &mut BufReader<ChildStderr>) -> String {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        let read = said.read_line(&mut line).expect("reads");
        if let Some((_, vkey)) = line.split_once("vkey=") {
            return vkey.trim().trim_matches('"').to_owned();
        }
        all.push_str(&line);
        if read == 0 {
            let _ = said.read_to_string(&mut all);
            panic!("litewitness does not start: {all}");
        }
    }
}
