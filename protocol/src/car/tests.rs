use std::io::Cursor;

use data_encoding::HEXLOWER;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::block::{Block, CODEC_RAW, raw_cid, sha256};

const CARS: &str = include_str!("../../../tests/vectors/dag/cars.json");

fn block(bytes: &[u8]) -> Block {
    Block::verify(raw_cid(&sha256(bytes)), bytes.to_vec()).expect("matches")
}

fn node(bytes: &[u8]) -> Block {
    Block::node(bytes.to_vec())
}

fn read(bytes: &[u8]) -> Result<(Vec<Cid>, Vec<Block>), CarError> {
    let mut reader = Reader::new(bytes)?;
    let blocks = reader.by_ref().collect::<Result<_, _>>()?;
    Ok((reader.roots().to_vec(), blocks))
}

#[test]
fn what_is_written_reads_back() {
    let blocks = [
        block(b""),
        block(b"one"),
        node(b"two"),
        block(&[7; 2 << 20]),
    ];
    for roots in [vec![], vec![*blocks[1].cid()], vec![*blocks[2].cid(); 3]] {
        let mut writer = Writer::new(Vec::new(), &roots).expect("writes");
        for block in &blocks {
            writer.write(block).expect("writes");
        }
        let car = writer.finish().expect("flushes");
        assert_eq!(read(&car).expect("reads"), (roots, blocks.to_vec()));
    }
}

#[test]
fn the_root_can_be_written_later() {
    let (leaf, root) = (block(b"leaf"), node(b"root"));
    let mut writer = Writer::with_root_later(Cursor::new(Vec::new())).expect("writes");
    writer.write(&leaf).expect("writes");
    writer.set_root(root.cid()).expect("fits");
    writer.write(&root).expect("writes");
    let late = writer.finish().expect("flushes").into_inner();
    let mut writer = Writer::new(Vec::new(), &[*root.cid()]).expect("writes");
    writer.write(&leaf).expect("writes");
    writer.write(&root).expect("writes");
    assert_eq!(late, writer.finish().expect("flushes"));
    let identity = Cid::new_v1(
        CODEC_RAW,
        multihash::Multihash::wrap(0, b"hi").expect("fits"),
    );
    let mut writer = Writer::with_root_later(Cursor::new(Vec::new())).expect("writes");
    assert!(writer.set_root(&identity).is_err());
}

#[test]
fn a_car_without_roots_ends_with_its_root() {
    let mut writer = Writer::new(Vec::new(), &[]).expect("writes");
    for block in [node(b"child"), node(b"root"), block(b"leaf")] {
        writer.write(&block).expect("writes");
    }
    let car = writer.finish().expect("flushes");
    let mut reader = Reader::new(&car[..]).expect("reads");
    assert_eq!(reader.by_ref().count(), 3);
    assert_eq!(reader.last_node(), Some(node(b"root").cid()));
    assert_eq!(reader.offset(), car.len() as u64);
}

#[test]
fn reads_what_go_car_writes() {
    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        roots: Vec<String>,
        blocks: Vec<String>,
        bytes: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(CARS).expect("JSON");
    assert_eq!(vectors.len(), 6);
    for vector in vectors {
        let car = HEXLOWER.decode(vector.bytes.as_bytes()).expect("hex");
        let (roots, blocks) = read(&car).expect(&vector.name);
        let names = |cids: &mut dyn Iterator<Item = &Cid>| -> Vec<String> {
            cids.map(Cid::to_string).collect()
        };
        assert_eq!(names(&mut roots.iter()), vector.roots);
        assert_eq!(names(&mut blocks.iter().map(Block::cid)), vector.blocks);
        let version = Reader::new(&car[..]).expect("reads").version();
        assert_eq!(version, if vector.name.starts_with("v2") { 2 } else { 1 });
        if version == 1 {
            let mut writer = Writer::new(Vec::new(), &roots).expect("writes");
            blocks.iter().for_each(|b| writer.write(b).expect("writes"));
            assert_eq!(writer.finish().expect("flushes"), car, "{}", vector.name);
        }
        let number = |at: usize| u64::from_le_bytes(car[at..at + 8].try_into().expect("8"));
        let end = match version {
            1 => car.len(),
            // What is behind the data is not read.
            _ => usize::try_from(number(27) + number(35)).expect("small"),
        };
        let cuts: Vec<usize> = (0..end).filter(|&at| read(&car[..at]).is_ok()).collect();
        // A CARv1 may end after any block; a CARv2 says where it ends.
        let wholes = if version == 1 { blocks.len() } else { 0 };
        assert_eq!(cuts.len(), wholes, "{}: {cuts:?}", vector.name);
    }
}

#[test]
fn header_of_one_root_has_a_fixed_length() {
    let header = header_bytes(&[*node(b"x").cid()]);
    assert_eq!(header.len(), HEADER_LEN_ONE_ROOT);
    assert_eq!(
        header,
        [
            &b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"[..],
            &node(b"x").cid().to_bytes(),
            b"\x67version\x01"
        ]
        .concat()
    );
}

fn car(header: &[u8], sections: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![u8::try_from(header.len()).expect("short")];
    out.extend_from_slice(header);
    out.extend_from_slice(&sections.concat());
    out
}

#[test]
fn accepts_fields_of_the_header_in_any_order() {
    let bytes = car(b"\xa2\x67version\x01\x65roots\x80", &[]);
    assert_eq!(read(&bytes).expect("valid"), (vec![], vec![]));
}

#[test]
fn rejects_hostile_headers() {
    let cid = node(b"x").cid().to_bytes();
    let root = |prefix: &[u8], cid: &[u8], suffix: &[u8]| {
        let body = [
            b"\xa2\x65roots\x81",
            prefix,
            cid,
            suffix,
            b"\x67version\x01",
        ]
        .concat();
        car(&body, &[])
    };
    let good = root(b"\xd8\x2a\x58\x25\0", &cid, b"");
    assert!(read(&good).is_ok());
    let long = [&[0xff, 0xff, 0x7f][..], &[0; 100]].concat();
    let bad = [
        ("nothing", vec![]),
        ("an empty header", vec![0]),
        ("a header cut off", good[..30].to_vec()),
        ("a header that is too long", long),
        ("a long varint", [&[0xba, 0x00][..], &good[1..]].concat()),
        ("an endless varint", vec![0xff; 20]),
        ("not a map", car(b"\x82\x65roots\x80", &[])),
        (
            "an endless map",
            car(b"\xbf\x65roots\x80\x67version\x01\xff", &[]),
        ),
        ("no version", car(b"\xa1\x65roots\x80", &[])),
        ("no roots", car(b"\xa1\x67version\x01", &[])),
        ("version 0", car(b"\xa2\x65roots\x80\x67version\x00", &[])),
        (
            "version 2 with roots",
            car(b"\xa2\x65roots\x80\x67version\x02", &[]),
        ),
        ("version 3", car(b"\xa2\x65roots\x80\x67version\x03", &[])),
        (
            "a long version",
            car(b"\xa2\x65roots\x80\x67version\x18\x01", &[]),
        ),
        (
            "a text version",
            car(b"\xa2\x65roots\x80\x67version\x611", &[]),
        ),
        (
            "a field twice",
            car(b"\xa3\x65roots\x80\x65roots\x80\x67version\x01", &[]),
        ),
        (
            "an unknown field",
            car(b"\xa3\x65roots\x80\x67version\x01\x61x\x00", &[]),
        ),
        ("a lying map", car(b"\xa3\x65roots\x80\x67version\x01", &[])),
        (
            "a huge array",
            car(
                b"\xa2\x65roots\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x67version\x01",
                &[],
            ),
        ),
        (
            "a huge text",
            car(b"\xa2\x7b\xff\xff\xff\xff\xff\xff\xff\xff", &[]),
        ),
        (
            "more bytes",
            car(b"\xa2\x65roots\x80\x67version\x01\x00", &[]),
        ),
        ("a root that is no tag", root(b"\x58\x25\0", &cid, b"")),
        (
            "a root of another tag",
            root(b"\xd8\x2b\x58\x25\0", &cid, b""),
        ),
        (
            "a root without its zero",
            root(b"\xd8\x2a\x58\x24", &cid, b""),
        ),
        ("a root of nothing", root(b"\xd8\x2a\x40", b"", b"")),
        (
            "a root cut off",
            root(b"\xd8\x2a\x58\x24\0", &cid[..35], b""),
        ),
        ("a root and more", root(b"\xd8\x2a\x58\x26\0", &cid, b"\0")),
        ("version 2 cut off", header::V2_PRAGMA.to_vec()),
        ("version 2 with data in its header", v2(50, 1, &good)),
        ("version 2 with data nowhere", v2(u64::MAX, u64::MAX, &good)),
        ("version 2 with data behind the end", v2(1000, 10, &good)),
        (
            "version 2 with too little data",
            v2(51, good.len() as u64 - 1, &good),
        ),
        ("version 2 with no data", v2(51, 0, &good)),
        (
            "version 2 in version 2",
            v2(51, 200, &v2(51, good.len() as u64, &good)),
        ),
    ];
    for (name, bytes) in bad {
        assert!(read(&bytes).is_err(), "{name}");
    }
    assert!(read(&v2(51, good.len() as u64, &good)).is_ok());
    assert!(matches!(
        read(&car(b"\xa2\x65roots\x80\x67version\x03", &[])),
        Err(CarError::Version { version: 3 })
    ));
}

fn v2(start: u64, size: u64, data: &[u8]) -> Vec<u8> {
    let mut out = header::V2_PRAGMA.to_vec();
    out.extend_from_slice(&[0; 16]);
    for number in [start, size, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(data);
    out
}

#[test]
fn rejects_hostile_sections() {
    let header = header_bytes(&[]);
    let good = block(b"good");
    let cid = good.cid().to_bytes();
    let section = |len: &[u8], cid: &[u8], bytes: &[u8]| [&header[..], len, cid, bytes].concat();
    assert!(read(&section(&[40], &cid, b"good")).is_ok());
    let sha1 = [&[1, 0x55, 0x11, 20][..], &[0; 20]].concat();
    let bad = [
        ("an empty section", section(&[0], b"", b"")),
        (
            "an empty section at the end",
            section(&[40], &cid, b"good\0"),
        ),
        ("a length cut off", section(&[0x80], b"", b"")),
        ("a long varint", section(&[0xa8, 0], &cid, b"good")),
        ("an endless varint", section(&[0xff; 11], b"", b"")),
        (
            "a huge length",
            section(&[0xff, 0xff, 0xff, 0xff, 0x0f], &cid, b"good"),
        ),
        ("a block cut off", section(&[40], &cid, b"goo")),
        ("a CID cut off", section(&[35], &cid[..35], b"")),
        (
            "a long varint in a CID",
            section(&[41], &[&[0x81, 0], &cid[1..]].concat(), b"good"),
        ),
        ("another block", section(&[40], &cid, b"evil")),
        ("another hash function", section(&[28], &sha1, b"good")),
        ("more behind", section(&[40], &cid, b"good\x05")),
    ];
    for (name, bytes) in bad {
        assert!(read(&bytes).is_err(), "{name}");
    }
    let twice = section(&[40], &cid, &[b"evil\x28", &cid[..], b"good"].concat());
    let mut reader = Reader::new(&twice[..]).expect("header");
    assert!(matches!(
        reader.next_block(),
        Err(CarError::Block { offset: 18, .. })
    ));
    assert!(reader.next_block().expect("ends").is_none());
}

#[test]
fn a_section_may_be_as_long_as_the_longest_block() {
    let header = header_bytes(&[]);
    for (len, fits) in [(FOREIGN_BLOCK_SIZE_MAX, true), (SECTION_SIZE_MAX, false)] {
        let bytes = vec![1; len];
        let cid = raw_cid(&sha256(&bytes));
        let car = [&header[..], &section_bytes(&cid, len), &bytes].concat();
        assert_eq!(read(&car).is_ok(), fits, "{len}");
    }
}

/// Gives a byte at a time, and is interrupted before each.
struct Slow<'a>(&'a [u8], bool);

impl std::io::Read for Slow<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        let len = out.len().min(1);
        self.0.read(&mut out[..len])
    }
}

proptest! {
    #[test]
    fn cars_round_trip(
        contents in vec(vec(any::<u8>(), 0..300), 0..20),
        roots in vec(any::<[u8; 32]>(), 0..4),
    ) {
        let blocks: Vec<Block> = contents
            .iter()
            .enumerate()
            .map(|(i, bytes)| if i % 2 == 0 { block(bytes) } else { node(bytes) })
            .collect();
        let roots: Vec<Cid> = roots.iter().map(raw_cid).collect();
        let mut writer = Writer::new(Vec::new(), &roots).expect("writes");
        for block in &blocks {
            writer.write(block).expect("writes");
        }
        let car = writer.finish().expect("flushes");
        let slow: Result<Vec<Block>, CarError> =
            Reader::new(Slow(&car, false)).expect("header").collect();
        prop_assert_eq!(slow.expect("blocks"), blocks.clone());
        prop_assert_eq!(read(&car).expect("reads"), (roots, blocks));
    }

    #[test]
    fn a_changed_car_is_refused_or_tells_other_blocks(
        at in any::<prop::sample::Index>(),
        bit in 0..8u32,
    ) {
        let blocks = [block(b"one"), node(b"two"), block(b"three")];
        let mut writer = Writer::new(Vec::new(), &[*blocks[1].cid()]).expect("writes");
        for block in &blocks {
            writer.write(block).expect("writes");
        }
        let mut car = writer.finish().expect("flushes");
        let at = at.index(car.len());
        car[at] ^= 1 << bit;
        if let Ok((roots, read)) = read(&car) {
            // Only what no hash covers can change unnoticed: the codecs, and the roots.
            prop_assert!(roots != vec![*blocks[1].cid()] || read != blocks);
            for (ours, theirs) in blocks.iter().zip(&read) {
                prop_assert_eq!(ours.bytes(), theirs.bytes());
            }
        }
    }
}
