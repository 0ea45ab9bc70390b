//! Logs as a forger would serve them, and who can see what is wrong with them.

use std::{collections::BTreeMap, sync::Arc};

use agent::log::key::LogKey;
use protocol::log::{
    entry::{Action, Draft},
    tile::{TileKind, encode_bundle, tiles},
    tree::{Edge, Hash, leaf_hash},
};

use crate::{
    http::{HttpServer, body, reply},
    log::{Signing, checkpoint, find, sign_again},
};

/// Entries of the log that is forged: two bundles, and 88 of the next.
pub const SIZE: u64 = 600;
/// Index of the entry that is forged, where it is one.
pub const FORGED: u64 = 300;

/// The files of a log, by their paths.
#[derive(Clone, Debug)]
pub struct Static(BTreeMap<String, Vec<u8>>);

/// A log that is not as it was.
#[derive(Debug)]
pub struct Forgery {
    /// What was done to it.
    pub name: &'static str,
    /// What is served.
    pub files: Static,
    /// What `log verify` says to it; nothing if it cannot see it.
    pub ours: Option<&'static str>,
    /// What sumdb and merkle say to it.
    pub tlog: Option<&'static str>,
    /// What Tessera's fsck says to it.
    pub fsck: Option<&'static str>,
    /// What sumdb and merkle say to it with the checkpoint of before.
    pub remembering: Option<&'static str>,
}

impl Static {
    /// The files of a log of these entries, and the root of its tree.
    ///
    /// # Panics
    /// An entry is too long.
    #[must_use]
    pub fn new<T: AsRef<[u8]>>(entries: &[T]) -> (Self, Hash) {
        let mut edge = Edge::new();
        let mut levels: [Vec<u8>; 8] = Default::default();
        for entry in entries {
            let pushed = edge.push_with(leaf_hash(entry.as_ref()), |level, _, hash| {
                if level % 8 == 0 {
                    levels[usize::from(level / 8)].extend(hash);
                }
            });
            pushed.expect("room");
        }
        let files = tiles(edge.size()).map(|path| {
            let first = path.index() as usize * 256;
            let wanted = first..first + usize::from(path.width());
            let bytes = match path.kind() {
                TileKind::Entries => encode_bundle(&entries[wanted]).expect("a bundle"),
                TileKind::Hashes(level) => {
                    levels[usize::from(level)][wanted.start * 32..wanted.end * 32].to_vec()
                }
            };
            (path.to_string(), bytes)
        });
        (Self(files.collect()), edge.root())
    }

    /// The same with a checkpoint.
    #[must_use]
    pub fn under(mut self, checkpoint: impl ToString) -> Self {
        let checkpoint = checkpoint.to_string().into_bytes();
        self.0.insert("checkpoint".to_owned(), checkpoint);
        self
    }

    /// The same with a file changed.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn with(mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(self.0.get_mut(path).expect("a file of the log"));
        self
    }

    /// The same without a file.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path);
        self
    }

    /// The same with the files of another, where it has none.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (path, bytes) in other.0 {
            self.0.entry(path).or_insert(bytes);
        }
        self
    }

    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &[u8] {
        &self.0["checkpoint"]
    }

    /// Serves the files.
    #[must_use]
    pub fn serve(self) -> HttpServer {
        let files = Arc::new(self.0);
        HttpServer::start(move |request| {
            let path = request.uri().path().trim_start_matches('/');
            match files.get(path) {
                Some(bytes) => reply(200, body(bytes.clone())),
                None => reply(404, body("not found")),
            }
        })
    }
}

/// The log that is forged: its signer after the entry before [`FORGED`], its entries, and its files.
#[derive(Debug)]
pub struct Honest<'a> {
    /// Signs it.
    pub signing: Signing<'a>,
    key: &'a LogKey,
    entries: Vec<Vec<u8>>,
    /// What is served of it.
    pub files: Static,
    root: Hash,
}

impl<'a> Honest<'a> {
    /// Makes the log.
    #[must_use]
    pub fn new(key: &'a LogKey) -> Self {
        let mut signing = Signing::begin(key, 1);
        let mut entries = signing.entries(FORGED);
        let mut rest = signing.clone();
        entries.extend((FORGED..SIZE).map(|_| rest.entry()));
        let (files, root) = Static::new(&entries);
        Self {
            files: files.under(signing.checkpoint(SIZE, root)),
            signing,
            key,
            entries,
            root,
        }
    }

    /// The log with one entry put in the place of another by the holder of its key, who signs all of it.
    fn resigned(&self, change: impl FnOnce(&mut Signing<'a>) -> Vec<u8>) -> Static {
        let mut signing = self.signing.clone();
        let mut entries = self.entries[..FORGED as usize].to_vec();
        let forged = change(&mut signing);
        signing.push(&forged);
        entries.push(forged);
        entries.extend((FORGED + 1..SIZE).map(|_| signing.entry()));
        self.checkpointed(&entries)
    }

    /// A log of other entries under a good checkpoint.
    fn checkpointed(&self, entries: &[Vec<u8>]) -> Static {
        let (files, root) = Static::new(entries);
        files.under(self.signing.checkpoint(entries.len() as u64, root))
    }

    fn drafted(&self, change: impl FnOnce(&mut Draft)) -> Static {
        self.resigned(|signing| {
            let mut draft = signing.draft();
            change(&mut draft);
            signing.signed(draft)
        })
    }

    /// Another log of the same size that begins as this one does, with all in it as it should be.
    #[must_use]
    pub fn other_side(&self) -> Static {
        self.drafted(|draft| draft.action = Action::ERASE)
    }

    /// All that is forged. The stranger is who has another key.
    #[must_use]
    pub fn forgeries(&self, stranger: &LogKey) -> Vec<Forgery> {
        [
            self.changed_bundles(),
            self.changed_tiles(),
            self.changed_checkpoints(stranger),
            self.changed_entries(stranger),
            self.other_times(),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// By who serves the log.
    fn changed_bundles(&self) -> Vec<Forgery> {
        let files = || self.files.clone();
        let bundle = "tile/entries/001";
        let not_that = Some("bundle 1: entry 300 is not that of the tree");
        vec![
            Forgery {
                name: "an entry says something else",
                files: files().with(bundle, |bundle| {
                    let entry = &self.entries[FORGED as usize];
                    let at = find(bundle, entry) + find(entry, b"export");
                    bundle[at..at + 6].copy_from_slice(b"import");
                }),
                ours: Some("entry 300 is not the next"),
                tlog: not_that,
                fsck: Some(": log has"),
                remembering: not_that,
            },
            Forgery {
                name: "two entries have changed places",
                files: files().with(bundle, |bundle| {
                    let mut entries = self.entries[256..512].to_vec();
                    entries.swap(300 - 256, 400 - 256);
                    *bundle = encode_bundle(&entries).expect("a bundle");
                }),
                ours: Some("entry 300 is not the next"),
                tlog: not_that,
                fsck: Some(": log has"),
                remembering: not_that,
            },
            Forgery {
                name: "a bundle ends within an entry",
                files: files().with(bundle, |bundle| bundle.truncate(bundle.len() - 9)),
                ours: Some("tile/entries/001 does not hold"),
                tlog: Some("bundle 1: "),
                fsck: Some("AppendBundle"),
                remembering: Some("bundle 1: "),
            },
            Forgery {
                name: "a bundle ends before its last entry",
                files: files().with("tile/entries/002.p/88", |bundle| {
                    *bundle = encode_bundle(&self.entries[512..599]).expect("a bundle");
                }),
                ours: Some("tile/entries/002.p/88 does not hold"),
                tlog: Some("bundle 2: it has 87 entries in place of 88"),
                // It falls over.
                fsck: Some("index out of range [87] with length 87"),
                remembering: Some("bundle 2: it has 87 entries in place of 88"),
            },
            Forgery {
                name: "a bundle is missing",
                files: files().without(bundle),
                ours: Some("tile/entries/001 is missing"),
                tlog: Some("bundle 1: "),
                fsck: Some("streaming bundles"),
                remembering: Some("bundle 1: "),
            },
        ]
    }

    /// By who serves the log.
    fn changed_tiles(&self) -> Vec<Forgery> {
        let files = || self.files.clone();
        vec![
            Forgery {
                name: "a hash of a leaf is another",
                files: files().with("tile/0/001", |tile| tile[44 * 32] ^= 1),
                ours: Some("tile/0/001 is not that of the entries: entry 300"),
                tlog: Some("inconsistent tile"),
                fsck: Some("tile/0/001: log has"),
                remembering: Some("inconsistent tile"),
            },
            Forgery {
                name: "a hash above is another",
                files: files().with("tile/1/000.p/2", |tile| tile[32] ^= 1),
                ours: Some("tile/1/000.p/2 is not that of the entries: entry 256"),
                tlog: Some("inconsistent tile"),
                fsck: Some("tile/1/000.p/2: log has"),
                remembering: Some("inconsistent tile"),
            },
            Forgery {
                name: "a tile is longer than its path says",
                files: files().with("tile/0/002.p/88", |tile| tile.push(0)),
                ours: Some("tile/0/002.p/88 does not hold"),
                tlog: Some("bad result slice"),
                fsck: None,
                remembering: Some("bad result slice"),
            },
        ]
    }

    /// By who signs checkpoints.
    fn changed_checkpoints(&self, stranger: &LogKey) -> Vec<Forgery> {
        let files = || self.files.clone();
        let mut root = self.root;
        root[0] ^= 1;
        let strange = checkpoint(stranger, self.signing.vkey().name(), SIZE, self.root);
        let another = Signing::begin(stranger, 2).entries(256);
        let beginning = Static::new(&another).0.under(&strange);
        vec![
            Forgery {
                name: "another log under the name of this one, of which no more than the beginning is there",
                files: beginning,
                ours: Some("is not that of the key"),
                tlog: Some("note has no verifiable signatures"),
                fsck: Some("note has no verifiable signatures"),
                remembering: Some("note has no verifiable signatures"),
            },
            Forgery {
                name: "another key signed the checkpoint",
                files: files().under(strange),
                ours: Some("the checkpoint does not hold"),
                tlog: Some("note has no verifiable signatures"),
                fsck: Some("note has no verifiable signatures"),
                remembering: Some("note has no verifiable signatures"),
            },
            Forgery {
                name: "the checkpoint says another size than was signed",
                files: files().with("checkpoint", |note| {
                    let at = find(note, b"\n600\n");
                    note[at + 1..at + 4].copy_from_slice(b"599");
                }),
                // It looks for the entries first: they say whose key counts.
                ours: Some("tile/entries/002.p/87 is missing"),
                tlog: Some("invalid signature"),
                fsck: Some("invalid signature"),
                remembering: Some("invalid signature"),
            },
            Forgery {
                name: "the checkpoint says another root than was signed",
                files: files().with("checkpoint", |note| {
                    let at = find(note, b"\n600\n") + 5;
                    note[at] = if note[at] == b'A' { b'B' } else { b'A' };
                }),
                ours: Some("the checkpoint does not hold"),
                tlog: Some("invalid signature"),
                fsck: Some("invalid signature"),
                remembering: Some("invalid signature"),
            },
            Forgery {
                name: "the log signed another root",
                files: files().under(self.signing.checkpoint(SIZE, root)),
                ours: Some("the checkpoint of size 600 has another root"),
                tlog: Some("inconsistent tile"),
                fsck: Some("but checkpoint claims"),
                remembering: Some("fork: the checkpoint of size 600 is of another tree"),
            },
            Forgery {
                name: "the log signed more than it has",
                files: files().under(self.signing.checkpoint(SIZE + 1, self.root)),
                ours: Some("tile/entries/002.p/89 is missing"),
                tlog: Some("not exist"),
                fsck: Some("streaming bundles"),
                remembering: Some("not exist"),
            },
        ]
    }

    /// By the holder of the log's key, in entries; the tree over them is as it should be.
    fn changed_entries(&self, stranger: &LogKey) -> Vec<Forgery> {
        let forged = |name, files, ours| Forgery {
            name,
            files,
            ours: Some(ours),
            tlog: None,
            fsck: None,
            remembering: Some("fork: the checkpoint of size 600 is of another tree"),
        };
        let mut swapped = self.entries.clone();
        swapped.swap(300, 400);
        vec![
            forged(
                "two entries have changed places in the tree too",
                self.checkpointed(&swapped),
                "expected sequence 300, found 400",
            ),
            forged(
                "an entry is of another epoch",
                self.drafted(|draft| draft.epoch = 2),
                "entry 300 is not the next",
            ),
            forged(
                "an entry links to another than the one before",
                self.drafted(|draft| draft.prev = Some(self.signing.genesis().cid())),
                "entry 300 is not the next",
            ),
            forged(
                "an entry is left out",
                self.drafted(|draft| draft.seq += 1),
                "expected sequence 300, found 301",
            ),
            forged(
                "an entry is of another tenant",
                self.drafted(|draft| draft.tenant.0[0] ^= 1),
                "entry 300 is not the next",
            ),
            forged(
                "another key signed an entry",
                self.resigned(|signing| {
                    let mut entry = signing.signed(signing.draft());
                    sign_again(stranger, &mut entry);
                    entry
                }),
                "entry 300 is not the next",
            ),
            forged(
                "a number of an entry is in more bytes than it needs",
                self.resigned(|signing| {
                    let mut entry = signing.signed(signing.draft());
                    let at = find(&entry, b"\x19\x01\x2c");
                    entry.splice(at..at + 3, *b"\x1a\x00\x00\x01\x2c");
                    sign_again(self.key, &mut entry);
                    entry
                }),
                "entry 300 is not one",
            ),
            forged(
                "an entry is of a later version",
                self.resigned(|signing| {
                    let mut entry = signing.signed(signing.draft());
                    entry[3] = 2;
                    sign_again(self.key, &mut entry);
                    entry
                }),
                "the entry is of a later version, 2",
            ),
        ]
    }

    /// What only those see who remember the log.
    fn other_times(&self) -> Vec<Forgery> {
        let (then, root) = Static::new(&self.entries[..FORGED as usize]);
        let earlier = || self.signing.checkpoint(FORGED, root);
        let now = || self.files.clone().under(earlier());
        let remembering = Some("rolled back: it had 600 entries, and has 300");
        vec![
            Forgery {
                name: "an earlier checkpoint, without the tiles of its time",
                files: now(),
                ours: Some("tile/1/000.p/1 is missing"),
                tlog: Some("not exist"),
                fsck: Some("not exist"),
                remembering,
            },
            Forgery {
                name: "an earlier checkpoint, and the tiles of its time",
                files: now().and(then),
                ours: None,
                tlog: None,
                fsck: None,
                remembering,
            },
            Forgery {
                name: "the other side of a log that has two",
                files: self.other_side(),
                ours: None,
                tlog: None,
                fsck: None,
                remembering: Some("fork: the checkpoint of size 600 is of another tree"),
            },
        ]
    }
}
