//! What a verb runs in: the home, the store, the terminal and the switch that stops it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use agent::{
    blocks::{Arriving, Blocks, CarFile},
    home::{Home, HomeError},
    open::OpenSnapshot,
    progress::Progress,
    recipients,
};
use cid::Cid;
use protocol::log::entry::Action;
use store::Store;
use uuid::Uuid;

use crate::{error::CliError, home, prompt::OpenWith, reference::Input, trail::Trail, ui::Ui};

/// What a verb runs in.
pub(crate) struct Context {
    pub(crate) asked_home: Option<PathBuf>,
    pub(crate) session: Uuid,
    pub(crate) trail: Trail,
    pub(crate) progress: Progress,
    pub(crate) interrupted: Arc<AtomicBool>,
    pub(crate) ui: Ui,
}

impl Context {
    /// The directory that holds all state.
    pub(crate) fn home(&self) -> Result<PathBuf, CliError> {
        home::directory(self.asked_home.clone())
    }

    /// The home, which `init` made.
    pub(crate) fn open_home(&self) -> Result<Home, CliError> {
        Ok(Home::open(&self.home()?)?)
    }

    /// The home, if there is one: a CAR file can be read without.
    pub(crate) fn home_if_any(&self) -> Result<Option<Home>, CliError> {
        match Home::open(&self.home()?) {
            Ok(home) => Ok(Some(home)),
            Err(HomeError::NotInitialised { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The store, while others may write to it.
    pub(crate) fn open_store_to_read(&self, purpose: &str) -> Result<Store, CliError> {
        let home = self.open_home()?;
        Ok(Store::open_read(home.path(), purpose)?)
    }

    /// The store, for this process alone to write to.
    pub(crate) fn open_store_to_write(&self, purpose: &str) -> Result<Store, CliError> {
        let home = self.open_home()?;
        Ok(Store::open(home.path(), purpose)?)
    }

    /// The store, for this process alone to write to, and for what the log is to tell of.
    pub(crate) fn open_store_to_change(
        &self,
        purpose: &str,
        action: Action,
    ) -> Result<Store, CliError> {
        let home = self.open_home()?;
        self.trail.begin(&home, action)?;
        Ok(Store::open(home.path(), purpose)?)
    }

    /// Calls `f` with the blocks and the root of a snapshot.
    pub(crate) fn with_blocks<T>(
        &self,
        input: &Input,
        purpose: &str,
        f: impl FnOnce(&Blocks<'_>, Cid) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        match input {
            Input::Snapshot(snapshot) => {
                let store = self.open_store_to_read(purpose)?;
                let root = snapshot.resolve(&store)?;
                f(&Blocks::Store(&store), root)
            }
            Input::Car(path) if !path.exists() => Err(CliError::failed(format!(
                "{} is neither a CID nor a file",
                path.display()
            ))
            .hint("`souverain list` shows the snapshots of this home")),
            Input::Car(path) => {
                let car = CarFile::open(path)?;
                let root = car.root();
                f(&Blocks::Car(car), root)
            }
        }
    }

    /// Opens a snapshot with what was named, and with the home's own identity.
    pub(crate) fn open(
        &self,
        blocks: &Blocks<'_>,
        root: &Cid,
        with: &OpenWith,
    ) -> Result<OpenSnapshot, CliError> {
        let home = self.home_if_any()?;
        let identities = with.load(home.as_ref(), &self.ui)?;
        let kept = match blocks {
            Blocks::Store(store) | Blocks::Arriving(Arriving { store, .. }) => {
                recipients::kept_capsule(store, root)?
            }
            Blocks::Car(_) => None,
        };
        Ok(agent::open::open(blocks, root, &identities, kept)?)
    }

    /// Whether there is anything to open a snapshot with.
    pub(crate) fn can_open(&self, with: &OpenWith) -> Result<bool, CliError> {
        let home = self.home_if_any()?;
        Ok(with.is_some() || home.is_some_and(|home| home.identity_path().is_some()))
    }

    /// Fails if the user asked to stop.
    pub(crate) fn stop_if_interrupted(&self) -> Result<(), CliError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(CliError::failed("interrupted"));
        }
        Ok(())
    }

    /// The time, RFC 3339 in UTC.
    pub(crate) fn now(&self) -> String {
        jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    }

    /// Bytes that nobody could know before the run: a session id has 74 random bits.
    pub(crate) fn random_seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(self.session.as_bytes());
        seed
    }

    /// Warns that a password in an argument is not a secret.
    pub(crate) fn warn_of_password(&self, url: &str) -> Result<(), CliError> {
        if has_password(url) {
            self.ui.warn(
                "every user of this machine can read the password in the arguments; \
                 use PGPASSFILE or PGPASSWORD",
            )?;
        }
        Ok(())
    }
}

/// Whether a URL carries a password: `scheme://user:password@…`, or `?password=…`.
fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let in_authority = authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    in_authority || rest.contains("?password=") || rest.contains("&password=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_seen() {
        for with in [
            "postgres://me:secret@host/db",
            "postgres://me:se@cret@host",
            "postgres://host/db?user=me&password=secret",
        ] {
            assert!(has_password(with), "{with}");
        }
        for without in [
            "postgres://me@host:5432/db",
            "postgres://host/db?host=/run/pg",
            "sqlite:a:b@c.sqlite",
            "./a:b@c",
        ] {
            assert!(!has_password(without), "{without}");
        }
    }
}
