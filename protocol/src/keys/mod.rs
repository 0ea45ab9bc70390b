//! Keys of erasure classes, and the capsule that carries them.
//!
//! Segments are sealed to the identity of an erasure class and epoch; those
//! identities travel in a [`capsule`], sealed to the recipients that people hold.

use std::{collections::HashSet, fmt, str::FromStr};

use age_core::format::{FileKey, Stanza};
use secrecy::{ExposeSecret, SecretString};

pub mod capsule;
pub mod hybrid;

/// Why a key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a key of a kind that is known here")]
pub struct KeyError;

/// Which cryptography protects a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// X25519: readable by any age.
    X25519,
    /// MLKEM768-X25519, safe from recording today and breaking later; readable by age 1.3.
    Hybrid,
}

/// The secret half of a class key: opens segments, manifests and lists.
#[derive(Clone)]
pub enum ClassIdentity {
    /// `AGE-SECRET-KEY-1…`
    X25519(age::x25519::Identity),
    /// `AGE-SECRET-KEY-PQ-1…`
    Hybrid(hybrid::Identity),
}

/// The public half of a class key: seals segments, manifests and lists.
#[derive(Clone, PartialEq)]
pub enum ClassRecipient {
    /// `age1…`
    X25519(age::x25519::Recipient),
    /// `age1pq1…`
    Hybrid(hybrid::Recipient),
}

impl ClassIdentity {
    /// Makes a new identity from the operating system's randomness.
    #[must_use]
    pub fn generate(kind: KeyKind) -> Self {
        match kind {
            KeyKind::X25519 => Self::X25519(age::x25519::Identity::generate()),
            KeyKind::Hybrid => Self::Hybrid(hybrid::Identity::generate()),
        }
    }

    /// The public half.
    #[must_use]
    pub fn to_public(&self) -> ClassRecipient {
        match self {
            Self::X25519(identity) => ClassRecipient::X25519(identity.to_public()),
            Self::Hybrid(identity) => ClassRecipient::Hybrid(identity.to_public()),
        }
    }

    /// The line that stands for it in an identities file.
    #[must_use]
    pub fn to_secret_string(&self) -> SecretString {
        match self {
            Self::X25519(identity) => {
                SecretString::from(identity.to_string().expose_secret().to_owned())
            }
            Self::Hybrid(identity) => identity.to_secret_string(),
        }
    }
}

impl FromStr for ClassIdentity {
    type Err = KeyError;

    fn from_str(line: &str) -> Result<Self, KeyError> {
        if line.starts_with(hybrid::IDENTITY_PREFIX) {
            return line.parse().map(Self::Hybrid);
        }
        line.parse().map(Self::X25519).map_err(|_| KeyError)
    }
}

impl fmt::Debug for ClassIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClassIdentity(of {})", self.to_public())
    }
}

impl age::Identity for ClassIdentity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        match self {
            Self::X25519(identity) => identity.unwrap_stanza(stanza),
            Self::Hybrid(identity) => identity.unwrap_stanza(stanza),
        }
    }
}

impl ClassRecipient {
    /// Which cryptography it stands for.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::X25519(_) => KeyKind::X25519,
            Self::Hybrid(_) => KeyKind::Hybrid,
        }
    }
}

impl fmt::Display for ClassRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X25519(recipient) => recipient.fmt(f),
            Self::Hybrid(recipient) => recipient.fmt(f),
        }
    }
}

impl fmt::Debug for ClassRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClassRecipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(hybrid::RECIPIENT_PREFIX) {
            return text.parse().map(Self::Hybrid);
        }
        text.parse().map(Self::X25519).map_err(|_| KeyError)
    }
}

impl age::Recipient for ClassRecipient {
    fn wrap_file_key(
        &self,
        file_key: &FileKey,
    ) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        match self {
            Self::X25519(recipient) => recipient.wrap_file_key(file_key),
            Self::Hybrid(recipient) => recipient.wrap_file_key(file_key),
        }
    }
}
