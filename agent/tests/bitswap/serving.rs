//! How blocks are served: fairly, to whom may have them, at the rates that were set, in bounded memory.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use protocol::block::digest_of;
use souverain_agent::bitswap::{
    Input, Rates, Schedule, Window,
    limits::{MESSAGE_SIZE_MAX, UNTAKEN_BYTES_MAX},
    message::{Entry, Request, Wantlist, WireMessage},
};

use crate::{
    hostile::Hostile,
    world::{Link, MIB, World, block, ms},
};

/// A server with a line of its own, and peers that want all its blocks.
fn crowd(world: &mut World, peers: usize, blocks: &[(Cid, Bytes)], rates: Rates) -> Vec<usize> {
    let server = world.honest(rates);
    world.nodes[server].uplink_bytes_per_second = Some(50 << 20);
    for block in blocks {
        world.put(server, block);
    }
    let mut wanting = Vec::new();
    for i in 0..peers {
        let peer = world.honest(Rates::default());
        let link = Link {
            delay: ms(5 + i as u64 % 40),
            buffer_bytes: 256 << 10,
            ..Link::default()
        };
        world.link(server, peer, link);
        wanting.push(peer);
    }
    for peer in &wanting {
        world.want(*peer, &[server], blocks);
    }
    wanting
}

#[test]
fn fifty_peers_are_served_within_a_fifth_of_each_other() {
    let mut world = World::new(3);
    // Blocks of all sizes, so that turns by message or by block would not be fair.
    let blocks: Vec<_> = (0..200)
        .map(|i| block(i, [2_000, 300_000, 1 << 20][i as usize % 3]))
        .collect();
    let peers = crowd(&mut world, 50, &blocks, Rates::default());
    world.run(Duration::from_secs(40), |_| false);
    let got: Vec<u64> = peers.iter().map(|p| world.nodes[*p].got_bytes).collect();
    let (least, most) = (got.iter().min(), got.iter().max());
    let (least, most) = (*least.expect("50"), *most.expect("50"));
    assert!(least > 20 << 20, "{got:?}");
    assert!(most - least <= most / 5, "{least} to {most}: {got:?}");
    assert!(world.engine(0).held().untaken_bytes <= UNTAKEN_BYTES_MAX + MESSAGE_SIZE_MAX);
}

#[test]
fn slow_readers_hold_bounded_memory_and_do_not_hold_up_others() {
    let mut world = World::new(4);
    let blocks: Vec<_> = (0..100).map(|i| block(i, MIB)).collect();
    let peers = crowd(&mut world, 40, &blocks, Rates::default());
    for peer in &peers[1..] {
        world.nodes[*peer].deaf = true;
    }
    let reader = peers[0];
    let done = world.run(Duration::from_secs(40), |w| w.has_all(reader, &blocks));
    assert!(done, "{} came", world.nodes[reader].received.len());
    assert!(world.engine(0).held().untaken_bytes <= UNTAKEN_BYTES_MAX + MESSAGE_SIZE_MAX);
    world.run(Duration::from_secs(120), |_| false);
    assert_eq!(world.nodes[0].stalled.len(), 39);
    assert_eq!(world.engine(0).held().untaken_bytes, 0);
}

#[test]
fn honest_peers_keep_most_of_their_speed_beside_endless_wantlists() {
    let took = |hostile: usize| {
        let mut world = World::new(5);
        let blocks: Vec<_> = (0..100).map(|i| block(i, 200_000)).collect();
        let peers = crowd(&mut world, 3, &blocks, Rates::default());
        for _ in 0..hostile {
            let peer = world.hostile(Hostile::EndlessWants);
            world.link(0, peer, Link::default());
        }
        let all = |w: &World| peers.iter().all(|p| w.has_all(*p, &blocks));
        assert!(world.run(Duration::from_secs(60), all));
        world.now
    };
    let (alone, beside) = (took(0), took(10));
    assert!(beside < alone * 2, "{beside:?} against {alone:?}");
}

#[test]
fn forbidden_blocks_look_like_absent_ones() {
    let mut world = World::new(6);
    let blocks: Vec<_> = (0..40).map(|i| block(i, 500)).collect();
    let server = world.honest(Rates::default());
    for (i, block) in blocks.iter().enumerate() {
        // Every second is here; of all, the first half is forbidden.
        if i % 2 == 0 {
            world.put(server, block);
        }
        if i < 20 {
            let key = digest_of(&block.0).expect("SHA-256");
            world.nodes[server].forbidden.insert(key);
        }
    }
    let peer = world.honest(Rates::default());
    world.link(server, peer, Link::default());
    world.want(peer, &[server], &blocks);
    world.run(ms(5000), |_| false);
    let received = &world.nodes[peer].received;
    let missing = &world.nodes[peer].missing;
    for (i, (cid, _)) in blocks.iter().enumerate() {
        let may_come = i >= 20 && i % 2 == 0;
        assert_eq!(received.contains_key(cid), may_come, "{i}");
        assert_eq!(missing.contains(cid), !may_come, "{i}");
    }
    let counts = world.engine(server).counts(&world.nodes[peer].id);
    assert_eq!(counts.expect("connected").denied, 20);
}

#[test]
fn uploads_keep_to_the_rates_of_node_and_peer_and_hour() {
    let blocks: Vec<_> = (0..400).map(|i| block(i, MIB / 4)).collect();
    let evening = Window {
        from_minute: 1439,
        to_minute: 0,
        bytes_per_second: Some(4_000_000),
    };
    let day = Schedule::new(Some(1_000_000), vec![evening]).expect("minutes of a day");
    let rates = Rates {
        upload: day,
        ..Rates::default()
    };
    let mut world = World::new(8);
    // Two minutes to midnight: one at 1 MB/s, one at 4 MB/s.
    world.minute_of_day = 1438;
    let peers = crowd(&mut world, 2, &blocks, rates);
    let got = |world: &World| -> u64 { peers.iter().map(|p| world.nodes[*p].got_bytes).sum() };
    world.run(Duration::from_secs(60), |_| false);
    let first = got(&world);
    assert!((55_000_000..65_000_000).contains(&first), "{first}");
    world.run(Duration::from_secs(80), |_| false);
    let second = got(&world) - first;
    assert!((72_000_000..88_000_000).contains(&second), "{second}");

    let mut world = World::new(9);
    let mut rates = Rates {
        upload_per_peer: Schedule::constant(1_000_000),
        ..Rates::default()
    };
    let peers = crowd(&mut world, 3, &blocks, rates.clone());
    let favoured = world.nodes[peers[0]].id;
    rates
        .upload_of_peer
        .insert(favoured, Schedule::constant(3_000_000));
    world.input(0, Input::SetRates { rates });
    world.run(Duration::from_secs(20), |_| false);
    let got: Vec<u64> = peers.iter().map(|p| world.nodes[*p].got_bytes).collect();
    assert!((54_000_000..66_000_000).contains(&got[0]), "{got:?}");
    for other in &got[1..] {
        assert!((18_000_000..22_000_000).contains(other), "{got:?}");
    }
}

/// What a peer that speaks for itself gets for a message.
struct Answers {
    world: World,
    server: usize,
    peer: usize,
}

impl Answers {
    fn of(world: &mut World, blocks: &[(Cid, Bytes)]) -> (usize, usize) {
        let server = world.honest(Rates::default());
        for block in blocks {
            world.put(server, block);
        }
        let peer = world.hostile(Hostile::Silent);
        world.link(server, peer, Link::default());
        (server, peer)
    }

    fn new(blocks: &[(Cid, Bytes)]) -> Self {
        let mut world = World::new(10);
        let (server, peer) = Self::of(&mut world, blocks);
        Self {
            world,
            server,
            peer,
        }
    }

    /// Blocks and bytes that the server has sent after a message.
    fn after(&mut self, entries: Vec<Entry>, full: bool) -> (u64, u64) {
        let message = WireMessage {
            wantlist: Wantlist { entries, full },
            ..WireMessage::default()
        };
        self.world.send(self.peer, self.server, None, &message);
        let until = self.world.now + ms(500);
        self.world.run(until, |_| false);
        let peer = self.world.nodes[self.peer].id;
        let counts = self.world.engine(self.server).counts(&peer);
        let counts = counts.expect("connected");
        (counts.sent_blocks, counts.sent_bytes)
    }
}

fn entry(cid: Cid, request: Request) -> Entry {
    Entry {
        cid,
        priority: 1,
        request,
        send_dont_have: true,
    }
}

#[test]
fn repeated_wants_are_answered_again_and_small_blocks_instead_of_have() {
    let (small, large) = (block(1, 500), block(2, 50_000));
    let mut answers = Answers::new(&[small.clone(), large.clone()]);
    assert_eq!(
        answers.after(vec![entry(large.0, Request::Block)], false).0,
        1
    );
    assert_eq!(
        answers.after(vec![entry(large.0, Request::Block)], false).0,
        2
    );
    assert_eq!(
        answers.after(vec![entry(large.0, Request::Have)], false).0,
        2
    );
    assert_eq!(
        answers.after(vec![entry(small.0, Request::Have)], false).0,
        3
    );
    // By CIDv0, as Kubo may ask.
    let v0 = Cid::new_v0(*large.0.hash()).expect("SHA-256");
    assert_eq!(answers.after(vec![entry(v0, Request::Block)], false).0, 4);
}

#[test]
fn a_repeated_want_for_what_is_on_its_way_is_not_answered_twice() {
    let block = block(1, 50_000);
    let mut answers = Answers::new(std::slice::from_ref(&block));
    answers.world.nodes[answers.peer].deaf = true;
    let want = entry(block.0, Request::Block);
    answers.after(vec![want], false);
    let once = answers.world.engine(0).held().untaken_bytes;
    assert!(once > 50_000);
    answers.after(vec![want], false);
    assert_eq!(answers.world.engine(0).held().untaken_bytes, once);
    // Unless it seems to be on its way no more.
    let until = answers.world.now + Duration::from_secs(10);
    answers.world.run(until, |_| false);
    answers.after(vec![want], false);
    assert!(answers.world.engine(0).held().untaken_bytes > 100_000);
}

#[test]
fn cancels_and_full_wantlists_take_back_what_waits() {
    let blocks: Vec<_> = (0..3).map(|i| block(i, 50_000)).collect();
    let mut answers = Answers::new(&[]);
    let wants = blocks.iter().map(|(cid, _)| entry(*cid, Request::Block));
    assert_eq!(answers.after(wants.collect(), false).0, 0);
    assert_eq!(answers.world.engine(0).held().served_wants, 3);
    let cancel = entry(blocks[0].0, Request::Cancel);
    answers.after(vec![cancel], false);
    assert_eq!(answers.world.engine(0).held().served_wants, 2);
    answers.after(vec![entry(blocks[2].0, Request::Block)], true);
    assert_eq!(answers.world.engine(0).held().served_wants, 1);
    for block in &blocks {
        answers.world.put(answers.server, block);
        answers.world.input(0, Input::Changed);
    }
    assert_eq!(answers.after(vec![], false).0, 1);
}

#[test]
fn wants_beyond_the_limit_are_dropped_and_counted() {
    let mut answers = Answers::new(&[]);
    for batch in 0..3_u64 {
        let cids = (0..4000).map(|i| block(batch << 32 | i, 8).0);
        answers.after(cids.map(|cid| entry(cid, Request::Block)).collect(), false);
    }
    // Those that wait for absent blocks make place for new ones.
    let held = answers.world.engine(0).held().served_wants;
    assert!(held <= 4096, "{held}");
    let present: Vec<_> = (0..10).map(|i| block(i, 2000)).collect();
    for block in &present {
        answers.world.put(answers.server, block);
    }
    let wants = present.iter().map(|(cid, _)| entry(*cid, Request::Block));
    assert_eq!(answers.after(wants.collect(), false).0, 10);
}
