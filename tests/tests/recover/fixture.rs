//! A snapshot made with stock tools alone, and an environment that holds nothing else.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use protocol::{
    block::{raw_cid, sha256},
    recover::{RECOVER_SH, RECOVER_SH_NAME},
};

/// A stream to be sealed: the file it goes to, its kind, and its pieces.
pub(crate) struct Stream<'a> {
    pub(crate) file: &'a str,
    pub(crate) source: u32,
    pub(crate) kind: &'a str,
    pub(crate) pieces: Vec<Vec<u8>>,
}

/// A snapshot's folder, and the keys beside it.
pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    class: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path();
        fs::create_dir(path.join("snapshot")).expect("made");
        fs::write(path.join("snapshot").join(RECOVER_SH_NAME), RECOVER_SH).expect("written");
        run("age-keygen", &["-o", "mine.txt"], path, b"");
        let ids = run("age-keygen", &[], path, b"");
        let key = String::from_utf8(ids).expect("ASCII");
        let key = key.lines().last().expect("a key").to_owned();
        let ids = format!("# souverain capsule 1\n# class portable epoch 1\n{key}\n");
        fs::write(path.join("ids.txt"), ids).expect("written");
        let class = run("age-keygen", &["-y", "ids.txt"], path, b"");
        let class = String::from_utf8(class).expect("ASCII").trim().to_owned();
        let fixture = Self { root, class };
        fixture.capsule("mine.txt");
        fixture
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(name)
    }

    /// Seals the class identities to an identity of ours.
    pub(crate) fn capsule(&self, identity: &str) {
        let args = [
            "-e",
            "-i",
            identity,
            "-o",
            "snapshot/capsule.age",
            "ids.txt",
        ];
        run("age", &args, self.root.path(), b"");
    }

    /// Compresses, pads if asked to, and encrypts to the class.
    pub(crate) fn seal(&self, plain: &[u8], padding: usize) -> Vec<u8> {
        let mut framed = run("zstd", &["-q", "-c"], self.root.path(), plain);
        if padding > 0 {
            framed.extend_from_slice(&0x184D_2A50u32.to_le_bytes());
            framed.extend_from_slice(&u32::try_from(padding).expect("small").to_le_bytes());
            framed.resize(framed.len() + padding, 0);
        }
        run("age", &["-e", "-r", &self.class], self.root.path(), &framed)
    }

    /// Writes sealed bytes under `s/`, and returns their CID.
    pub(crate) fn put(&self, sealed: &[u8]) -> String {
        let cid = raw_cid(&sha256(sealed)).to_string();
        let path = self.object(&cid);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, sealed).expect("written");
        cid
    }

    pub(crate) fn object(&self, cid: &str) -> PathBuf {
        let fan = &cid[cid.len() - 2..];
        self.path("snapshot/s").join(fan).join(cid)
    }

    /// Seals the streams, at most two segments a list; returns the manifest, not yet sealed.
    pub(crate) fn streams(&self, streams: &[Stream<'_>]) -> String {
        let mut manifest = concat!(
            "souverain manifest 1\n",
            "snapshot {\"created\":\"2026-01-02T03:04:05Z\",\"mode\":\"portable\"}\n",
            "source {\"engine\":\"tree\",\"name\":\"my photos\"}\n",
            "source {\"engine\":\"sqlite\",\"name\":\"shop\"}\n",
            "source {\"engine\":\"postgres\",\"name\":\"crm\"}\n",
        )
        .to_owned();
        for (number, stream) in streams.iter().enumerate() {
            let bytes: usize = stream.pieces.iter().map(Vec::len).sum();
            // The name tries to look like the field that the script searches for.
            manifest.push_str(&format!(
                "stream {number} {} {{\"source\":{},\"kind\":\"{}\",\"name\":\"\\\"bytes\\\":7, \\\\\",\
                 \"head\":0,\"tail\":0,\"bytes\":{bytes},\"content\":\"00\"}}\n",
                stream.file, stream.source, stream.kind
            ));
            for pieces in stream.pieces.chunks(2) {
                manifest.push_str(&self.list(pieces));
            }
        }
        manifest
    }

    fn list(&self, pieces: &[Vec<u8>]) -> String {
        let line = |piece: &Vec<u8>| {
            let cid = self.put(&self.seal(piece, 100));
            let rows = piece.iter().filter(|&&b| b == b'\n').count();
            format!("{cid} {} {rows} {}\n", piece.len(), "ab".repeat(32))
        };
        let text: String = pieces.iter().map(line).collect();
        let cid = self.put(&self.seal(text.as_bytes(), 0));
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        format!("list {cid} {} {} {bytes}\n", text.len(), pieces.len())
    }

    pub(crate) fn manifest(&self, text: &str) {
        let sealed = self.seal(text.as_bytes(), 9);
        fs::write(self.path("snapshot/manifest.age"), sealed).expect("written");
    }

    /// CIDs of all segments of a stream, or of its lists if `lists`, in order.
    pub(crate) fn cids(&self, manifest: &str, stream: usize, lists: bool) -> Vec<String> {
        let start = manifest.find(&format!("stream {stream} ")).expect("there");
        let lines = manifest[start..].lines().skip(1);
        let list_cids = lines
            .take_while(|line| line.starts_with("list "))
            .map(|line| line.split(' ').nth(1).expect("a CID").to_owned());
        if lists {
            return list_cids.collect();
        }
        let open = |cid: String| {
            let sealed = fs::read(self.object(&cid)).expect("read");
            let framed = run("age", &["-d", "-i", "ids.txt"], self.root.path(), &sealed);
            run("zstd", &["-q", "-d", "-c"], self.root.path(), &framed)
        };
        let first = |line: &str| line.split(' ').next().expect("a CID").to_owned();
        list_cids
            .flat_map(|cid| {
                let text = String::from_utf8(open(cid)).expect("ASCII");
                text.lines().map(first).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Runs `recover.sh` in an empty environment, in the snapshot's folder.
    pub(crate) fn recover(&self, shell: &Shell, args: &[&str]) -> Output {
        shell.run(&self.path("snapshot"), args)
    }

    pub(crate) fn restored(&self, name: &str) -> Vec<u8> {
        let path = self.path("out").join(name);
        fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
    }
}

/// A shell, and a `PATH` that holds it, coreutils, age and zstd: nothing else.
pub(crate) struct Shell {
    path: tempfile::TempDir,
    pub(crate) temporary: tempfile::TempDir,
}

/// The coreutils that a script may use.
const COREUTILS: [&str; 24] = [
    "base64",
    "basename",
    "cat",
    "chmod",
    "cp",
    "cut",
    "dirname",
    "env",
    "head",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "od",
    "printf",
    "rm",
    "sha256sum",
    "sort",
    "sync",
    "tail",
    "tee",
    "tr",
    "uniq",
    "wc",
];

impl Shell {
    pub(crate) fn dash() -> Self {
        Self::new(&program("dash"), None)
    }

    pub(crate) fn bash() -> Self {
        Self::new(&program("bash"), None)
    }

    /// The shell and the small tools of busybox.
    pub(crate) fn busybox() -> Self {
        let busybox = program("busybox");
        Self::new(&busybox, Some(&busybox))
    }

    fn new(shell: &Path, tools: Option<&Path>) -> Self {
        let path = tempfile::tempdir().expect("temporary directory");
        let link = |target: &Path, name: &str| symlink(target, path.path().join(name));
        link(shell, "sh").expect("linked");
        for tool in COREUTILS {
            link(tools.unwrap_or(&program(tool)), tool).expect("linked");
        }
        for tool in ["age", "zstd"] {
            link(&program(tool), tool).expect("linked");
        }
        let temporary = tempfile::tempdir().expect("temporary directory");
        Self { path, temporary }
    }

    /// Takes a tool away.
    pub(crate) fn without(self, tool: &str) -> Self {
        fs::remove_file(self.path.path().join(tool)).expect("removed");
        self
    }

    pub(crate) fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(self.path.path().join("sh"));
        command
            .env_clear()
            .env("PATH", self.path.path())
            .env("TMPDIR", self.temporary.path())
            .current_dir(folder)
            .arg(RECOVER_SH_NAME);
        command
    }

    pub(crate) fn run(&self, folder: &Path, args: &[&str]) -> Output {
        let output = self.command(folder).args(args).output().expect("runs");
        let left = fs::read_dir(self.temporary.path()).expect("read").count();
        assert_eq!(left, 0, "secrets are left behind");
        output
    }
}

/// Where a program that the tests need is.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("PATH");
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed: run tests/run, or apt install it"))
}

/// Runs a program to success, and returns what it wrote.
pub(crate) fn run(name: &str, args: &[&str], folder: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program(name))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().expect("ends")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {stderr}");
    output.stdout
}
