//! How epochs are stored.

use std::collections::BTreeSet;

use protocol::keys::{
    ClassRecipient, KeyKind,
    capsule::{Epoch, Mode},
};
use serde::{Deserialize, Serialize};
use store::Table;

use super::{Keyring, KeyringError, Stored, damaged};
use crate::keys::RecipientSet;

/// What is known of an epoch without opening its capsule.
pub(super) struct Record {
    pub(super) kind: KeyKind,
    /// The class's public key.
    pub(super) recipient: ClassRecipient,
    /// Whom the stored capsule is sealed to.
    pub(super) sealed_to: Holders,
    /// Who else was given the class identity, by other capsules.
    pub(super) others: Vec<String>,
    /// The epochs whose identities the stored capsule holds, newest first.
    pub(super) members: Vec<u32>,
    /// Nothing more may be sealed to it.
    pub(super) retired: bool,
}

/// Whom a capsule is sealed to, by their canonical strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Holders {
    Recipients(BTreeSet<String>),
    Passphrase,
}

impl Holders {
    pub(super) fn of(set: &RecipientSet) -> Self {
        if set.as_passphrase().is_some() {
            return Self::Passphrase;
        }
        Self::Recipients(set.strings().map(str::to_owned).collect())
    }
}

impl Record {
    /// Whether more may be sealed to the epoch for `recipients`: none of those who can open it
    /// is missing among them.
    pub(super) fn continues(&self, kind: KeyKind, recipients: &RecipientSet) -> bool {
        let wanted = Holders::of(recipients);
        let all_wanted = match (&self.sealed_to, &wanted) {
            (Holders::Recipients(had), Holders::Recipients(wanted)) => {
                had.is_subset(wanted) && self.others.iter().all(|other| wanted.contains(other))
            }
            (Holders::Passphrase, Holders::Passphrase) => self.others.is_empty(),
            _ => false,
        };
        self.kind == kind && !self.retired && all_wanted
    }

    /// Whether `recipients` can all open the stored capsule, or were given its identities. Of a
    /// passphrase that is known only when it opens the capsule.
    pub(super) fn known_to_all(&self, recipients: &RecipientSet) -> bool {
        match (&self.sealed_to, Holders::of(recipients)) {
            (Holders::Recipients(had), Holders::Recipients(wanted)) => wanted
                .iter()
                .all(|one| had.contains(one) || self.others.contains(one)),
            (Holders::Passphrase, Holders::Passphrase) => true,
            _ => false,
        }
    }

    /// Whether somebody can open the epoch.
    pub(super) fn held_by(&self, one: &str) -> bool {
        let sealed_to = match &self.sealed_to {
            Holders::Recipients(had) => had.contains(one),
            Holders::Passphrase => false,
        };
        sealed_to || self.others.iter().any(|other| other == one)
    }
}

/// [`Record`], in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    v: u8,
    kind: String,
    recipient: String,
    sealed_to: Holders,
    #[serde(default)]
    others: Vec<String>,
    members: Vec<u32>,
    #[serde(default)]
    retired: bool,
}

const RECORD_VERSION: u8 = 1;

impl Record {
    fn encode(&self) -> Vec<u8> {
        let encoded = Encoded {
            v: RECORD_VERSION,
            kind: kind_name(self.kind).to_owned(),
            recipient: self.recipient.to_string(),
            sealed_to: self.sealed_to.clone(),
            others: self.others.clone(),
            members: self.members.clone(),
            retired: self.retired,
        };
        serde_json::to_vec(&encoded).expect("strings and numbers encode")
    }

    fn decode(bytes: &[u8], epoch: Epoch) -> Option<Self> {
        let encoded: Encoded = serde_json::from_slice(bytes).ok()?;
        let recipient: ClassRecipient = encoded.recipient.parse().ok()?;
        let kind = recipient.kind();
        let sound = encoded.v == RECORD_VERSION
            && encoded.kind == kind_name(kind)
            && encoded.members.first() == Some(&epoch.number);
        sound.then_some(Self {
            kind,
            recipient,
            sealed_to: encoded.sealed_to,
            others: encoded.others,
            members: encoded.members,
            retired: encoded.retired,
        })
    }
}

fn kind_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::X25519 => "x25519",
        KeyKind::Hybrid => "hybrid",
    }
}

fn current_key(class: Mode) -> Vec<u8> {
    format!("current/{class}").into_bytes()
}

fn epoch_key(epoch: Epoch) -> Vec<u8> {
    format!("epoch/{}/{}", epoch.class, epoch.number).into_bytes()
}

pub(super) fn capsule_key(epoch: Epoch) -> Vec<u8> {
    format!("capsule/{}/{}", epoch.class, epoch.number).into_bytes()
}

fn holders_key(capsule: &[u8]) -> Vec<u8> {
    format!("holders/{}", blake3::hash(capsule)).into_bytes()
}

impl Keyring<'_> {
    /// The current epoch of a class, if it has any.
    pub(super) fn current(&self, class: Mode) -> Result<Option<Stored>, KeyringError> {
        let Some(bytes) = self.store.value(Table::Epochs, &current_key(class))? else {
            return Ok(None);
        };
        let number = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|n| n.parse().ok());
        let number: u32 = number.ok_or_else(|| KeyringError::Damaged {
            what: format!("the current epoch of class {class}"),
        })?;
        let epoch = Epoch { class, number };
        let stored = self.stored(epoch)?.ok_or_else(|| damaged(epoch))?;
        Ok(Some(stored))
    }

    pub(super) fn set_current(&self, epoch: Epoch) -> Result<(), KeyringError> {
        let number = epoch.number.to_string();
        let key = current_key(epoch.class);
        Ok(self.store.set(Table::Epochs, &key, number.as_bytes())?)
    }

    /// An epoch with its capsule, if both are stored.
    pub(super) fn stored(&self, epoch: Epoch) -> Result<Option<Stored>, KeyringError> {
        let Some(bytes) = self.store.value(Table::Epochs, &epoch_key(epoch))? else {
            return Ok(None);
        };
        let record = Record::decode(&bytes, epoch).ok_or_else(|| damaged(epoch))?;
        let capsule = self.capsule_for(epoch)?;
        Ok(capsule.map(|capsule| Stored {
            epoch,
            record,
            capsule,
        }))
    }

    pub(super) fn set_stored(&self, stored: &Stored) -> Result<(), KeyringError> {
        let Stored {
            epoch,
            record,
            capsule,
        } = stored;
        self.set_record(*epoch, record)?;
        self.store
            .set(Table::Epochs, &capsule_key(*epoch), capsule)?;
        self.set_holders(capsule, &record.sealed_to)
    }

    pub(super) fn set_record(&self, epoch: Epoch, record: &Record) -> Result<(), KeyringError> {
        let key = epoch_key(epoch);
        Ok(self.store.set(Table::Epochs, &key, &record.encode())?)
    }

    /// Whom a capsule is sealed to, if this node sealed it.
    pub(super) fn holders(&self, capsule: &[u8]) -> Result<Option<Holders>, KeyringError> {
        let Some(bytes) = self.store.value(Table::Epochs, &holders_key(capsule))? else {
            return Ok(None);
        };
        let holders = serde_json::from_slice(&bytes).map_err(|_| KeyringError::Damaged {
            what: "the recipients of a capsule".to_owned(),
        })?;
        Ok(Some(holders))
    }

    pub(super) fn set_holders(
        &self,
        capsule: &[u8],
        holders: &Holders,
    ) -> Result<(), KeyringError> {
        let encoded = serde_json::to_vec(holders).expect("strings encode");
        let key = holders_key(capsule);
        Ok(self.store.set(Table::Epochs, &key, &encoded)?)
    }
}
