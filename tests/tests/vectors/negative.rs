//! Makes what readers must refuse: each a small change of what is right.

use std::{fs, io::Write, process::Command};

use protocol::{
    block::{Block, UnverifiedBlock, sha256},
    manifest::Manifest,
    seal::Sealed,
    unixfs::{self, BuildError, Entry, Node},
};

use crate::{
    folder,
    make::{Maker, cid, write_bad_car},
};

/// What kind of thing a vector is, and what its refusal says.
type Row = (String, &'static str, String);

pub(crate) fn all(maker: &Maker, manifest: &Manifest) {
    let folder = folder().join("negative");
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("removed");
    }
    fs::create_dir(&folder).expect("made");
    let mut rows = texts(maker, manifest);
    rows.extend(nodes(maker));
    rows.extend(objects(maker));
    rows.extend(cars(maker, manifest));
    let index = rows
        .iter()
        .map(|(name, kind, says)| format!("{name}\t{kind}\t{says}\n"));
    fs::write(folder.join("index.tsv"), index.collect::<String>()).expect("written");
}

/// Name of the vector, what is replaced, by what, and what the reader says of it.
type Mutation<'a> = (&'a str, &'a str, &'a str, &'a str);

fn write(name: &str, bytes: &[u8]) {
    fs::write(folder().join("negative").join(name), bytes).expect("written");
}

#[track_caller]
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1)
}

/// Changes of the three texts: name, from, to, what is said.
fn texts(maker: &Maker, manifest: &Manifest) -> Vec<Row> {
    let capsule = maker.capsule_text();
    let manifest = manifest.encode();
    let list = maker.lists[0].clone();
    let entry = capsule
        .lines()
        .skip(1)
        .take(2)
        .map(|line| format!("{line}\n"));
    let entry: String = entry.collect();
    let segment = format!("{}\n", list.lines().next().expect("one"));
    let later = "is of a later format version";
    let tables: [(&str, &str, &[Mutation<'_>]); 3] = [
        (
            "capsule",
            &capsule,
            &[
                ("later", "capsule 1", "capsule 2", later),
                ("epoch-twice", &entry, &entry.repeat(2), "malformed"),
                (
                    "epoch-missing",
                    "# class portable epoch 1\n",
                    "",
                    "malformed",
                ),
                ("epoch-zero", "epoch 1", "epoch 0", "malformed"),
                ("epoch-padded", "epoch 1", "epoch 01", "malformed"),
                ("epoch-order", "epoch 1", "epoch 3", "malformed"),
                (
                    "class-unknown",
                    "class portable",
                    "class other",
                    "malformed",
                ),
                ("crlf", "capsule 1\n", "capsule 1\r\n", later),
                ("blank-line", "capsule 1\n", "capsule 1\n\n", "malformed"),
            ],
        ),
        (
            "manifest",
            &manifest,
            &[
                ("later", "manifest 1", "manifest 2", later),
                ("no-header", "souverain manifest 1\n", "", "malformed"),
                ("no-snapshot", "snapshot {", "source {", "malformed"),
                ("mode-unknown", "portable", "public", "malformed"),
                ("json-space", "{\"created\"", "{ \"created\"", "malformed"),
                ("json-escape", "\\t.txt", "\\u0009.txt", "malformed"),
                (
                    "member-unknown",
                    "\"engine\":\"tree\",",
                    "\"engine\":\"tree\",\"new\":1,",
                    "malformed",
                ),
                (
                    "member-twice",
                    "\"name\":\"shop\"",
                    "\"name\":\"shop\",\"name\":\"shop\"",
                    "malformed",
                ),
                (
                    "member-order",
                    "\"engine\":\"sqlite\",\"name\":\"shop\"",
                    "\"name\":\"shop\",\"engine\":\"sqlite\"",
                    "malformed",
                ),
                ("engine-unknown", "postgres", "oracle", "malformed"),
                (
                    "kind-unknown",
                    "\"kind\":\"tree\"",
                    "\"kind\":\"device\"",
                    "malformed",
                ),
                ("stream-number", "stream 1 ", "stream 2 ", "malformed"),
                (
                    "source-beyond",
                    "\"source\":2",
                    "\"source\":3",
                    "no such source",
                ),
                (
                    "head-beyond",
                    "\"head\":0",
                    "\"head\":8193",
                    "head and tail are longer",
                ),
                (
                    "rows-of-a-tree",
                    "\"bytes\":8192",
                    "\"bytes\":8192,\"rows\":0",
                    "a table has rows",
                ),
                ("rows-missing", "\"rows\":3,", "", "a table has rows"),
                (
                    "file-parent",
                    "0-notes.tar",
                    "../notes.tar",
                    "not a safe file name",
                ),
                (
                    "file-absolute",
                    "0-notes.tar",
                    "/notes.tar",
                    "not a safe file name",
                ),
                (
                    "file-hidden",
                    "0-notes.tar",
                    ".notes.tar",
                    "not a safe file name",
                ),
                ("list-padded", "\nlist ", "\nlist  ", "malformed"),
                ("list-uppercase", "bafkrei", "BAFKREI", "malformed"),
                ("list-number", " 6000\n", " 06000\n", "malformed"),
                (
                    "list-first",
                    "\nsource {\"engine\":\"tree\"",
                    &format!("\n{}\nsource {{\"engine\":\"tree\"", first_list(&manifest)),
                    "malformed",
                ),
                ("crlf", "\nsource", "\r\nsource", "malformed"),
            ],
        ),
        (
            "list",
            &list,
            &[
                ("cut-off", "\n", " ", "malformed"),
                ("too-many", &segment, &segment.repeat(1025), "malformed"),
                ("length-zero", " 3000 0 ", " 0 0 ", "malformed"),
                ("length-padded", " 3000 0 ", " 03000 0 ", "malformed"),
                ("length-beyond", " 3000 0 ", " 983041 0 ", "malformed"),
                ("rows-beyond", " 3000 0 ", " 3000 3001 ", "malformed"),
                ("cid-of-a-node", "bafkrei", "bafybei", "malformed"),
                ("cid-uppercase", "bafkrei", "BAFKREI", "malformed"),
                ("hash-short", "\n", "", "malformed"),
                ("spaces", " 3000 ", "  3000 ", "malformed"),
            ],
        ),
    ];
    let mut rows = Vec::new();
    for (kind, good, table) in tables {
        for (what, from, to, says) in table {
            let name = format!("{kind}-{what}.txt");
            write(&name, replaced(good, from, to).as_bytes());
            rows.push((name, kind, (*says).to_owned()));
        }
        let name = format!("{kind}-empty.txt");
        write(&name, b"");
        rows.push((name, kind, "malformed".to_owned()));
    }
    rows
}

fn first_list(manifest: &str) -> &str {
    manifest
        .lines()
        .find(|line| line.starts_with("list "))
        .expect("one")
}

fn entry(name: &str, block: &Block) -> Entry {
    Entry {
        name: name.into(),
        cid: *block.cid(),
        tsize: block.bytes().len() as u64,
    }
}

/// Directory nodes that are not as they must be.
fn nodes(maker: &Maker) -> Vec<Row> {
    let root = maker.blocks.last().expect("the root");
    let Ok(Node::Directory(entries)) = Node::decode(root) else {
        panic!("a root is a directory");
    };
    let encode = |entries: &[Entry]| Node::Directory(entries.to_vec()).encode().expect("a node");
    let good = encode(&entries);
    let mut swapped = entries.clone();
    swapped.swap(0, 1);
    let mut named = entries.clone();
    named[0].name = "..".into();
    let twice = [entries.clone(), vec![entries[4].clone()]].concat();
    // The data (0a 02 08 01) in front of the links, as sorting fields by their numbers gives.
    let (links, data) = good.split_at(good.len() - 4);
    let mut unknown = good.clone();
    unknown.splice(unknown.len() - 3.., [4, 8, 1, 0x38, 0]);
    let mut typed = good.clone();
    *typed.last_mut().expect("not empty") = 4;
    let mut varint = good.clone();
    varint.splice(varint.len() - 1.., [0x81, 0]);
    let length = varint.len();
    varint[length - 4] = 3;
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("order", encode(&swapped), "entries are not in order"),
        ("dots", encode(&named), "impossible name"),
        ("twice", encode(&twice), "entries are not in order"),
        (
            "data-first",
            [data, links].concat(),
            "unknown field, or one out of order",
        ),
        ("unknown-field", unknown, "unknown field"),
        ("symlink", typed, "neither a directory"),
        ("varint-long", varint, "varint"),
        ("cut-off", good[..good.len() - 1].to_vec(), "cut off"),
        ("empty", vec![], "no data"),
    ];
    cases
        .into_iter()
        .map(|(what, bytes, says)| {
            let name = format!("node-{what}.bin");
            write(&name, &bytes);
            (name, "node", says.to_owned())
        })
        .collect()
}

/// Objects of the current epoch that should hold the 12 bytes `hello world\n`.
fn objects(maker: &Maker) -> Vec<Row> {
    let plain = b"hello world\n";
    let good = maker.seal(plain, 2, false).into_bytes();
    let frame = zstd(&["--stream-size=12"], plain);
    let padding = |body: &[u8]| {
        let len = u32::try_from(body.len()).expect("small").to_le_bytes();
        [&0x184D_2A50u32.to_le_bytes()[..], &len, body].concat()
    };
    let padded = |body: &[u8]| [&frame[..], &padding(body)].concat();
    let right = protocol::seal::padded_len(frame.len()) - frame.len() - 8;
    let mut not_zero = vec![0; right];
    not_zero.push(1);
    not_zero.remove(0);
    let mut flipped = good.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    // A header by hand: content size in 4 bytes, a window of 256 MiB, one raw last block.
    let mut wide = vec![0x28, 0xb5, 0x2f, 0xfd, 0x80, 18 << 3];
    wide.extend(12u32.to_le_bytes());
    wide.extend_from_slice(&(12u32 << 3 | 1).to_le_bytes()[..3]);
    wide.extend(plain);
    let age = |framed: &[u8]| age(maker, framed, &[]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "longer",
            maker.seal(b"hello world!\n", 2, false).into_bytes(),
            "expected 12 bytes",
        ),
        (
            "shorter",
            maker.seal(b"hello world", 2, false).into_bytes(),
            "expected 12 bytes",
        ),
        ("cut-off", good[..good.len() - 1].to_vec(), "damaged"),
        ("flipped", flipped, "damaged"),
        (
            "armored",
            self::age(maker, &frame, &["-a"]),
            "cannot decrypt",
        ),
        ("plain", age(plain), "not a zstd frame"),
        (
            "no-size",
            age(&zstd(&["--no-content-size"], plain)),
            "not a zstd frame that states its size",
        ),
        (
            "two-frames",
            age(&frame.repeat(2)),
            "unexpected bytes after the frame",
        ),
        (
            "trailing",
            age(&[&frame[..], b"x"].concat()),
            "unexpected bytes after the frame",
        ),
        ("frame-cut-off", age(&frame[..frame.len() - 1]), "frame"),
        (
            "padding-long",
            age(&padded(&vec![0; right + 1])),
            "unexpected bytes after the frame",
        ),
        (
            "padding-not-zero",
            age(&padded(&not_zero)),
            "unexpected bytes after the frame",
        ),
        (
            "padding-twice",
            age(&[&padded(&vec![0; right])[..], &padding(&[])].concat()),
            "unexpected bytes after the frame",
        ),
        ("window", age(&wide), "window"),
    ];
    cases
        .into_iter()
        .map(|(what, bytes, says)| {
            let name = format!("object-{what}.age");
            write(&name, &bytes);
            (name, "object", says.to_owned())
        })
        .collect()
}

fn zstd(args: &[&str], input: &[u8]) -> Vec<u8> {
    pipe(
        Command::new("zstd")
            .args(["-q", "-c", "--no-check"])
            .args(args),
        input,
    )
}

fn age(maker: &Maker, framed: &[u8], args: &[&str]) -> Vec<u8> {
    let recipient = maker.identities[1].to_public().to_string();
    pipe(
        Command::new("age")
            .args(["-e", "-r", &recipient])
            .args(args),
        framed,
    )
}

fn pipe(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let piped = std::process::Stdio::piped;
    let mut child = command
        .stdin(piped())
        .stdout(piped())
        .spawn()
        .expect("starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("written");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success());
    output.stdout
}

/// Snapshots whose parts do not fit each other.
fn cars(maker: &Maker, manifest: &Manifest) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut car = |what: &str, root: cid::Cid, blocks: Vec<UnverifiedBlock>, says: &str| {
        let name = format!("car-{what}.car");
        write_bad_car(&folder().join("negative").join(&name), &root, &blocks);
        rows.push((name, "car", says.to_owned()));
    };
    let root = *maker.blocks.last().expect("the root").cid();
    let unverified = |blocks: &[Block]| -> Vec<UnverifiedBlock> {
        let unverified = |b: &Block| UnverifiedBlock {
            cid: *b.cid(),
            bytes: b.bytes().to_vec(),
        };
        blocks.iter().map(unverified).collect()
    };
    let good = unverified(&maker.blocks);
    let mut flipped = good.clone();
    flipped[0].bytes[300] ^= 1;
    car("flipped", root, flipped, "match");
    car("missing", root, good[1..].to_vec(), "missing");
    car("no-root", root, good[..good.len() - 1].to_vec(), "missing");
    for (what, blocks, says) in roots(maker) {
        let root = *blocks.last().expect("the root").cid();
        car(what, root, unverified(&blocks), says);
    }
    for (what, text, more, says) in lies(maker, manifest) {
        let (root, blocks) = maker.variant(&text, more);
        car(what, root, unverified(&blocks), says);
    }
    rows
}

/// Blocks with another root: what it has too much, too little or in a wrong place.
fn roots(maker: &Maker) -> Vec<(&'static str, Vec<Block>, &'static str)> {
    let (root, rest) = maker.blocks.split_last().expect("the root");
    let Ok(Node::Directory(entries)) = Node::decode(root) else {
        panic!("a root is a directory");
    };
    let directory = |blocks: &mut Vec<Block>, entries: Vec<Entry>| {
        let link = unixfs::directory::<BuildError>(entries, &mut |block| {
            blocks.push(block);
            Ok(())
        });
        link.expect("a directory")
    };
    let with_root = |entries: Vec<Entry>| {
        let mut blocks = rest.to_vec();
        directory(&mut blocks, entries);
        blocks
    };
    // One object alone in `s`, in a folder and under a name of choice.
    let with_object = |folder: &str, name: &str, tsize: u64| {
        let mut blocks = rest.to_vec();
        let object = Entry {
            name: name.into(),
            cid: *maker.blocks[0].cid(),
            tsize,
        };
        let inner = directory(&mut blocks, vec![object]);
        let folder = Entry {
            name: folder.into(),
            cid: inner.cid,
            tsize: inner.tsize,
        };
        let outer = directory(&mut blocks, vec![folder]);
        let mut entries = entries.clone();
        (entries[4].cid, entries[4].tsize) = (outer.cid, outer.tsize);
        directory(&mut blocks, entries);
        blocks
    };
    let text = Block::verify(
        entries[0].cid,
        rest.iter()
            .find(|b| *b.cid() == entries[0].cid)
            .expect("there")
            .bytes()
            .to_vec(),
    );
    let extra = entry("t", &text.expect("checked"));
    let object = maker.blocks[0].cid().to_string();
    let len = maker.blocks[0].bytes().len() as u64;
    let right = protocol::snapshot::folder(&sha256(maker.blocks[0].bytes()));
    let wrong = if right == "aa" { "ae" } else { "aa" };
    let mut resized = entries.clone();
    resized[2].tsize += 1;
    vec![
        (
            "root-more",
            with_root([entries.clone(), vec![extra]].concat()),
            "a name that no snapshot has",
        ),
        (
            "root-less",
            with_root(entries[..4].to_vec()),
            "no s where it should be",
        ),
        (
            "root-tsize",
            with_root(resized),
            "a size other than its link says",
        ),
        (
            "object-folder",
            with_object("zz", &object, len),
            "a folder of another name",
        ),
        (
            "object-place",
            with_object(wrong, &object, len),
            "in a wrong folder",
        ),
        (
            "object-name",
            with_object(&right, "name", len),
            "a name that is not its CID",
        ),
        (
            "object-tsize",
            with_object(&right, &object, len + 1),
            "size",
        ),
    ]
}

/// Manifests, lists and pieces that contradict each other.
fn lies(
    maker: &Maker,
    manifest: &Manifest,
) -> Vec<(&'static str, String, Vec<Sealed>, &'static str)> {
    let text = manifest.encode();
    let other = "ab".repeat(32);
    let first = &maker.lists[0];
    // Another list in place of the first: of the same length, so that only what it says is wrong.
    let relisted = |list: String| {
        let sealed = maker.seal(list.as_bytes(), 2, false);
        let text = replaced(
            &text,
            &manifest.streams[0].lists[0].cid().to_string(),
            &cid(&sealed).to_string(),
        );
        (text, vec![sealed])
    };
    let words: Vec<&str> = first.split([' ', '\n']).collect();
    let hashed = relisted(replaced(first, words[3], &other));
    let swapped = {
        let first_cid = words[0].to_owned();
        relisted(replaced(
            &replaced(first, words[4], &first_cid),
            words[0],
            words[4],
        ))
    };
    let absent = relisted(replaced(first, words[0], &maker_cid(b"nobody has this")));
    let mut files = manifest.clone();
    files.streams[1].file = "2-crm.sql".into();
    let table = &manifest.streams[2];
    vec![
        (
            "list-segments",
            replaced(&text, " 2 6000\n", " 3 6000\n"),
            vec![],
            "not what the manifest says",
        ),
        (
            "list-bytes",
            replaced(
                &replaced(&text, " 2 6000\n", " 2 6001\n"),
                "\"bytes\":8192",
                "\"bytes\":8193",
            ),
            vec![],
            "not what the manifest says",
        ),
        (
            "stream-bytes",
            replaced(&text, "\"bytes\":8192", "\"bytes\":8193"),
            vec![],
            "lists have another length",
        ),
        (
            "stream-rows",
            replaced(&text, "\"rows\":3", "\"rows\":4"),
            vec![],
            "rows",
        ),
        (
            "stream-content",
            replaced(&text, &table.meta.content, &other),
            vec![],
            "content",
        ),
        ("stream-file", files.encode(), vec![], "file"),
        ("piece-hash", hashed.0, hashed.1, "hash"),
        ("pieces-swapped", swapped.0, swapped.1, "hash"),
        ("piece-absent", absent.0, absent.1, "missing"),
    ]
}

fn maker_cid(bytes: &[u8]) -> String {
    protocol::block::raw_cid(&sha256(bytes)).to_string()
}
