//! MLKEM768-X25519 hybrid age keys (`age1pq1…`), as C2SP age and age 1.3 define them.

use std::{collections::HashSet, fmt, str::FromStr, sync::Arc};

use age_core::{
    format::{FILE_KEY_BYTES, FileKey, Stanza},
    primitives::{bech32_decode, bech32_encode, bech32_encode_to_fmt, hpke_open, hpke_seal},
};
use bech32::Hrp;
use data_encoding::BASE64_NOPAD;
use hpke::{Deserializable, HpkeError, Serializable};
use rand_core::{OsRng, RngCore};
use secrecy::{ExposeSecret, SecretString};
use zeroize::{Zeroize, Zeroizing};

use super::KeyError;
use kem::{Encapped, Public, SECRET_SIZE, Secret, XWing};

mod kem;

/// How a recipient begins.
pub const RECIPIENT_PREFIX: &str = "age1pq1";
/// How an identity begins.
pub const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-PQ-1";
/// The label that keeps age from mixing these recipients with weaker ones.
pub const LABEL: &str = "postquantum";

const RECIPIENT_HRP: Hrp = Hrp::parse_unchecked("age1pq");
const IDENTITY_HRP: Hrp = Hrp::parse_unchecked("age-secret-key-pq-");
const STANZA_TAG: &str = "mlkem768x25519";
const HPKE_INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
const STANZA_BODY_SIZE: usize = FILE_KEY_BYTES + 16;

/// The secret half: a 32-byte seed.
#[derive(Clone)]
pub struct Identity(Secret);

/// The public half.
#[derive(Clone, PartialEq)]
pub struct Recipient(Arc<Public>);

impl Identity {
    /// Makes a new identity from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; SECRET_SIZE]);
        OsRng.fill_bytes(&mut *seed);
        Self(Secret::new(seed))
    }

    /// The public half.
    #[must_use]
    pub fn to_public(&self) -> Recipient {
        Recipient(Arc::new(self.0.public().clone()))
    }

    /// The line that stands for it in an identities file.
    #[must_use]
    pub fn to_secret_string(&self) -> SecretString {
        let mut line = bech32_encode(IDENTITY_HRP, self.0.seed());
        line.make_ascii_uppercase();
        SecretString::from(line)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(of {})", self.to_public())
    }
}

impl FromStr for Identity {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        let seed = decode::<SECRET_SIZE>(line, IDENTITY_PREFIX)?;
        let identity = Self(Secret::new(seed));
        if identity.to_secret_string().expose_secret() == line {
            Ok(identity)
        } else {
            Err(KeyError)
        }
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        if stanza.tag != STANZA_TAG {
            return None;
        }
        let Some(encapped) = encapped_of(stanza) else {
            return Some(Err(age::DecryptError::InvalidHeader));
        };
        match hpke_open::<XWing>(&encapped, &self.0, HPKE_INFO, &stanza.body) {
            Ok(mut opened) => Some(FileKey::try_init_with_mut(|file_key| {
                let fits = opened.len() == file_key.len();
                if fits {
                    file_key.copy_from_slice(&opened);
                }
                opened.zeroize();
                fits.then_some(()).ok_or(age::DecryptError::InvalidHeader)
            })),
            // Sealed to somebody else: ML-KEM rejects implicitly, so it shows only here.
            Err(HpkeError::OpenError) => None,
            Err(_) => Some(Err(age::DecryptError::InvalidHeader)),
        }
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = decode::<{ kem::PUBLIC_SIZE }>(text, RECIPIENT_PREFIX)?;
        let recipient = Public::from_bytes(&*key)
            .map(|public| Self(Arc::new(public)))
            .map_err(|_| KeyError)?;
        if recipient.to_string() == text {
            Ok(recipient)
        } else {
            Err(KeyError)
        }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32_encode_to_fmt(f, RECIPIENT_HRP, &self.0.to_bytes())
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl age::Recipient for Recipient {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let (encapped, body) =
            hpke_seal::<XWing, _>(&self.0, HPKE_INFO, file_key.expose_secret(), &mut OsRng);
        let stanza = Stanza {
            tag: STANZA_TAG.to_owned(),
            args: vec![BASE64_NOPAD.encode(&encapped.to_bytes())],
            body,
        };
        Ok((vec![stanza], HashSet::from([LABEL.to_owned()])))
    }
}

/// The encapsulated key of a stanza whose form is right.
fn encapped_of(stanza: &Stanza) -> Option<Encapped> {
    let [arg] = stanza.args.as_slice() else {
        return None;
    };
    if stanza.body.len() != STANZA_BODY_SIZE || arg.len() != base64_len(kem::ENCAPPED_SIZE) {
        return None;
    }
    // Refuses trailing bits that are not zero.
    let bytes = BASE64_NOPAD.decode(arg.as_bytes()).ok()?;
    Encapped::from_bytes(&bytes).ok()
}

const fn base64_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Decodes Bech32 of exactly `N` bytes. The prefix decides the case; callers compare with what
/// they would write, for the bits that Bech32 leaves over.
fn decode<const N: usize>(text: &str, prefix: &str) -> Result<Zeroizing<[u8; N]>, KeyError> {
    const CHECKSUM_LEN: usize = 6;
    if !text.starts_with(prefix) || text.len() != prefix.len() + (N * 8).div_ceil(5) + CHECKSUM_LEN
    {
        return Err(KeyError);
    }
    bech32_decode(
        text,
        |_| KeyError,
        |_| Ok(()),
        |_, bytes| {
            let mut key = Zeroizing::new([0; N]);
            let mut len = 0;
            for byte in bytes {
                *key.get_mut(len).ok_or(KeyError)? = byte;
                len += 1;
            }
            (len == N).then_some(key).ok_or(KeyError)
        },
    )
}

#[cfg(test)]
mod tests;
