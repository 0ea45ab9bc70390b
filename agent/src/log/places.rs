//! Where logs are in a home.

use std::path::{Path, PathBuf};

use cid::Cid;

/// The node's own log.
pub(crate) fn own_dir(home: &Path) -> PathBuf {
    home.join("log").join("own")
}

/// The log of another origin, by the CID of its genesis entry.
pub(crate) fn followed_dir(home: &Path, genesis: &Cid) -> PathBuf {
    home.join("log").join(genesis.to_string())
}

/// The sealed details of the entries of the node's own log.
pub(crate) fn details_dir(home: &Path) -> PathBuf {
    home.join("log").join("details")
}

/// Whom details are sealed to besides the owner.
pub(crate) fn auditors_file(home: &Path) -> PathBuf {
    home.join("log").join("auditors.txt")
}

/// Which witnesses cosign the node's own log.
pub(crate) fn policy_file(home: &Path) -> PathBuf {
    home.join("log").join("policy.txt")
}

/// The checkpoints of the logs of others that this node cosigned last.
pub(crate) fn cosigned_dir(home: &Path) -> PathBuf {
    home.join("log").join("cosigned")
}

/// The one of a log, by the CID of its genesis entry.
pub(crate) fn cosigned_file(home: &Path, genesis: &str) -> PathBuf {
    cosigned_dir(home).join(format!("{genesis}.txt"))
}
