//! The secret keys of a log: what signs its entries and checkpoints, and what takes it back from a thief.

use std::{fmt, path::Path};

use ed25519_dalek::{Signer, SigningKey};
use protocol::note::PublicKey;
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
