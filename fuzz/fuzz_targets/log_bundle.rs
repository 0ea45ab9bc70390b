//! The root of a bundle: what parses is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::bundle::{BUNDLE_ROOT_SIZE_MAX, Bundle, Trust, verify};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::parse(bytes) else {
        return;
    };
    assert_eq!(bundle.encode(), bytes);
    assert!(bytes.len() <= BUNDLE_ROOT_SIZE_MAX);
    // Without its entries it proves nothing.
    assert!(verify(&bundle, Vec::new(), Trust::default()).is_err());
});
