//! A checkpoint of a log: what parses is written as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use souverain_protocol::log::{
    checkpoint::{Checkpoint, UnverifiedCheckpoint},
    cosignature::{self, CosignerKey},
    tree::TREE_SIZE_MAX,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = String::from_utf8_lossy(bytes).parse::<CosignerKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let Ok(checkpoint) = UnverifiedCheckpoint::parse(bytes) else {
        return;
    };
    assert_eq!(checkpoint.to_string().as_bytes(), bytes);
    let said = checkpoint.checkpoint_unverified();
    assert!(said.size() <= TREE_SIZE_MAX);
    if said.extensions().is_empty() {
        let again = Checkpoint::new(said.origin().clone(), said.size(), *said.root());
        assert_eq!(again.as_ref(), Ok(said));
    }
    // The base point of the curve: nobody has signed with it.
    let mut key = [0x66; 32];
    key[0] = 0x58;
    for line in checkpoint.note().signatures() {
        if let Ok(key) = CosignerKey::new(line.name(), &key) {
            assert!(cosignature::verify(checkpoint.note(), &key).is_err());
        }
    }
});
