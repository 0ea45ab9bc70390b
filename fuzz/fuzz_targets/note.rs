//! A signed note: what parses has its text in front, and no key signed it that did not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::note::{UnverifiedNote, VerifierKey};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = String::from_utf8_lossy(bytes).parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let Ok(note) = UnverifiedNote::parse(bytes) else {
        return;
    };
    let text = note.text_unverified();
    assert!(bytes.starts_with(format!("{text}\n\u{2014} ").as_bytes()));
    // The base point of the curve: nobody has signed with it.
    let mut key = [0x66; 32];
    key[0] = 0x58;
    let key = VerifierKey::new("nobody", &key).expect("a point of the curve");
    assert!(note.verify(&key).is_err());
});
