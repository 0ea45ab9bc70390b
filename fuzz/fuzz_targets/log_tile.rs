//! The path of a tile, and after a newline what is in it: what parses is written as the same text and
//! bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::{
    tile::{TileKind, TilePath, UnverifiedTile, encode_bundle, parse_bundle},
    tree::TREE_SIZE_MAX,
};

fuzz_target!(|bytes: &[u8]| {
    let (path, content) = match bytes.iter().position(|&b| b == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let Ok(text) = std::str::from_utf8(path) else {
        return;
    };
    let Ok(path) = text.parse::<TilePath>() else {
        return;
    };
    assert_eq!(path.to_string(), text);
    assert!(path.is_in(TREE_SIZE_MAX));
    match path.kind() {
        TileKind::Hashes(level) => {
            if let Ok(tile) = UnverifiedTile::new(path, content) {
                assert_eq!(tile.bytes(), content);
                let first = path.index() * 256;
                assert_eq!(tile.node(8 * level, first), Ok(tile.hashes()[0]));
            }
        }
        TileKind::Entries => {
            if let Ok(entries) = parse_bundle(path, content) {
                assert_eq!(entries.len(), usize::from(path.width()));
                assert_eq!(encode_bundle(&entries).as_deref(), Ok(content));
            }
        }
    }
});
