//! Logs to test with: keys are numbers, and nothing is random.

use std::collections::BTreeMap;

use ed25519_dalek::{Signer, SigningKey};

use super::{
    chain::Chain,
    entry::{Action, Draft, Outcome, Session, Tenant, UnverifiedEntry},
    keys::{Control, key_statement, recovery_commitment},
};
use crate::note::PublicKey;

/// The secret key of a number.
pub(crate) fn secret(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// Its public key.
pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::new(secret(seed).verifying_key().as_bytes()).expect("a key")
}

/// What signs with it.
pub(crate) fn sign(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| secret(seed).sign(message).to_bytes()
}

/// An entry that a key signed, whether or not it may.
pub(crate) fn signed(draft: Draft, seed: u8) -> UnverifiedEntry {
    draft.sign(&public(seed), sign(seed)).expect("signs").into()
}

/// A log that its owner keeps.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) chain: Chain,
    pub(crate) entries: Vec<UnverifiedEntry>,
    /// Number of its key.
    pub(crate) key: u8,
    /// Number of its recovery key.
    pub(crate) recovery: u8,
}

impl Log {
    /// With key 1 and recovery key 101.
    pub(crate) fn new() -> Self {
        let genesis = Draft {
            tenant: Tenant([7; 16]),
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
                key: *public(1).as_bytes(),
                recovery: recovery_commitment(public(101).as_bytes()),
            }),
        };
        let genesis = signed(genesis, 1);
        let (chain, _) = Chain::begin(genesis.clone()).expect("begins");
        Self {
            chain,
            entries: vec![genesis],
            key: 1,
            recovery: 101,
        }
    }

    /// What its next entry would say.
    pub(crate) fn draft(&self, action: Action) -> Draft {
        let genesis = self.entries[0].draft_unverified();
        let keys = self.chain.keys();
        Draft {
            epoch: keys.epoch(),
            seq: self.chain.next(),
            prev: Some(*keys.head()),
            time_ms: genesis.time_ms + 1000 * self.chain.next(),
            action,
            control: None,
            ..genesis.clone()
        }
    }

    /// The proof of a new key in its next entry.
    pub(crate) fn proof(&self, key: u8) -> [u8; 64] {
        let keys = self.chain.keys();
        let (seq, prev) = (self.chain.next(), keys.head());
        let public = public(key);
        let statement = key_statement(keys.tenant(), keys.origin(), seq, prev, public.as_bytes());
        sign(key)(&statement)
    }

    /// What would make way for another key.
    pub(crate) fn rotation(&self, to: u8) -> Draft {
        let control = Control::Rotate {
            key: *public(to).as_bytes(),
            proof: self.proof(to),
        };
        Draft {
            control: Some(control),
            ..self.draft(Action::KEY_ROTATE)
        }
    }

    /// What would take the log back, and commit to the next recovery key.
    pub(crate) fn recovery(&self, from: u64, to: u8) -> Draft {
        let control = Control::Recover {
            from,
            key: *public(to).as_bytes(),
            proof: self.proof(to),
            reveal: *public(self.recovery).as_bytes(),
            recovery: recovery_commitment(public(self.recovery + 1).as_bytes()),
        };
        Draft {
            control: Some(control),
            epoch: self.chain.keys().epoch() + 1,
            ..self.draft(Action::KEY_RECOVER)
        }
    }

    /// Appends an entry.
    pub(crate) fn add(&mut self, entry: UnverifiedEntry) {
        self.chain.push(entry.clone()).expect("the next");
        self.entries.push(entry);
    }

    /// Appends an entry of an action.
    pub(crate) fn push(&mut self, action: Action) {
        self.add(signed(self.draft(action), self.key));
    }

    /// Makes way for another key.
    pub(crate) fn rotate(&mut self, to: u8) {
        self.add(signed(self.rotation(to), self.key));
        self.key = to;
    }

    /// Takes the log back.
    pub(crate) fn recover(&mut self, from: u64, to: u8) {
        self.add(signed(self.recovery(from, to), self.recovery));
        self.key = to;
        self.recovery += 1;
    }
}
