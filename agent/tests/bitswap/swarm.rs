//! Many nodes, bad links and bad peers: what is wanted and had by an honest peer arrives, once.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use souverain_agent::bitswap::Rates;

use crate::{
    hostile::{ALL, Hostile},
    world::{Link, Mind, Seed, World, block, ms},
};

const MINUTE: Duration = Duration::from_secs(60);

/// The seeds of a test: as many as it wants, or `BITSWAP_SEEDS`, a number or a range `7..9`.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let given = std::env::var("BITSWAP_SEEDS").unwrap_or_default();
    let (from, to) = given.split_once("..").unwrap_or(("0", &given));
    let number = |text: &str| text.parse().ok();
    number(from).unwrap_or(0)..number(to).unwrap_or(default)
}

fn blocks(world: &mut World, count: u64) -> Vec<(Cid, Bytes)> {
    let seed = world.seed;
    let sizes: Vec<usize> = (0..count)
        .map(|_| match world.rng.below(3) {
            0 => 100,
            1 => 4000,
            _ => 60_000,
        })
        .collect();
    let numbered = sizes.into_iter().zip(0..);
    numbered
        .map(|(size, i)| block((seed << 32) | i, size))
        .collect()
}

fn bad_link(world: &mut World) -> Link {
    Link {
        delay: ms(1 + world.rng.below(150)),
        jitter: ms(world.rng.below(60)),
        bytes_per_second: (200 + world.rng.below(20_000)) << 10,
        buffer_bytes: 1 << 20,
        loss_percent: world.rng.below(8),
        duplicate_percent: world.rng.below(4),
    }
}

/// Some honest nodes hold some of the blocks each, every block is on at least two of them, and one
/// wants all; links are bad, cut for a while, and hostile nodes sit between.
fn swarm(seed: u64) {
    let _seed = Seed(seed);
    let mut world = World::new(seed);
    let holders = 2 + world.rng.below(4) as usize;
    let count = 20 + world.rng.below(400);
    let blocks = blocks(&mut world, count);
    let leecher = world.honest(Rates::default());
    let nodes: Vec<usize> = (0..holders)
        .map(|_| world.honest(Rates::default()))
        .collect();
    let whole = world.rng.chance(50);
    for block in &blocks {
        let first = world.rng.below(holders as u64) as usize;
        for (i, node) in nodes.iter().enumerate() {
            let second = (first + 1) % holders;
            if whole || i == first || i == second {
                world.put(*node, block);
            }
        }
    }
    let mut peers = nodes.clone();
    for _ in 0..world.rng.below(4) {
        let kind = ALL[world.rng.below(ALL.len() as u64) as usize];
        peers.push(world.hostile(kind));
    }
    for peer in &peers {
        let link = bad_link(&mut world);
        world.link(leecher, *peer, link);
    }
    world.want(leecher, &peers, &blocks);
    for peer in &peers {
        if world.rng.chance(40) {
            let cut = ms(world.rng.below(10_000));
            world.cut_at(cut, leecher, *peer);
            let healed = cut + ms(world.rng.below(30_000));
            world.join_at(healed, leecher, *peer);
        }
    }
    let vanishes = holders > 2 && world.rng.chance(30);
    if vanishes {
        let when = ms(world.rng.below(2000));
        world.run(when, |world| world.has_all(leecher, &blocks));
        world.vanish(nodes[0]);
    }
    let done = world.run(3 * MINUTE, |world| world.has_all(leecher, &blocks));
    let lacking = blocks
        .iter()
        .filter(|(cid, _)| !world.nodes[leecher].received.contains_key(cid));
    assert!(
        done,
        "seed {seed}: {} of {} never came, by {:?}",
        lacking.count(),
        blocks.len(),
        world.now
    );
    for (peer, node) in world.nodes.iter().enumerate() {
        let judged = world.nodes[leecher].misbehaved.contains_key(&peer);
        assert!(!judged || matches!(node.mind, Mind::Hostile(_)));
    }
}

#[test]
fn every_block_that_an_honest_peer_has_arrives_once() {
    for seed in seeds(150) {
        swarm(seed);
    }
}

#[test]
fn nodes_that_all_want_the_same_serve_each_other() {
    for seed in seeds(20) {
        let _seed = Seed(seed);
        let mut world = World::new(seed);
        let blocks = blocks(&mut world, 100);
        let nodes: Vec<usize> = (0..5).map(|_| world.honest(Rates::default())).collect();
        for block in &blocks {
            world.put(nodes[0], block);
        }
        // A chain: each node has the blocks of the one before it at most.
        for pair in nodes.windows(2) {
            let link = bad_link(&mut world);
            world.link(pair[0], pair[1], link);
        }
        for pair in nodes.windows(2) {
            world.want(pair[1], &[pair[0]], &blocks);
        }
        let all = |world: &World| nodes[1..].iter().all(|n| world.has_all(*n, &blocks));
        assert!(world.run(30 * MINUTE, all), "seed {seed}");
    }
}

#[test]
fn a_peer_that_sends_wrong_or_unsolicited_blocks_is_dropped_once() {
    for (seed, hostile) in [
        Hostile::WrongBlocks,
        Hostile::Unsolicited,
        Hostile::PresenceFlood,
    ]
    .into_iter()
    .enumerate()
    {
        let _seed = Seed(seed as u64);
        let mut world = World::new(seed as u64);
        let blocks = blocks(&mut world, 50);
        let leecher = world.honest(Rates::default());
        let holder = world.honest(Rates::default());
        let liar = world.hostile(hostile);
        for block in &blocks {
            world.put(holder, block);
        }
        world.link(leecher, liar, Link::default());
        world.want(leecher, &[holder, liar], &blocks);
        world.run(ms(2000), |_| false);
        assert!(
            world.nodes[leecher].misbehaved.contains_key(&liar),
            "{hostile:?}"
        );
        // It comes back, and is not heard.
        world.nodes[leecher].misbehaved.clear();
        world.join(leecher, liar);
        world.run(ms(4000), |_| false);
        assert!(world.nodes[leecher].misbehaved.is_empty(), "{hostile:?}");
        world.link(leecher, holder, Link::default());
        assert!(world.run(MINUTE, |world| world.has_all(leecher, &blocks)));
    }
}

#[test]
fn what_nobody_has_is_said_to_be_missing_and_comes_when_it_is_there() {
    let mut world = World::new(1);
    let blocks = blocks(&mut world, 10);
    let leecher = world.honest(Rates::default());
    let holders = [
        world.honest(Rates::default()),
        world.honest(Rates::default()),
    ];
    for block in &blocks[..9] {
        world.put(holders[0], block);
    }
    for holder in holders {
        world.link(leecher, holder, Link::default());
    }
    world.want(leecher, &holders, &blocks);
    world.run(ms(500), |_| false);
    assert!(world.has_all(leecher, &blocks[..9]));
    let missing: Vec<&Cid> = world.nodes[leecher].missing.iter().collect();
    assert_eq!(missing, [&blocks[9].0]);

    // The want waits at the peer, which sends the block as soon as it has it.
    world.put(holders[1], &blocks[9]);
    world.input(holders[1], souverain_agent::bitswap::Input::Changed);
    assert!(world.run(ms(600), |world| world.has_all(leecher, &blocks)));
}

#[test]
fn a_peer_that_vanishes_is_replaced_before_its_death_is_noticed() {
    let mut world = World::new(1);
    let blocks: Vec<_> = (0..200).map(|i| block(i, 100_000)).collect();
    let leecher = world.honest(Rates::default());
    let holders = [
        world.honest(Rates::default()),
        world.honest(Rates::default()),
    ];
    for block in &blocks {
        world.put(holders[0], block);
        world.put(holders[1], block);
    }
    for holder in holders {
        let link = Link {
            delay: ms(20),
            bytes_per_second: 2 << 20,
            ..Link::default()
        };
        world.link(leecher, holder, link);
    }
    world.want(leecher, &holders, &blocks);
    world.run(ms(1000), |_| false);
    world.vanish(holders[0]);
    let done = world.run(Duration::from_secs(18), |w| w.has_all(leecher, &blocks));
    assert!(done, "{} came", world.nodes[leecher].received.len());
}

#[test]
fn peers_that_do_not_deliver_cost_a_few_seconds_at_most() {
    let link = Link {
        delay: ms(20),
        bytes_per_second: 10 << 20,
        ..Link::default()
    };
    let broken = Link {
        loss_percent: 100,
        ..link
    };
    let took = |others: &[(Option<Hostile>, Link)]| {
        let mut world = World::new(2);
        let blocks: Vec<_> = (0..300).map(|i| block(i, 100_000)).collect();
        let leecher = world.honest(Rates::default());
        let holder = world.honest(Rates::default());
        for block in &blocks {
            world.put(holder, block);
        }
        let mut peers = vec![holder];
        world.link(leecher, holder, link);
        for (hostile, link) in others {
            let peer = match hostile {
                Some(hostile) => world.hostile(*hostile),
                None => world.honest(Rates::default()),
            };
            world.link(leecher, peer, *link);
            peers.push(peer);
        }
        world.want(leecher, &peers, &blocks);
        assert!(world.run(5 * MINUTE, |world| world.has_all(leecher, &blocks)));
        world.now
    };
    let alone = took(&[]);
    for hostile in [Hostile::Silent, Hostile::EmptyPromises, Hostile::HasNothing] {
        let beside = took(&[(Some(hostile), link); 3]);
        assert!(
            beside < alone + ms(5000),
            "{hostile:?}: {beside:?} against {alone:?}"
        );
    }
    let beside = took(&[(None, broken)]);
    assert!(
        beside < alone + ms(5000),
        "broken: {beside:?} against {alone:?}"
    );
}
