//! A segment list: what parses is written to the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::list::{ListBuilder, parse};

fuzz_target!(|bytes: &[u8]| {
    let Ok(segments) = parse(bytes) else {
        return;
    };
    let mut builder = ListBuilder::default();
    let mut text: String = segments
        .iter()
        .filter_map(|segment| builder.push(segment))
        .map(|list| list.text)
        .collect();
    text.extend(builder.finish().map(|list| list.text));
    assert_eq!(text.as_bytes(), bytes);
});
