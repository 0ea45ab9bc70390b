//! Epochs of erasure classes: which key an export seals to, and the capsule that holds it.
//!
//! An epoch is a class identity and those who can open it. It lasts until somebody who can must
//! no longer be able to; then the next export begins a new one. Class identities are kept only
//! inside sealed capsules. In the table [`Table::Epochs`] of the store, which is trusted as far
//! as the home is, stand for each class:
//!
//! - `current/CLASS`: the number of the current epoch;
//! - `epoch/CLASS/NUMBER`: its `Record`;
//! - `capsule/CLASS/NUMBER`: its sealed capsule; in erasable mode the only copy there is;
//! - `holders/HASH`: whom the capsule with this hash is sealed to.
//!
//! What is set here becomes durable with the store's next commit, together with the blocks that
//! need it.

use protocol::{
    keys::{
        ClassIdentity, ClassRecipient, KeyKind,
        capsule::{Capsule, CapsuleError, Epoch, Mode},
    },
    seal::{OpenError, Sealed},
};
use store::{Store, StoreError, Table};

use crate::keys::{Identities, RecipientError, RecipientSealError, RecipientSet};
use record::{Holders, Record};

mod change;
mod record;
#[cfg(test)]
mod tests;

pub use change::{CapsuleRecipients, Change};

/// Most identities of one capsule that an export makes.
pub const EPOCHS_HELD_MAX: usize = 256;
/// Most stored capsules that one export tries to open.
const CAPSULES_TRIED_MAX: usize = 8;

/// The class keys that a node knows.
#[derive(Clone, Copy, Debug)]
pub struct Keyring<'a> {
    store: &'a Store,
}

/// What an export seals with.
#[derive(Debug)]
pub struct ExportKeys {
    /// The epoch that everything new is sealed to.
    pub epoch: Epoch,
    /// Its public key.
    pub recipient: ClassRecipient,
    /// The capsule that becomes part of the snapshot. Nothing in erasable mode, where no capsule
    /// may be content-addressed.
    pub capsule: Option<Sealed>,
    /// The epochs whose identities the capsule holds, newest first: what is sealed to them can
    /// be reused.
    pub reusable: Vec<Epoch>,
}

/// Why class keys cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recipients cannot be used.
    #[error(transparent)]
    Recipients(#[from] RecipientError),
    /// The capsule cannot be sealed to the recipients.
    #[error("cannot seal the capsule")]
    Seal(#[from] RecipientSealError),
    /// The capsule cannot be opened.
    #[error(transparent)]
    Capsule(#[from] CapsuleError),
    /// What the store holds of an epoch makes no sense.
    #[error("the record of {what} is damaged")]
    Damaged {
        /// Which record.
        what: String,
    },
    /// It is not known whom the capsule is sealed to, so that they could be kept.
    #[error("it is not known here whom the capsule is sealed to")]
    HoldersUnknown,
    /// A capsule sealed to a passphrase has no recipients to add to or take from.
    #[error("the capsule is sealed to a passphrase, which cannot stand beside recipients")]
    PassphraseAlone,
    /// Somebody who is to be removed is not among the recipients.
    #[error("{given:?} is not among the recipients")]
    NotARecipient {
        /// Who.
        given: String,
    },
    /// Removing would leave nobody.
    #[error("nobody would be left who can open the snapshot")]
    LastRecipient,
    /// The erasable capsule is not the one in the keystore.
    #[error("the capsule is not the one that is kept for {epoch}")]
    Stale {
        /// Its newest epoch.
        epoch: Epoch,
    },
}

impl KeyringError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Recipients(cause) | Self::Seal(RecipientSealError::Recipients(cause)) => {
                return cause.hint();
            }
            Self::Capsule(CapsuleError::Open(OpenError::NoMatchingIdentity)) => {
                "pass `--identity FILE` with the identity of one of its recipients"
            }
            Self::HoldersUnknown => "run it on the node that made the snapshot",
            Self::PassphraseAlone => "export again, `--to` the recipients",
            Self::NotARecipient { .. } => "`souverain recipients list CID` shows who is",
            Self::LastRecipient => "add another recipient first",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// An epoch as it is stored.
struct Stored {
    epoch: Epoch,
    record: Record,
    capsule: Vec<u8>,
}

impl<'a> Keyring<'a> {
    /// The keyring of a store.
    #[must_use]
    pub fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// The keys for an export in `mode` to `recipients`, with class keys of `kind`.
    ///
    /// The same recipients as before find the same epoch, and its capsule byte for byte: no
    /// identity is needed. Anybody new, or gone, begins a new epoch: the identity of the old one
    /// would open what was exported before, which nobody shared with them. What was sealed to
    /// older epochs stays reusable if `identities` open their capsule, and if all `recipients`
    /// could open it anyway.
    ///
    /// # Errors
    /// The recipients do not go with `kind`, or refuse; the store fails or is damaged.
    pub fn for_export(
        &self,
        mode: Mode,
        kind: KeyKind,
        recipients: &RecipientSet,
        identities: Option<&Identities>,
    ) -> Result<ExportKeys, KeyringError> {
        recipients.check_kind(kind)?;
        let Some(current) = self.current(mode)? else {
            return self.begin(first(mode), kind, recipients, Capsule::default());
        };
        let opener = Opener::new(recipients, identities);
        if current.record.continues(kind, recipients) {
            if current.record.sealed_to == Holders::of(recipients) {
                if opener.knows_passphrase(&current)? {
                    return current.keys();
                }
            } else if current.record.known_to_all(recipients)
                && let Some(capsule) = opener.open(&current.capsule)?
            {
                return self.seal(current.epoch, kind, recipients, &capsule);
            }
        }
        let reusable = self.reusable(&current, kind, recipients, &opener)?;
        self.begin(current.next()?, kind, recipients, reusable)
    }

    /// The stored capsule of an epoch of this node: what opens its erasable snapshots.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn capsule_for(&self, epoch: Epoch) -> Result<Option<Vec<u8>>, KeyringError> {
        Ok(self
            .store
            .value(Table::Epochs, &record::capsule_key(epoch))?)
    }

    /// Begins an epoch whose capsule holds a fresh identity beside those of `older`.
    fn begin(
        &self,
        epoch: Epoch,
        kind: KeyKind,
        recipients: &RecipientSet,
        older: Capsule,
    ) -> Result<ExportKeys, KeyringError> {
        let mut capsule = older;
        capsule.insert(epoch, ClassIdentity::generate(kind));
        let keys = self.seal(epoch, kind, recipients, &capsule)?;
        self.set_current(epoch)?;
        tracing::info!(%epoch, reusable = keys.reusable.len(), "epoch begun");
        Ok(keys)
    }

    /// Seals and stores the capsule of an epoch.
    fn seal(
        &self,
        epoch: Epoch,
        kind: KeyKind,
        recipients: &RecipientSet,
        capsule: &Capsule,
    ) -> Result<ExportKeys, KeyringError> {
        let identity = capsule.identity(epoch).ok_or_else(|| damaged(epoch))?;
        let mut members: Vec<u32> = capsule.iter().map(|(member, _)| member.number).collect();
        members.reverse();
        let stored = Stored {
            epoch,
            record: Record {
                kind,
                recipient: identity.to_public(),
                sealed_to: Holders::of(recipients),
                others: Vec::new(),
                members,
                retired: false,
            },
            capsule: recipients.seal(capsule, kind)?.into_bytes(),
        };
        self.set_stored(&stored)?;
        stored.keys()
    }

    /// The identities of older epochs, where that tells the recipients nothing new.
    fn reusable(
        &self,
        current: &Stored,
        kind: KeyKind,
        recipients: &RecipientSet,
        opener: &Opener<'_>,
    ) -> Result<Capsule, KeyringError> {
        let mut gathered = Capsule::default();
        let (mut held, mut tried) = (0, 0);
        for number in (1..=current.epoch.number).rev() {
            let class = current.epoch.class;
            let epoch = Epoch { class, number };
            if held >= EPOCHS_HELD_MAX - 1 || tried >= CAPSULES_TRIED_MAX {
                break;
            }
            if gathered.identity(epoch).is_some() {
                continue;
            }
            let Some(stored) = self.stored(epoch)? else {
                continue;
            };
            if stored.record.kind != kind || !stored.record.known_to_all(recipients) {
                continue;
            }
            tried += 1;
            let Some(capsule) = opener.open(&stored.capsule)? else {
                continue;
            };
            for (epoch, identity) in capsule.iter().collect::<Vec<_>>().into_iter().rev() {
                if held < EPOCHS_HELD_MAX - 1 && gathered.identity(epoch).is_none() {
                    gathered.insert(epoch, identity.clone());
                    held += 1;
                }
            }
        }
        Ok(gathered)
    }
}

impl ExportKeys {
    /// Keys for one portable export that no store remembers, such as one straight to a CAR.
    ///
    /// # Errors
    /// The recipients do not go with `kind`, or refuse.
    pub fn once(kind: KeyKind, recipients: &RecipientSet) -> Result<Self, KeyringError> {
        recipients.check_kind(kind)?;
        let epoch = first(Mode::Portable);
        let identity = ClassIdentity::generate(kind);
        let recipient = identity.to_public();
        let mut capsule = Capsule::default();
        capsule.insert(epoch, identity);
        Ok(Self {
            epoch,
            recipient,
            capsule: Some(recipients.seal(&capsule, kind)?),
            reusable: vec![epoch],
        })
    }
}

impl Stored {
    fn keys(self) -> Result<ExportKeys, KeyringError> {
        let class = self.epoch.class;
        let capsule = match class {
            Mode::Portable => {
                Some(Sealed::from_age(self.capsule).map_err(|_| damaged(self.epoch))?)
            }
            Mode::Erasable => None,
        };
        let members = self.record.members.into_iter();
        Ok(ExportKeys {
            epoch: self.epoch,
            recipient: self.record.recipient,
            capsule,
            reusable: members.map(|number| Epoch { class, number }).collect(),
        })
    }

    fn next(&self) -> Result<Epoch, KeyringError> {
        let number = self.epoch.number.checked_add(1);
        Ok(Epoch {
            class: self.epoch.class,
            number: number.ok_or_else(|| damaged(self.epoch))?,
        })
    }
}

/// Opens stored capsules with what an export has.
struct Opener<'a> {
    given: Option<&'a Identities>,
    /// A passphrase opens what it seals.
    passphrase: Option<Identities>,
}

impl<'a> Opener<'a> {
    fn new(recipients: &RecipientSet, given: Option<&'a Identities>) -> Self {
        let passphrase = recipients.as_passphrase().cloned();
        Self {
            given,
            passphrase: passphrase.map(Identities::passphrase),
        }
    }

    /// Opens a stored capsule; nothing if it is for others.
    fn open(&self, sealed: &[u8]) -> Result<Option<Capsule>, KeyringError> {
        // A passphrase is tried alone: only what it opens is sealed to it.
        let Some(identities) = self.passphrase.as_ref().or(self.given) else {
            return Ok(None);
        };
        match Capsule::open(identities.iter(), sealed) {
            Ok(capsule) => Ok(Some(capsule)),
            Err(CapsuleError::Open(OpenError::NoMatchingIdentity)) => Ok(None),
            Err(CapsuleError::Open(OpenError::Decrypt(cause))) if not_ours(&cause) => {
                tracing::warn!(%cause, "an identity could not be used");
                Ok(None)
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Whether the capsule is sealed to the passphrase at hand, if there is one.
    fn knows_passphrase(&self, stored: &Stored) -> Result<bool, KeyringError> {
        Ok(self.passphrase.is_none() || self.open(&stored.capsule)?.is_some())
    }
}

/// Whether opening failed for want of a key, and not for damage.
fn not_ours(cause: &age::DecryptError) -> bool {
    use age::DecryptError as Error;
    matches!(
        cause,
        Error::KeyDecryptionFailed
            | Error::DecryptionFailed
            | Error::ExcessiveWork { .. }
            | Error::Plugin(_)
            | Error::PluginResolve(_)
    )
}

fn first(class: Mode) -> Epoch {
    Epoch { class, number: 1 }
}

fn damaged(epoch: Epoch) -> KeyringError {
    KeyringError::Damaged {
        what: epoch.to_string(),
    }
}
