//! The audit log of a node: every operation leaves a signed entry in it.
//!
//! [`OwnLog`] appends to the node's own log, from any process of the home, one at a time. What an
//! entry says and how it is checked is `protocol::log`'s; the files are `store::log`'s.

pub(crate) mod archives;
mod archiving;
mod asked;
mod auditors;
mod behind;
mod bundle;
pub(crate) mod cosigners;
mod cosigning;
pub mod details;
pub(crate) mod following;
mod forget;
mod forks;
mod in_order;
pub mod key;
mod keys;
mod members;
mod own;
pub(crate) mod places;
mod policy;
mod prove;
mod publish;
pub(crate) mod recorder;
mod source;
mod verify;
pub(crate) mod witnessed;
pub mod witnessing;

use std::path::Path;

use cid::Cid;
use store::{StoreError, log::LogReader};

pub use archiving::{ArchiveLogError, ArchivedNow, ToArchive, archivable, archive, long_ago_ms};
pub use asked::ask_others;
pub use auditors::{auditors, set_auditors};
pub use behind::heed;
pub use bundle::{BundleFileError, Inclusions, is_bundle, verify_bundle, write_bundle};
pub use cosigning::{Answers, CosignError, Witness, cosign, keep_cosignatures};
pub use forget::{ForgetError, Forgotten};
pub use forks::{KeptFork, kept_forks};
pub use own::{Event, LogError, OwnLog, Recorded, keys_of};
pub use policy::{OwnPolicy, PolicyFileError};
pub use prove::{ProveError, find, prove, prove_entry};
pub use publish::{PublishLogError, Published, publish};
pub use source::{LogSource, SourceError};
pub use verify::{Depth, Verified, VerifyError, verify};

/// Milliseconds since 1970, as the clock of this machine has it.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// The node's own log, to read; nothing if it has none yet.
///
/// # Errors
/// It cannot be read.
pub fn open_own(home: &Path) -> Result<Option<LogReader>, StoreError> {
    LogReader::open(&places::own_dir(home))
}

/// The log of another origin that is kept in a home, by the CID of its first entry.
///
/// # Errors
/// It cannot be read.
pub fn open_followed(home: &Path, genesis: &Cid) -> Result<Option<LogReader>, StoreError> {
    LogReader::open(&places::followed_dir(home, genesis))
}
