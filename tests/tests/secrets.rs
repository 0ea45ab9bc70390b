//! Secrets stay where they belong: never printed, never logged, never published, and readable by
//! the owner alone.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use rusqlite::Connection;
use souverain_tests::{
    program::{Ran, Sandbox},
    running::Running,
};

const PASSPHRASE: &str = "correct-horse-battery-staple";
const PASSWORD: &str = "Pg-s3cret-p4ssword";
const NAME: &str = "Wilhelmina-Quetzalcoatl";

struct Watched {
    sandbox: Sandbox,
    secrets: Vec<String>,
}

impl Watched {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let identity = fs::read_to_string(sandbox.home().join("identity.txt")).expect("reads");
        let key = identity
            .lines()
            .find(|line| line.starts_with("AGE-SECRET-KEY-"));
        let mut secrets = vec![key.expect("a key").to_owned()];
        secrets.extend([PASSPHRASE, PASSWORD].map(str::to_owned));
        Self { sandbox, secrets }
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    /// Runs with every log there is, and looks at all that was said.
    fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut last = None;
        for verbose in [true, false] {
            let mut command = self.sandbox.command(args);
            if verbose {
                command.arg("-vvv");
            } else {
                command.env("SOUVERAIN_LOG", "trace");
            }
            command.envs(variables.iter().copied());
            let ran = Ran::of(command.output().expect("runs"));
            for said in [&ran.stdout, &ran.stderr] {
                for secret in &self.secrets {
                    assert!(!said.contains(secret), "{args:?} says {secret}: {said}");
                }
                // Keys of classes are not known here; a hint may say how keys begin.
                for part in said.split("AGE-SECRET-KEY-").skip(1) {
                    let key = part.bytes().take_while(u8::is_ascii_alphanumeric).count();
                    assert!(key < 8, "{args:?} says a key: {said}");
                }
            }
            last = Some(ran);
            if args[0] != "export" {
                break;
            }
        }
        last.expect("ran")
    }
}

fn make_database(path: &Path) {
    let database = Connection::open(path).expect("opens");
    let sql = format!("CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('{NAME}')");
    database.execute_batch(&sql).expect("creates");
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|part| part == needle.as_bytes())
}

fn assert_private(path: &Path) {
    let metadata = path.symlink_metadata().expect("metadata");
    let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // sled's own, without values, and in a directory that is the owner's alone.
    if name.starts_with("snap.") {
        return;
    }
    let mode = metadata.permissions().mode() & 0o7777;
    assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("reads") {
            assert_private(&entry.expect("an entry").path());
        }
    }
}

#[test]
fn nothing_secret_is_said_published_or_readable() {
    let watched = Watched::new();
    let sandbox = &watched.sandbox;
    make_database(&sandbox.path("people.sqlite"));
    fs::create_dir(sandbox.path("letters-to")).expect("creates");
    fs::write(
        sandbox.path(&format!("letters-to/{NAME}.txt")),
        NAME.repeat(9),
    )
    .expect("writes");
    fs::write(sandbox.path("passphrase"), format!("{PASSPHRASE}\n")).expect("writes");
    let sources = ["sqlite:people.sqlite", "letters-to"];
    let mut cids = Vec::new();
    for extra in [
        &[][..],
        &["--mode", "erasable"],
        &["--passphrase-file", "passphrase"],
        &["--post-quantum"],
        &["--dry-run"],
    ] {
        let args: Vec<&str> = ["export"]
            .iter()
            .chain(&sources)
            .chain(extra)
            .copied()
            .collect();
        let ran = watched.run(&args);
        if extra.contains(&"--post-quantum") {
            continue;
        }
        let ran = ran.succeeded();
        assert!(!ran.stderr.is_empty(), "nothing is logged: {args:?}");
        cids.push(ran.stdout.trim().to_owned());
    }
    cids.pop();
    let with_passphrase = [("SOUVERAIN_PASSPHRASE", PASSPHRASE)];
    for cid in &cids {
        for args in [&["show", cid][..], &["verify", cid], &["diff", cid, cid]] {
            let _ = watched.run_with(args, &with_passphrase).succeeded();
            let _ = watched.run_with(args, &[("SOUVERAIN_PASSPHRASE", "wrong")]);
        }
        let _ = watched
            .run_with(&["import", cid, "--into", cid], &with_passphrase)
            .succeeded();
        let car = format!("{cid}.car");
        let _ = watched.run(&["car", "export", cid, &car]).succeeded();
        let published = fs::read(sandbox.path(&car)).expect("reads");
        for marker in [NAME, "people", "letters-to", "CREATE TABLE"] {
            assert!(!contains(&published, marker), "{marker} is published");
        }
    }
    failures(&watched, &cids[0]);
    assert_private(&sandbox.home());
}

#[test]
fn no_variable_makes_a_node_write_down_the_secrets_of_its_connections() {
    let source = Sandbox::new();
    fs::write(source.path("text"), "sealed").expect("writes");
    let root = source.ok(&["export", "text"]);
    source.ok(&["share", &root, "--with", "public"]);
    let server = Running::start(&source, &[]);
    for address in &server.addresses {
        let target = Sandbox::new();
        let secrets = target.path("secrets");
        let mut command = target.command(&["pull", &root, "--peer", address]);
        command.env("SSLKEYLOGFILE", &secrets);
        let ran = Ran::of(command.output().expect("runs"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(!secrets.exists(), "{address}");
    }
    server.stop();
}

fn failures(watched: &Watched, cid: &str) {
    let identity = fs::read(watched.sandbox.home().join("identity.txt")).expect("reads");
    let mut broken = identity.clone();
    broken.extend_from_slice(b"AGE-SECRET-KEY-1BROKEN\n");
    fs::write(watched.sandbox.path("broken"), broken).expect("writes");
    fs::write(watched.sandbox.path("cut"), &identity[..identity.len() - 5]).expect("writes");
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/shop");
    let other = format!("postgres://127.0.0.1:1/shop?user=me&password={PASSWORD}");
    let malformed = format!("postgres://me:{PASSWORD}@127.0.0.1:port/shop");
    let key = watched.secrets[0].clone();
    let cases: &[&[&str]] = &[
        &["import", cid, "--into", "t", "-i", "broken"],
        &["import", cid, "--into", "t", "-i", "cut"],
        &["show", cid, "-i", "broken"],
        &["export", &url],
        &["export", &other],
        &["export", &malformed],
        &["import", cid, "--source", "people", "--into", &url],
        &["import", cid, "--source", "people", "--into", &other],
        &["import", cid, "--source", "people", "--into", &malformed],
        &["export", "letters-to", "--to", &key],
        &["recipients", "add", cid, &key],
        &["export", "letters-to", "--to", "broken"],
    ];
    for args in cases {
        let ran = watched.run_with(args, &[("PGPASSWORD", PASSWORD)]);
        assert!(matches!(ran.code, Some(1..=3)), "{args:?}: {ran:#?}");
    }
}
