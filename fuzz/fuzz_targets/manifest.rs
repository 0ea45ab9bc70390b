//! A manifest: what parses is encoded to the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        assert_eq!(manifest.encode().as_bytes(), bytes);
    }
});
