//! What is sealed here opens with age, and what age seals opens here: Go age 1.3.1, built from
//! its module, and the age of the system.

use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use agent::keys::{Identities, RecipientSealError, RecipientSet, Silent};
use protocol::{
    keys::{
        ClassIdentity, KeyKind,
        capsule::{Capsule, Epoch, Mode},
    },
    seal::{LEVEL_DEFAULT, Opener, Sealer},
};

const PIECE: &[u8] = b"1\tone\n2\ttwo\n";
const EPOCH: Epoch = Epoch {
    class: Mode::Portable,
    number: 1,
};
const PASSPHRASE: &str = "correct horse battery staple";

/// The directory with the programs of age 1.3.1, and a plugin.
fn go_age() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("age-1.3.1");
        std::fs::create_dir_all(&directory).expect("makes the directory");
        let status = Command::new("go")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("go/age"))
            .env("GOFLAGS", "-mod=readonly")
            .args(["build", "-o"])
            .arg(&directory)
            .args(
                ["age", "age-keygen", "age-plugin-batchpass"]
                    .map(|c| format!("filippo.io/age/cmd/{c}")),
            )
            .arg("./age-plugin-probe")
            .status()
            .expect("Go, 1.24 or later, is installed");
        assert!(status.success(), "age 1.3.1 does not build");
        directory
    })
}

/// Runs a program to its end, and returns what it wrote.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("takes its input");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
    output.stdout
}

/// An age, and a directory for its files.
struct Age {
    program: PathBuf,
    directory: tempfile::TempDir,
}

impl Age {
    fn go() -> Self {
        Self::of(go_age().join("age"))
    }

    fn of_the_system() -> Self {
        Self::of("age".into())
    }

    fn of(program: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        Self { program, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("writes");
        path
    }

    /// Makes a key; returns the identity file and the recipient.
    fn keygen(&self, arguments: &[&str]) -> (PathBuf, String) {
        let path = self.path(&format!("identity{}.txt", arguments.concat()));
        let program = self.program.with_file_name("age-keygen");
        run(
            Command::new(&program).args(arguments).arg("-o").arg(&path),
            b"",
        );
        let recipient = run(Command::new(&program).arg("-y").arg(&path), b"");
        let recipient = String::from_utf8(recipient).expect("ASCII");
        (path, recipient.trim_end().to_owned())
    }

    fn encrypt(&self, recipient: &str, plain: &[u8]) -> Vec<u8> {
        run(Command::new(&self.program).args(["-r", recipient]), plain)
    }

    fn decrypt(&self, identity: &Path, sealed: &[u8]) -> Vec<u8> {
        run(
            Command::new(&self.program)
                .arg("-d")
                .arg("-i")
                .arg(identity),
            sealed,
        )
    }

    /// Runs age on a terminal of its own, where it asks for passphrases.
    fn on_a_terminal(&self, arguments: &str, typed: &str) {
        let command = format!("{} {arguments}", self.program.display());
        run(
            Command::new("script")
                .current_dir(self.directory.path())
                .args(["-qec", &command, "/dev/null"]),
            typed.as_bytes(),
        );
    }

    /// Everything that a snapshot needs of age, there and back, for one key.
    fn round_trip(&self, identity: &Path, recipient: &str) {
        let set = RecipientSet::parse(&[recipient]).expect("a recipient");
        let kind = set.kind().expect("known");
        let identities = Identities::load(&[identity], None, Arc::new(Silent)).expect("loads");
        let class = ClassIdentity::generate(kind);
        let public = class.to_public();

        // The capsule, there: it is an identities file that age takes.
        let sealed = set.seal(&capsule(&class), kind).expect("seals");
        let text = self.decrypt(identity, sealed.bytes());
        let ids = self.write("ids.txt", &text);
        // And back.
        let theirs = self.encrypt(recipient, &text);
        let opened = Capsule::open(identities.iter(), &theirs).expect("opens");
        let found = opened.identity(EPOCH).expect("the identity").to_public();
        assert_eq!(found, public);

        // A segment, there: one zstd frame, padded.
        let mut sealer = Sealer::new(Box::new(public.clone()), LEVEL_DEFAULT, true).expect("zstd");
        let segment = sealer.seal(PIECE).expect("seals");
        let framed = self.decrypt(&ids, segment.bytes());
        assert_eq!(run(Command::new("zstd").arg("-dcq"), &framed), PIECE);
        // And back. Of a file zstd knows the size, which the frame must state.
        let piece = self.write("piece", PIECE);
        let framed = run(Command::new("zstd").arg("-cq").arg(piece), b"");
        let theirs = self.encrypt(&public.to_string(), &framed);
        let classes = [class];
        let mut opener = Opener::new(&classes).expect("zstd");
        assert_eq!(opener.open(&theirs, PIECE.len()).expect("opens"), PIECE);
    }
}

fn capsule(class: &ClassIdentity) -> Capsule {
    let mut capsule = Capsule::default();
    capsule.insert(EPOCH, class.clone());
    capsule
}

fn x25519_capsule() -> Capsule {
    capsule(&ClassIdentity::generate(KeyKind::X25519))
}

/// A committed SSH key: private file and public line.
fn ssh(name: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors/age")
        .join(name);
    let public = std::fs::read_to_string(path.with_extension("pub")).expect("reads");
    (path, public)
}

#[test]
fn hybrid_keys_go_both_ways_with_go_age() {
    let age = Age::go();
    let (identity, recipient) = age.keygen(&["-pq"]);
    age.round_trip(&identity, &recipient);
}

#[test]
fn x25519_keys_go_both_ways() {
    for age in [Age::go(), Age::of_the_system()] {
        let (identity, recipient) = age.keygen(&[]);
        age.round_trip(&identity, &recipient);
    }
}

#[test]
fn ssh_keys_go_both_ways() {
    for age in [Age::go(), Age::of_the_system()] {
        for name in ["ssh-ed25519", "ssh-rsa"] {
            let (identity, recipient) = ssh(name);
            age.round_trip(&identity, recipient.trim_end());
        }
    }
}

#[test]
fn each_of_several_recipients_opens() {
    let age = Age::of_the_system();
    let (native, recipient) = age.keygen(&[]);
    let keys = [ssh("ssh-ed25519"), ssh("ssh-rsa"), (native, recipient)];
    let strings: Vec<&String> = keys.iter().map(|(_, recipient)| recipient).collect();
    let set = RecipientSet::parse(&strings).expect("recipients");
    let sealed = set.seal(&x25519_capsule(), KeyKind::X25519).expect("seals");
    for (identity, _) in &keys {
        let text = age.decrypt(identity, sealed.bytes());
        Capsule::parse(&text).expect("a capsule");
    }
}

#[test]
fn passphrases_go_both_ways_with_go_age() {
    let age = Age::go();
    let batch = |arguments: [&str; 3], input: &[u8]| {
        let path = with_path(age.program.parent().expect("a directory"));
        let mut command = Command::new(&age.program);
        let command = command.args(arguments).env("PATH", path);
        run(command.env("AGE_PASSPHRASE", PASSPHRASE), input)
    };
    let set = RecipientSet::passphrase(PASSPHRASE.into());
    let sealed = set.seal(&x25519_capsule(), KeyKind::X25519).expect("seals");
    let text = batch(["-d", "-j", "batchpass"], sealed.bytes());
    Capsule::parse(&text).expect("a capsule");
    let theirs = batch(["-e", "-j", "batchpass"], &text);
    let identities = Identities::passphrase(PASSPHRASE.into());
    Capsule::open(identities.iter(), &theirs).expect("opens");
}

#[test]
fn passphrases_go_both_ways_with_the_age_of_the_system() {
    let age = Age::of_the_system();
    let once = format!("{PASSPHRASE}\n");
    let set = RecipientSet::passphrase(PASSPHRASE.into());
    let sealed = set.seal(&x25519_capsule(), KeyKind::X25519).expect("seals");
    age.write("capsule.age", sealed.bytes());
    age.on_a_terminal("-d -o ids.txt capsule.age", &once);
    let text = std::fs::read(age.path("ids.txt")).expect("reads");
    Capsule::parse(&text).expect("a capsule");
    age.on_a_terminal("-p -o theirs.age ids.txt", &once.repeat(2));
    let theirs = std::fs::read(age.path("theirs.age")).expect("reads");
    let identities = Identities::passphrase(PASSPHRASE.into());
    Capsule::open(identities.iter(), &theirs).expect("opens");
}

#[test]
fn takes_identity_files_that_age_encrypted() {
    let age = Age::of_the_system();
    let (_, recipient) = age.keygen(&[]);
    let typed = format!("{PASSPHRASE}\n").repeat(2);
    age.on_a_terminal("-p -a -o encrypted.txt identity.txt", &typed);
    let files = [age.path("encrypted.txt")];
    let identities = Identities::load(&files, Some(PASSPHRASE.into()), Arc::new(Silent));
    let identities = identities.expect("loads");
    let set = RecipientSet::parse(&[recipient]).expect("a recipient");
    let sealed = set.seal(&x25519_capsule(), KeyKind::X25519).expect("seals");
    Capsule::open(identities.iter(), sealed.bytes()).expect("opens");
}

/// Plugins are found in PATH, which a process cannot change for itself: the test runs itself
/// again, with the plugin in it.
#[test]
fn plugins_seal_and_open() {
    const AGAIN: &str = "SOUVERAIN_TEST_WITH_PLUGIN";
    if std::env::var_os(AGAIN).is_some() {
        return with_plugin();
    }
    let output = run(
        Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "plugins_seal_and_open"])
            .env("PATH", with_path(go_age()))
            .env(AGAIN, "1"),
        b"",
    );
    let output = String::from_utf8_lossy(&output);
    assert!(output.contains("test result: ok. 1 passed"), "{output}");
}

fn with_path(first: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("no colon in it")
}

fn with_plugin() {
    let age = Age::go();
    let weak = plugin_key(&age, &["-generate"]);
    let strong = plugin_key(&age, &["-generate", "-pq"]);
    let (_, native) = age.keygen(&["-pq"]);
    for (kind, (identity, recipient)) in [(KeyKind::X25519, &weak), (KeyKind::Hybrid, &strong)] {
        let set = RecipientSet::parse(&[recipient]).expect("a recipient");
        assert_eq!(set.kind(), None);
        let class = ClassIdentity::generate(kind);
        let sealed = set.seal(&capsule(&class), kind).expect("seals");
        let identities = Identities::load(&[identity], None, Arc::new(Silent)).expect("loads");
        Capsule::open(identities.iter(), sealed.bytes()).expect("opens");
        Capsule::parse(&age.decrypt(identity, sealed.bytes())).expect("a capsule");
    }
    // What a plugin says of its protection counts, beside others and alone.
    let class = ClassIdentity::generate(KeyKind::Hybrid);
    let seal = |recipients: &[&String]| {
        let set = RecipientSet::parse(recipients).expect("recipients");
        set.seal(&capsule(&class), KeyKind::Hybrid)
    };
    seal(&[&strong.1, &native]).expect("both are post-quantum");
    for refused in [&[&weak.1][..], &[&weak.1, &native], &[&weak.1, &strong.1]] {
        assert!(matches!(seal(refused), Err(RecipientSealError::Seal(_))));
    }
}

/// An identity file of the plugin, and its recipient.
fn plugin_key(age: &Age, arguments: &[&str]) -> (PathBuf, String) {
    let lines = run(
        Command::new("age-plugin-probe").args(arguments.iter().map(OsStr::new)),
        b"",
    );
    let lines = String::from_utf8(lines).expect("ASCII");
    let (identity, recipient) = lines.trim_end().split_once('\n').expect("two lines");
    let path = age.write(
        &format!("plugin{}.txt", arguments.len()),
        identity.as_bytes(),
    );
    (path, recipient.to_owned())
}
