//! What a snapshot is called on the command line: a CID, the start of one, or a CAR file.

use std::{fmt, path::PathBuf, str::FromStr};

use agent::catalog;
use cid::{Cid, Version};
use protocol::block::CODEC_DAG_PB;
use store::Store;

use crate::error::CliError;

/// Fewest characters of a CID that stand for it.
const PREFIX_LEN_MIN: usize = 8;

/// A snapshot of this home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotRef {
    /// A whole CID.
    Cid(Cid),
    /// How the CID of exactly one snapshot begins.
    Prefix(String),
}

impl SnapshotRef {
    /// The root of the one snapshot in the store that is meant.
    pub(crate) fn resolve(&self, store: &Store) -> Result<Cid, CliError> {
        let prefix = match self {
            Self::Cid(root) if store.contains(root)? => return Ok(*root),
            Self::Cid(root) => {
                return Err(CliError::failed(format!("{root} is not in this home"))
                    .hint("`souverain list` shows what is; `souverain car import` takes more in"));
            }
            Self::Prefix(prefix) => prefix,
        };
        let mut found: Vec<Cid> = Vec::new();
        for (root, _) in catalog::snapshots(store)? {
            if root.to_string().starts_with(prefix) {
                found.push(root);
            }
        }
        match found.as_slice() {
            [root] => Ok(*root),
            [] => Err(
                CliError::failed(format!("no snapshot of this home begins with {prefix}"))
                    .hint("`souverain list` shows what there is"),
            ),
            several => Err(CliError::failed(format!(
                "{} snapshots of this home begin with {prefix}",
                several.len()
            ))
            .hint("give more of the CID")),
        }
    }
}

/// Why a word is not a CID.
#[derive(Debug, thiserror::Error)]
#[error("neither a CID nor the first {PREFIX_LEN_MIN} or more characters of one")]
pub(crate) struct SnapshotRefError;

impl FromStr for SnapshotRef {
    type Err = SnapshotRefError;

    /// Takes CIDs in any base, version 0 included, and `/ipfs/CID` as other programs print it.
    fn from_str(text: &str) -> Result<Self, SnapshotRefError> {
        let text = text.strip_prefix("/ipfs/").unwrap_or(text);
        if let Ok(cid) = text.parse::<Cid>() {
            return Ok(Self::Cid(version_1(cid)));
        }
        let base32 = |b: u8| matches!(b, b'a'..=b'z' | b'2'..=b'7');
        if text.len() >= PREFIX_LEN_MIN && text.starts_with('b') && text.bytes().all(base32) {
            return Ok(Self::Prefix(text.to_owned()));
        }
        Err(SnapshotRefError)
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cid(cid) => cid.fmt(f),
            Self::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

/// The same node under the CID that this program writes.
fn version_1(cid: Cid) -> Cid {
    match cid.version() {
        Version::V0 => Cid::new_v1(CODEC_DAG_PB, *cid.hash()),
        Version::V1 => cid,
    }
}

/// A snapshot of this home, or one in a CAR file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// In the store.
    Snapshot(SnapshotRef),
    /// In a file.
    Car(PathBuf),
}

/// Why a word is neither a snapshot nor a file.
#[derive(Debug, thiserror::Error)]
#[error("neither a CID nor a file")]
pub(crate) struct InputError;

impl FromStr for Input {
    type Err = InputError;

    /// Whatever cannot be a CID is a file.
    fn from_str(text: &str) -> Result<Self, InputError> {
        if text.is_empty() {
            return Err(InputError);
        }
        Ok(match text.parse() {
            Ok(snapshot) => Self::Snapshot(snapshot),
            Err(SnapshotRefError) => Self::Car(PathBuf::from(text)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

    #[test]
    fn takes_any_base_and_version() {
        let cid: Cid = V1.parse().expect("a CID");
        let base58 = cid
            .to_string_of_base(cid::multibase::Base::Base58Btc)
            .expect("encodes");
        let v0 = Cid::new_v0(*cid.hash()).expect("SHA-256").to_string();
        for text in [V1, &base58, &v0, &format!("/ipfs/{V1}")] {
            let found: SnapshotRef = text.parse().expect("a snapshot");
            assert_eq!(found, SnapshotRef::Cid(cid), "{text}");
        }
    }

    #[test]
    fn tells_prefixes_from_files() {
        let input = |text: &str| text.parse::<Input>().expect("not empty");
        let prefix = |text: &str| Input::Snapshot(SnapshotRef::Prefix(text.into()));
        assert_eq!(input("bafybeig"), prefix("bafybeig"));
        for file in [
            "bafybei",
            "./bafybeig",
            "backup.car",
            "bafybeig.car",
            "Bafybeig",
            "-",
        ] {
            assert_eq!(input(file), Input::Car(file.into()), "{file}");
        }
        assert!("".parse::<Input>().is_err());
    }
}
