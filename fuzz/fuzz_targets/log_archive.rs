//! The index of a log's archives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::archive::ArchiveIndex;

fuzz_target!(|text: &str| {
    if let Ok(index) = text.parse::<ArchiveIndex>() {
        assert_eq!(index.to_string(), text);
        for archived in index.archives() {
            assert_eq!(index.of_entry(archived.first), Some(archived));
            assert_eq!(index.of_entry(archived.end - 1), Some(archived));
        }
    }
});
