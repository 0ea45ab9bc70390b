//! Bitswap messages: what is read is written to something that reads the same.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use souverain_agent::bitswap::message::WireMessage;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = WireMessage::decode(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let mut again = BytesMut::new();
    for part in message.encode() {
        again.extend_from_slice(&part);
    }
    assert_eq!(again.len(), message.encoded_len());
    let read = WireMessage::decode(again.freeze()).expect("just written");
    assert_eq!(read, message);
    let count = message.blocks.len();
    assert_eq!(message.verify().expect("small").blocks.len(), count);
});
