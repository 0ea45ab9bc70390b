//! How nodes find each other and learn where they are reached, on a wire: mDNS, AutoNAT, DCUtR.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use souverain_tests::{
    program::{Random, Sandbox, noise},
    running::Running,
    wire::{Link, Port, Wire},
};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(90);

fn wire(ports: usize) -> Option<Wire> {
    let seed = Random::printed("discovery").below(u64::MAX);
    Wire::start(seed, &vec![Link::delayed(Duration::from_millis(1)); ports])
}

/// A home at a port that has a snapshot, shared with everybody.
fn source(port: Port) -> (Sandbox, String) {
    let home = Sandbox::new().at(port);
    fs::create_dir(home.path("tree")).expect("creates");
    fs::write(home.path("tree/noise"), noise(29, 3 << 20)).expect("writes");
    let root = home.ok(&["export", "tree"]);
    home.ok(&["share", &root, "--with", "public"]);
    (home, root)
}

/// Waits until what the agent of a home says of itself is as expected.
fn wait(home: &Sandbox, what: &str, is: impl Fn(&Value) -> bool) {
    let began = Instant::now();
    loop {
        let ran = home.run(&["agent", "status", "--json"]).succeeded();
        let status = ran.objects().remove(0);
        if is(&status) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "no {what}: {status}");
    }
}

fn connections(status: &Value, peer: &str) -> u64 {
    let mut peers = status["peers"].as_array().expect("a list").iter();
    let peer = peers.find(|found| found["peer"] == peer);
    peer.map_or(0, |peer| peer["connections"].as_u64().expect("a number"))
}

fn id(agent: &Running) -> &str {
    agent.tcp().rsplit('/').next().expect("an id")
}

#[test]
fn mdns_finds_who_is_near_and_nobody_without_it() {
    let Some(wire) = wire(1) else {
        return;
    };
    // Three machines of one network, for all that mDNS sees: multicast comes back to its host.
    let port = wire.port(0);
    let [tcp, quic] = port.listen();
    let listen = ["--listen", &tcp, "--listen", &quic];
    let (source, root) = source(port);
    let server = Running::start(&source, &[&listen[..], &["--mdns"]].concat());
    let hidden = Sandbox::new().at(wire.port(0));
    let silent = Running::start(&hidden, &listen);
    let target = Sandbox::new().at(wire.port(0));
    let agent = Running::start(&target, &[&listen[..], &["--mdns"]].concat());
    wait(&target, "peer", |status| {
        connections(status, id(&server)) > 0
    });
    wait(&target, "silence", |status| {
        connections(status, id(&silent)) == 0
    });
    target.ok(&["pull", &root]);
    target.ok(&["verify", &root, "--keyless"]);
    for running in [server, silent, agent] {
        running.stop();
    }
}

#[test]
fn autonat_confirms_where_a_node_is_reached() {
    let Some(wire) = wire(2) else {
        return;
    };
    let start = |home: &Sandbox, port: Port, args: &[&str]| {
        let [tcp, _] = port.listen();
        Running::start(home, &[&["--listen", &tcp], args].concat())
    };
    let (one, other) = (
        Sandbox::new().at(wire.port(0)),
        Sandbox::new().at(wire.port(1)),
    );
    let server = start(&one, wire.port(0), &[]);
    let asks = start(&other, wire.port(1), &["--peer", server.tcp()]);
    let own = asks
        .tcp()
        .split("/p2p/")
        .next()
        .expect("an address")
        .to_owned();
    wait(&other, "confirmation", |status| {
        let external = status["external"].as_array().expect("a list");
        external
            .iter()
            .any(|address| address.as_str().is_some_and(|a| a.starts_with(&own)))
    });
    asks.stop();
    server.stop();
}

#[test]
fn peers_that_met_through_a_relay_go_on_without_it() {
    let Some(wire) = wire(3) else {
        return;
    };
    let listen = |number: usize| wire.port(number).listen()[0].clone();
    let middle = Sandbox::new().at(wire.port(0));
    let relay = Running::start(&middle, &["--listen", &listen(0), "--relay"]);
    let circuit = format!("{}/p2p-circuit", relay.tcp());
    let (source, root) = source(wire.port(1));
    let server = Running::start(&source, &["--listen", &circuit, "--listen", &listen(1)]);
    let target = Sandbox::new().at(wire.port(2));
    let through = format!("{circuit}/p2p/{}", id(&server));
    let agent = Running::start(&target, &["--listen", &listen(2), "--peer", &through]);
    // The one through the relay, and a direct one.
    wait(&target, "second connection", |status| {
        connections(status, id(&server)) > 1
    });
    relay.stop();
    target.ok(&["pull", &root]);
    target.ok(&["verify", &root, "--keyless"]);
    agent.stop();
    server.stop();
}
