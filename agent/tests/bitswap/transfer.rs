//! How fast blocks come: the pipeline fills what the link carries.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use souverain_agent::bitswap::{Rates, Schedule};

use crate::{
    pipe,
    world::{Link, MIB, Seed, World, block, ms},
};

fn large_blocks(count: u64) -> Vec<(Cid, Bytes)> {
    (0..count).map(|i| block(i, MIB)).collect()
}

/// How long a node takes to fetch blocks from some holders of all of them.
fn fetch(blocks: &[(Cid, Bytes)], links: &[Link], rates: Rates) -> (World, usize, Duration) {
    let mut world = World::new(7);
    let leecher = world.honest(rates);
    let mut holders = Vec::new();
    for link in links {
        let holder = world.honest(Rates::default());
        for block in blocks {
            world.put(holder, block);
        }
        world.link(leecher, holder, *link);
        holders.push(holder);
    }
    world.want(leecher, &holders, blocks);
    let limit = Duration::from_secs(3600);
    assert!(world.run(limit, |world| world.has_all(leecher, blocks)));
    let took = world.now;
    (world, leecher, took)
}

fn wire_time(blocks: &[(Cid, Bytes)], link: &Link) -> Duration {
    let bytes: usize = blocks.iter().map(|(_, bytes)| bytes.len()).sum();
    Duration::from_secs_f64(bytes as f64 / link.bytes_per_second as f64)
}

#[test]
fn one_peer_at_100_ms_keeps_the_link_nine_tenths_used() {
    let blocks = large_blocks(300);
    for megabytes in [5, 31, 60] {
        let _seed = Seed(megabytes);
        let link = Link {
            delay: ms(50),
            bytes_per_second: megabytes * 1_000_000,
            ..Link::default()
        };
        let (_, _, took) = fetch(&blocks, &[link], Rates::default());
        let used = wire_time(&blocks, &link).as_secs_f64() / took.as_secs_f64();
        assert!(used >= 0.9, "{megabytes} MB/s: {used:.3} used, {took:?}");
    }
}

#[test]
fn small_blocks_do_not_starve_the_link_either() {
    let blocks: Vec<_> = (0..4000).map(|i| block(i, 32_000)).collect();
    let link = Link {
        delay: ms(50),
        bytes_per_second: 31_000_000,
        ..Link::default()
    };
    let (_, _, took) = fetch(&blocks, &[link], Rates::default());
    let used = wire_time(&blocks, &link).as_secs_f64() / took.as_secs_f64();
    assert!(used >= 0.85, "{used:.3} used, {took:?}");
}

#[test]
fn three_peers_are_more_than_twice_as_fast_as_one() {
    let blocks = large_blocks(300);
    let link = Link {
        delay: ms(50),
        bytes_per_second: 31_000_000,
        ..Link::default()
    };
    let (_, _, one) = fetch(&blocks, &[link], Rates::default());
    let (world, leecher, three) = fetch(&blocks, &[link; 3], Rates::default());
    assert!(one > three.mul_f64(2.5), "{one:?} against {three:?}");
    let duplicates = duplicate_bytes(&world, leecher);
    assert!(
        duplicates <= 4 * MIB as u64,
        "{duplicates} bytes came twice"
    );
}

#[test]
fn a_slow_peer_does_not_hold_up_a_fast_one() {
    let blocks = large_blocks(200);
    let fast = Link {
        delay: ms(20),
        bytes_per_second: 50_000_000,
        ..Link::default()
    };
    let slow = Link {
        delay: ms(200),
        bytes_per_second: 1_000_000,
        ..Link::default()
    };
    let (_, _, alone) = fetch(&blocks, &[fast], Rates::default());
    let (_, _, both) = fetch(&blocks, &[fast, slow], Rates::default());
    assert!(
        both < alone.mul_f64(1.3),
        "{both:?} against {alone:?} alone"
    );
}

#[test]
fn on_a_slow_link_nothing_is_sent_twice() {
    let blocks = large_blocks(20);
    for kilobytes in [100, 400, 1000] {
        let link = Link {
            delay: ms(100),
            bytes_per_second: kilobytes * 1000,
            buffer_bytes: 64 << 10,
            ..Link::default()
        };
        let (world, leecher, took) = fetch(&blocks, &[link], Rates::default());
        let used = wire_time(&blocks, &link).as_secs_f64() / took.as_secs_f64();
        assert!(used >= 0.9, "{kilobytes} kB/s: {used:.3} used, {took:?}");
        assert_eq!(duplicate_bytes(&world, leecher), 0, "{kilobytes} kB/s");
    }
}

#[test]
fn losses_cost_little_more_than_what_is_lost() {
    let blocks = large_blocks(200);
    let link = Link {
        delay: ms(50),
        jitter: ms(20),
        bytes_per_second: 31_000_000,
        loss_percent: 1,
        ..Link::default()
    };
    let (world, leecher, took) = fetch(&blocks, &[link], Rates::default());
    let used = wire_time(&blocks, &link).as_secs_f64() / took.as_secs_f64();
    assert!(used >= 0.5, "{used:.3} used, {took:?}");
    let duplicates = duplicate_bytes(&world, leecher);
    assert!(
        duplicates <= 20 * MIB as u64,
        "{duplicates} bytes came twice"
    );
}

#[test]
fn downloads_keep_to_their_rate() {
    let blocks = large_blocks(60);
    let rates = Rates {
        download: Schedule::constant(2_000_000),
        ..Rates::default()
    };
    let (_, _, took) = fetch(&blocks, &[Link::default(); 2], rates);
    let expected = 60.0 * MIB as f64 / 2e6;
    let ratio = took.as_secs_f64() / expected;
    assert!((0.93..1.07).contains(&ratio), "{took:?}, not {expected} s");
}

fn duplicate_bytes(world: &World, node: usize) -> u64 {
    let peers = world.peers_of(node).into_iter();
    let counts = peers.filter_map(|peer| world.engine(node).counts(&world.nodes[peer].id));
    counts.map(|counts| counts.duplicate_bytes).sum()
}

/// One block after the other through two engines and the wire, without sockets: processor time by
/// what it is for. Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "measures, and asserts nothing"]
#[expect(clippy::print_stderr, reason = "it measures")]
fn engine_throughput() {
    for size in [MIB, 256 << 10, 16 << 10] {
        let count = (1 << 30) / size / 4;
        let blocks: Vec<_> = (0..count as u64).map(|i| block(i, size)).collect();
        let [engine, wire, hash] = pipe::run(&blocks);
        let rate = |time: Duration| (count * size) as f64 / 1e6 / time.as_secs_f64();
        eprintln!(
            "blocks of {size}: engines {:.0} MB/s, with wire {:.0} MB/s, with hash {:.0} MB/s",
            rate(engine),
            rate(engine + wire),
            rate(engine + wire + hash)
        );
    }
}
