//! A node among peers that do not mean well.

use std::{sync::mpsc, time::Duration};

use agent::{
    bitswap::message::{Entry, Payload, Request, WireMessage},
    node::PeerId,
};
use bytes::Bytes;
use cid::Cid;
use protocol::block::{raw_cid, sha256};
use souverain_tests::{
    peer::{RawPeer, encoded, framed},
    program::{Sandbox, noise, note},
    running::Running,
};

/// Most memory that an attacked node may have resident, in KiB.
const MEMORY_KIB_MAX: u64 = 256 << 10;
/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

fn source(mib: usize) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tree")).expect("creates");
    std::fs::write(sandbox.path("tree/noise"), noise(7, mib << 20)).expect("writes");
    let root = sandbox.ok(&["export", "tree"]);
    sandbox.ok(&["share", &root, "--with", "public"]);
    (sandbox, root)
}

fn payload(bytes: Vec<u8>) -> Payload {
    let bytes = Bytes::from(bytes);
    Payload::new(&raw_cid(&sha256(&bytes)), bytes)
}

fn blocks(payloads: Vec<Payload>) -> Vec<u8> {
    encoded(&WireMessage {
        blocks: payloads,
        ..WireMessage::default()
    })
}

fn want(cids: impl Iterator<Item = Cid>) -> WireMessage {
    let mut message = WireMessage::default();
    message.wantlist.entries = cids
        .map(|cid| Entry {
            cid,
            priority: 1,
            request: Request::Block,
            send_dont_have: true,
        })
        .collect();
    message
}

fn peer_at(address: &str) -> PeerId {
    let id = address.rsplit('/').next().expect("an id");
    id.parse().expect("an id")
}

#[test]
fn a_peer_that_sends_wrong_blocks_is_dropped_and_named() {
    let (honest, root) = source(8);
    let server = Running::start(&honest, &[]);
    // Whatever is wanted, it sends something else.
    let liar = RawPeer::start(|message| {
        let wanted = message.wantlist.entries.iter();
        let wanted = wanted.filter(|entry| entry.request == Request::Block);
        wanted
            .map(|_| blocks(vec![payload(b"not what you wanted".to_vec())]))
            .collect()
    });
    let alone = Sandbox::new();
    let ran = alone.run(&["pull", &root, "--peer", &liar.address]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("a block that"), "{ran:?}");
    assert_eq!(alone.listed(), Vec::<String>::new());

    let both = Sandbox::new();
    let peers = ["--peer", &liar.address, "--peer", server.tcp()];
    let ran = both.run(&[&["pull", &root, "--json"], &peers[..]].concat());
    let report = ran.succeeded().objects().remove(0);
    for share in report["peers"].as_array().expect("a list") {
        let honest = share["peer"] != liar.id.to_string();
        assert_eq!(share["blocks"].as_u64() > Some(0), honest, "{report}");
    }
    both.ok(&["verify", &root, "--keyless"]);
    server.stop();
}

#[test]
fn a_peer_that_waits_is_answered_as_soon_as_it_may_have_a_block() {
    let (sandbox, root) = source(1);
    sandbox.ok(&["share", &root, "--without", "all"]);
    let server = Running::start(&sandbox, &[]);
    let (said, hears) = mpsc::sync_channel(16);
    let peer = RawPeer::start(move |message| {
        let lacks = message.presences.iter().map(|presence| presence.have);
        let sends = message.blocks.iter().map(|_| true);
        for has in lacks.chain(sends) {
            // The test may be over.
            let _ = said.send(has);
        }
        Vec::new()
    });
    peer.dial(server.tcp());
    let root_cid = root.parse().expect("a CID");
    let wants = encoded(&want([root_cid].into_iter()));
    let _stream = peer.send(peer_at(server.tcp()), &wants);
    assert_eq!(hears.recv_timeout(PATIENCE), Ok(false), "DONT_HAVE");
    sandbox.ok(&["share", &root, "--with", "public"]);
    assert_eq!(hears.recv_timeout(PATIENCE), Ok(true), "the block");
    server.stop();
}

#[test]
fn hostile_messages_cost_the_peer_its_connection_and_the_node_nothing() {
    let (sandbox, root) = source(4);
    let server = Running::start(&sandbox, &[]);
    let node = peer_at(server.tcp());
    let unwanted = blocks(vec![payload(noise(1, 1 << 20))]);
    let cases: [(&str, Vec<u8>); 4] = [
        ("a message that is none", framed(&[0xff; 100])),
        (
            "a length above every limit",
            vec![0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a block that nobody wanted", framed(&unwanted)),
        (
            "a block that is too large",
            framed(&blocks(vec![payload(vec![0; (2 << 20) + 1])])),
        ),
    ];
    for (what, bytes) in cases {
        note(what);
        let peer = RawPeer::start(|_| Vec::new());
        peer.dial(server.tcp());
        // It may be cut off before all bytes are taken.
        let _stream = peer.send_raw(node, &bytes);
        peer.wait_for(|connections| connections == 0);
    }
    let ok = Sandbox::new();
    ok.ok(&["pull", &root, "--peer", server.tcp()]);
    let said = server.stop();
    assert_eq!(said.matches("a peer is kept out").count(), 4, "{said}");
}

#[test]
fn a_node_under_attack_serves_honest_peers_within_its_memory() {
    let (sandbox, root) = source(64);
    let server = Running::start(&sandbox, &[]);
    let node = peer_at(server.tcp());
    let time_of_a_pull = || {
        let puller = Sandbox::new();
        let began = std::time::Instant::now();
        puller.ok(&["pull", &root, "--peer", server.tcp()]);
        began.elapsed()
    };
    let calm = time_of_a_pull();

    // Half-open streams, each of which announces a large message and sends a byte of it.
    let half_open = RawPeer::start(|_| Vec::new());
    half_open.dial(server.tcp());
    let announced = [&framed(&vec![0; 4 << 20])[..4], &[0]].concat();
    let streams: Vec<_> = (0..200)
        .filter_map(|_| half_open.send_raw(node, &announced))
        .collect();
    // Wants without end, for what is not there and what is, by a peer that takes nothing of it.
    let wanting = RawPeer::start(|_| Vec::new());
    wanting.dial(server.tcp());
    let absent = |n: u32| raw_cid(&sha256(&n.to_be_bytes()));
    for round in 0..20 {
        let cids = (0..10_000).map(|n| absent(round * 10_000 + n));
        let _stream = wanting.send(node, &encoded(&want(cids)));
    }
    let churn = std::thread::spawn({
        let address = server.tcp().to_owned();
        move || {
            let part = address.split("/p2p/").next().expect("an address");
            let port = part.rsplit('/').next().expect("a port").to_owned();
            for _ in 0..1000 {
                drop(std::net::TcpStream::connect(format!("127.0.0.1:{port}")));
            }
        }
    });
    let busy = time_of_a_pull();
    churn.join().expect("ends");
    let memory = server.memory_kib();
    note(format_args!(
        "a pull of 64 MiB: {calm:?} alone, {busy:?} under attack; {} streams, {memory} KiB",
        streams.len()
    ));
    assert!(memory < MEMORY_KIB_MAX, "{memory} KiB");
    drop(streams);
    server.stop();
}
