//! Verifier keys: a signer's name and public key, in text and in hashes.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use sha2::{Digest, Sha256};

use super::{NoteError, decode_base64};

/// The signature type of Ed25519 over the text itself.
pub const TYPE_ED25519: u8 = 1;

/// The points of small order, as they are written: of order 1, 2, 4, 4, and 8.
const SMALL_ORDER: [[u8; 32]; 8] = {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut second = [0xff; 32];
    (second[0], second[31]) = (0xec, 0x7f);
    let eighth = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    let other = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    [
        identity,
        second,
        [0; 32],
        negative([0; 32]),
        eighth,
        negative(eighth),
        other,
        negative(other),
    ]
};

/// The point with the other x.
const fn negative(mut point: [u8; 32]) -> [u8; 32] {
    point[31] |= 0x80;
    point
}

/// An Ed25519 public key that signatures are checked with, with no leeway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// A key of its bytes.
    ///
    /// # Errors
    /// It is no point of the curve, or one under which signatures mean nothing.
    pub fn new(bytes: &[u8; 32]) -> Result<Self, NoteError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| NoteError::Key("no Ed25519 key"))?;
        if key.is_weak() {
            return Err(NoteError::Key("a weak Ed25519 key"));
        }
        Ok(Self(key))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether it signed some bytes.
    #[must_use]
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else {
            return false;
        };
        // As `verify_strict`, which decompresses R to see that it is of small order. There are eight such points, and
        // R is compared with how a point is written, so that it can only be one of theirs.
        !SMALL_ORDER.contains(signature.r_bytes()) && self.0.verify(bytes, &signature).is_ok()
    }
}

/// What checks the signatures of one signer: its name and its Ed25519 public key, which signs in the
/// way that `TYPE` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerKey<const TYPE: u8> {
    name: String,
    key: PublicKey,
}

/// The key of a signer of notes.
pub type VerifierKey = SignerKey<TYPE_ED25519>;

impl<const TYPE: u8> SignerKey<TYPE> {
    /// A key under a name.
    ///
    /// # Errors
    /// The name is empty, or has a space or a plus sign in it; or the key is no point of the curve.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, NoteError> {
        let bad = |c: char| c == '+' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::Key("a name that no signer has"));
        }
        Ok(Self {
            name: name.to_owned(),
            key: PublicKey::new(key)?,
        })
    }

    /// The signer's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.key
    }

    /// The first four bytes of a hash over name, type and key, which tell keys of one name apart.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', TYPE])
            .chain_update(self.key.as_bytes())
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl<const TYPE: u8> fmt::Display for SignerKey<TYPE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = [&[TYPE], self.key.as_bytes().as_slice()].concat();
        write!(f, "{}+{id:08x}+{}", self.name, BASE64.encode(&key))
    }
}

impl<const TYPE: u8> FromStr for SignerKey<TYPE> {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("not NAME+HASH+KEY"));
        };
        let key = decode_base64(key).ok_or(NoteError::Key("not in Base64"))?;
        let key = match key.split_first() {
            Some((&kind, key)) if kind == TYPE => key.try_into(),
            _ => return Err(NoteError::Key("not of the type that is needed")),
        };
        let key = Self::new(name, key.map_err(|_| NoteError::Key("not of 32 bytes"))?)?;
        let said = HEXLOWER_PERMISSIVE.decode(id.as_bytes());
        if said.as_deref() != Ok(&key.id()[..]) {
            return Err(NoteError::Key("a hash that is not its"));
        }
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_points_of_small_order_are_all_that_there_are() {
        let all: BTreeSet<_> = SMALL_ORDER.into_iter().collect();
        assert_eq!(all.len(), 8);
        for bytes in all {
            let point = VerifyingKey::from_bytes(&bytes).expect("a point");
            assert!(point.is_weak(), "{bytes:?}");
            assert_eq!(point.to_edwards().compress().to_bytes(), bytes);
        }
    }
}
