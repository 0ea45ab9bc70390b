//! A node that was killed and runs again, while its peers hold its old connections for alive.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cid::Cid;
use libp2p_identity::PeerId;
use protocol::block::{raw_cid, sha256};
use souverain_agent::bitswap::{
    Config, Effect, Engine, Input, Misbehaviour, Now, Protocol, Rates, Schedule, SessionId, Wanted,
    limits::{DUPLICATE_BYTES_MAX, EARLIER_RUN_WAIT},
    message::{Payload, VerifiedMessage, Wantlist, WireMessage},
};

use crate::world::{Link, MIB, Seed, World, block, ms};

/// A node that wants blocks of a server, and is killed while most of its wants wait there.
fn killed(world: &mut World, blocks: &[(Cid, Bytes)]) -> (usize, usize) {
    let server = world.honest(Rates {
        upload: Schedule::constant(20_000_000),
        ..Rates::default()
    });
    for block in blocks {
        world.put(server, block);
    }
    let node = world.honest(Rates::default());
    let link = Link {
        delay: ms(100),
        ..Link::default()
    };
    world.link(server, node, link);
    world.want(node, &[server], blocks);
    world.run(ms(1000), |_| false);
    world.restart(node);
    (server, node)
}

fn wasted_bytes(world: &World, node: usize, of: usize) -> u64 {
    let counts = world.engine(node).counts(&world.nodes[of].id);
    counts.expect("connected").duplicate_bytes
}

#[test]
fn an_honest_server_is_not_dropped_for_what_an_earlier_run_asked() {
    let mut world = World::new(1);
    let _seed = Seed(1);
    let all: Vec<_> = (0..200).map(|i| block(i, MIB)).collect();
    let (before, after) = all.split_at(160);
    let (server, node) = killed(&mut world, before);
    for block in after {
        world.put(server, block);
    }
    // It wants other blocks now, and the world fails if it judges an honest node.
    world.want(node, &[server], after);
    let done = world.run(Duration::from_secs(60), |w| w.has_all(node, after));
    assert!(done, "{} came", world.nodes[node].received.len());
    let wasted = wasted_bytes(&world, node, server);
    assert!(wasted > 0, "nothing of before came");
    assert!(wasted <= 8 * MIB as u64, "{wasted}");
}

#[test]
fn a_node_that_wants_nothing_any_more_says_so() {
    let mut world = World::new(2);
    let _seed = Seed(2);
    let blocks: Vec<_> = (0..200).map(|i| block(i, MIB)).collect();
    let (server, node) = killed(&mut world, &blocks);
    world.run(Duration::from_secs(120), |_| false);
    let wasted = wasted_bytes(&world, node, server);
    assert!(wasted > 0, "nothing of before came");
    assert!(wasted <= 8 * MIB as u64, "{wasted}");
    assert_eq!(world.engine(server).held().served_wants, 0);
}

#[test]
fn what_was_lost_with_the_old_connection_is_sent_before_its_death_is_noticed() {
    let mut world = World::new(3);
    let _seed = Seed(3);
    let blocks: Vec<_> = (0..40).map(|i| block(i, MIB / 4)).collect();
    let server = world.honest(Rates::default());
    for block in &blocks {
        world.put(server, block);
    }
    let node = world.honest(Rates::default());
    let link = Link {
        delay: ms(20),
        bytes_per_second: 1 << 20,
        ..Link::default()
    };
    world.link(server, node, link);
    world.want(node, &[server], &blocks[..8]);
    world.run(ms(200), |_| false);
    world.restart(node);
    let begun = world.now;
    world.want(node, &[server], &blocks[..8]);
    let done = world.run(begun + ms(9_000), |w| w.has_all(node, &blocks[..8]));
    assert!(done, "{} came", world.nodes[node].received.len());
}

/// An engine and a peer of it.
struct Pair {
    engine: Engine,
    peer: PeerId,
    now: Duration,
}

impl Pair {
    fn new(after_kill: bool) -> Self {
        let id = [&[0x12, 0x20], &sha256(b"a peer")[..]].concat();
        let mut pair = Self {
            engine: Engine::new(Config {
                after_kill,
                ..Config::default()
            }),
            peer: PeerId::from_bytes(&id).expect("a multihash"),
            now: Duration::ZERO,
        };
        pair.connect();
        pair
    }

    fn tell(&mut self, input: Input) {
        let now = Now {
            elapsed: self.now,
            minute_of_day: 0,
        };
        self.engine.handle(now, input);
    }

    fn connect(&mut self) {
        let (peer, protocol) = (self.peer, Protocol::V1_2);
        self.tell(Input::Connected { peer, protocol });
    }

    fn disconnect(&mut self) {
        let peer = self.peer;
        self.tell(Input::Disconnected { peer });
    }

    fn want(&mut self, cid: Cid) {
        let (session, peer) = (SessionId(1), self.peer);
        self.tell(Input::OpenSession { session });
        self.tell(Input::AddPeer { session, peer });
        let wants = vec![Wanted { cid, size: None }];
        self.tell(Input::Want { session, wants });
    }

    /// The wantlists that are to be sent, each of which is taken.
    fn wantlists(&mut self) -> Vec<Wantlist> {
        let mut sent = Vec::new();
        while let Some(effect) = self.engine.effect() {
            if let Effect::Send { id, message, .. } = effect {
                let (peer, message_id) = (self.peer, id);
                sent.push(message.wantlist);
                self.tell(Input::Sent {
                    peer,
                    message: message_id,
                });
            }
        }
        sent
    }

    /// Sends a block that nobody asked for; what the peer is dropped for, if it is.
    fn unasked(&mut self, size: usize) -> Option<Misbehaviour> {
        let message = WireMessage {
            blocks: vec![Payload::new(&raw_cid(&[0; 32]), vec![7; size].into())],
            ..WireMessage::default()
        };
        let peer = self.peer;
        let message: VerifiedMessage = through_wire(&message);
        self.tell(Input::Message { peer, message });
        let mut effects = std::iter::from_fn(|| self.engine.effect());
        effects.find_map(|effect| match effect {
            Effect::Misbehaved { reason, .. } => Some(reason),
            _ => None,
        })
    }
}

fn through_wire(message: &WireMessage) -> VerifiedMessage {
    let mut bytes = BytesMut::new();
    for part in message.encode() {
        bytes.extend_from_slice(&part);
    }
    let message = WireMessage::decode(bytes.freeze()).expect("valid");
    message.verify().expect("small")
}

#[test]
fn the_first_wantlist_after_a_connection_is_full_and_no_other() {
    let mut pair = Pair::new(true);
    pair.want(block(1, 100).0);
    pair.want(block(2, 100).0);
    // The second one waits until the first is taken, lest it be voided.
    let full = |lists: Vec<Wantlist>| lists.iter().map(|list| list.full).collect::<Vec<_>>();
    assert_eq!(full(pair.wantlists()), [true, false]);
    pair.want(block(3, 100).0);
    assert_eq!(full(pair.wantlists()), [false]);
    pair.disconnect();
    pair.connect();
    let again = pair.wantlists();
    assert_eq!(again[0].entries.len(), 3);
    assert_eq!(full(again), [true]);
}

#[test]
fn a_full_wantlist_that_was_lost_is_said_again() {
    let mut pair = Pair::new(true);
    pair.want(block(1, 100).0);
    let Some(Effect::Send { peer, id, .. }) = pair.engine.effect() else {
        panic!("nothing is asked");
    };
    pair.want(block(2, 100).0);
    assert!(pair.engine.effect().is_none(), "the first is on its way");
    pair.tell(Input::SendFailed { peer, message: id });
    assert!(pair.wantlists()[0].full);
}

#[test]
fn unasked_blocks_are_an_offence_when_no_earlier_run_can_have_asked() {
    let mut pair = Pair::new(true);
    pair.now = EARLIER_RUN_WAIT - ms(1);
    assert_eq!(pair.unasked(MIB), None);
    pair.now = EARLIER_RUN_WAIT;
    let reason = pair.unasked(8);
    assert_eq!(reason, Some(Misbehaviour::UnsolicitedBlock));
    // The one before was not killed.
    let reason = Pair::new(false).unasked(8);
    assert_eq!(reason, Some(Misbehaviour::UnsolicitedBlock));
}

#[test]
fn unasked_blocks_are_an_offence_beyond_the_budget() {
    let mut pair = Pair::new(true);
    pair.want(block(1, 100).0);
    let mut sent = 0;
    let reason = loop {
        sent += MIB as u64;
        if let Some(reason) = pair.unasked(MIB) {
            break reason;
        }
    };
    assert_eq!(reason, Misbehaviour::WrongBlock);
    assert!(sent <= DUPLICATE_BYTES_MAX, "{sent}");
}

#[test]
fn a_peer_that_comes_back_has_no_budget_anew() {
    let mut pair = Pair::new(true);
    let mut sent = 0;
    while pair.unasked(MIB).is_none() {
        sent += MIB as u64;
        pair.now += ms(100);
        pair.disconnect();
        pair.connect();
        assert!(sent <= DUPLICATE_BYTES_MAX, "{sent}");
    }
    assert!(sent > DUPLICATE_BYTES_MAX / 2, "{sent}");
}
