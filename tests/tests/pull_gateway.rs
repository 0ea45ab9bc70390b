//! Snapshots come from trustless gateways: of this program, of Kubo, and of those who do not mean well.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use souverain_tests::{
    kubo::Kubo,
    packs,
    program::{Ran, Sandbox, noise, tree},
    running::Running,
    web::{Asked, Scripted, curl},
};

/// A port that nobody listens on.
const NOBODY: &str = "http://127.0.0.1:9";

/// An exported tree that is in a CAR too.
struct Snapshot {
    home: Sandbox,
    root: String,
    /// The target of a request for a block, and the block.
    blocks: Arc<HashMap<String, Vec<u8>>>,
}

impl Snapshot {
    fn new(mib: usize) -> Self {
        let home = Sandbox::new();
        fs::create_dir(home.path("tree")).expect("creates");
        fs::write(home.path("tree/noise"), noise(17, mib << 20)).expect("writes");
        let root = home.ok(&["export", "tree"]);
        home.ok(&["share", &root, "--with", "public"]);
        let path = home.path("all.car");
        home.ok(&["car", "export", &root, "all.car"]);
        let car = fs::read(&path).expect("reads");
        let block = |place: &packs::Place| {
            let (from, to) = (place.offset as usize, (place.offset + place.len) as usize);
            let target = format!("/ipfs/{}?format=raw", place.cid);
            (target, car[from..to].to_vec())
        };
        let blocks = packs::of_car(&path).iter().map(block).collect();
        Self {
            home,
            root,
            blocks: Arc::new(blocks),
        }
    }

    /// A gateway that has it, and does something else when `instead` says that it did.
    fn gateway(&self, instead: impl Fn(&mut Asked) -> bool + Send + Sync + 'static) -> Scripted {
        let blocks = self.blocks.clone();
        Scripted::start(move |asked| {
            if instead(asked) {
                return true;
            }
            match blocks.get(&asked.target) {
                Some(block) => asked.answer("200 OK", "", block),
                None => asked.answer("404 Not Found", "", b""),
            }
            true
        })
    }

    /// Expects a home to have it whole, and what was exported in it.
    fn assert_in(&self, home: &Sandbox) {
        home.ok(&["verify", &self.root, "--keyless"]);
        let identity = self.home.home().join("identity.txt");
        let identity = identity.to_str().expect("UTF-8");
        home.ok(&[
            "import",
            &self.root,
            "--into",
            "back",
            "--identity",
            identity,
        ]);
        assert_eq!(tree(&home.path("back")), tree(&self.home.path("tree")));
    }
}

fn pull(home: &Sandbox, root: &str, from: &[&str]) -> Ran {
    home.run(&[&["--json", "pull", root], from].concat())
}

/// A pull that does not work, and says why.
fn fails(home: &Sandbox, root: &str, from: &[&str], why: &str) {
    home.run(&[&["pull", root], from].concat()).failed(1, why);
}

/// The only object that was printed.
fn report(ran: Ran) -> Value {
    ran.succeeded().objects().remove(0)
}

/// What somebody sent, by its name.
fn sent(report: &Value, name: &str) -> u64 {
    let peers = report["peers"].as_array().expect("a list");
    let found = peers.iter().find(|peer| peer["peer"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {report}"));
    found["blocks"].as_u64().expect("a number")
}

#[test]
fn a_snapshot_comes_from_our_own_gateway() {
    let snapshot = Snapshot::new(24);
    let server = Running::start(&snapshot.home, &["--http", "127.0.0.1:0", "--gateway"]);
    let url = server.url("");
    let target = Sandbox::new();
    let got = report(pull(&target, &snapshot.root, &["--gateway", &url]));
    assert_eq!(got["blocks"], snapshot.blocks.len(), "{got}");
    assert_eq!(sent(&got, &url), snapshot.blocks.len() as u64);
    snapshot.assert_in(&target);
    // What is here is not fetched again, not even when the gateway is gone.
    let _ = server.stop();
    let again = report(pull(&target, &snapshot.root, &["--gateway", &url]));
    assert_eq!((&again["blocks"], &again["bytes"]), (&0.into(), &0.into()));
}

#[test]
fn what_is_not_shared_is_missing() {
    let snapshot = Snapshot::new(1);
    snapshot
        .home
        .ok(&["share", &snapshot.root, "--without", "public"]);
    let server = Running::start(&snapshot.home, &["--http", "127.0.0.1:0", "--gateway"]);
    let target = Sandbox::new();
    fails(
        &target,
        &snapshot.root,
        &["--gateway", &server.url("")],
        &snapshot.root,
    );
    let _ = server.stop();
}

#[test]
fn a_snapshot_comes_from_kubos_gateway() {
    let snapshot = Snapshot::new(24);
    let kubo = Kubo::configured(&[
        ("Addresses.Gateway", r#""/ip4/127.0.0.1/tcp/0""#),
        ("Gateway.NoFetch", "true"),
    ]);
    let url = kubo.gateway();
    let target = Sandbox::new();
    fails(
        &target,
        &snapshot.root,
        &["--gateway", &url],
        &snapshot.root,
    );
    let car = snapshot.home.path("all.car");
    kubo.ok(&["dag", "import", car.to_str().expect("UTF-8")]);
    let got = report(pull(&target, &snapshot.root, &["--gateway", &url]));
    assert_eq!(sent(&got, &url), snapshot.blocks.len() as u64);
    snapshot.assert_in(&target);
}

#[test]
fn an_agent_that_runs_asks_gateways_too_and_migrate_does() {
    let snapshot = Snapshot::new(4);
    let gateway = snapshot.gateway(|_| false);
    let target = Sandbox::new();
    let agent = Running::start(&target, &[]);
    let got = report(pull(&target, &snapshot.root, &["--gateway", &gateway.url]));
    assert_eq!(sent(&got, &gateway.url), snapshot.blocks.len() as u64);
    let _ = agent.stop();
    snapshot.assert_in(&target);

    let bare = Sandbox::new();
    let identity = snapshot.home.home().join("identity.txt");
    let identity = identity.to_str().expect("UTF-8");
    let from = ["--gateway", &gateway.url, "--identity", identity];
    bare.ok(&[&["migrate", &snapshot.root, "--into", "moved"], &from[..]].concat());
    assert_eq!(tree(&bare.path("moved")), tree(&snapshot.home.path("tree")));
}

#[test]
fn peers_and_gateways_fill_in_for_each_other() {
    let snapshot = Snapshot::new(16);
    let all = snapshot.blocks.len() as u64;
    let peer = Running::start(&snapshot.home, &[]);
    let id = peer.tcp().rsplit('/').next().expect("an id").to_owned();

    // A gateway that has nothing.
    let bare = Scripted::start(|asked| {
        asked.answer("404 Not Found", "", b"");
        true
    });
    let target = Sandbox::new();
    let from = ["--peer", peer.tcp(), "--gateway", &bare.url];
    let got = report(pull(&target, &snapshot.root, &from));
    assert_eq!((sent(&got, &id), sent(&got, &bare.url)), (all, 0));
    snapshot.assert_in(&target);

    // A peer that gives nothing.
    snapshot
        .home
        .ok(&["share", &snapshot.root, "--without", "public"]);
    let gateway = snapshot.gateway(|_| false);
    let target = Sandbox::new();
    let from = ["--peer", peer.tcp(), "--gateway", &gateway.url];
    let got = report(pull(&target, &snapshot.root, &from));
    assert_eq!((sent(&got, &id), sent(&got, &gateway.url)), (0, all));
    snapshot.assert_in(&target);

    // Neither.
    let target = Sandbox::new();
    let from = ["--peer", peer.tcp(), "--gateway", &bare.url];
    fails(&target, &snapshot.root, &from, &snapshot.root);
    let _ = peer.stop();

    // A peer that is not there.
    let address = format!("/ip4/127.0.0.1/tcp/9/p2p/{id}");
    let target = Sandbox::new();
    let from = ["--peer", &address, "--gateway", &gateway.url];
    let got = report(pull(&target, &snapshot.root, &from));
    assert_eq!(sent(&got, &gateway.url), all);
    snapshot.assert_in(&target);
}

#[test]
fn a_gateway_that_does_not_mean_well_is_kept_out_and_others_fill_in() {
    let snapshot = Snapshot::new(4);
    let asked_elsewhere = Arc::new(AtomicBool::new(false));
    let there = {
        let seen = asked_elsewhere.clone();
        snapshot.gateway(move |_| {
            seen.store(true, Ordering::SeqCst);
            false
        })
    };
    type Instead = Box<dyn Fn(&mut Asked) -> bool + Send + Sync>;
    let location = there.url.clone();
    let bad: [(&str, Instead); 5] = [
        (
            "does not match its CID",
            Box::new(|asked| {
                asked.answer("200 OK", "", b"a lie");
                true
            }),
        ),
        (
            "more than a block may have",
            Box::new(|asked| {
                asked.answer("200 OK", "", &vec![0; 3 << 20]);
                true
            }),
        ),
        (
            "redirects elsewhere",
            Box::new(move |asked| {
                let to = format!("Location: {location}{}\r\n", asked.target);
                asked.answer("302 Found", &to, b"");
                true
            }),
        ),
        (
            "not answer as a gateway does",
            Box::new(|asked| {
                asked.answer("400 Bad Request", "", b"what?");
                true
            }),
        ),
        (
            "not answer as a gateway does",
            Box::new(|asked| {
                asked.answer("501 Not Implemented", "", b"");
                true
            }),
        ),
    ];
    for (why, instead) in bad {
        let liar = snapshot.gateway(instead);
        let target = Sandbox::new();
        fails(&target, &snapshot.root, &["--gateway", &liar.url], why);
        let honest = snapshot.gateway(|_| false);
        let from = ["--gateway", &liar.url, "--gateway", &honest.url];
        let got = report(pull(&target, &snapshot.root, &from));
        assert_eq!(sent(&got, &liar.url), 0, "{why}");
        assert_eq!(sent(&got, &honest.url), snapshot.blocks.len() as u64);
        snapshot.assert_in(&target);
    }
    assert!(!asked_elsewhere.load(Ordering::SeqCst), "it was followed");
}

#[test]
fn a_gateway_that_fails_now_and_then_is_asked_again() {
    let snapshot = Snapshot::new(8);
    let turn = AtomicUsize::new(0);
    let gateway = snapshot.gateway(move |asked| {
        // The 3rd is to come later, the 5th is cut off, the 7th is an error.
        match turn.fetch_add(1, Ordering::SeqCst) {
            2 => asked.answer("429 Too Many Requests", "Retry-After: 1\r\n", b""),
            4 => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort";
                let _ = std::io::Write::write_all(&mut asked.stream, head);
                let _ = asked.stream.shutdown(std::net::Shutdown::Both);
            }
            6 => asked.answer("502 Bad Gateway", "", b""),
            _ => return false,
        }
        true
    });
    let target = Sandbox::new();
    let got = report(pull(&target, &snapshot.root, &["--gateway", &gateway.url]));
    assert_eq!(sent(&got, &gateway.url), snapshot.blocks.len() as u64);
    assert_eq!(gateway.count(), snapshot.blocks.len() + 3);
    snapshot.assert_in(&target);
}

#[test]
fn a_limit_of_downloads_holds_for_gateways_and_for_all_together() {
    let snapshot = Snapshot::new(8);
    let gateway = snapshot.gateway(|_| false);
    let peer = Running::start(&snapshot.home, &[]);
    let id = peer.tcp().rsplit('/').next().expect("an id").to_owned();
    let all = snapshot.blocks.len() as u64;
    // What may come at once, and a block more, has not been waited for.
    let least = Duration::from_secs_f64((8.0 - 1.0 - 1.0) / 4.0);
    let limit = ["--limit-download", "4MiB"];

    for peers in [&[][..], &["--peer", peer.tcp()]] {
        let target = Sandbox::new();
        let from = [&["--gateway", &gateway.url][..], peers, &limit].concat();
        let began = Instant::now();
        let got = report(pull(&target, &snapshot.root, &from));
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
        let from_peer = if peers.is_empty() { 0 } else { sent(&got, &id) };
        assert_eq!(from_peer > 0, !peers.is_empty(), "{got}");
        assert_eq!(sent(&got, &gateway.url) + from_peer, all);
        snapshot.assert_in(&target);
    }
    let _ = peer.stop();

    // That of an agent is its own.
    let target = Sandbox::new();
    let agent = Running::start(&target, &limit);
    let began = Instant::now();
    let got = report(pull(&target, &snapshot.root, &["--gateway", &gateway.url]));
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    assert_eq!(sent(&got, &gateway.url), all);
    let _ = agent.stop();
}

#[test]
fn nobody_there_is_said() {
    let snapshot = Snapshot::new(1);
    let target = Sandbox::new();
    fails(&target, &snapshot.root, &["--gateway", NOBODY], NOBODY);
    let urls: Vec<String> = (1..=17).map(|n| format!("http://127.0.0.1:{n}")).collect();
    let mut many = vec!["pull", &snapshot.root];
    many.extend(urls.iter().flat_map(|url| ["--gateway", url]));
    target.run(&many).failed(2, "at most 16");
    for bad in ["127.0.0.1:80", "ftp://host", "http://me:secret@host"] {
        let ran = pull(&target, &snapshot.root, &["--gateway", bad]);
        assert_eq!(ran.code, Some(2), "{ran:#?}");
    }
}

#[test]
fn a_pull_that_is_killed_fetches_no_whole_block_again() {
    let snapshot = Snapshot::new(48);
    // It gives a part, and then nothing.
    let free = Arc::new(AtomicBool::new(false));
    let (given, is_free) = (AtomicUsize::new(0), free.clone());
    let blocks = snapshot.blocks.clone();
    let gateway = snapshot.gateway(move |asked| {
        let len = blocks.get(&asked.target).map_or(0, Vec::len);
        let before = given.fetch_add(len, Ordering::SeqCst);
        before >= 24 << 20 && !is_free.load(Ordering::SeqCst)
    });
    let target = Sandbox::new();
    let mut pulling = target.spawn(&["pull", &snapshot.root, "--gateway", &gateway.url]);
    while packs::size(&target.home()) < 16 << 20 {
        assert!(pulling.try_wait().expect("asks").is_none(), "it ended");
        std::thread::yield_now();
    }
    pulling.kill().expect("it runs");
    pulling.wait().expect("ends");
    free.store(true, Ordering::SeqCst);
    let whole = packs::whole(&target.home());
    assert!(whole > 0);
    let got = report(pull(&target, &snapshot.root, &["--gateway", &gateway.url]));
    assert_eq!(got["blocks_kept"], whole, "{got}");
    assert_eq!(got["blocks"], snapshot.blocks.len() as u64 - whole);
    snapshot.assert_in(&target);
}

#[test]
fn our_gateway_is_asked_by_curl_for_what_we_ask_it() {
    // What the scripted gateways of this file answer is what ours does.
    let snapshot = Snapshot::new(1);
    let server = Running::start(&snapshot.home, &["--http", "127.0.0.1:0", "--gateway"]);
    for (target, block) in &*snapshot.blocks {
        let answer = curl(&server.url(target), &[]);
        assert_eq!((answer.status, &answer.body), (200, block));
    }
    let _ = server.stop();
}
