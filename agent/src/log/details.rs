//! The details of entries that may be personal or sensitive: sealed to the owner and the auditors, and kept
//! beside the log, a file each.
//!
//! The entry holds salted hashes of them. Who removes the file has erased them: the log still
//! verifies, and tells nothing.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cid::Cid;
use protocol::{
    block::{Block, UnverifiedBlock},
    log::detail::{Detail, DetailError, Details, OpenDetailsError},
};

use super::{auditors::auditors, places::details_dir};
use crate::{
    home::{Home, HomeError, write_private},
    keys::{Identities, RecipientError, RecipientSealError},
};

/// Largest sealed block of details that is read, in bytes.
const SEALED_SIZE_MAX: u64 = 1 << 20;

/// Why details cannot be sealed, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DetailsError {
    /// They are too many or too long.
    #[error(transparent)]
    Detail(#[from] DetailError),
    /// The recipients cannot be used.
    #[error(transparent)]
    Recipients(#[from] RecipientError),
    /// They cannot be sealed.
    #[error(transparent)]
    Seal(#[from] RecipientSealError),
    /// They cannot be kept.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// It cannot be written who the auditors are.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// They cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// They are not here: erased, or of an entry of another node.
    #[error("the details {cid} are not here")]
    Missing {
        /// Their block.
        cid: Cid,
    },
    /// They were changed.
    #[error("the details {cid} are damaged")]
    Damaged {
        /// Their block.
        cid: Cid,
    },
    /// No identity opens them.
    #[error("cannot open the details {cid}")]
    Open {
        /// Their block.
        cid: Cid,
        /// Why not.
        #[source]
        cause: OpenDetailsError,
    },
}

/// Draws salts for details.
///
/// # Errors
/// They are too many or too long; or the operating system gave no random bytes.
pub(super) fn salted(details: &[(&'static str, String)]) -> Result<Details, DetailsError> {
    let mut salted = BTreeMap::new();
    for (name, value) in details {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| HomeError::Random)?;
        let value = value.clone().into_bytes();
        salted.insert((*name).to_owned(), Detail { value, salt });
    }
    Ok(Details::new(salted)?)
}

/// Seals details to who can open what the home exports, and to the auditors, and keeps them durably.
pub(super) fn keep(home: &Home, details: &Details) -> Result<Cid, DetailsError> {
    let mut recipients = home.default_recipients()?;
    if let Some(auditors) = auditors(home)? {
        recipients = recipients.union(&auditors)?;
    }
    let sealed = Block::sealed(recipients.seal_details(details)?);
    write_private(&file(home.path(), sealed.cid()), sealed.bytes())?;
    Ok(*sealed.cid())
}

/// The sealed block of details, as it is kept.
///
/// # Errors
/// It is not here, or damaged.
pub fn sealed_block(home: &Path, cid: &Cid) -> Result<Block, DetailsError> {
    let path = file(home, cid);
    let opened = match std::fs::File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(DetailsError::Missing { cid: *cid });
        }
        opened => opened,
    };
    let mut bytes = Vec::new();
    opened
        .and_then(|file| file.take(SEALED_SIZE_MAX).read_to_end(&mut bytes))
        .map_err(|cause| DetailsError::Io { path, cause })?;
    let block = UnverifiedBlock { cid: *cid, bytes };
    block
        .verify()
        .map_err(|_| DetailsError::Damaged { cid: *cid })
}

/// The details in a sealed block.
///
/// # Errors
/// No identity opens it, or it is not one.
pub fn open(block: &Block, identities: &Identities) -> Result<Details, DetailsError> {
    let opened = Details::open(identities.iter(), block.bytes());
    opened.map_err(|cause| DetailsError::Open {
        cid: *block.cid(),
        cause,
    })
}

fn file(home: &Path, cid: &Cid) -> PathBuf {
    let name = cid.to_string();
    // The last characters of a CID are of its hash.
    let folder = name.get(name.len().saturating_sub(3)..).unwrap_or("");
    details_dir(home).join(folder).join(name)
}
