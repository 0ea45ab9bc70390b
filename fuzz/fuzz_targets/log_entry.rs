//! An entry of a log: what parses is written as the same bytes, and nobody signed it by chance.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::{
    log::{
        detail::{Details, Disclosure},
        entry::{ENTRY_SIZE_MAX, UnverifiedEntry},
        tree::Edge,
    },
    note::PublicKey,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(details) = Details::parse(bytes) {
        assert_eq!(details.encode(), bytes);
    }
    if let Ok(disclosure) = Disclosure::parse(bytes) {
        assert_eq!(disclosure.encode(), bytes);
    }
    if let Ok(edge) = Edge::from_bytes(bytes) {
        assert_eq!(edge.to_bytes(), bytes);
    }
    let Ok(entry) = UnverifiedEntry::parse(bytes) else {
        return;
    };
    assert_eq!(entry.bytes(), bytes);
    assert!(bytes.len() <= ENTRY_SIZE_MAX);
    // The base point of the curve: nobody has signed with it.
    let mut key = [0x66; 32];
    key[0] = 0x58;
    let key = PublicKey::new(&key).expect("a point of the curve");
    assert!(entry.verify(&key).is_err());
});
