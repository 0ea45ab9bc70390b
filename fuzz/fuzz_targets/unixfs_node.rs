//! A public node: what decodes is encoded to the same bytes.
#![no_main]

use cid::{Cid, multihash::Multihash};
use libfuzzer_sys::fuzz_target;
use souverain_protocol::{
    block::{Block, CODEC_DAG_PB, HASH_SHA2_256, sha256},
    unixfs::Node,
};

fuzz_target!(|bytes: &[u8]| {
    let hash = Multihash::wrap(HASH_SHA2_256, &sha256(bytes)).expect("32 bytes fit");
    let cid = Cid::new_v1(CODEC_DAG_PB, hash);
    let block = Block::verify(cid, bytes.to_vec()).expect("its own hash");
    if let Ok(node) = Node::decode(&block) {
        assert_eq!(node.encode().as_deref(), Some(bytes));
    }
});
