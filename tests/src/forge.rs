//! Snapshots that this program would never write: made by hand, sealed well.

use std::{fs::File, io::BufWriter, path::Path};

use age::Encryptor;
use cid::Cid;
use protocol::{
    block::{Block, digest_of},
    car,
    keys::{
        ClassIdentity, KeyKind,
        capsule::{Capsule, Epoch, Mode},
    },
    list::{ContentHasher, Segment},
    manifest::{
        Engine, ListRef, Manifest, SnapshotMeta, SourceMeta, Stream, StreamKind, StreamMeta,
    },
    seal::{Sealed, Sealer},
    snapshot::{Object, Parts, assemble},
    unixfs::BuildError,
};

/// Why nothing can be forged: told by panics.
#[derive(Debug)]
enum Never {}

impl From<BuildError> for Never {
    fn from(error: BuildError) -> Self {
        panic!("{error}")
    }
}

impl From<protocol::snapshot::SnapshotError> for Never {
    fn from(error: protocol::snapshot::SnapshotError) -> Self {
        panic!("{error}")
    }
}

/// Seals whatever it is given to one reader.
pub struct Forger {
    reader: age::x25519::Recipient,
    class: ClassIdentity,
    sealer: Sealer,
    blocks: Vec<Block>,
    objects: Vec<Object>,
    /// What stands in the capsule, if not what should.
    pub capsule: Option<String>,
    /// What the manifest is once decrypted, if not a zstd frame of its text.
    pub manifest_frame: Option<Vec<u8>>,
}

impl std::fmt::Debug for Forger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Forger")
    }
}

impl Forger {
    /// Forges for whoever has the identity of `reader`.
    ///
    /// # Panics
    /// `reader` is no recipient.
    #[must_use]
    pub fn new(reader: &str) -> Self {
        let class = ClassIdentity::generate(KeyKind::X25519);
        let sealer = Sealer::new(Box::new(class.to_public()), 3, false).expect("seals");
        Self {
            reader: reader.trim().parse().expect("an X25519 recipient"),
            class,
            sealer,
            blocks: Vec::new(),
            objects: Vec::new(),
            capsule: None,
            manifest_frame: None,
        }
    }

    fn keep(&mut self, sealed: Sealed) -> [u8; 32] {
        let block = Block::sealed(sealed);
        let digest = digest_of(block.cid()).expect("sha2-256");
        let len = u32::try_from(block.bytes().len()).expect("small");
        self.objects.push(Object { block: digest, len });
        self.blocks.push(block);
        digest
    }

    /// Seals a piece as it should be.
    ///
    /// # Panics
    /// It cannot be sealed.
    pub fn piece(&mut self, bytes: &[u8], rows: u32) -> Segment {
        let sealed = self.sealer.seal(bytes).expect("seals");
        Segment {
            block: self.keep(sealed),
            piece: *blake3::hash(bytes).as_bytes(),
            len: u32::try_from(bytes.len()).expect("small"),
            rows,
        }
    }

    /// Encrypts bytes that need not be a zstd frame, and says that they hold `claimed`.
    pub fn frame(&mut self, framed: &[u8], claimed: &[u8], rows: u32) -> Segment {
        let sealed = encrypt(&self.class.to_public(), framed);
        Segment {
            block: self.keep(sealed),
            piece: *blake3::hash(claimed).as_bytes(),
            len: u32::try_from(claimed.len()).expect("small"),
            rows,
        }
    }

    /// A stream of these segments, honestly described.
    ///
    /// # Panics
    /// There are too many.
    #[must_use]
    pub fn stream(&mut self, kind: StreamKind, name: &str, segments: &[Segment]) -> Stream {
        let mut hasher = ContentHasher::default();
        let mut text = String::new();
        for segment in segments {
            hasher.push(segment);
            let piece = blake3::Hash::from(segment.piece);
            let (len, rows) = (segment.len, segment.rows);
            text.push_str(&format!("{} {len} {rows} {piece}\n", segment.cid()));
        }
        let list = self.piece(text.as_bytes(), 0);
        let bytes = segments.iter().map(|s| u64::from(s.len)).sum();
        let rows = segments.iter().map(|s| u64::from(s.rows)).sum();
        Stream {
            file: "0-forged".into(),
            meta: StreamMeta {
                source: 0,
                kind,
                name: name.into(),
                head: 0,
                tail: 0,
                bytes,
                rows: (kind == StreamKind::Table).then_some(rows),
                columns: vec![],
                content: blake3::Hash::from(hasher.finish()).to_string(),
            },
            lists: vec![ListRef {
                block: list.block,
                len: list.len,
                segments: u32::try_from(segments.len()).expect("few"),
                bytes,
            }],
        }
    }

    /// Writes the snapshot to a CAR.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write(mut self, manifest: &str, path: &Path) -> Cid {
        let capsule = match &self.capsule {
            Some(text) => encrypt(&self.reader, text.as_bytes()),
            None => {
                let mut capsule = Capsule::default();
                let epoch = Epoch {
                    class: Mode::Portable,
                    number: 1,
                };
                capsule.insert(epoch, self.class.clone());
                let sealed = capsule.seal([&self.reader as &dyn age::Recipient].into_iter());
                sealed.expect("seals")
            }
        };
        let manifest = match &self.manifest_frame {
            Some(frame) => encrypt(&self.class.to_public(), frame),
            None => self.sealer.seal(manifest.as_bytes()).expect("seals"),
        };
        let parts = Parts {
            capsule: Some(capsule),
            manifest,
            objects: &mut self.objects,
        };
        let blocks = &mut self.blocks;
        let root = assemble(parts, &mut |block| {
            blocks.push(block);
            Ok::<(), Never>(())
        });
        let root = root.unwrap_or_else(|never| match never {});
        let out = BufWriter::new(File::create(path).expect("creates"));
        let mut writer = car::Writer::new(out, &[root]).expect("writes");
        for block in &self.blocks {
            writer.write(block).expect("writes");
        }
        writer
            .finish()
            .expect("writes")
            .into_inner()
            .expect("flushes");
        root
    }
}

fn encrypt(to: &dyn age::Recipient, plain: &[u8]) -> Sealed {
    let encryptor = Encryptor::with_recipients([to].into_iter()).expect("encrypts");
    let mut out = Vec::new();
    let mut writer = encryptor.wrap_output(&mut out).expect("encrypts");
    std::io::Write::write_all(&mut writer, plain).expect("encrypts");
    writer.finish().expect("encrypts");
    Sealed::from_age(out).expect("an age file")
}

/// The manifest of a snapshot of one source.
#[must_use]
pub fn manifest(engine: Engine, streams: Vec<Stream>) -> Manifest {
    Manifest {
        snapshot: SnapshotMeta {
            created: "2026-01-02T03:04:05Z".into(),
            mode: Mode::Portable,
            node: "node".into(),
            program: "forger".into(),
            session: "session".into(),
        },
        sources: vec![SourceMeta {
            engine,
            name: "forged".into(),
            version: None,
            warnings: vec![],
        }],
        streams,
    }
}

/// One entry of a tar, with its body and padding.
///
/// # Panics
/// A name is too long.
#[must_use]
pub fn tar_entry(name: &str, kind: u8, link: &str, body: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    assert!(name.len() <= 100 && link.len() <= 100);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", body.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000001\0");
    put(337, b"0000003\0");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend_from_slice(body);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

/// A tar of entries, with its end.
#[must_use]
pub fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// A zstd frame that states a content size, and holds `blocks` blocks of 128 KiB of zeros.
#[must_use]
pub fn zeros_frame(stated: u64, blocks: u32) -> Vec<u8> {
    // One segment, size in 8 bytes; then blocks of one repeated byte.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend_from_slice(&stated.to_le_bytes());
    for n in 1..=blocks {
        let header: u32 = u32::from(n == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}
