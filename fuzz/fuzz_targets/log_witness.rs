//! What is asked of a witness, and what it answers: what parses is written the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::{replica::AddCheckpoint, witness::Said};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.to_string().as_bytes(), bytes);
    }
    for status in [200, 409, 422] {
        let written = match Said::parse(status, bytes) {
            Ok(Said::Cosigned(lines)) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Ok(Said::Conflict { size }) => format!("{size}\n"),
            Ok(Said::Refused { .. }) | Err(_) => continue,
        };
        assert_eq!(written.as_bytes(), bytes);
    }
});
