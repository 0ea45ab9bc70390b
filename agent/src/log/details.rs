//! The details of entries that may be personal or sensitive: sealed to the owner and the auditors, and kept
//! beside the log, a file each, until they are archived with their entries.
//!
//! The entry holds salted hashes of them. Who removes the file has erased them: the log still
//! verifies, and tells nothing.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use cid::Cid;
use protocol::{
    block::{Block, UnverifiedBlock},
    log::detail::{Detail, DetailError, Details, OpenDetailsError},
};
use store::{
    StoreError,
    log::{ArchivedDetails, LogReader},
};

use super::{auditors::auditors, open_own, places::details_dir};
use crate::{
    home::{Home, HomeError, write_private},
    keys::{Identities, RecipientError, RecipientSealError},
};

/// Largest sealed block of details that is read, in bytes.
const SEALED_SIZE_MAX: u64 = 1 << 20;

/// Why details cannot be sealed, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum DetailsError {
    /// The log or an archive of it cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// A file cannot be written or removed.
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

/// The sealed details of the node's own log, as they are kept: each in a file, or in the archives of the log.
#[derive(Debug)]
pub struct SealedDetails {
    home: PathBuf,
    log: Option<LogReader>,
    /// Those of the archive that was read last.
    archived: RefCell<Option<ArchivedDetails>>,
}

impl SealedDetails {
    /// Those of a home.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn of_home(home: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            home: home.to_owned(),
            log: open_own(home)?,
            archived: RefCell::new(None),
        })
    }

    /// The sealed block of an entry's details.
    ///
    /// # Errors
    /// It is not here, or damaged.
    pub fn block(&self, seq: u64, cid: &Cid) -> Result<Block, DetailsError> {
        match in_file(&self.home, cid)? {
            Some(block) => Ok(block),
            None => self
                .in_archive(seq, cid)?
                .ok_or(DetailsError::Missing { cid: *cid }),
        }
    }

    fn in_archive(&self, seq: u64, cid: &Cid) -> Result<Option<Block>, StoreError> {
        let mut archived = self.archived.borrow_mut();
        let has = |archived: &ArchivedDetails| archived.entries().contains(&seq);
        if !archived.as_ref().is_some_and(has) {
            let Some(log) = &self.log else {
                return Ok(None);
            };
            *archived = log.archived_details(seq)?;
        }
        match &*archived {
            Some(archived) => archived.block(cid),
            None => Ok(None),
        }
    }
}

/// The sealed block of details that has a file of its own.
pub(super) fn in_file(home: &Path, cid: &Cid) -> Result<Option<Block>, DetailsError> {
    let path = file(home, cid);
    let opened = match std::fs::File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    let mut bytes = Vec::new();
    opened
        .and_then(|file| file.take(SEALED_SIZE_MAX).read_to_end(&mut bytes))
        .map_err(|cause| DetailsError::Io { path, cause })?;
    let block = UnverifiedBlock { cid: *cid, bytes };
    let verified = block.verify();
    verified
        .map(Some)
        .map_err(|_| DetailsError::Damaged { cid: *cid })
}

/// Removes the file of sealed details which are in an archive, if there is one.
pub(super) fn remove_file(home: &Path, cid: &Cid) -> Result<(), DetailsError> {
    let path = file(home, cid);
    match std::fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(DetailsError::Write { path, cause })
        }
        _ => Ok(()),
    }
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
