use data_encoding::HEXLOWER;
use multihash::Multihash;
use proptest::{collection::vec, prelude::*};
use serde::Deserialize;

use super::*;
use crate::block::{Block, CODEC_DAG_PB, CODEC_RAW, raw_cid, sha256};

const DIRECTORIES: &str = include_str!("../../../tests/vectors/dag/directories.json");
const FILES: &str = include_str!("../../../tests/vectors/dag/files.json");
const KUBO_BLOCKS: &str = include_str!("../../../tests/vectors/dag/kubo-blocks.json");

fn number(i: u64) -> Vec<u8> {
    i.to_le_bytes().to_vec()
}

/// The leaf that `tests/vectors/dag/generate` makes of `i`.
fn leaf(i: u64) -> Link {
    let bytes = number(i).repeat(1 + usize::try_from(i % 50).expect("small"));
    Link {
        cid: raw_cid(&sha256(&bytes)),
        tsize: bytes.len() as u64,
    }
}

fn entry(name: impl Into<String>, link: Link) -> Entry {
    Entry {
        name: name.into(),
        cid: link.cid,
        tsize: link.tsize,
    }
}

fn entries(names: &str, count: u64) -> Vec<Entry> {
    let name = |i: u64| match names {
        "cid" => leaf(i).cid.to_string(),
        "number" => format!("file-{i}"),
        "mixed" => format!("é{i} 日本 ~{}", "x".repeat(i as usize % 97)),
        _ if i + 1 < count => format!("{i:094}"),
        "exact" => "z".repeat(15),
        "above" => "z".repeat(16),
        _ => panic!("unknown names {names}"),
    };
    let same = matches!(names, "exact" | "above");
    (0..count)
        .map(|i| entry(name(i), leaf(if same { 49 } else { i })))
        .collect()
}

fn build(entries: Vec<Entry>) -> Result<(Link, Vec<Block>), BuildError> {
    let mut blocks = Vec::new();
    let link = directory::<BuildError>(entries, &mut |block| {
        blocks.push(block);
        Ok(())
    })?;
    Ok((link, blocks))
}

fn decode(bytes: &[u8]) -> Result<Node, NodeError> {
    Node::decode(&Block::node(bytes.to_vec()))
}

#[test]
fn directories_have_the_cids_that_boxo_gives() {
    #[derive(Deserialize)]
    struct Vector {
        names: String,
        count: u64,
        cid: String,
        tsize: u64,
        sharded: bool,
    }
    let vectors: Vec<Vector> = serde_json::from_str(DIRECTORIES).expect("JSON");
    assert_eq!(vectors.iter().filter(|v| v.sharded).count(), 8);
    for vector in vectors {
        let name = format!("{} {}", vector.names, vector.count);
        let mut entries = entries(&vector.names, vector.count);
        entries.reverse();
        let (link, blocks) = build(entries).expect("builds");
        assert_eq!(link.cid.to_string(), vector.cid, "{name}");
        assert_eq!(link.tsize, vector.tsize, "{name}");
        let root = blocks.last().expect("a root");
        assert_eq!(root.cid(), &link.cid);
        let node = Node::decode(root).expect("own node");
        assert_eq!(matches!(node, Node::Shard(_)), vector.sharded, "{name}");
        assert!(blocks.iter().all(|b| b.bytes().len() <= DIRECTORY_SIZE_MAX));
        if vector.names == "exact" {
            assert_eq!(root.bytes().len(), DIRECTORY_SIZE_MAX);
        }
    }
}

#[test]
fn files_have_the_cids_that_boxo_gives() {
    #[derive(Deserialize)]
    struct Vector {
        leaves: u64,
        cid: String,
        tsize: u64,
    }
    let vectors: Vec<Vector> = serde_json::from_str(FILES).expect("JSON");
    for vector in vectors {
        let leaves: Vec<(Cid, u64)> = (0..vector.leaves)
            .map(|i| (raw_cid(&sha256(&number(i))), 8))
            .collect();
        let link = file::<BuildError>(&leaves, &mut |_| Ok(())).expect("builds");
        assert_eq!(link.cid.to_string(), vector.cid, "{}", vector.leaves);
        assert_eq!(link.tsize, vector.tsize, "{}", vector.leaves);
    }
}

#[test]
fn reads_what_kubo_adds_by_default() {
    #[derive(Deserialize)]
    struct Vector {
        name: String,
        cid: String,
        bytes: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(KUBO_BLOCKS).expect("JSON");
    let mut text = Vec::new();
    for vector in vectors {
        let bytes = HEXLOWER.decode(vector.bytes.as_bytes()).expect("hex");
        let cid = vector.cid.parse().expect("a CID");
        let block = Block::verify(cid, bytes).expect("matches");
        let node = Node::decode(&block).expect(&vector.name);
        assert_eq!(node.encode().as_deref(), Some(block.bytes()));
        if let Node::File(file) = node {
            text.extend_from_slice(&file.data);
        }
    }
    assert_eq!(text, b"hello\n0123456789abcdefghij");
}

#[test]
fn refuses_to_build_what_readers_refuse() {
    for name in ["", ".", "..", "a/b", "a\0", &"x".repeat(NAME_LEN_MAX + 1)] {
        let built = build(vec![entry(name, leaf(1))]);
        assert!(matches!(built, Err(BuildError::Name { .. })), "{name:?}");
    }
    for count in [2, 10_000] {
        let mut entries = entries("number", count);
        entries.push(entries[0].clone());
        let built = build(entries);
        assert!(matches!(built, Err(BuildError::Duplicate { .. })));
    }
    let huge = Link {
        tsize: u64::MAX,
        ..leaf(1)
    };
    let built = build(vec![entry("a", huge)]);
    assert!(matches!(built, Err(BuildError::Overflow)));
    let built = file::<BuildError>(&[], &mut |_| Ok(()));
    assert!(matches!(built, Err(BuildError::NoLeaves)));
}

/// A protobuf field: a tag and a length-delimited value.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).expect("short");
    assert!(len < 0x80);
    [&[tag, len], bytes].concat()
}

fn link(name: &[u8]) -> Vec<u8> {
    let cid = leaf(1).cid.to_bytes();
    let fields = [field(0x0a, &cid), field(0x12, name), vec![0x18, 5]].concat();
    field(0x12, &fields)
}

#[test]
fn rejects_hostile_nodes() {
    let cid = leaf(1).cid.to_bytes();
    let dir = field(0x0a, &[8, 1]);
    let shard = |bits: &[u8], tail: &[u8]| {
        let data = [&[8, 5], &field(0x12, bits)[..], tail].concat();
        field(0x0a, &data)
    };
    let tail = [0x28, 0x22, 0x30, 0x80, 0x02];
    let node = |parts: &[&[u8]]| parts.concat();
    let good = [
        dir.clone(),
        node(&[&link(b"a"), &link(b"b"), &dir]),
        node(&[&link(b"01a"), &shard(&[2], &tail)]),
        node(&[
            &link(b"01"),
            &link(b"FFx"),
            &shard(&[&[0x80; 1][..], &[0; 30], &[2]].concat(), &tail),
        ]),
        node(&[&link(b""), &field(0x0a, &[8, 2, 0x18, 5, 0x20, 5])]),
        field(0x0a, &[8, 0, 0x12, 1, 9, 0x18, 1]),
    ];
    for bytes in good {
        let node = decode(&bytes).expect("canonical");
        assert_eq!(node.encode(), Some(bytes));
    }
    let bare = |fields: &[&[u8]]| field(0x12, &fields.concat());
    let hash = field(0x0a, &cid);
    let bad = [
        ("nothing", vec![]),
        ("no data", link(b"a")),
        ("data before links", node(&[&dir, &link(b"a")])),
        ("data twice", node(&[&dir, &dir])),
        ("an unknown field", node(&[&dir, &[0x1a, 0]])),
        ("trailing bytes", node(&[&dir, &[0]])),
        ("a field cut off", vec![0x0a, 5, 8, 1]),
        (
            "a length that is no number",
            [&[0x0a][..], &[0xff; 11]].concat(),
        ),
        ("a huge length", [&[0x0a][..], &[0xff; 9], &[1]].concat()),
        ("a long varint", vec![0x0a, 0x82, 0, 8, 1]),
        ("no type", field(0x0a, &[])),
        ("a symlink", field(0x0a, &[8, 4, 0x12, 1, b'x'])),
        ("metadata", field(0x0a, &[8, 3])),
        ("a mode", field(0x0a, &[8, 1, 0x38, 1])),
        ("a directory with bytes", field(0x0a, &[8, 1, 0x12, 1, 1])),
        ("a directory with a size", field(0x0a, &[8, 1, 0x18, 0])),
        (
            "entries out of order",
            node(&[&link(b"b"), &link(b"a"), &dir]),
        ),
        ("an entry twice", node(&[&link(b"a"), &link(b"a"), &dir])),
        ("an entry without name", node(&[&link(b""), &dir])),
        ("a parent entry", node(&[&link(b".."), &dir])),
        ("a slash", node(&[&link(b"a/b"), &dir])),
        ("a name that is not UTF-8", node(&[&link(&[0xff]), &dir])),
        (
            "no size",
            node(&[&bare(&[&hash, &field(0x12, b"a")]), &dir]),
        ),
        ("no name", node(&[&bare(&[&hash, &[0x18, 5]]), &dir])),
        (
            "no CID",
            node(&[&bare(&[&field(0x12, b"a"), &[0x18, 5]]), &dir]),
        ),
        (
            "a CID cut off",
            node(&[
                &bare(&[&field(0x0a, &cid[..35]), &field(0x12, b"a"), &[0x18, 5]]),
                &dir,
            ]),
        ),
        (
            "a CID and more",
            node(&[
                &bare(&[
                    &field(0x0a, &[&cid[..], &[0]].concat()),
                    &field(0x12, b"a"),
                    &[0x18, 5],
                ]),
                &dir,
            ]),
        ),
        ("no slots", shard(&[], &tail)),
        (
            "a slot without index",
            node(&[&link(b"a"), &shard(&[2], &tail)]),
        ),
        (
            "a slot in lower case",
            node(&[&link(b"0aa"), &shard(&[4, 0], &tail)]),
        ),
        (
            "a slot with a sign",
            node(&[&link(b"+1a"), &shard(&[2], &tail)]),
        ),
        (
            "slots out of order",
            node(&[&link(b"02"), &link(b"01"), &shard(&[6], &tail)]),
        ),
        (
            "a slot twice",
            node(&[&link(b"01"), &link(b"01a"), &shard(&[2], &tail)]),
        ),
        (
            "another bit field",
            node(&[&link(b"01a"), &shard(&[3], &tail)]),
        ),
        (
            "a bit field with zeros first",
            node(&[&link(b"01a"), &shard(&[0, 2], &tail)]),
        ),
        (
            "another hash function",
            node(&[&link(b"01a"), &shard(&[2], &[0x28, 0x23, 0x30, 0x80, 2])]),
        ),
        (
            "another fanout",
            node(&[&link(b"01a"), &shard(&[2], &[0x28, 0x22, 0x30, 0x10])]),
        ),
        (
            "no fanout",
            node(&[&link(b"01a"), &shard(&[2], &[0x28, 0x22])]),
        ),
        (
            "an impossible name in a shard",
            node(&[&link(b"01.."), &shard(&[2], &tail)]),
        ),
        ("a file without size", field(0x0a, &[8, 2])),
        (
            "a file of another size",
            field(0x0a, &[8, 2, 0x12, 1, 9, 0x18, 2]),
        ),
        ("empty bytes said", field(0x0a, &[8, 2, 0x12, 0, 0x18, 0])),
        (
            "a part without length",
            node(&[&link(b""), &field(0x0a, &[8, 2, 0x18, 5])]),
        ),
        (
            "a length without part",
            field(0x0a, &[8, 2, 0x18, 5, 0x20, 5]),
        ),
        (
            "a part with a name",
            node(&[&link(b"a"), &field(0x0a, &[8, 2, 0x18, 5, 0x20, 5])]),
        ),
        (
            "parts and bytes",
            node(&[
                &link(b""),
                &field(0x0a, &[8, 2, 0x12, 1, 9, 0x18, 6, 0x20, 5]),
            ]),
        ),
        (
            "a raw node with parts",
            node(&[&link(b""), &field(0x0a, &[8, 0, 0x18, 5, 0x20, 5])]),
        ),
    ];
    for (name, bytes) in bad {
        assert!(decode(&bytes).is_err(), "{name}");
    }
}

#[test]
fn rejects_sizes_that_overflow() {
    let max = unsigned_varint::encode::u64(u64::MAX, &mut [0; 10]).to_vec();
    let hash = field(0x0a, &leaf(1).cid.to_bytes());
    let link = field(
        0x12,
        &[&hash[..], &field(0x12, b"a"), &[0x18], &max].concat(),
    );
    assert!(decode(&[&link[..], &field(0x0a, &[8, 1])].concat()).is_err());
    let sizes = [&[8, 2, 0x18][..], &max, &[0x20], &max, &[0x20], &max].concat();
    let part = self::link(b"");
    assert!(decode(&[&part[..], &part, &field(0x0a, &sizes)].concat()).is_err());
}

#[test]
fn reads_only_raw_and_dag_pb() {
    let raw = Block::verify(raw_cid(&sha256(b"x")), b"x".to_vec()).expect("matches");
    assert_eq!(Node::decode(&raw).expect("raw"), Node::Raw);
    let cbor = Cid::new_v1(0x71, *raw.cid().hash());
    let cbor = Block::verify(cbor, b"x".to_vec()).expect("matches");
    assert!(matches!(
        Node::decode(&cbor),
        Err(NodeError::Codec { codec: 0x71 })
    ));
}

fn any_cid() -> impl Strategy<Value = Cid> {
    let codec = prop_oneof![Just(CODEC_RAW), Just(CODEC_DAG_PB), 0..1000u64];
    prop_oneof![
        (codec, any::<[u8; 32]>())
            .prop_map(|(codec, digest)| Cid::new_v1(codec, *raw_cid(&digest).hash())),
        any::<[u8; 32]>().prop_map(|digest| Cid::new_v0(*raw_cid(&digest).hash()).expect("v0")),
        vec(any::<u8>(), 0..64).prop_map(|bytes| {
            Cid::new_v1(CODEC_RAW, Multihash::wrap(0, &bytes).expect("fits"))
        }),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let name = "[^/\0]{1,40}".prop_filter("not a dot name", |name| directory::is_name(name));
    (name, any_cid(), 0..u64::MAX >> 8).prop_map(|(name, cid, tsize)| Entry { name, cid, tsize })
}

fn any_slot() -> impl Strategy<Value = Slot> {
    prop_oneof![
        any_entry().prop_map(Slot::Entry),
        (any_cid(), 0..u64::MAX >> 16).prop_map(|(cid, tsize)| Slot::Shard(Link { cid, tsize })),
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let directory = vec(any_entry(), 0..50).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        Node::Directory(entries)
    });
    let shard = proptest::collection::btree_map(any::<u8>(), any_slot(), 1..60)
        .prop_map(|slots| Node::Shard(slots.into_iter().collect()));
    let part = (any_cid(), 0..u64::MAX >> 16, 0..u64::MAX >> 16).prop_map(|(cid, tsize, len)| {
        let link = Link { cid, tsize };
        Part { link, len }
    });
    let parts = vec(part, 1..50).prop_map(|parts| {
        Node::File(File {
            raw: false,
            data: Vec::new(),
            parts,
        })
    });
    let inline = (any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(|(raw, data)| {
        Node::File(File {
            raw,
            data,
            parts: Vec::new(),
        })
    });
    prop_oneof![directory, shard, parts, inline]
}

proptest! {
    #[test]
    fn nodes_round_trip(node in any_node()) {
        let bytes = node.encode().expect("not raw");
        prop_assert_eq!(decode(&bytes).expect("canonical"), node);
    }

    #[test]
    fn a_changed_node_is_refused_or_another(
        node in any_node(),
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let mut bytes = node.encode().expect("not raw");
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(other) = decode(&bytes) {
            prop_assert_ne!(&other, &node);
            prop_assert_eq!(other.encode(), Some(bytes));
        }
    }

    #[test]
    fn the_length_of_a_directory_is_known_before(entries in vec(any_entry(), 0..50)) {
        let bytes = Node::Directory(entries.clone()).encode().expect("not raw");
        prop_assert_eq!(basic_len(entries.iter()), bytes.len() as u64);
    }
}
