//! A fork proof: what parses is written as the same text, and what verifies contradicts itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::fork::{Evidence, UnverifiedFork};

fuzz_target!(|bytes: &[u8]| {
    let Ok(fork) = UnverifiedFork::parse(bytes) else {
        return;
    };
    assert_eq!(fork.to_string().as_bytes(), bytes);
    let signers = fork.signers_unverified().clone();
    let Ok(fork) = fork.verify(&signers) else {
        return;
    };
    assert_eq!(fork.to_string().as_bytes(), bytes);
    match fork.evidence() {
        Evidence::Entries(entries) => {
            let [one, two] = [&entries[0], &entries[1]].map(|entry| entry.draft_unverified());
            assert_eq!((one.epoch, one.seq), (two.epoch, two.seq));
            assert_ne!(one, two);
        }
        Evidence::Roots(checkpoints) => {
            let [one, two] = checkpoints.each_ref().map(|c| c.checkpoint_unverified());
            assert_eq!((one.origin(), one.size()), (two.origin(), two.size()));
            assert_ne!(one.root(), two.root());
        }
        Evidence::Growth { checkpoints, .. } => {
            let [one, two] = checkpoints.each_ref().map(|c| c.checkpoint_unverified());
            assert_eq!(one.origin(), two.origin());
            assert!(one.size() < two.size());
        }
    }
});
