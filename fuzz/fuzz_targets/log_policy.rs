//! A policy of logs and witnesses: all witnesses of what parses are a quorum, and with more of them there
//! never is less of one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::policy::Policy;

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = Policy::parse(bytes) else {
        return;
    };
    assert!(policy.is_quorum(|_| true));
    let mut quorum = false;
    for count in 0..=policy.witnesses().len() {
        let now = policy.is_quorum(|witness| witness < count);
        assert!(now || !quorum);
        quorum = now;
    }
    assert!(quorum);
});
