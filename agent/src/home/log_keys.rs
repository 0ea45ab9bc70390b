//! The keys of a home that sign its log, take it back, and cosign the logs of others.

use std::path::PathBuf;

use super::{
    Home, HomeError, WITNESS_KEY,
    files::{random, read_seed, write_once},
};
use crate::{
    federation::witness_name,
    log::key::{LogKey, WitnessKey},
};

impl Home {
    /// The key of the log of this number.
    ///
    /// # Errors
    /// It is not in the home, or cannot be read.
    pub fn log_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        LogKey::read(&self.log_key_path(epoch))
    }

    fn log_key_path(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("log-{epoch}.key"))
    }

    /// The key of the log of this number, which is made if there is none.
    pub(crate) fn new_log_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        write_once(&self.log_key_path(epoch), random)?;
        self.log_key(epoch)
    }

    /// The recovery key that is committed to with the key of this number, which is made if there is none.
    pub(crate) fn new_log_recovery_key(&self, epoch: u64) -> Result<LogKey, HomeError> {
        let path = self.log_recovery_path(epoch);
        write_once(&path, random)?;
        LogKey::read(&path)
    }

    /// The recovery key of the log that was made with the home.
    ///
    /// # Errors
    /// It was taken away, or cannot be read.
    pub fn log_recovery_key(&self) -> Result<LogKey, HomeError> {
        LogKey::read(&self.log_recovery_path(1))
    }

    /// Where the recovery key is that was committed to with the key of this number, until its owner takes it away.
    #[must_use]
    pub fn log_recovery_path(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("log-recovery-{epoch}.key"))
    }

    /// The key that cosigns the logs of others, which is made if there is none.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn witness_key(&self) -> Result<WitnessKey, HomeError> {
        let path = self.path.join(WITNESS_KEY);
        write_once(&path, random)?;
        let name = witness_name(&self.peer_id());
        // A peer id is letters and digits.
        WitnessKey::new(&name, &read_seed(&path)?).map_err(|_| HomeError::Damaged { path })
    }
}
