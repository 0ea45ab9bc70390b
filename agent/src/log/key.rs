//! Secret keys: what signs the entries and checkpoints of a log, what takes it back from a thief, and what cosigns the
//! checkpoints of others.

use std::{fmt, path::Path};

use ed25519_dalek::{Signer, SigningKey};
use protocol::{
    log::{
        checkpoint::Checkpoint,
        cosignature::{CosignatureError, CosignerKey, cosign},
        entry::{Draft, Entry, EntryError},
    },
    note::{NoteError, PublicKey, SignatureLine},
};
use zeroize::Zeroizing;

use crate::home::{HomeError, read_seed};

/// A secret key of a log. It is erased from memory when it is dropped.
pub struct LogKey(SigningKey);

impl LogKey {
    /// The key of a seed.
    #[must_use]
    pub fn new(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key in a file that nobody but its owner may read.
    ///
    /// # Errors
    /// It cannot be read, is open to others, or holds none.
    pub fn read(path: &Path) -> Result<Self, HomeError> {
        Ok(Self::new(&read_seed(path)?))
    }

    /// Its public half.
    ///
    /// # Panics
    /// The seed is one of those that nobody can draw, whose public half is weak.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let key = self.0.verifying_key();
        PublicKey::new(key.as_bytes()).expect("a public key that was computed is a good one")
    }

    /// Signs an entry.
    ///
    /// # Errors
    /// A field has a value that it may not have, or the entry would be too long.
    pub fn sign_entry(&self, draft: Draft) -> Result<Entry, EntryError> {
        draft.sign_with(&self.0)
    }

    /// Signs bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey")
    }
}

/// The secret key of a witness. It is erased from memory when it is dropped.
pub struct WitnessKey {
    secret: SigningKey,
    key: CosignerKey,
}

impl WitnessKey {
    /// The key of a seed, under the name of its witness.
    ///
    /// # Errors
    /// The name is one that no signer has.
    pub fn new(name: &str, seed: &Zeroizing<[u8; 32]>) -> Result<Self, NoteError> {
        let secret = SigningKey::from_bytes(seed);
        let key = CosignerKey::new(name, secret.verifying_key().as_bytes())?;
        Ok(Self { secret, key })
    }

    /// What checks its cosignatures.
    #[must_use]
    pub fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Cosigns a checkpoint, at a time in seconds since 1970. Whether it may be cosigned was decided before.
    ///
    /// # Errors
    /// No cosignature has that time.
    pub fn cosign(
        &self,
        checkpoint: &Checkpoint,
        time_s: u64,
    ) -> Result<SignatureLine, CosignatureError> {
        let sign = |message: &[u8]| self.secret.sign(message).to_bytes();
        cosign(checkpoint, &self.key, time_s, sign)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WitnessKey")
    }
}
