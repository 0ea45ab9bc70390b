//! Nodes of our own with delay and loss between them: pulls come out right through loss, cuts,
//! nodes that die, and kills.

use std::{
    collections::HashSet,
    fs,
    process::{Child, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use souverain_tests::{
    packs,
    program::{Ran, Random, Sandbox, noise, note},
    running::Running,
    wire::{Link, Port, Wire},
};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(90);

/// A snapshot at a port, shared with everybody, and the agent that serves it.
struct Provider {
    home: Sandbox,
    root: String,
    agent: Running,
}

impl Provider {
    fn new(port: Port, mib: usize) -> Self {
        let home = Sandbox::new().at(port);
        fs::create_dir(home.path("tree")).expect("creates");
        fs::write(home.path("tree/noise"), noise(5, mib << 20)).expect("writes");
        let root = home.ok(&["export", "tree"]);
        Self::serve(home, root, port)
    }

    /// Another one with the same.
    fn copy(&self, port: Port) -> Self {
        let home = Sandbox::new().at(port);
        let car = self.home.path("copy.car");
        if !car.exists() {
            self.home.ok(&["car", "export", &self.root, "copy.car"]);
        }
        home.ok(&["car", "import", car.to_str().expect("UTF-8")]);
        Self::serve(home, self.root.clone(), port)
    }

    fn serve(home: Sandbox, root: String, port: Port) -> Self {
        home.ok(&["share", &root, "--with", "public"]);
        let [tcp, quic] = port.listen();
        let agent = Running::start(&home, &["--listen", &tcp, "--listen", &quic]);
        Self { home, root, agent }
    }

    /// How many connections it has with the only peer that it has.
    fn connections(&self) -> u64 {
        let ran = self.home.run(&["agent", "status", "--json"]).succeeded();
        ran.objects()[0]["peers"][0]["connections"]
            .as_u64()
            .unwrap_or(0)
    }

    fn address(&self, transport: &str) -> &str {
        let found = self.agent.addresses.iter().find(|a| a.contains(transport));
        found.expect("listens there")
    }
}

/// A pull that is under way.
struct Pulling<'a> {
    home: &'a Sandbox,
    child: Child,
}

impl<'a> Pulling<'a> {
    fn start(home: &'a Sandbox, root: &str, peers: &[&str]) -> Self {
        let mut args = vec!["pull", root, "--json"];
        args.extend(peers.iter().flat_map(|peer| ["--peer", *peer]));
        let mut command = home.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("starts");
        Self { home, child }
    }

    /// Waits until this many bytes have come in all. False if it has ended before.
    fn until(&mut self, bytes: u64) -> bool {
        let began = Instant::now();
        while packs::size(&self.home.home()) < bytes {
            assert!(began.elapsed() < PATIENCE, "too little comes");
            if self.child.try_wait().expect("waits").is_some() {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Waits until nothing has come for a time.
    fn until_quiet(&mut self, quiet: Duration) {
        let (began, mut since) = (Instant::now(), Instant::now());
        let mut before = 0;
        while since.elapsed() < quiet {
            assert!(began.elapsed() < PATIENCE, "it does not stop");
            let ended = self.child.try_wait().expect("waits");
            assert!(ended.is_none(), "it ended although it was cut off");
            let now = packs::size(&self.home.home());
            if now != before {
                (before, since) = (now, Instant::now());
            }
            std::thread::yield_now();
        }
    }

    fn report(self) -> Value {
        let output: Output = self.child.wait_with_output().expect("ends");
        Ran::of(output).succeeded().objects().remove(0)
    }
}

/// Every block is here once, and right.
fn assert_whole(home: &Sandbox, root: &str) {
    home.ok(&["verify", root, "--keyless"]);
    let mut seen = HashSet::new();
    for place in packs::blocks(&home.home()) {
        assert!(seen.insert(place.cid), "{} came twice", place.cid);
    }
}

fn seed() -> u64 {
    Random::printed("wire").below(u64::MAX)
}

fn link(delay_ms: u64) -> Link {
    Link::delayed(Duration::from_millis(delay_ms))
}

#[test]
fn a_pull_over_100_ms_with_loss_takes_several_connections_and_comes_out_right() {
    let links = [link(25).with_loss_ppm(10_000), link(25)];
    let Some(wire) = Wire::start(seed(), &links) else {
        return;
    };
    let provider = Provider::new(wire.port(0), 3);
    for transport in ["/tcp/", "/quic-v1"] {
        let home = Sandbox::new().at(wire.port(1));
        let began = Instant::now();
        let address = provider.address(transport);
        let mut pulling = Pulling::start(&home, &provider.root, &[address]);
        while provider.connections() < 3 {
            let ended = pulling.child.try_wait().expect("waits");
            assert!(ended.is_none(), "it took one connection for the whole way");
        }
        let report = pulling.report();
        note(format_args!("{transport} {:?}: {report}", began.elapsed()));
        assert_whole(&home, &provider.root);
    }
    provider.agent.stop();
}

#[test]
fn a_pull_goes_on_when_a_cut_heals() {
    let Some(mut wire) = Wire::start(seed(), &[link(5), link(5)]) else {
        return;
    };
    let provider = Provider::new(wire.port(0), 64);
    for transport in ["/tcp/", "/quic-v1"] {
        let home = Sandbox::new().at(wire.port(1));
        let address = provider.address(transport);
        let mut pulling = Pulling::start(&home, &provider.root, &[address]);
        assert!(pulling.until(4 << 20));
        wire.cut(0);
        pulling.until_quiet(Duration::from_secs(3));
        wire.heal(0);
        let report = pulling.report();
        note(format_args!("{transport} {report}"));
        assert_whole(&home, &provider.root);
    }
    provider.agent.stop();
}

#[test]
fn a_pull_from_four_goes_on_when_one_is_cut_off_and_one_dies() {
    let links = [link(5), link(5), link(10), link(20), link(5)];
    let Some(mut wire) = Wire::start(seed(), &links) else {
        return;
    };
    let first = Provider::new(wire.port(0), 128);
    let [second, third, fourth] = [1, 2, 3].map(|port| first.copy(wire.port(port)));
    let providers = [&first, &second, &third, &fourth];
    let addresses = providers.map(|provider| provider.address("/tcp/"));
    let home = Sandbox::new().at(wire.port(4));
    let mut pulling = Pulling::start(&home, &first.root, &addresses);
    assert!(pulling.until(8 << 20));
    wire.cut(0);
    second.agent.signal("-KILL");
    assert!(pulling.until(64 << 20), "the others serve nothing");
    wire.heal(0);
    let report = pulling.report();
    note(&report);
    let shares = report["peers"].as_array().expect("a list");
    let serving = |share: &&Value| share["blocks"].as_u64() > Some(0);
    assert!(shares.iter().filter(serving).count() >= 3, "{report}");
    assert_whole(&home, &first.root);
}

#[test]
fn a_pull_that_is_killed_ten_times_fetches_no_whole_block_again() {
    let mut random = Random::printed("kills on a wire");
    let Some(wire) = Wire::start(seed(), &[link(10), link(10)]) else {
        return;
    };
    let provider = Provider::new(wire.port(0), 192);
    let home = Sandbox::new().at(wire.port(1));
    let peer = [provider.address("/tcp/")];
    let (mut kills, mut whole) = (0, 0);
    while kills < 10 {
        let enough = packs::size(&home.home()) + random.below(16 << 20);
        let mut pulling = Pulling::start(&home, &provider.root, &peer);
        if !pulling.until(enough) {
            break;
        }
        pulling.child.kill().expect("it runs");
        pulling.child.wait().expect("ends");
        kills += 1;
        let now = packs::whole(&home.home());
        assert!(now >= whole, "{now} blocks of {whole} are left");
        whole = now;
    }
    assert_eq!(kills, 10);
    let report = Pulling::start(&home, &provider.root, &peer).report();
    assert_eq!(report["blocks_kept"], whole, "{report}");
    assert_whole(&home, &provider.root);
    provider.agent.stop();
}
