//! The text of a capsule: what parses is made of exactly its epochs and identities.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret;
use souverain_protocol::keys::capsule::Capsule;

fuzz_target!(|bytes: &[u8]| {
    let Ok(capsule) = Capsule::parse(bytes) else {
        return;
    };
    let mut text = String::from("# souverain capsule 1\n");
    for (epoch, identity) in capsule.iter() {
        let secret = identity.to_secret_string();
        text.push_str(&format!("# {epoch}\n{}\n", secret.expose_secret()));
    }
    assert_eq!(text.as_bytes(), bytes);
});
