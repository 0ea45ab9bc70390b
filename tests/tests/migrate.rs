//! Migrations between live nodes: restored as they arrive, read back, stated and signed.

use std::{fs, process::Command};

use serde_json::Value;
use souverain_tests::{
    program::{Sandbox, noise, tree},
    running::Running,
};

/// A home with a folder, a single file and a database exported, and its running agent.
struct Source {
    home: Sandbox,
    root: String,
    agent: Running,
}

impl Source {
    fn new() -> Self {
        let home = Sandbox::new();
        fs::create_dir_all(home.path("files/deep")).expect("creates");
        fs::write(home.path("files/deep/noise"), noise(5, 3 << 20)).expect("writes");
        fs::write(home.path("files/text"), "text").expect("writes");
        std::os::unix::fs::symlink("text", home.path("files/link")).expect("links");
        fs::write(home.path("alone.bin"), noise(6, 700_000)).expect("writes");
        database(&home.path("shop.sqlite"));
        let sources = ["files", "alone.bin", "sqlite:shop.sqlite"];
        let root = home.ok(&[&["export"], &sources[..]].concat());
        home.ok(&["share", &root, "--with", "public"]);
        let agent = Running::start(&home, &[]);
        Self { home, root, agent }
    }

    fn identity(&self) -> String {
        let path = self.home.home().join("identity.txt");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn args<'a>(&'a self, verb: &'a str, identity: &'a str) -> Vec<&'a str> {
        let peer = self.agent.tcp();
        vec![verb, &self.root, "--peer", peer, "--identity", identity]
    }
}

fn database(path: &std::path::Path) {
    let database = rusqlite::Connection::open(path).expect("opens");
    let sql = "CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT);
        CREATE TABLE \"empty one\" (a, b);
        CREATE INDEX by_what ON orders (what);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO orders SELECT i, hex(i * 7919) || printf('%.*c', i % 90, 'x') FROM n;";
    database.execute_batch(sql).expect("runs");
}

fn rows(path: &std::path::Path) -> Vec<(i64, String)> {
    let database = rusqlite::Connection::open(path).expect("opens");
    let mut statement = database
        .prepare("SELECT id, what FROM orders ORDER BY id")
        .expect("SQL");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.expect("runs").collect::<Result<_, _>>().expect("rows")
}

/// The objects of a type.
fn of_type(objects: &[Value], kind: &str) -> Vec<Value> {
    objects
        .iter()
        .filter(|o| o["type"] == kind)
        .cloned()
        .collect()
}

#[test]
fn everything_is_migrated_and_both_sides_are_stated_to_be_the_same() {
    let source = Source::new();
    let target = Sandbox::new();
    let identity = source.identity();
    let mut args = source.args("migrate", &identity);
    args.extend(["--into", "back"]);

    let would = target
        .run(&[&args[..], &["--dry-run", "--json"]].concat())
        .succeeded();
    assert_eq!(of_type(&would.objects(), "would_restore").len(), 6);
    assert!(!target.path("back").exists());
    assert!(
        target.listed().is_empty(),
        "only what describes it was fetched"
    );

    args.extend(["--statement", "statement"]);
    let done = target
        .run(&[&args[..], &["--json"]].concat())
        .succeeded()
        .objects();
    let migrated = &of_type(&done, "migrated")[0];
    assert_eq!(migrated["same"], true, "{migrated}");
    assert_eq!(of_type(&done, "restored").len(), 6);
    assert_eq!(
        tree(&target.path("back/files")),
        tree(&source.home.path("files"))
    );
    let alone = target.path("back/alone.bin");
    assert_eq!(
        fs::read(alone.join("alone.bin")).expect("reads"),
        noise(6, 700_000)
    );
    let database = rows(&target.path("back/shop.sqlite"));
    assert_eq!(database, rows(&source.home.path("shop.sqlite")));
    assert_eq!(
        target.listed(),
        std::slice::from_ref(&source.root),
        "the snapshot is kept whole"
    );
    target.ok(&["verify", &source.root, "--keyless"]);

    let statement = fs::read_to_string(target.path("statement")).expect("reads");
    assert_eq!(migrated["statement"], statement);
    let stated = Sandbox::empty().run(&[
        "verify",
        "--json",
        target.path("statement").to_str().expect("UTF-8"),
    ]);
    let stated = &stated.succeeded().objects()[0];
    assert_eq!(
        (&stated["cid"], &stated["streams"]),
        (&source.root.clone().into(), &6.into())
    );
    fs::write(
        target.path("forged"),
        statement.replace("\"rows\":20000", "\"rows\":20001"),
    )
    .expect("writes");
    target.run(&["verify", "forged"]).failed(3, "is wrong");
    source.agent.stop();
}

#[test]
fn a_statement_is_a_note_that_go_verifies() {
    let source = Source::new();
    let target = Sandbox::new();
    let identity = source.identity();
    let mut args = source.args("migrate", &identity);
    args.extend(["--source", "alone.bin", "--into", "back"]);
    let note = target.run(&args).succeeded().stdout;
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(target.path("note"), &note).expect("writes");
    let output = Command::new("go")
        .current_dir(manifest.join("go/note"))
        .env("GOFLAGS", "-mod=readonly")
        .args(["run", ".", target.path("note").to_str().expect("UTF-8")])
        .output()
        .expect("Go is installed");
    assert!(output.status.success(), "{output:?}");
    let verified = String::from_utf8_lossy(&output.stdout);
    assert!(
        verified.starts_with("souverain migration 1\n"),
        "{verified}"
    );
    source.agent.stop();
}

#[test]
fn one_table_is_pulled_alone_and_imported_later() {
    let source = Source::new();
    let target = Sandbox::new();
    let identity = source.identity();
    let mut args = source.args("pull", &identity);
    args.extend(["--stream", "orders", "--json"]);
    let pulled = target.run(&args).succeeded().objects().remove(0);
    let bytes = pulled["bytes"].as_u64().expect("a number");
    assert!((1..1 << 20).contains(&bytes), "{bytes} of more than 3 MiB");
    source.agent.stop();
    assert!(target.listed().is_empty(), "it is not whole");
    let import = [
        "import",
        &source.root,
        "--identity",
        &identity,
        "--stream",
        "orders",
    ];
    target.ok(&[&import[..], &["--into", "sqlite:one.sqlite"]].concat());
    assert_eq!(
        rows(&target.path("one.sqlite")),
        rows(&source.home.path("shop.sqlite"))
    );
    let files = [
        "import",
        &source.root,
        "--identity",
        &identity,
        "--stream",
        "files",
    ];
    target
        .run(&[&files[..], &["--into", "files"]].concat())
        .failed(3, "its block is missing");
    assert!(!target.path("files").exists());
}

#[test]
fn a_running_agent_migrates_and_asks_whom_it_knows() {
    let source = Source::new();
    let target = Sandbox::new();
    target
        .run(&["pull", &source.root])
        .failed(2, "nobody is named");
    let agent = Running::start(&target, &["--peer", source.agent.tcp()]);
    let identity = source.identity();
    let migrate = [
        "migrate",
        &source.root,
        "--identity",
        &identity,
        "--into",
        "back",
    ];
    target.ok(&migrate);
    assert_eq!(
        tree(&target.path("back/files")),
        tree(&source.home.path("files"))
    );
    assert_eq!(target.listed(), std::slice::from_ref(&source.root));
    agent.stop();
    source.agent.stop();
}

#[test]
fn what_is_public_is_found_through_others_and_what_is_not_is_not() {
    let (meeting, seeker) = (Sandbox::new(), Sandbox::new());
    let meeting = Running::start(&meeting, &[]);
    let source = Sandbox::new();
    fs::write(source.path("one"), "public").expect("writes");
    fs::write(source.path("two"), "secret").expect("writes");
    let public = source.ok(&["export", "one"]);
    let secret = source.ok(&["export", "two"]);
    source.ok(&["share", &public, "--with", "public"]);
    let server = Running::start(&source, &["--peer", meeting.tcp()]);
    let client = Running::start(&seeker, &["--peer", meeting.tcp()]);
    let provided = |home: &Sandbox| {
        let status = home
            .run(&["agent", "status", "--json"])
            .succeeded()
            .objects()
            .remove(0);
        status["provided"].as_u64().expect("a number")
    };
    assert_eq!((provided(&source), provided(&seeker)), (1, 0));

    // The nodes hear of each other by and by.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while seeker.run(&["pull", &public]).code != Some(0) {
        assert!(std::time::Instant::now() < deadline, "it is not found");
    }
    let peer = server.tcp().rsplit('/').next().expect("an id");
    source.ok(&["share", &secret, "--with", "public"]);
    source.ok(&["share", &secret, "--without", "public"]);
    assert_eq!(provided(&source), 1);
    seeker
        .run(&["pull", &secret])
        .failed(1, &format!("has {secret}"));
    source.ok(&["share", &secret, "--with", "public"]);
    let pulled = seeker
        .run(&["pull", &secret, "--json"])
        .succeeded()
        .objects()
        .remove(0);
    let from: Vec<&Value> = pulled["peers"].as_array().expect("a list").iter().collect();
    assert!(from.iter().any(|share| share["peer"] == peer), "{pulled}");
    for agent in [client, server, meeting] {
        agent.stop();
    }
}

#[test]
fn a_target_that_cannot_take_it_is_refused_before_anything_is_fetched() {
    let source = Source::new();
    let target = Sandbox::new();
    fs::create_dir_all(target.path("back/files")).expect("creates");
    fs::write(target.path("back/files/mine"), "mine").expect("writes");
    let identity = source.identity();
    let mut args = source.args("migrate", &identity);
    args.extend(["--into", "back"]);
    target.run(&args).failed(1, "not empty");
    args[7] = "/dev/null";
    target.run(&args).failed(1, "");
    let target_packs = target.home().join("packs");
    let size: u64 = fs::read_dir(target_packs)
        .expect("reads")
        .map(|entry| {
            entry
                .and_then(|entry| entry.metadata())
                .map_or(0, |m| m.len())
        })
        .sum();
    assert!(size < 100_000, "{size} bytes were fetched");
    source.agent.stop();
}
