//! A process that commits is killed at any moment; what it acknowledged is there.

use std::time::{Duration, Instant};

use souverain_store::{Faults, Store, Table};

use crate::{
    block,
    child::{self, Process},
    read,
};

/// Blocks of one round.
const BLOCKS: u32 = 6;

/// Puts, sets and commits round after round, and says each that is durable.
#[test]
#[ignore = "run by other tests as another process"]
fn committer() {
    let faults = Faults::none().with_pack_size(2 << 20).into();
    let store = Store::open_with_faults(&child::home(), "rounds", faults).unwrap();
    let begin = last(&store).map_or(0, |last| last + 1);
    for round in begin..begin + 100_000 {
        for n in 0..BLOCKS {
            store.put(round_block(round, n)).unwrap();
        }
        store
            .set(Table::Snapshots, &round.to_be_bytes(), &[round as u8; 9])
            .unwrap();
        // Replaced each time, by a value of another number of parts.
        let size = (round as usize * 997) % 20_000;
        store
            .set(Table::Units, b"unit", &vec![round as u8; size])
            .unwrap();
        store
            .set(Table::Config, b"last", &round.to_be_bytes())
            .unwrap();
        store.commit().unwrap();
        child::say(&round.to_string());
    }
}

fn round_block(round: u32, n: u32) -> protocol::block::Block {
    let seed = round * BLOCKS + n;
    block(seed, 100 + (seed as usize * 7_919) % 60_000)
}

fn last(store: &Store) -> Option<u32> {
    let bytes = store.value(Table::Config, b"last").unwrap()?;
    Some(u32::from_be_bytes(bytes.try_into().unwrap()))
}

/// Checks that a store holds the rounds up to the last one, each in whole, and nothing else.
fn check(store: &Store, from: u32) -> Option<u32> {
    let last = last(store);
    let rounds = last.map_or(0, |last| last + 1);
    assert_eq!(store.blocks().unwrap().count, u64::from(rounds * BLOCKS));
    assert_eq!(store.scan(Table::Snapshots).count(), rounds as usize);
    for round in from..rounds {
        for n in 0..BLOCKS {
            assert!(read(store, &round_block(round, n)).is_some(), "{round}");
        }
        let value = store.value(Table::Snapshots, &round.to_be_bytes());
        assert_eq!(value.unwrap().unwrap(), [round as u8; 9]);
    }
    if let Some(round) = last {
        let unit = store.value(Table::Units, b"unit").unwrap().unwrap();
        assert_eq!(unit, vec![round as u8; (round as usize * 997) % 20_000]);
    }
    for n in 0..BLOCKS {
        assert!(!store.contains(round_block(rounds, n).cid()).unwrap());
    }
    last
}

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let kills: u64 = std::env::var("SOUVERAIN_KILLS").map_or(100, |n| n.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let (mut random, mut checked) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut process = Process::start("kill::committer", home.path());
        let mut acknowledged = None;
        // Some are killed before they have opened the store.
        for _ in 0..random % 5 {
            acknowledged = process.hear();
            assert!(acknowledged.is_some(), "kill {kill}: the process failed");
        }
        let moment = Instant::now() + Duration::from_micros(random >> 40 & 0x3fff);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        process.child.kill().unwrap();
        while let Some(round) = process.hear() {
            acknowledged = Some(round);
        }
        process.child.wait().unwrap();
        let store = Store::open(home.path(), "check").unwrap();
        let last = check(&store, checked);
        checked = last.map_or(0, |last| last + 1);
        if let Some(round) = acknowledged {
            let round: u32 = round.parse().unwrap();
            assert!(last.is_some_and(|last| last >= round), "kill {kill}");
        }
    }
    let store = Store::open(home.path(), "check").unwrap();
    let rounds = check(&store, 0).unwrap() + 1;
    assert!(u64::from(rounds) > kills, "{rounds} rounds");
}
