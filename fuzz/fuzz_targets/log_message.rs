//! What replicas say to each other: what decodes is encoded as the same bytes, and keeps to the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::replica::{Message, limits};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    assert_eq!(message.encode(), bytes);
    match message {
        Message::Announce(checkpoint) => {
            assert!(checkpoint.to_string().len() <= limits::HEAD_SIZE_MAX);
        }
        Message::Fork(fork) => {
            assert!(fork.to_string().len() <= limits::FORK_TOLD_SIZE_MAX);
        }
        Message::Frontiers(frontiers) => {
            assert!(frontiers.heads.len() <= limits::HEADS_PER_MESSAGE_MAX);
        }
        Message::Request(_) => {}
        Message::Range(range) => {
            let size: usize = range.entries.iter().map(Vec::len).sum();
            assert!(size <= limits::RANGE_SIZE_MAX);
            assert!(range.entries.len() <= limits::RANGE_ENTRIES_MAX);
            assert!(range.changes.len() <= limits::CHANGES_MAX);
        }
    }
});
