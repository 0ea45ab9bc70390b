//! Logs of any size, made fast.

use std::{collections::BTreeMap, path::Path};

use agent::log::key::LogKey;
use cid::Cid;
use protocol::{
    block::{CODEC_DAG_CBOR, raw_cid, sha256},
    log::{
        checkpoint::{Checkpoint, Origin, SignedCheckpoint},
        entry::{Action, Draft, ENTRY_DOMAIN, Entry, Outcome, Session, Tenant},
        keys::{Control, KeyHistory, recovery_commitment},
        replica::{Message, Range, Reading, Request, Stretch, read_stretch},
        tree::{Edge, Hash, TreeError, leaf_hash},
    },
    note::VerifierKey,
};
use store::log::LogWriter;

/// Entries that are staged at a time.
const BATCH: u64 = 1 << 14;
/// What comes before a signature in an entry: the text `sig`, and the head of 64 bytes.
const SIG_HEAD: &[u8] = b"csig\x58\x40";
/// What comes before the digest of the entry before: the text `prev`, and all else of the link.
const PREV_HEAD: &[u8] = b"dprev\xd8\x2a\x58\x25\x00\x01\x71\x12\x20";

/// Signs the entries of one log, one after the other.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    key: &'a LogKey,
    vkey: VerifierKey,
    genesis: Entry,
    prev: Cid,
    next: u64,
    /// An entry, of which only number, link and signature are changed to make another.
    template: Vec<u8>,
}

impl<'a> Signing<'a> {
    /// Begins a log; those of different tenants are different.
    ///
    /// # Panics
    /// Its first entry does not hold.
    #[must_use]
    pub fn begin(key: &'a LogKey, tenant: u8) -> Self {
        let genesis = Draft {
            control: Some(Control::Genesis {
                key: *key.public().as_bytes(),
                recovery: recovery_commitment(&[9; 32]),
            }),
            action: Action::GENESIS,
            ..draft(tenant, 0, None)
        };
        let genesis = genesis.sign(&key.public(), |message| key.sign(message));
        let genesis = genesis.expect("a first entry");
        let (keys, _) = KeyHistory::begin(genesis.clone().into()).expect("a first entry");
        Self {
            key,
            vkey: keys.key().clone(),
            prev: genesis.cid(),
            genesis,
            next: 1,
            template: Vec::new(),
        }
    }

    /// Verifies the log.
    #[must_use]
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// The first entry.
    #[must_use]
    pub fn genesis(&self) -> &Entry {
        &self.genesis
    }

    /// What the next entry says.
    #[must_use]
    pub fn draft(&self) -> Draft {
        let Tenant([tenant, ..]) = self.genesis.draft().tenant;
        draft(tenant, self.next, Some(self.prev))
    }

    /// The next entry. It is put together out of the one before, and its signature is not checked: otherwise that
    /// takes two thirds of the time.
    ///
    /// # Panics
    /// It does not hold.
    #[must_use]
    pub fn entry(&mut self) -> Vec<u8> {
        // The number is in more bytes than before.
        if [1, 24, 1 << 8, 1 << 16].contains(&self.next) {
            let signed = self.signed(self.draft());
            self.push(&signed);
            self.template = signed;
            return self.template.clone();
        }
        let mut entry = self.template.clone();
        let number = self.next.to_be_bytes();
        let width = match self.next {
            ..0x100 => 1,
            0x100..0x1_0000 => 2,
            _ => 4,
        };
        let sig = find(&entry, SIG_HEAD);
        entry[sig - width..sig].copy_from_slice(&number[8 - width..]);
        let prev = find(&entry, PREV_HEAD) + PREV_HEAD.len();
        entry[prev..prev + 32].copy_from_slice(self.prev.hash().digest());
        sign_again(self.key, &mut entry);
        self.push(&entry);
        entry
    }

    /// The next entry, if it says something else.
    ///
    /// # Panics
    /// No entry can say it.
    #[must_use]
    pub fn signed(&self, draft: Draft) -> Vec<u8> {
        let signed = draft.sign(&self.key.public(), |message| self.key.sign(message));
        signed.expect("an entry").bytes().to_vec()
    }

    /// Goes on behind an entry, whatever it is.
    pub fn push(&mut self, entry: &[u8]) {
        self.prev = link(entry);
        self.next += 1;
    }

    /// The first entries of the log.
    #[must_use]
    pub fn entries(&mut self, count: u64) -> Vec<Vec<u8>> {
        let mut entries = vec![self.genesis.bytes().to_vec()];
        entries.extend((1..count).map(|_| self.entry()));
        entries
    }

    /// Signs a checkpoint.
    ///
    /// # Panics
    /// There is no such checkpoint.
    #[must_use]
    pub fn checkpoint(&self, size: u64, root: Hash) -> SignedCheckpoint {
        checkpoint(self.key, self.vkey.name(), size, root)
    }

    /// Writes a log of so many entries to a new directory, as a home has it.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&mut self, dir: &Path, size: u64) {
        // The number of the first entry, behind the keys `v` and `seq`, is 0.
        let (mut writer, _) = LogWriter::open(dir, |entry| entry[8] == 0).expect("a directory");
        writer.stage(&[self.genesis.bytes()]).expect("stages");
        while writer.size() < size {
            let count = BATCH.min(size - writer.size());
            let entries: Vec<_> = (0..count).map(|_| self.entry()).collect();
            writer.stage(&entries).expect("stages");
        }
        let checkpoint = self.checkpoint(size, writer.root());
        writer
            .publish(checkpoint.to_string().as_bytes())
            .expect("publishes");
    }
}

/// A log in memory, to tell others of. A clone of it goes on as another history.
#[derive(Clone, Debug)]
pub struct Branch<'a> {
    signing: Signing<'a>,
    entries: Vec<Vec<u8>>,
    nodes: BTreeMap<(u8, u64), Hash>,
    edge: Edge,
}

impl<'a> Branch<'a> {
    /// The first entries of a log.
    ///
    /// # Panics
    /// They do not hold.
    #[must_use]
    pub fn new(mut signing: Signing<'a>, count: u64) -> Self {
        let entries = signing.entries(count);
        let mut branch = Self {
            signing,
            entries: Vec::new(),
            nodes: BTreeMap::new(),
            edge: Edge::new(),
        };
        entries.into_iter().for_each(|entry| branch.add(entry));
        branch
    }

    /// Verifies the log.
    #[must_use]
    pub fn vkey(&self) -> &VerifierKey {
        self.signing.vkey()
    }

    /// Appends an entry; one of another time is another one.
    pub fn push(&mut self, time_ms: u64) {
        let entry = self.signing.signed(Draft {
            time_ms,
            ..self.signing.draft()
        });
        self.signing.push(&entry);
        self.add(entry);
    }

    fn add(&mut self, entry: Vec<u8>) {
        let nodes = &mut self.nodes;
        let pushed = self
            .edge
            .push_with(leaf_hash(&entry), |level, index, hash| {
                nodes.insert((level, index), *hash);
            });
        pushed.expect("room");
        self.entries.push(entry);
    }

    /// The checkpoint of all of it.
    #[must_use]
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.signing.checkpoint(self.edge.size(), self.edge.root())
    }

    /// The answer to a request, under a checkpoint of all of it.
    ///
    /// # Panics
    /// It is of another log.
    #[must_use]
    pub fn answer(&self, request: &Request, checkpoint: SignedCheckpoint) -> Message {
        let size = self.edge.size();
        let wanted = Reading {
            origin: request.origin.clone(),
            from: request.from,
            size,
            entries_max: request.entries_max,
        };
        let entry = |index: u64| Ok::<_, TreeError>(self.entries[index as usize].clone());
        let node = |level, index| Ok(self.nodes[&(level, index)]);
        let stretch = match request.from < size {
            true => read_stretch(&wanted, entry, node, [0]).expect("it is all here"),
            false => Stretch::default(),
        };
        Message::Range(Box::new(Range {
            id: request.id,
            checkpoint: checkpoint.into(),
            entries: stretch.entries,
            grown: stretch.grown,
            rest: stretch.rest,
            changes: stretch.changes,
        }))
    }
}

fn draft(tenant: u8, seq: u64, prev: Option<Cid>) -> Draft {
    let mut session = [tenant; 16];
    (session[6], session[8]) = (0x70, 0x80);
    Draft {
        tenant: Tenant([tenant; 16]),
        epoch: 1,
        seq,
        prev,
        time_ms: 1_767_323_045_000,
        session: Session(session),
        actor: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".to_owned(),
        action: Action::EXPORT,
        outcome: Outcome::Ok,
        subject: vec![raw_cid(&[tenant; 32])],
        commit: BTreeMap::from([("sources".to_owned(), [tenant; 32])]),
        sealed: None,
        control: None,
    }
}

/// Signs a checkpoint of a log with a key, be it the log's or not.
///
/// # Panics
/// There is no such checkpoint.
#[must_use]
pub fn checkpoint(key: &LogKey, origin: &str, size: u64, root: Hash) -> SignedCheckpoint {
    let name = Origin::new(origin).expect("an origin");
    let checkpoint = Checkpoint::new(name, size, root).expect("a checkpoint");
    let vkey = VerifierKey::new(origin, key.public().as_bytes()).expect("a key");
    let signed = checkpoint.sign(&vkey, |text| key.sign(text));
    signed.expect("signed")
}

/// The link to an entry, or to what stands in the place of one.
fn link(entry: &[u8]) -> Cid {
    Cid::new_v1(CODEC_DAG_CBOR, *raw_cid(&sha256(entry)).hash())
}

/// Puts the signature of what else is in it into an entry, be it a good one or not.
///
/// # Panics
/// It has no place for one.
pub fn sign_again(key: &LogKey, entry: &mut [u8]) {
    let sig = find(entry, SIG_HEAD);
    let (before, rest) = entry.split_at(sig);
    let after = &rest[SIG_HEAD.len() + 64..];
    let mut message = [ENTRY_DOMAIN.as_bytes(), before, after].concat();
    message[ENTRY_DOMAIN.len()] -= 1;
    let place = sig + SIG_HEAD.len()..sig + SIG_HEAD.len() + 64;
    entry[place].copy_from_slice(&key.sign(&message));
}

/// Where something is in an entry.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn find(entry: &[u8], what: &[u8]) -> usize {
    let found = entry.windows(what.len()).position(|part| part == what);
    found.expect("it is in every entry")
}
