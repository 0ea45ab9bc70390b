//! Makes the vectors anew. age is randomised, so every sealed byte changes: do this only when
//! the format changes.

use std::{collections::BTreeMap, fs, path::Path};

use protocol::{
    block::{Block, UnverifiedBlock, raw_cid, sha256},
    car,
    keys::{ClassIdentity, KeyKind, capsule::Capsule, capsule::Epoch, capsule::Mode},
    list::{ContentHasher, ListBuilder, Segment},
    manifest::{
        Column, Engine, ListRef, Manifest, SnapshotMeta, SourceMeta, Stream, StreamKind, StreamMeta,
    },
    seal::{LEVEL_DEFAULT, Sealed, Sealer},
    snapshot::{Object, Parts, assemble},
};

use crate::{folder, negative};

/// A snapshot in the making.
pub(crate) struct Maker {
    pub(crate) capsule: Capsule,
    pub(crate) identities: [ClassIdentity; 2],
    pub(crate) recipient: age::x25519::Recipient,
    pub(crate) blocks: Vec<Block>,
    pub(crate) objects: Vec<Object>,
    pub(crate) lists: Vec<String>,
}

/// One of the streams: file, kind, name, pieces.
type Raw = (&'static str, StreamKind, &'static str, Vec<Vec<u8>>);

const CREATED: &str = "2026-01-02T03:04:05Z";

pub(crate) fn epoch(number: u32) -> Epoch {
    Epoch {
        class: Mode::Portable,
        number,
    }
}

/// Writes all files of `tests/vectors/snapshot` but `read.py` and what it needs.
pub(crate) fn all() {
    let root = folder();
    let user = age::x25519::Identity::generate();
    let secret = age::secrecy::ExposeSecret::expose_secret(&user.to_string()).to_owned();
    fs::write(root.join("identity.txt"), secret + "\n").expect("written");
    let mut maker = Maker::new(user.to_public());
    let manifest = maker.manifest();
    let cid = maker.assemble(&manifest.encode());
    write_car(&root.join("snapshot.car"), &cid, &maker.blocks);
    let plain = root.join("plain");
    fs::create_dir_all(&plain).expect("made");
    fs::write(root.join("root.txt"), format!("{cid}\n")).expect("written");
    fs::write(plain.join("capsule.txt"), maker.capsule_text()).expect("written");
    fs::write(plain.join("manifest.txt"), manifest.encode()).expect("written");
    for (number, text) in maker.lists.iter().enumerate() {
        fs::write(plain.join(format!("list-{number}.txt")), text).expect("written");
    }
    let mut files: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (file, _, _, pieces) in streams() {
        files.entry(file).or_default().extend(pieces.concat());
    }
    for (file, bytes) in files {
        fs::write(plain.join(file), bytes).expect("written");
    }
    negative::all(&maker, &manifest);
}

impl Maker {
    fn new(recipient: age::x25519::Recipient) -> Self {
        let identities = [(); 2].map(|()| ClassIdentity::generate(KeyKind::X25519));
        let mut capsule = Capsule::default();
        for (number, identity) in (1..).zip(&identities) {
            capsule.insert(epoch(number), identity.clone());
        }
        Self {
            capsule,
            identities,
            recipient,
            blocks: Vec::new(),
            objects: Vec::new(),
            lists: Vec::new(),
        }
    }

    pub(crate) fn capsule_text(&self) -> String {
        let lines = self.capsule.iter().map(|(epoch, identity)| {
            let secret = identity.to_secret_string();
            format!(
                "# {epoch}\n{}\n",
                age::secrecy::ExposeSecret::expose_secret(&secret)
            )
        });
        format!("# souverain capsule 1\n{}", lines.collect::<String>())
    }

    /// Seals to the class identity of an epoch.
    pub(crate) fn seal(&self, plain: &[u8], epoch: usize, padded: bool) -> Sealed {
        let recipient = self.identities[epoch - 1].to_public();
        let mut sealer = Sealer::new(Box::new(recipient), LEVEL_DEFAULT, padded).expect("a level");
        sealer.seal(plain).expect("sealed")
    }

    /// Keeps a sealed object.
    fn put(&mut self, sealed: Sealed) -> [u8; 32] {
        let block = Block::sealed(sealed);
        let digest = sha256(block.bytes());
        let len = u32::try_from(block.bytes().len()).expect("small");
        self.objects.push(Object { block: digest, len });
        self.blocks.push(block);
        digest
    }

    fn manifest(&mut self) -> Manifest {
        let source =
            |engine, name: &str, version: Option<&str>, warnings: Vec<String>| SourceMeta {
                engine,
                name: name.into(),
                version: version.map(Into::into),
                warnings,
            };
        let changed = "notes/\"a\\b\"\t.txt changed while it was read".to_owned();
        let streams = streams().into_iter().enumerate();
        Manifest {
            snapshot: SnapshotMeta {
                created: CREATED.into(),
                mode: Mode::Portable,
                node: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".into(),
                program: "souverain 0.1.0".into(),
                session: "019b7c5e-9d08-7cc3-98c4-dc0c0c07398f".into(),
            },
            sources: vec![
                source(Engine::Tree, "notes", None, vec![changed]),
                source(Engine::Sqlite, "shop", Some("3.40.1"), vec![]),
                source(Engine::Postgres, "crm", Some("15.10"), vec![]),
            ],
            streams: streams
                .map(|(number, raw)| self.stream(number, raw))
                .collect(),
        }
    }

    /// Seals a stream: the first to epoch 1, some padded, two segments a list.
    fn stream(&mut self, number: usize, (file, kind, name, pieces): Raw) -> Stream {
        let mut hasher = ContentHasher::default();
        let mut lists = Vec::new();
        let (head, tail) = head_and_tail(kind, file, &pieces.concat());
        let bytes: usize = pieces.iter().map(Vec::len).sum();
        let (mut offset, mut rows) = (0, 0);
        for pair in pieces.chunks(2) {
            let mut builder = ListBuilder::default();
            for piece in pair {
                let sealed = self.seal(piece, if number == 0 { 1 } else { 2 }, offset % 3 == 0);
                let at = offset..offset + piece.len();
                let is_row =
                    |i: &usize| (head..bytes - tail).contains(i) && piece[i - offset] == b'\n';
                let ended = at
                    .clone()
                    .filter(|i| kind == StreamKind::Table && is_row(i));
                let ended = ended.count();
                let segment = Segment {
                    block: self.put(sealed),
                    piece: *blake3::hash(piece).as_bytes(),
                    len: u32::try_from(piece.len()).expect("small"),
                    rows: u32::try_from(ended).expect("small"),
                };
                hasher.push(&segment);
                builder.push(&segment);
                offset = at.end;
                rows += ended as u64;
            }
            let list = builder.finish().expect("not empty");
            let sealed = self.seal(list.text.as_bytes(), if number == 0 { 1 } else { 2 }, true);
            lists.push(ListRef {
                block: self.put(sealed),
                len: u32::try_from(list.text.len()).expect("small"),
                segments: list.segments,
                bytes: list.bytes,
            });
            self.lists.push(list.text);
        }
        let column = |name: &str, native_type: &str| Column {
            name: name.into(),
            native_type: native_type.into(),
        };
        let columns = match (kind, file) {
            (StreamKind::Table, "1-shop.sql") => {
                vec![column("id", "INTEGER"), column("name", "TEXT")]
            }
            (StreamKind::Table, _) => vec![column("id", "bigint"), column("name", "text")],
            _ => vec![],
        };
        let meta = StreamMeta {
            source: file[..1].parse().expect("a digit"),
            kind,
            name: name.into(),
            head: u32::try_from(head).expect("small"),
            tail: u32::try_from(tail).expect("small"),
            bytes: bytes as u64,
            rows: (kind == StreamKind::Table).then_some(rows),
            columns,
            content: blake3::Hash::from(hasher.finish()).to_string(),
        };
        Stream {
            file: file.into(),
            meta,
            lists,
        }
    }

    fn assemble(&mut self, manifest: &str) -> cid::Cid {
        let parts = Parts {
            capsule: Some(
                self.capsule
                    .seal([&self.recipient as _].into_iter())
                    .expect("sealed"),
            ),
            manifest: self.seal(manifest.as_bytes(), 2, true),
            objects: &mut self.objects.clone(),
        };
        let blocks = &mut self.blocks;
        let emit = &mut |block| {
            blocks.push(block);
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        assemble(parts, emit).expect("assembled")
    }

    /// A snapshot of the same objects with another manifest, and with some objects more.
    pub(crate) fn variant(&self, manifest: &str, more: Vec<Sealed>) -> (cid::Cid, Vec<Block>) {
        let mut other = Self {
            capsule: self.capsule.clone(),
            identities: self.identities.clone(),
            recipient: self.recipient.clone(),
            blocks: self.blocks[..self.objects.len()].to_vec(),
            objects: self.objects.clone(),
            lists: Vec::new(),
        };
        for sealed in more {
            other.put(sealed);
        }
        let root = other.assemble(manifest);
        (root, other.blocks)
    }
}

fn head_and_tail(kind: StreamKind, file: &str, bytes: &[u8]) -> (usize, usize) {
    if kind != StreamKind::Table {
        return (0, 0);
    }
    let head = bytes
        .iter()
        .position(|&b| b == b'\n')
        .map_or(0, |end| end + 1);
    match file {
        "2-crm.sql" => (head, b"\\.\n".len()),
        _ => (0, 0),
    }
}

pub(crate) fn write_car(path: &Path, root: &cid::Cid, blocks: &[Block]) {
    let file = fs::File::create(path).expect("created");
    let mut writer = car::Writer::new(file, &[*root]).expect("written");
    for block in blocks {
        writer.write(block).expect("written");
    }
    writer.finish().expect("flushed");
}

/// Writes blocks that may not match their CIDs.
pub(crate) fn write_bad_car(path: &Path, root: &cid::Cid, blocks: &[UnverifiedBlock]) {
    let mut bytes = car::header_bytes(&[*root]);
    for block in blocks {
        bytes.extend(car::section_bytes(&block.cid, block.bytes.len()));
        bytes.extend(&block.bytes);
    }
    fs::write(path, bytes).expect("written");
}

/// The CID of sealed bytes.
pub(crate) fn cid(sealed: &Sealed) -> cid::Cid {
    raw_cid(&sha256(sealed.bytes()))
}

fn streams() -> Vec<Raw> {
    let text = |text: &str| text.as_bytes().to_vec();
    let tar = fs::read(folder().join("plain/0-notes.tar")).expect("read");
    let cut = |bytes: &[u8], len| bytes.chunks(len).map(<[u8]>::to_vec).collect();
    let items = concat!(
        "INSERT INTO \"items\" VALUES(1,'apple');\n",
        "INSERT INTO \"items\" VALUES(2,'it''s');\n",
        "INSERT INTO \"items\" VALUES(3,NULL);\n"
    );
    let people = "COPY public.people (id, name) FROM stdin;\n1\tAda\\\\Lovelace\n2\t\\N\n\\.\n";
    vec![
        ("0-notes.tar", StreamKind::Tree, "notes", cut(&tar, 3000)),
        (
            "1-shop.sql",
            StreamKind::Before,
            "shop",
            vec![text(
                "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT);\n",
            )],
        ),
        (
            "1-shop.sql",
            StreamKind::Table,
            "items",
            cut(items.as_bytes(), 80),
        ),
        (
            "1-shop.sql",
            StreamKind::After,
            "shop",
            vec![text("CREATE INDEX by_name ON items (name);\n")],
        ),
        (
            "2-crm.sql",
            StreamKind::Before,
            "crm",
            vec![text("CREATE TABLE public.people (id bigint, name text);\n")],
        ),
        ("2-crm.sql", StreamKind::Table, "people", vec![text(people)]),
        ("2-crm.sql", StreamKind::After, "crm", vec![]),
    ]
}
