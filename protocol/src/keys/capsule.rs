//! The capsule: class identities, as an age identities file, sealed to people's recipients.

use std::{collections::BTreeMap, fmt};

use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::ClassIdentity;
use crate::seal::{self, OpenError, SealError, Sealed};

/// Most class identities of one capsule.
pub const CAPSULE_IDENTITIES_MAX: usize = 4096;

const HEADER: &str = "# souverain capsule 1";

/// How far a snapshot's keys travel; also the erasure class that its segments belong to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The capsule is part of the snapshot: CID and key are enough.
    Portable,
    /// The capsule is never content-addressed; destroying it erases every copy.
    Erasable,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Erasable => "erasable",
        })
    }
}

/// An erasure class at one time: what one class identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// The class.
    pub class: Mode,
    /// Counts up within the class, from 1.
    pub number: u32,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {} epoch {}", self.class, self.number)
    }
}

/// The class identities that a snapshot needs.
#[derive(Clone, Debug, Default)]
pub struct Capsule(BTreeMap<Epoch, ClassIdentity>);

/// Why a capsule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CapsuleError {
    /// It does not open.
    #[error("cannot open the capsule")]
    Open(#[from] OpenError),
    /// It opens, and holds something else.
    #[error("line {line} of the capsule is malformed")]
    Malformed {
        /// Line number, from 1.
        line: usize,
    },
    /// It was written by a later version.
    #[error("the capsule is of a later format version")]
    FutureVersion,
}

impl Capsule {
    /// Adds or replaces the identity of an epoch.
    pub fn insert(&mut self, epoch: Epoch, identity: ClassIdentity) {
        self.0.insert(epoch, identity);
    }

    /// The identity of an epoch.
    #[must_use]
    pub fn identity(&self, epoch: Epoch) -> Option<&ClassIdentity> {
        self.0.get(&epoch)
    }

    /// All epochs and identities, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Epoch, &ClassIdentity)> {
        self.0.iter().map(|(epoch, identity)| (*epoch, identity))
    }

    /// All identities, newest epoch first: the most likely key is tried first.
    #[must_use]
    pub fn identities(&self) -> Vec<ClassIdentity> {
        self.0.values().rev().cloned().collect()
    }

    /// Seals the capsule to recipients.
    ///
    /// # Errors
    /// The recipients do not go together, or there are none.
    pub fn seal<'a>(
        &self,
        recipients: impl Iterator<Item = &'a dyn age::Recipient>,
    ) -> Result<Sealed, SealError> {
        seal::encrypt(recipients, self.text().as_bytes())
    }

    /// Opens a capsule.
    ///
    /// # Errors
    /// No identity matches; or it is damaged, malformed or of a later version.
    pub fn open<'a>(
        identities: impl Iterator<Item = &'a dyn age::Identity>,
        sealed: &[u8],
    ) -> Result<Self, CapsuleError> {
        Self::parse(&Zeroizing::new(seal::decrypt(identities, sealed)?))
    }

    /// Reads the plaintext of a capsule, and refuses what [`Capsule::seal`] would not seal.
    ///
    /// # Errors
    /// Names the first malformed line.
    pub fn parse(text: &[u8]) -> Result<Self, CapsuleError> {
        let malformed = |line| CapsuleError::Malformed { line };
        let text = std::str::from_utf8(text).map_err(|_| malformed(1))?;
        let mut lines = text.split('\n');
        let header = lines.next().unwrap_or_default();
        if header != HEADER {
            let later = header.strip_prefix("# souverain capsule ").is_some();
            return Err(if later {
                CapsuleError::FutureVersion
            } else {
                malformed(1)
            });
        }
        let mut capsule = Self::default();
        let mut number = 1;
        while let (Some(comment), Some(key)) = (lines.next(), lines.next()) {
            number += 2;
            let epoch = parse_epoch(comment).ok_or(malformed(number - 1))?;
            let identity = key.parse().map_err(|_| malformed(number))?;
            if capsule.0.len() == CAPSULE_IDENTITIES_MAX {
                return Err(malformed(number));
            }
            capsule.0.insert(epoch, identity);
        }
        if capsule.text().as_str() == text {
            Ok(capsule)
        } else {
            Err(malformed(number))
        }
    }

    fn text(&self) -> Zeroizing<String> {
        let lines = self.0.iter().map(|(epoch, identity)| {
            let secret = identity.to_secret_string();
            Zeroizing::new(format!("# {epoch}\n{}\n", secret.expose_secret()))
        });
        let lines: Vec<Zeroizing<String>> = lines.collect();
        let len = lines.iter().map(|l| l.len()).sum::<usize>() + HEADER.len() + 1;
        // Sized once, so that no copy of the secrets is left by growing.
        let mut text = Zeroizing::new(String::with_capacity(len));
        text.push_str(HEADER);
        text.push('\n');
        for line in &lines {
            text.push_str(line);
        }
        text
    }
}

fn parse_epoch(comment: &str) -> Option<Epoch> {
    let (class, number) = comment.strip_prefix("# class ")?.split_once(" epoch ")?;
    let class = [Mode::Portable, Mode::Erasable]
        .into_iter()
        .find(|m| m.to_string() == class)?;
    let number = number.parse().ok().filter(|&n| n > 0)?;
    Some(Epoch { class, number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyKind;

    fn epoch(number: u32) -> Epoch {
        Epoch {
            class: Mode::Portable,
            number,
        }
    }

    #[test]
    fn round_trips_and_reads_as_an_identities_file() {
        let mut capsule = Capsule::default();
        capsule.insert(epoch(1), ClassIdentity::generate(KeyKind::X25519));
        capsule.insert(epoch(2), ClassIdentity::generate(KeyKind::X25519));
        let mine = age::x25519::Identity::generate();
        let recipient = mine.to_public();
        let sealed = capsule.seal([&recipient as _].into_iter()).expect("seals");
        let opened = Capsule::open([&mine as _].into_iter(), sealed.bytes()).expect("opens");
        assert_eq!(opened.text().as_str(), capsule.text().as_str());
        let file = age::IdentityFile::from_buffer(capsule.text().as_bytes()).expect("age reads it");
        assert_eq!(file.into_identities().expect("identities").len(), 2);
    }

    #[test]
    fn rejects_what_it_would_not_write() {
        let mut capsule = Capsule::default();
        capsule.insert(epoch(1), ClassIdentity::generate(KeyKind::X25519));
        let good = capsule.text();
        assert!(Capsule::parse(good.as_bytes()).is_ok());
        let bad = [
            String::new(),
            good.replace("capsule 1", "capsule"),
            good.replace("epoch 1", "epoch 01"),
            good.replace("epoch 1", "epoch 0"),
            good.replace("portable", "other"),
            good.replace("AGE-", "AGF-"),
            good.trim_end().to_owned(),
            format!("{}x", *good),
            good.to_lowercase(),
        ];
        for text in bad {
            assert!(Capsule::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let later = good.replace("capsule 1", "capsule 2");
        assert!(matches!(
            Capsule::parse(later.as_bytes()),
            Err(CapsuleError::FutureVersion)
        ));
    }
}
