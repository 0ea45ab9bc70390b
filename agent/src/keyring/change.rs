//! Who can open a snapshot: listing, adding, removing.

use std::collections::BTreeSet;

use protocol::{
    keys::{
        KeyKind,
        capsule::{Capsule, Epoch, Mode},
    },
    seal::Sealed,
};

use super::{Keyring, KeyringError, Stored, record::Holders};
use crate::keys::{Identities, RecipientSet};

/// What can be told of whom a capsule is sealed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapsuleRecipients {
    /// The type of each stanza, as the age file states it: `X25519`, `mlkem768x25519`, `scrypt`,
    /// a plugin's; for SSH keys with the tag of the key. An age file tells no more.
    pub stanzas: Vec<String>,
    /// The recipients, if this node sealed the capsule; empty for a passphrase.
    pub known: Option<Vec<String>>,
}

/// A change of who can open a snapshot.
#[derive(Clone, Debug)]
pub enum Change {
    /// These too.
    Add(RecipientSet),
    /// These no longer. What they could open before they still can.
    Remove(RecipientSet),
}

impl Keyring<'_> {
    /// Tells whom a capsule is sealed to, as far as that can be known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn recipients(&self, capsule: &[u8]) -> Result<CapsuleRecipients, KeyringError> {
        let known = self.holders(capsule)?.map(|holders| match holders {
            Holders::Recipients(strings) => strings.into_iter().collect(),
            Holders::Passphrase => Vec::new(),
        });
        Ok(CapsuleRecipients {
            stanzas: stanzas(capsule),
            known,
        })
    }

    /// Seals the identities of a capsule to other recipients. The new capsule goes into a new
    /// root of the snapshot; that of an erasable one is stored here, and nothing is returned.
    ///
    /// Whoever is removed is kept from what is sealed from now on, too: the next export begins a
    /// new epoch.
    ///
    /// # Errors
    /// `identities` do not open the capsule; it is not known whom it is sealed to; nobody would
    /// be left; or the recipients do not go together.
    pub fn change(
        &self,
        capsule: &[u8],
        identities: &Identities,
        change: &Change,
    ) -> Result<Option<Sealed>, KeyringError> {
        let recipients = self.changed(capsule, change)?;
        let opened = Capsule::open(identities.iter(), capsule)?;
        let Some((newest, identity)) = opened.iter().max_by_key(|(epoch, _)| *epoch) else {
            return Err(KeyringError::Damaged {
                what: "the capsule".to_owned(),
            });
        };
        let kind = identity.to_public().kind();
        if newest.class == Mode::Erasable {
            return self
                .replace(newest, capsule, &opened, kind, &recipients, change)
                .map(|()| None);
        }
        let sealed = recipients.seal(&opened, kind)?;
        self.set_holders(sealed.bytes(), &Holders::of(&recipients))?;
        self.remember(&opened, change)?;
        Ok(Some(sealed))
    }

    /// The recipients after a change.
    fn changed(&self, capsule: &[u8], change: &Change) -> Result<RecipientSet, KeyringError> {
        let had = match self.holders(capsule)? {
            Some(Holders::Recipients(strings)) => strings,
            Some(Holders::Passphrase) => return Err(KeyringError::PassphraseAlone),
            None if stanzas(capsule) == ["scrypt"] => return Err(KeyringError::PassphraseAlone),
            None => return Err(KeyringError::HoldersUnknown),
        };
        let strings: Vec<String> = had.into_iter().collect();
        match change {
            Change::Add(more) => {
                if more.as_passphrase().is_some() {
                    return Err(KeyringError::PassphraseAlone);
                }
                Ok(more.union(&RecipientSet::parse(&strings)?)?)
            }
            Change::Remove(gone) => {
                let gone: BTreeSet<&str> = gone.strings().collect();
                if let Some(given) = gone.iter().find(|one| !strings.iter().any(|s| s == *one)) {
                    return Err(KeyringError::NotARecipient {
                        given: (*given).to_owned(),
                    });
                }
                let left = |one: &&String| !gone.contains(one.as_str());
                let left: Vec<&String> = strings.iter().filter(left).collect();
                if left.is_empty() {
                    return Err(KeyringError::LastRecipient);
                }
                Ok(RecipientSet::parse(&left)?)
            }
        }
    }

    /// Replaces the capsule of an erasable epoch by one for other recipients.
    fn replace(
        &self,
        epoch: Epoch,
        capsule: &[u8],
        opened: &Capsule,
        kind: KeyKind,
        recipients: &RecipientSet,
        change: &Change,
    ) -> Result<(), KeyringError> {
        let stored = self.stored(epoch)?;
        let Some(stored) = stored.filter(|stored| stored.capsule == capsule) else {
            return Err(KeyringError::Stale { epoch });
        };
        // First, while the record still says who had it.
        self.remember(opened, change)?;
        let mut record = self.stored(epoch)?.unwrap_or(stored).record;
        record.sealed_to = Holders::of(recipients);
        self.set_stored(&Stored {
            epoch,
            record,
            capsule: recipients.seal(opened, kind)?.into_bytes(),
        })
    }

    /// Notes in the current epochs who was given their identity, or is to lose it.
    fn remember(&self, opened: &Capsule, change: &Change) -> Result<(), KeyringError> {
        for class in [Mode::Portable, Mode::Erasable] {
            let Some(mut current) = self.current(class)? else {
                continue;
            };
            // By key, since another tenant's capsule counts its epochs too.
            let held = opened
                .identity(current.epoch)
                .is_some_and(|identity| identity.to_public() == current.record.recipient);
            let record = &mut current.record;
            match change {
                Change::Add(more) if held => {
                    let more = more.strings().map(str::to_owned);
                    record.others.extend(more);
                    record.others.sort();
                    record.others.dedup();
                }
                Change::Remove(gone) if held || gone.strings().any(|one| record.held_by(one)) => {
                    record.retired = true;
                }
                _ => continue,
            }
            self.set_record(current.epoch, record)?;
        }
        Ok(())
    }
}

/// The stanza types in the header of an age file.
fn stanzas(file: &[u8]) -> Vec<String> {
    let mut lines = file.split(|&byte| byte == b'\n');
    let Some(b"age-encryption.org/v1") = lines.next() else {
        return Vec::new();
    };
    lines
        .take_while(|line| !line.starts_with(b"---"))
        .filter_map(|line| std::str::from_utf8(line.strip_prefix(b"-> ")?).ok())
        .filter_map(|stanza| {
            let mut words = stanza.split(' ');
            match (words.next()?, words.next()) {
                (grease, _) if grease.ends_with("-grease") => None,
                (ssh @ ("ssh-ed25519" | "ssh-rsa"), Some(tag)) => Some(format!("{ssh} {tag}")),
                (kind, _) => Some(kind.to_owned()),
            }
        })
        .collect()
}
