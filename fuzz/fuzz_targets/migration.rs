//! The statement of a migration: what parses is encoded to the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::migration::Migration;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(migration) = Migration::parse(text) {
        assert_eq!(migration.encode(), text);
    }
});
