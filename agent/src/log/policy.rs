//! Which witnesses are to cosign the node's own log: `HOME/log/policy.txt`, a policy of C2SP's `tlog-policy`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use protocol::log::policy::{POLICY_SIZE_MAX, Policy, PolicyError};
use reqwest::Url;

use super::{cosigning::Witness, places::policy_file};
use crate::durable_file;

/// Why a policy cannot be gone by.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The policy of the home cannot be replaced.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// It is not one.
    #[error("{} is not a policy", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: PolicyError,
    },
    /// It has other bytes than text in it.
    #[error("{} is not text in UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A witness cannot be asked at what is said to be its URL.
    #[error("{url:?} is not the http:// or https:// URL of a witness")]
    Url {
        /// What stands there.
        url: String,
    },
}

/// A policy, and the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPolicy {
    policy: Policy,
    text: String,
    urls: Vec<Option<Url>>,
}

impl OwnPolicy {
    /// Reads a policy that the home's own log may go by.
    ///
    /// # Errors
    /// It cannot be read, is none, or a URL in it is not one of a witness.
    pub fn read(path: &Path) -> Result<Self, PolicyFileError> {
        let failed = |cause| PolicyFileError::Read {
            path: path.to_owned(),
            cause,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        let read = file
            .take(POLICY_SIZE_MAX as u64 + 1)
            .read_to_end(&mut bytes);
        read.map_err(failed)?;
        let policy = Policy::parse(&bytes).map_err(|error| PolicyFileError::Policy {
            path: path.to_owned(),
            error,
        })?;
        let text = String::from_utf8(bytes).map_err(|_| PolicyFileError::NotText {
            path: path.to_owned(),
        })?;
        let witnesses = policy.witnesses().iter();
        let urls = witnesses.map(|witness| witness.url.as_deref().map(parse_url).transpose());
        let urls = urls.collect::<Result<_, _>>()?;
        Ok(Self { policy, text, urls })
    }

    /// The policy of a home, if it has one.
    ///
    /// # Errors
    /// As [`OwnPolicy::read`].
    pub fn of_home(home: &Path) -> Result<Option<Self>, PolicyFileError> {
        match Self::read(&policy_file(home)) {
            Err(PolicyFileError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    /// Makes it the policy of a home, durably.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, home: &Path) -> Result<(), PolicyFileError> {
        let path = policy_file(home);
        let kept = durable_file::replace(&path, self.text.as_bytes());
        kept.map_err(|cause| PolicyFileError::Write { path, cause })
    }

    /// What it says.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The witnesses that can be asked, with their index in [`Policy::witnesses`].
    #[must_use]
    pub fn asked(&self) -> Vec<(usize, Witness)> {
        let witnesses = self.policy.witnesses().iter().zip(&self.urls);
        let asked = witnesses.enumerate().filter_map(|(index, (witness, url))| {
            let (key, url) = (witness.key.clone(), url.clone()?);
            Some((index, Witness { key, url }))
        });
        asked.collect()
    }
}

fn parse_url(bytes: &[u8]) -> Result<Url, PolicyFileError> {
    let text = String::from_utf8_lossy(bytes);
    let url = Url::parse(&text).ok().filter(|url| {
        let plain = url.username().is_empty() && url.password().is_none();
        let ends = url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && plain && ends
    });
    url.ok_or_else(|| PolicyFileError::Url {
        url: text.into_owned(),
    })
}
