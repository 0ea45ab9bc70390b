//! Entries: what a node did, signed, and linked to the entry before.
//!
//! An entry is a leaf of the log's tree, in canonical DAG-CBOR. Here is its form and its signature;
//! whether it is the right one at its place is up to [`super::chain`].

mod fields;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;

use cid::Cid;
use ed25519_dalek::{Signer, SigningKey};

pub(super) use fields::is_word;
pub use fields::{Action, Outcome, Session, Tenant};

use super::{
    keys::Control,
    tree::{self, Hash},
};
use crate::{
    block::{Block, CODEC_DAG_CBOR, cid_of, digest_of},
    note::PublicKey,
};

/// The version of entries that is written.
pub const ENTRY_VERSION: u64 = 1;
/// Largest entry in bytes: with its length in two more, 256 of them make a bundle of at most 1 MiB,
/// which is one block.
pub const ENTRY_SIZE_MAX: usize = (1 << 12) - 2;
/// Longest actor in bytes.
pub const ACTOR_SIZE_MAX: usize = 128;
/// Longest name of an action or of a field, in bytes.
pub const WORD_SIZE_MAX: usize = 64;
/// Most CIDs that an entry is about.
pub const SUBJECTS_MAX: usize = 16;
/// Most fields that an entry commits to.
pub const COMMITS_MAX: usize = 16;
/// What is signed begins with this, and nothing else that a log's key signs does.
pub const ENTRY_DOMAIN: &str = "souverain/log-entry/v1\n";

/// Why bytes are not an entry, or not one of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is longer than any may be.
    #[error("an entry of {size} bytes is longer than {ENTRY_SIZE_MAX}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// It is of a version that this program does not know.
    #[error("the entry is of a later version, {version}")]
    LaterVersion {
        /// The version.
        version: u64,
    },
    /// It is not canonical DAG-CBOR of the fields of an entry.
    #[error("not an entry: {0}")]
    Malformed(String),
    /// It would be written in another way.
    #[error("the entry is not in its canonical form")]
    NotCanonical,
    /// A field has a value that it may not have.
    #[error("the field {0} of the entry has no value that it may have")]
    Field(&'static str),
    /// It has no signature.
    #[error("the entry is not signed")]
    Unsigned,
    /// The key did not sign it.
    #[error("the signature of the entry is wrong")]
    WrongSignature,
}

/// What an entry says, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Whose log it is.
    pub tenant: Tenant,
    /// Number of the log's key, from 1.
    pub epoch: u64,
    /// Its index in the log.
    pub seq: u64,
    /// The entry before; none has only the first.
    pub prev: Option<Cid>,
    /// When it happened, in milliseconds since 1970, as the node's clock had it. Nothing depends on it.
    pub time_ms: u64,
    /// The run of the program.
    pub session: Session,
    /// Peer id of who caused it, never a person's name.
    pub actor: String,
    /// What was done.
    pub action: Action,
    /// How it went.
    pub outcome: Outcome,
    /// What it was done with.
    pub subject: Vec<Cid>,
    /// Salted hashes of details that may be personal or sensitive, by name: see [`super::detail`].
    pub commit: BTreeMap<String, [u8; 32]>,
    /// The block with those details, sealed to the auditors.
    pub sealed: Option<Cid>,
    /// A change of the log's keys.
    pub control: Option<Control>,
}

impl Draft {
    /// Signs the entry: `sign` is given the message and returns the signature of `key`'s secret half,
    /// which is checked.
    ///
    /// # Errors
    /// A field has a value that it may not have, the entry would be too long, or what was signed is
    /// not the key's.
    pub fn sign(
        self,
        key: &PublicKey,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Result<Entry, EntryError> {
        self.check()?;
        let signature = sign(&wire::message(&self));
        self.signed(signature)?.verify(key)
    }

    /// Signs the entry with a key that is at hand. That it is the key's needs no check.
    ///
    /// # Errors
    /// A field has a value that it may not have, or the entry would be too long.
    pub fn sign_with(self, key: &SigningKey) -> Result<Entry, EntryError> {
        self.check()?;
        let signature = key.sign(&wire::message(&self)).to_bytes();
        let mut entry = self.signed(signature)?;
        entry.signer = Some(key.verifying_key().to_bytes());
        Ok(Entry(entry))
    }

    /// Puts a signature into the entry, whosever it is.
    fn signed(self, signature: [u8; 64]) -> Result<UnverifiedEntry, EntryError> {
        let bytes = wire::encode(&self, &signature);
        if bytes.len() > ENTRY_SIZE_MAX {
            return Err(EntryError::TooLong { size: bytes.len() });
        }
        Ok(UnverifiedEntry::new(self, signature, bytes))
    }

    /// Checks each field by itself, and those that go together.
    fn check(&self) -> Result<(), EntryError> {
        let first = self.action == Action::GENESIS;
        let control = self.control.as_ref().map(Control::action);
        let actor = self.actor.as_bytes();
        for (field, good) in [
            ("epoch", self.epoch > 0 && (!first || self.epoch == 1)),
            ("seq", self.seq < tree::TREE_SIZE_MAX),
            ("seq", (self.seq == 0) == first),
            ("prev", self.prev.is_none() == first),
            ("prev", self.prev.as_ref().is_none_or(is_entry)),
            ("session", self.session.is_uuid_v7()),
            ("action", is_word(self.action.as_str())),
            ("actor", (1..=ACTOR_SIZE_MAX).contains(&actor.len())),
            ("actor", actor.iter().all(u8::is_ascii_alphanumeric)),
            ("subject", self.subject.len() <= SUBJECTS_MAX),
            ("commit", self.commit.len() <= COMMITS_MAX),
            ("commit", self.commit.keys().all(|name| is_word(name))),
            ("control", control == self.action.changes_keys()),
        ] {
            if !good {
                return Err(EntryError::Field(field));
            }
        }
        Ok(())
    }
}

/// Whether a CID is one that an entry has.
fn is_entry(cid: &Cid) -> bool {
    digest_of(cid).is_some() && cid.version() == cid::Version::V1 && cid.codec() == CODEC_DAG_CBOR
}

/// An entry of which it is not known whether its log's key signed it.
#[derive(Clone, Debug)]
pub struct UnverifiedEntry {
    draft: Draft,
    signature: [u8; 64],
    bytes: Vec<u8>,
    cid: Cid,
    /// A key that is known to have signed it.
    signer: Option<[u8; 32]>,
}

/// Entries are the same if their bytes are.
impl PartialEq for UnverifiedEntry {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for UnverifiedEntry {}

impl UnverifiedEntry {
    fn new(draft: Draft, signature: [u8; 64], bytes: Vec<u8>) -> Self {
        Self {
            draft,
            signature,
            cid: cid_of(CODEC_DAG_CBOR, &bytes),
            bytes,
            signer: None,
        }
    }

    /// Reads an entry, and refuses all that [`Draft::sign`] would not write.
    ///
    /// # Errors
    /// It would not write this, or a later version of it might.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_SIZE_MAX {
            return Err(EntryError::TooLong { size: bytes.len() });
        }
        let (draft, signature) = wire::decode(bytes)?;
        draft.check()?;
        let signature = signature.ok_or(EntryError::Unsigned)?;
        // The decoder is strict; this is for what it might let through all the same.
        let again = wire::encode(&draft, &signature);
        if again != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(Self::new(draft, signature, again))
    }

    /// What it says, which nobody may have signed.
    #[must_use]
    pub fn draft_unverified(&self) -> &Draft {
        &self.draft
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its CID.
    #[must_use]
    pub fn cid(&self) -> Cid {
        self.cid
    }

    /// The block that it is.
    #[must_use]
    pub fn block(&self) -> Block {
        Block::log(CODEC_DAG_CBOR, self.bytes.clone())
    }

    /// Checks that a key signed it.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(mut self, key: &PublicKey) -> Result<Entry, EntryError> {
        self.check(key)?;
        Ok(Entry(self))
    }

    /// Checks that a key signed it, once: [`UnverifiedEntry::verify`] knows then. So the signatures of many entries
    /// can be checked beside each other before they are looked at one after the other.
    ///
    /// # Errors
    /// It did not.
    pub fn check(&mut self, key: &PublicKey) -> Result<(), EntryError> {
        if self.signer.as_ref() == Some(key.as_bytes()) {
            return Ok(());
        }
        let message = wire::message_of(&self.bytes, self.draft.seq);
        if !key.has_signed(&message, &self.signature) {
            return Err(EntryError::WrongSignature);
        }
        self.signer = Some(*key.as_bytes());
        Ok(())
    }
}

/// An entry that a key signed: that it is the log's own key is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(UnverifiedEntry);

impl Entry {
    /// What it says.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.0.draft
    }

    /// Its bytes: a leaf of the log, and a block.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Its CID, which the next entry links to.
    #[must_use]
    pub fn cid(&self) -> Cid {
        self.0.cid()
    }

    /// The block that it is.
    #[must_use]
    pub fn block(&self) -> Block {
        Block::log(CODEC_DAG_CBOR, self.0.bytes.clone())
    }

    /// Its hash in the tree.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        tree::leaf_hash(&self.0.bytes)
    }
}

impl From<Entry> for UnverifiedEntry {
    fn from(entry: Entry) -> Self {
        entry.0
    }
}
