//! Logs as they are, whoever has seen what of them: the truth that replicas are compared with.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};
use souverain_protocol::{
    log::{
        chain::Chain,
        checkpoint::{Checkpoint, Origin, SignedCheckpoint},
        cosignature::{CosignerKey, cosign},
        entry::{Action, Draft, Outcome, Session, Tenant, UnverifiedEntry},
        keys::{Control, KeyHistory, key_statement, recovery_commitment},
        replica::{Kept, Reading, Stretch, read_stretch},
        tree::{Edge, Hash, TreeError},
    },
    note::PublicKey,
};

/// A key of a number.
pub(crate) fn secret(number: u64) -> SigningKey {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().as_bytes()).expect("a key")
}

/// The key of the witness of a number.
pub(crate) fn cosigner(number: u64) -> CosignerKey {
    let key = secret(number);
    let name = format!("witness.example/{number}");
    CosignerKey::new(&name, key.verifying_key().as_bytes()).expect("a key")
}

/// Puts the cosignature of a witness under a checkpoint.
pub(crate) fn cosigned(mut checkpoint: SignedCheckpoint, witness: u64) -> SignedCheckpoint {
    let sign = |message: &[u8]| secret(witness).sign(message).to_bytes();
    let line = cosign(checkpoint.checkpoint(), &cosigner(witness), 5, sign);
    checkpoint.push(line.expect("a time")).expect("room");
    checkpoint
}

/// One history of a log.
#[derive(Clone)]
pub(crate) struct Branch {
    pub(crate) entries: Vec<Vec<u8>>,
    /// After each entry.
    history: Vec<(KeyHistory, Edge)>,
    nodes: BTreeMap<(u8, u64), Hash>,
    changes: Vec<u64>,
    key: SigningKey,
    keys: u64,
}

impl Branch {
    /// With the first entry.
    pub(crate) fn new(number: u64) -> Self {
        let key = secret(number << 16);
        let recovery = secret(number << 16 | 0xffff);
        let mut tenant = [1; 16];
        tenant[..8].copy_from_slice(&number.to_le_bytes());
        let draft = Draft {
            tenant: Tenant(tenant),
            epoch: 1,
            seq: 0,
            prev: None,
            time_ms: 1_767_323_045_000,
            session: Session(*b"\x01\x9b\x7c\x5e\x9d\x08\x7c\xc3\x98\xc4\xdc\x0c\x0c\x07\x39\x8f"),
            actor: "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".to_owned(),
            action: Action::GENESIS,
            outcome: Outcome::Ok,
            subject: Vec::new(),
            commit: BTreeMap::new(),
            sealed: None,
            control: Some(Control::Genesis {
                key: *public(&key).as_bytes(),
                recovery: recovery_commitment(public(&recovery).as_bytes()),
            }),
        };
        let genesis = draft.sign(&public(&key), |message| key.sign(message).to_bytes());
        let genesis = UnverifiedEntry::from(genesis.expect("signs"));
        let (chain, _) = Chain::begin(genesis.clone()).expect("begins");
        let mut branch = Self {
            entries: Vec::new(),
            history: Vec::new(),
            nodes: BTreeMap::new(),
            changes: vec![0],
            key,
            keys: number << 16,
        };
        branch.add(&genesis, chain.keys().clone());
        branch
    }

    fn add(&mut self, entry: &UnverifiedEntry, keys: KeyHistory) {
        let mut edge = self
            .history
            .last()
            .map_or_else(Edge::new, |(_, edge)| edge.clone());
        let leaf = souverain_protocol::log::tree::leaf_hash(entry.bytes());
        let nodes = &mut self.nodes;
        let pushed = edge.push_with(leaf, |level, index, hash| {
            nodes.insert((level, index), *hash);
        });
        pushed.expect("room");
        self.entries.push(entry.bytes().to_vec());
        self.history.push((keys, edge));
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.keys().origin()
    }

    fn keys(&self) -> &KeyHistory {
        &self.history.last().expect("a genesis").0
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        self.history[size as usize - 1].1.root()
    }

    /// Index of the last entry that changed its keys.
    pub(crate) fn last_change(&self) -> u64 {
        self.changes.last().copied().unwrap_or(0)
    }

    /// Appends an entry; another `salt` makes another one.
    pub(crate) fn append(&mut self, salt: u64, rotate: bool) {
        let mut keys = self.keys().clone();
        let first = UnverifiedEntry::parse(&self.entries[0]).expect("an entry");
        let seq = self.size();
        let prev = *keys.head();
        let next = secret(self.keys + 1);
        let control = rotate.then(|| {
            let key = *public(&next).as_bytes();
            let statement = key_statement(keys.tenant(), keys.origin(), seq, &prev, &key);
            let proof = next.sign(&statement).to_bytes();
            Control::Rotate { key, proof }
        });
        let draft = Draft {
            epoch: keys.epoch(),
            seq,
            prev: Some(prev),
            time_ms: 1_767_323_045_000 + salt,
            action: match rotate {
                true => Action::KEY_ROTATE,
                false => Action::EXPORT,
            },
            control,
            ..first.draft_unverified().clone()
        };
        let key = &self.key;
        let signed = draft.sign(&public(key), |message| key.sign(message).to_bytes());
        let entry = signed.expect("signs");
        let entry = UnverifiedEntry::from(entry);
        keys.admit(entry.clone()).expect("the next");
        if rotate {
            self.changes.push(seq);
            self.key = next;
            self.keys += 1;
        }
        self.add(&entry, keys);
    }

    /// The first entries of the log, as long as no key changed since.
    pub(crate) fn cut(&self, size: u64) -> Self {
        let mut cut = self.clone();
        cut.entries.truncate(size as usize);
        cut.history.truncate(size as usize);
        cut.nodes
            .retain(|(level, index), _| (index + 1) << level <= size);
        cut.changes.retain(|change| *change < size);
        // The key may have changed: it is the thief's then, or a rewritten history's, to have all of them.
        cut.keys = (self.keys >> 16 << 16) + cut.changes.len() as u64 - 1;
        cut.key = secret(cut.keys);
        cut
    }

    /// The checkpoint of all of it.
    pub(crate) fn checkpoint(&self) -> SignedCheckpoint {
        let size = self.size();
        let checkpoint = Checkpoint::new(self.origin().clone(), size, self.root(size));
        self.signed(checkpoint.expect("a checkpoint"))
    }

    /// A checkpoint that the log signs, whatever it says.
    pub(crate) fn signed(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        let sign = |text: &[u8]| self.key.sign(text).to_bytes();
        checkpoint.sign(self.keys().key(), sign).expect("signs")
    }

    /// As a node has the first entries on its disk.
    pub(crate) fn kept(&self, size: u64) -> Kept {
        let (keys, edge) = self.history[size as usize - 1].clone();
        Kept {
            keys,
            edge,
            checkpoint: None,
            target: None,
            fork: None,
        }
    }

    pub(crate) fn read(&self, wanted: &Reading) -> Stretch {
        let node = |level, index| Ok::<_, TreeError>(self.nodes[&(level, index)]);
        let entry = |index| Ok(self.entries[index as usize].clone());
        let changes = self.changes.iter().copied();
        read_stretch(wanted, entry, node, changes).expect("read")
    }

    /// Whether its first entries are those.
    pub(crate) fn has(&self, first: u64, entries: &[Vec<u8>]) -> bool {
        let range = first as usize..first as usize + entries.len();
        self.entries.get(range) == Some(entries)
    }
}
