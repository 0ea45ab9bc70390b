//! The file of a federation, and an invite.

#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_agent::federation::{Federation, Invite};

fuzz_target!(|text: &str| {
    if let Ok(federation) = Federation::parse(text) {
        assert_eq!(federation.to_string(), text);
    }
    if let Ok(invite) = text.parse::<Invite>() {
        let again: Invite = invite.to_string().parse().expect("an invite");
        assert_eq!(again, invite);
    }
});
