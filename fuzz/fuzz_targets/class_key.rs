//! Class keys: what parses is printed as the same key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use secrecy::ExposeSecret;
use souverain_protocol::keys::{ClassIdentity, ClassRecipient};

fuzz_target!(|text: &str| {
    if let Ok(identity) = text.parse::<ClassIdentity>() {
        let secret = identity.to_secret_string();
        assert!(secret.expose_secret().eq_ignore_ascii_case(text));
        let again: ClassIdentity = secret.expose_secret().parse().expect("just printed");
        assert!(again.to_public() == identity.to_public());
    }
    if let Ok(recipient) = text.parse::<ClassRecipient>() {
        let printed = recipient.to_string();
        assert!(printed.eq_ignore_ascii_case(text));
        assert!(printed.parse::<ClassRecipient>().expect("just printed") == recipient);
    }
});
