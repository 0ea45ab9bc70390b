//! What a replica of a thousand logs of ten thousand entries holds in memory.
//!
//! Alone in its program, so that nothing else is measured.
#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "only what makes logs is needed")]
#[path = "log_simulation/logs.rs"]
mod logs;

use logs::{Branch, cosigned};
use souverain_protocol::log::{
    checkpoint::Checkpoint,
    replica::{Config, Input, Kept, Member, Replica},
    tree::{Edge, leaf_hash},
};

const LOGS: u64 = 1_000;
const ENTRIES: u64 = 10_000;
const MEMORY_MAX: u64 = 256 << 20;

/// Memory of this program in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number") * 4096
}

#[test]
fn a_replica_of_a_thousand_logs_fits_into_256_mib() {
    let mut edge = Edge::new();
    for index in 0..ENTRIES {
        edge.push(leaf_hash(&index.to_le_bytes())).expect("room");
    }
    let before = resident();
    let mut replica = Replica::new(Config::default());
    for number in 0..LOGS {
        let branch = Branch::new(number);
        let origin = branch.origin().clone();
        let checkpoint = Checkpoint::new(origin.clone(), ENTRIES, edge.root());
        let signed = branch.signed(checkpoint.expect("a checkpoint"));
        let kept = Box::new(Kept {
            edge: edge.clone(),
            // With more signatures than most have.
            checkpoint: Some((0..5).fold(signed, cosigned)),
            ..branch.kept(1)
        });
        let member = Member {
            origin,
            roles: Vec::new(),
        };
        replica.handle(
            0,
            Input::Follow {
                member,
                kept: Some(kept),
            },
        );
    }
    let held = resident().saturating_sub(before);
    assert!(held <= MEMORY_MAX, "{held} bytes");
    // Far less, so that what is on its way has room.
    assert!(held <= MEMORY_MAX / 8, "{held} bytes");
    drop(replica);
}
