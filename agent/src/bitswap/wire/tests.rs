use bytes::{Bytes, BytesMut};
use cid::Cid;
use proptest::prelude::*;
use protocol::block::raw_cid;

use super::*;
use crate::bitswap::message::Wantlist;

fn whole(message: &WireMessage) -> Bytes {
    let mut out = BytesMut::new();
    for part in message.encode() {
        out.extend_from_slice(&part);
    }
    out.freeze()
}

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|c| char::from(c).to_digit(16))
        .map(|digit| u8::try_from(digit).expect("one digit"))
        .collect();
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

fn cid_v0(digest: &[u8; 32]) -> Cid {
    Cid::new_v0(*raw_cid(digest).hash()).expect("sha2-256")
}

/// A want-block, as boxo's encoder writes it, with every field.
const WANT: &str =
    "0a 30  0a 2c  0a 24 01551220 1111111111111111111111111111111111111111111111111111111111111111
    10 07  20 01  28 01  10 01";

#[test]
fn reads_and_writes_known_bytes() {
    let message = WireMessage {
        wantlist: Wantlist {
            entries: vec![Entry {
                cid: raw_cid(&[0x11; 32]),
                priority: 7,
                request: Request::Have,
                send_dont_have: true,
            }],
            full: true,
        },
        ..WireMessage::default()
    };
    assert_eq!(whole(&message), hex(WANT));
    assert_eq!(WireMessage::decode(hex(WANT)).expect("valid"), message);

    let block = hex("1a 0b  0a 04 01551220  12 03 616263  28 05");
    let message = WireMessage::decode(block.clone()).expect("valid");
    assert_eq!(message.blocks[0].bytes, "abc");
    assert_eq!(message.blocks[0].prefix, Prefix::V1 { codec: 0x55 });
    assert_eq!(message.pending_bytes, 5);
    assert_eq!(whole(&message), block);
}

#[test]
fn reads_what_others_write_differently() {
    let cases = [
        ("blocks of 1.0.0", "12 03 616263"),
        ("a prefix of a CIDv0", "1a 0b  0a 04 00701220  12 03 616263"),
        ("data before prefix", "1a 0b  12 03 616263  0a 04 00701220"),
        (
            "an unknown number",
            "1a 0b  0a 04 00701220  12 03 616263  78 01",
        ),
        (
            "an unknown string",
            "1a 0b  0a 04 00701220  12 03 616263  7a 02 0000",
        ),
        ("unknown fixed64", "79 0000000000000000  12 03 616263"),
        ("unknown fixed32", "7d 00000000  12 03 616263"),
        ("a longer varint", "12 8300 616263"),
        (
            "negative pending bytes",
            "12 03 616263  28 ffffffffffffffffff01",
        ),
        (
            "pending bytes above an int32",
            "12 03 616263  28 8080808008",
        ),
    ];
    for (what, bytes) in cases {
        let message = WireMessage::decode(hex(bytes)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(message.blocks.len(), 1, "{what}");
        assert_eq!(message.blocks[0].bytes, "abc", "{what}");
        assert_eq!(message.blocks[0].prefix, Prefix::V0, "{what}");
        assert_eq!(message.pending_bytes, 0, "{what}");
    }
}

#[test]
fn skips_entries_about_digests_that_it_cannot_hold() {
    // sha2-512 would fit; this is a digest of 65 bytes.
    let long = format!("0a 49 0a 47 0a 45 015500 41 {}", "00".repeat(65));
    let message = WireMessage::decode(hex(&long)).expect("well-formed");
    assert!(message.is_empty());
}

#[test]
fn rejects_malformed_messages() {
    let cases = [
        ("a cut-off tag", "80"),
        ("a cut-off length", "0a"),
        ("a cut-off field", "0a 05 00"),
        ("a length above 64 bits", "0a ffffffffffffffffff02"),
        ("a length of eleven bytes", "0a 8080808080808080808001"),
        ("a group", "0b"),
        ("a wantlist that is a number", "08 01"),
        ("a payload that is fixed32", "1d 00000000"),
        ("pending bytes that are bytes", "2a 00"),
        ("an entry without a CID", "0a 02 0a 00"),
        ("an empty CID", "0a 04 0a 02 0a 00"),
        ("a CID cut off", "0a 08 0a 06 0a 04 01551220"),
        ("a presence without a CID", "22 02 10 01"),
        ("a block without a prefix", "1a 05 12 03 616263"),
        (
            "a prefix of version 2",
            "1a 0b  0a 04 02551220  12 03 616263",
        ),
        (
            "a prefix of version 0 and raw",
            "1a 0b  0a 04 00551220  12 03 616263",
        ),
        (
            "a prefix of a short digest",
            "1a 0b  0a 04 01551214  12 03 616263",
        ),
        (
            "a prefix with more in it",
            "1a 0c  0a 05 0155122000  12 03 616263",
        ),
        ("a prefix of BLAKE3", "1a 0b  0a 04 01551e20  12 03 616263"),
    ];
    for (what, bytes) in cases {
        assert!(WireMessage::decode(hex(bytes)).is_err(), "{what}");
    }
    let digest = "11".repeat(32);
    for (what, bytes) in [
        (
            "bytes after a CID",
            format!("0a 29 0a 27 0a 25 01551220{digest}00"),
        ),
        (
            "an unknown want type",
            format!("0a 2a 0a 28 0a 24 01551220{digest} 20 02"),
        ),
        (
            "an unknown presence",
            format!("22 28 0a 24 01551220{digest} 10 02"),
        ),
    ] {
        assert!(WireMessage::decode(hex(&bytes)).is_err(), "{what}");
    }
}

#[test]
fn rejects_what_is_over_a_limit() {
    assert!(matches!(
        WireMessage::decode(Bytes::from(vec![0; MESSAGE_SIZE_MAX + 1])),
        Err(MessageError::TooLarge { .. })
    ));
    let with_blocks = |sizes: &[usize]| WireMessage {
        blocks: sizes
            .iter()
            .map(|&size| Payload::new(&raw_cid(&[0; 32]), vec![7; size].into()))
            .collect(),
        ..WireMessage::default()
    };
    let largest = whole(&with_blocks(&[BLOCK_SIZE_MAX]));
    assert!(WireMessage::decode(largest).is_ok());
    assert!(matches!(
        WireMessage::decode(whole(&with_blocks(&[BLOCK_SIZE_MAX + 1]))),
        Err(MessageError::BlockTooLarge { .. })
    ));
    assert!(matches!(
        WireMessage::decode(whole(&with_blocks(&vec![0; BLOCKS_PER_MESSAGE_MAX + 1]))),
        Err(MessageError::TooManyBlocks)
    ));

    let entry = Entry {
        cid: raw_cid(&[1; 32]),
        priority: 1,
        request: Request::Block,
        send_dont_have: false,
    };
    let mut message = WireMessage::default();
    message.wantlist.entries = vec![entry; ENTRIES_PER_MESSAGE_MAX];
    assert!(WireMessage::decode(whole(&message)).is_ok());
    message.wantlist.entries.push(entry);
    assert!(matches!(
        WireMessage::decode(whole(&message)),
        Err(MessageError::TooManyEntries)
    ));
    let presence = Presence {
        cid: entry.cid,
        have: true,
    };
    let message = WireMessage {
        presences: vec![presence; PRESENCES_PER_MESSAGE_MAX + 1],
        ..WireMessage::default()
    };
    assert!(matches!(
        WireMessage::decode(whole(&message)),
        Err(MessageError::TooManyPresences)
    ));
    let long = format!("22 ac01 0a a901 {}", "00".repeat(169));
    assert!(matches!(
        WireMessage::decode(hex(&long)),
        Err(MessageError::CidTooLong { size: 169 })
    ));
}

#[test]
fn large_blocks_are_not_copied() {
    let bytes = Bytes::from(vec![1; 1 << 20]);
    let message = WireMessage {
        blocks: vec![Payload::new(&raw_cid(&[0; 32]), bytes.clone())],
        ..WireMessage::default()
    };
    let parts = message.encode();
    assert!(parts.iter().any(|part| part.as_ptr() == bytes.as_ptr()));
    let received = whole(&message);
    let payload = WireMessage::decode(received.clone()).expect("valid").blocks;
    assert!(received.as_ptr_range().contains(&payload[0].bytes.as_ptr()));
}

#[test]
fn a_small_block_does_not_keep_a_large_message_in_memory() {
    let block = whole(&WireMessage {
        blocks: vec![Payload::new(&raw_cid(&[0; 32]), vec![1; 1_000].into())],
        ..WireMessage::default()
    });
    for (padding, shares) in [(0, true), (500, true), (2_000, false)] {
        // A field that is not known, of so many bytes.
        let padded = [
            &block[..],
            &[0x7a],
            &[0x80 | padding as u8 & 0x7f],
            &[(padding >> 7) as u8],
        ];
        let bytes = Bytes::from([padded.concat(), vec![0; padding]].concat());
        let message = WireMessage::decode(bytes.clone()).expect("valid");
        let came = &message.blocks[0].bytes;
        assert_eq!(*came, vec![1; 1_000]);
        assert_eq!(
            bytes.as_ptr_range().contains(&came.as_ptr()),
            shares,
            "{padding}"
        );
    }
}

#[test]
fn a_block_is_known_by_its_hash_alone() {
    let message = WireMessage {
        blocks: vec![Payload::new(&cid_v0(&[9; 32]), Bytes::from_static(b"abc"))],
        ..WireMessage::default()
    };
    let verified = message.verify().expect("small");
    assert_eq!(
        *verified.blocks[0].digest(),
        protocol::block::sha256(b"abc")
    );
}

fn any_message() -> impl Strategy<Value = WireMessage> {
    let cid = (any::<[u8; 32]>(), 0..3_u8, any::<u64>()).prop_map(|(digest, form, codec)| {
        let raw = raw_cid(&digest);
        match form {
            0 => cid_v0(&digest),
            1 => raw,
            _ => Cid::new_v1(codec >> 1, *raw.hash()),
        }
    });
    let request = prop_oneof![
        Just(Request::Block),
        Just(Request::Have),
        Just(Request::Cancel)
    ];
    let entry = (cid.clone(), any::<i32>(), request, any::<bool>()).prop_map(
        |(cid, priority, request, send_dont_have)| Entry {
            cid,
            priority,
            request,
            send_dont_have,
        },
    );
    let payload = (cid.clone(), 0..20_000_usize)
        .prop_map(|(cid, size)| Payload::new(&cid, vec![3; size].into()));
    let presence = (cid, any::<bool>()).prop_map(|(cid, have)| Presence { cid, have });
    (
        prop::collection::vec(entry, 0..20),
        any::<bool>(),
        prop::collection::vec(payload, 0..5),
        prop::collection::vec(presence, 0..20),
        0..=i32::MAX as u32,
    )
        .prop_map(
            |(entries, full, blocks, presences, pending_bytes)| WireMessage {
                wantlist: Wantlist { entries, full },
                blocks,
                presences,
                pending_bytes,
            },
        )
}

proptest! {
    #[test]
    fn reads_what_it_writes(message in any_message()) {
        let bytes = whole(&message);
        prop_assert_eq!(bytes.len(), message.encoded_len());
        prop_assert_eq!(WireMessage::decode(bytes).expect("valid"), message);
    }
}
