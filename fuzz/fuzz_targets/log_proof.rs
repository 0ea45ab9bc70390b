//! A proof that an entry is in a log: what parses is written as the same text, and proves nothing of a
//! leaf that nobody has.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::{proof::UnverifiedProof, tree::verify_inclusion};

fuzz_target!(|bytes: &[u8]| {
    let Ok(proof) = UnverifiedProof::parse(bytes) else {
        return;
    };
    assert_eq!(proof.to_string().as_bytes(), bytes);
    let checkpoint = proof.checkpoint_unverified().checkpoint_unverified();
    let (index, size) = (proof.index_unverified(), checkpoint.size());
    let verified = verify_inclusion(&[0; 32], index, size, &[], checkpoint.root());
    assert!(verified.is_err() || size == 1);
});
