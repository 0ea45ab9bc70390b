//! What an entry that changes the keys of its log holds, and what new keys sign for.

use cid::Cid;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::log::{
    checkpoint::Origin,
    entry::{Action, Tenant},
};

/// What the origin of a log begins with; the CID of its first entry follows.
pub const ORIGIN_PREFIX: &str = "souverain/";
/// What a new key signs, to show that it is somebody's who wants it, begins with this.
pub const KEY_DOMAIN: &str = "souverain/log-key/v1\n";
/// What is hashed of a recovery key begins with this.
pub const RECOVERY_DOMAIN: &str = "souverain/log-recovery/v1\n";

/// A change of a log's keys, in the entry that makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Control {
    /// The recovery key, now revealed, signed the entry: it takes the log back.
    Recover {
        /// First index at which nothing that was signed counts.
        from: u64,
        /// The new key.
        #[serde(with = "serde_bytes")]
        key: [u8; 32],
        /// The new key's signature of [`key_statement`].
        #[serde(with = "serde_bytes")]
        proof: [u8; 64],
        /// The recovery key that was committed to.
        #[serde(with = "serde_bytes")]
        reveal: [u8; 32],
        /// Commitment to the next one.
        #[serde(with = "serde_bytes")]
        recovery: [u8; 32],
    },
    /// The key gives way to a new one from the next entry on.
    Rotate {
        /// The new key.
        #[serde(with = "serde_bytes")]
        key: [u8; 32],
        /// The new key's signature of [`key_statement`].
        #[serde(with = "serde_bytes")]
        proof: [u8; 64],
    },
    /// The log begins.
    Genesis {
        /// Its first key.
        #[serde(with = "serde_bytes")]
        key: [u8; 32],
        /// Commitment to the recovery key: [`recovery_commitment`].
        #[serde(with = "serde_bytes")]
        recovery: [u8; 32],
    },
}

impl Control {
    /// The action of the entry that it is in.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Genesis { .. } => Action::GENESIS,
            Self::Rotate { .. } => Action::KEY_ROTATE,
            Self::Recover { .. } => Action::KEY_RECOVER,
        }
    }

    /// The key that signs from here on.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        match self {
            Self::Genesis { key, .. } | Self::Rotate { key, .. } | Self::Recover { key, .. } => key,
        }
    }
}

/// What a first entry commits to of a recovery key.
#[must_use]
pub fn recovery_commitment(key: &[u8; 32]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(RECOVERY_DOMAIN);
    hash.chain_update(key).finalize().into()
}

/// What a new key signs: that it will be the key of this log after this entry.
#[must_use]
pub fn key_statement(
    tenant: Tenant,
    origin: &Origin,
    seq: u64,
    prev: &Cid,
    key: &[u8; 32],
) -> Vec<u8> {
    let key = HEXLOWER.encode(key);
    format!("{KEY_DOMAIN}{tenant}\n{origin}\n{seq}\n{prev}\n{key}\n").into_bytes()
}

/// The origin of the log that begins with an entry.
#[must_use]
pub fn origin_of(genesis: &Cid) -> Origin {
    let name = format!("{ORIGIN_PREFIX}{genesis}");
    Origin::new(&name).expect("a CID in text is short, and has no control characters")
}
