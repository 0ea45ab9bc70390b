//! `share` and `pull`: a snapshot goes from node to node, to who may have it.

mod souverain;

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use souverain::{Ran, Sandbox, running::Running, write_tree};

/// A node with an exported tree.
struct Source {
    home: Sandbox,
    root: String,
}

impl Source {
    fn new() -> Self {
        let home = initialised();
        write_tree(&home.path("tree"));
        let root = home.ok(&["export", "tree"]);
        Self { home, root }
    }

    /// One with this many MiB that do not compress.
    fn large(mib: u32) -> Self {
        let home = initialised();
        let bytes: Vec<u8> = (0..mib << 18)
            .flat_map(|n| (n.wrapping_mul(0x9E37_79B9) ^ n >> 7).to_le_bytes())
            .collect();
        std::fs::create_dir(home.path("tree")).expect("creates");
        std::fs::write(home.path("tree/large"), bytes).expect("writes");
        let root = home.ok(&["export", "tree"]);
        Self { home, root }
    }

    /// Another node that has the same.
    fn copy(&self) -> Self {
        let home = initialised();
        let car = self.home.path("copy.car");
        if !car.exists() {
            self.home.ok(&["car", "export", &self.root, "copy.car"]);
        }
        home.ok(&["car", "import", car.to_str().expect("UTF-8")]);
        let root = self.root.clone();
        Self { home, root }
    }

    fn share(&self, with: &str) {
        self.home.ok(&["share", &self.root, "--with", with]);
    }
}

fn initialised() -> Sandbox {
    let home = Sandbox::new();
    home.ok(&["init"]);
    home
}

/// The peer id of a home.
fn peer_of(home: &Sandbox) -> String {
    let agent = Running::start(home, &[]);
    let id = agent.tcp().rsplit('/').next().expect("an id").to_owned();
    agent.stop();
    id
}

fn pull(home: &Sandbox, root: &str, peers: &[&str]) -> Ran {
    let mut args = vec!["pull", root, "--json"];
    for peer in peers {
        args.extend(["--peer", peer]);
    }
    home.run(&args)
}

fn pulled(home: &Sandbox, root: &str, peers: &[&str]) -> Value {
    pull(home, root, peers).succeeded().objects().remove(0)
}

#[test]
fn a_snapshot_goes_over_tcp_and_quic_with_and_without_an_agent() {
    let source = Source::new();
    let server = Running::start(&source.home, &[]);
    source.share("public");
    for address in [server.tcp(), server.quic()] {
        for with_agent in [false, true] {
            let home = initialised();
            let agent = with_agent.then(|| Running::start(&home, &[]));
            let report = pulled(&home, &source.root, &[address]);
            assert_eq!(report["cid"], source.root.as_str());
            assert!(report["blocks"].as_u64() > Some(5), "{report}");
            assert_eq!(report["blocks_kept"], 0);
            assert!(home.ok(&["list"]).starts_with(&source.root));
            home.ok(&["verify", &source.root, "--keyless"]);
            let again = pulled(&home, &source.root, &[address]);
            assert_eq!(again["blocks"], 0);
            assert_eq!(again["blocks_kept"], report["blocks"]);
            if let Some(agent) = agent {
                agent.stop();
            }
        }
    }
    // What was pulled is opened with the key, and nothing else.
    let home = initialised();
    home.ok(&["pull", &source.root, "--peer", server.tcp()]);
    let identity = source.home.home().join("identity.txt");
    let identity = identity.to_str().expect("UTF-8");
    home.run(&["import", &source.root, "--into", "back"])
        .failed(1, "no identity");
    home.ok(&[
        "import",
        &source.root,
        "--into",
        "back",
        "--identity",
        identity,
    ]);
    let original = std::fs::read(source.home.path("tree/two.bin")).expect("reads");
    assert_eq!(
        std::fs::read(home.path("back/two.bin")).expect("reads"),
        original
    );
    server.stop();
}

#[test]
fn nobody_gets_what_is_not_shared_with_them() {
    let source = Source::new();
    let (friend, stranger) = (initialised(), initialised());
    let friend_id = peer_of(&friend);
    let server = Running::start(&source.home, &[]);
    let peer = [server.tcp()];
    let denied = |home: &Sandbox| {
        let ran = pull(home, &source.root, &peer);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stdout.contains("or gives it to this node"), "{ran:?}");
        assert_eq!(home.ok(&["list"]), "");
    };
    denied(&friend);
    source.share(&friend_id);
    assert_eq!(source.home.ok(&["share", &source.root]), friend_id);
    denied(&stranger);
    pulled(&friend, &source.root, &peer);

    source
        .home
        .ok(&["share", &source.root, "--without", &friend_id]);
    assert_eq!(source.home.ok(&["share", &source.root]), "");
    let again = initialised();
    denied(&again);
    source.share("public");
    assert_eq!(source.home.ok(&["share", &source.root]), "public");
    pulled(&stranger, &source.root, &peer);
    server.stop();
}

#[test]
fn what_is_shared_with_a_group_is_for_whoever_is_in_it() {
    let source = Source::new();
    let home = &source.home;
    let (friend, stranger) = (initialised(), initialised());
    let (friend_id, stranger_id) = (peer_of(&friend), peer_of(&stranger));
    home.run(&["share", &source.root, "--with", "team"])
        .failed(2, "there is no group team");
    home.run(&["group", "Team", "--add", &friend_id])
        .failed(2, "a group is named by");
    assert_eq!(home.ok(&["group", "team", "--add", &friend_id]), friend_id);
    assert_eq!(home.ok(&["group"]), "team  1 peers");
    source.share("team");
    assert_eq!(home.ok(&["share", &source.root]), "team");

    let server = Running::start(home, &[]);
    let peer = [server.tcp()];
    pulled(&friend, &source.root, &peer);
    let ran = pull(&stranger, &source.root, &peer);
    assert!(ran.stdout.contains("or gives it to this node"), "{ran:?}");
    home.ok(&["group", "team", "--add", &stranger_id]);
    pulled(&stranger, &source.root, &peer);
    home.ok(&["group", "team", "--remove", "all"]);
    assert_eq!(home.ok(&["group"]), "");
    let late = initialised();
    home.ok(&["group", "team", "--add", &friend_id]);
    let ran = pull(&late, &source.root, &peer);
    assert!(ran.stdout.contains("or gives it to this node"), "{ran:?}");
    home.ok(&["share", &source.root, "--without", "team"]);
    assert_eq!(home.ok(&["share", &source.root]), "");
    server.stop();
}

/// How many whole blocks there are in the first pack, whether or not a commit covers them.
fn whole_blocks(home: &Sandbox) -> u64 {
    let Ok(file) = std::fs::File::open(home.home().join("packs/00000000.car")) else {
        return 0;
    };
    let mut reader = protocol::car::Reader::new(std::io::BufReader::new(file)).expect("a pack");
    let mut count = 0;
    while let Ok(Some(block)) = reader.next_unverified() {
        count += u64::from(block.verify().is_ok());
    }
    count
}

#[test]
fn a_pull_that_is_killed_fetches_no_whole_block_again() {
    let source = Source::large(192);
    source.share("public");
    let server = Running::start(&source.home, &[]);
    let home = initialised();
    let size = || {
        let pack = home.home().join("packs/00000000.car");
        std::fs::metadata(pack).map_or(0, |metadata| metadata.len())
    };
    let (mut kills, mut whole) = (0, 0);
    for round in 0..10_u64 {
        let enough = size() + ((1 + round * 7 % 16) << 20);
        let mut child = home
            .command(&["pull", &source.root, "--peer", server.tcp()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let began = std::time::Instant::now();
        while size() < enough && child.try_wait().expect("waits").is_none() {
            assert!(began.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
        if child.try_wait().expect("waits").is_none() {
            child.kill().expect("it runs");
            kills += 1;
        }
        child.wait().expect("ends");
        let now = whole_blocks(&home);
        assert!(now >= whole, "{now} blocks of {whole} are left");
        whole = now;
    }
    assert!(kills > 3, "{kills}");
    let report = pulled(&home, &source.root, &[server.tcp()]);
    assert_eq!(report["blocks_kept"], whole, "{report}");
    home.ok(&["verify", &source.root, "--keyless"]);
    server.stop();
}

#[test]
fn several_providers_serve_and_one_may_vanish() {
    let first = Source::large(96);
    let second = first.copy();
    let third = first.copy();
    for source in [&first, &second, &third] {
        source.share("public");
    }
    let servers = [&first, &second, &third].map(|source| Running::start(&source.home, &[]));
    let addresses: Vec<&str> = servers.iter().map(Running::tcp).collect();
    let home = initialised();
    let report = pulled(&home, &first.root, &addresses);
    let shares = report["peers"].as_array().expect("a list");
    assert_eq!(shares.len(), 3);
    for share in shares {
        assert!(share["blocks"].as_u64() > Some(0), "{report}");
    }
    home.ok(&["verify", &first.root, "--keyless"]);

    let home = initialised();
    let mut args = vec!["pull", &first.root, "--json"];
    for address in &addresses {
        args.extend(["--peer", address]);
    }
    let child = home
        .command(&args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let began = std::time::Instant::now();
    while std::fs::metadata(home.home().join("packs/00000000.car")).map_or(0, |m| m.len()) < 4 << 20
    {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    servers[0].signal("-KILL");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{output:?}");
    home.ok(&["verify", &first.root, "--keyless"]);
}

#[test]
fn an_agent_that_is_stopped_ends_the_pull_and_keeps_what_came() {
    let source = Source::large(192);
    source.share("public");
    let server = Running::start(&source.home, &[]);
    let home = initialised();
    let agent = Running::start(&home, &[]);
    let verb = home
        .command(&["pull", &source.root, "--peer", server.tcp()])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let pack = home.home().join("packs/00000000.car");
    let began = std::time::Instant::now();
    while std::fs::metadata(&pack).map_or(0, |metadata| metadata.len()) < 8 << 20 {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    agent.stop();
    let output = verb.wait_with_output().expect("ends");
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "it took too long"
    );
    if output.status.success() {
        // It was faster than the signal.
        return;
    }
    let whole = whole_blocks(&home);
    let report = pulled(&home, &source.root, &[server.tcp()]);
    assert_eq!(report["blocks_kept"], whole, "{report}");
    server.stop();
}

#[test]
fn a_peer_that_is_not_there_is_named() {
    let home = initialised();
    let source = Source::new();
    let server = Running::start(&source.home, &[]);
    let address = server.tcp().to_owned();
    server.stop();
    let ran = pull(&home, &source.root, &[&address]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("nobody can be reached"), "{ran:?}");
    home.run(&["pull", &source.root, "--peer", "/ip4/127.0.0.1/tcp/1"])
        .failed(1, "does not end with the id of a peer");
    home.run(&["pull", "bafybeig", "--peer", &address])
        .failed(2, "by its whole CID");
}
