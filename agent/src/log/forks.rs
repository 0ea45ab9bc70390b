//! The fork proofs of a home: about its own log and those that it follows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cid::Cid;
use protocol::log::{
    checkpoint::Origin,
    fork::{Blame, Signer, UnverifiedFork},
    keys::origin_of,
};
use store::{StoreError, log::LogReader};

use super::{LogError, following, keys_of, places::own_dir};

/// A fork proof that a home keeps. It was checked before it was kept.
#[derive(Clone, Debug)]
pub struct KeptFork {
    /// The log that it is about.
    pub origin: Origin,
    /// The file that it is in.
    pub path: PathBuf,
    /// What it says.
    pub fork: UnverifiedFork,
    /// Whether it is held against the log, of which nothing more is taken: not if it is about a witness, or a key
    /// that was given up.
    pub accuses_log: bool,
}

/// All fork proofs of a home.
///
/// # Errors
/// They cannot be read.
pub fn kept_forks(home: &Path) -> Result<Vec<KeptFork>, LogError> {
    let logs = home.join("log");
    let failed = |cause| {
        LogError::Store(StoreError::Io {
            what: "read",
            path: logs.clone(),
            cause,
        })
    };
    let listed = match fs::read_dir(&logs) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut found = Vec::new();
    for one in listed {
        let dir = one.map_err(failed)?.path();
        let genesis = dir
            .file_name()
            .and_then(|name| name.to_str()?.parse::<Cid>().ok());
        if genesis.is_none() && dir != own_dir(home) {
            continue;
        }
        let proofs = following::forks(&dir)?;
        if proofs.is_empty() {
            continue;
        }
        let keys = match LogReader::open(&dir)? {
            Some(reader) => Some(keys_of(&reader)?),
            None => None,
        };
        let origin = match (&keys, genesis) {
            (Some(keys), _) => keys.origin().clone(),
            (None, Some(genesis)) => origin_of(&genesis),
            (None, None) => continue,
        };
        let known: Vec<Signer> = keys
            .iter()
            .flat_map(|keys| keys.keys())
            .cloned()
            .map(Signer::Log)
            .collect();
        for (path, fork) in proofs {
            let verified = fork.clone().verify(&known).ok();
            let blame = verified
                .zip(keys.as_ref())
                .map(|(fork, keys)| fork.blame(keys));
            found.push(KeptFork {
                origin: origin.clone(),
                path,
                fork,
                accuses_log: blame == Some(Blame::Log),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}
