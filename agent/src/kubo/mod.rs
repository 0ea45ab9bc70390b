//! A Kubo as the place where a snapshot's blocks are: publishing, reading back, pins.
//!
//! Blocks go there and come back as CARs over its RPC, streamed; roots are the same as here. Our own store has
//! everything that is published, so that deduplication, listing and resuming need nothing of the Kubo.

mod endpoint;
mod error;
mod fetch;
mod publish;
mod reply;
mod rpc;

use std::sync::{Arc, atomic::AtomicBool};

use cid::Cid;
use libp2p_identity::PeerId;
use tokio::runtime::{Builder, Runtime};

use rpc::Rpc;

use crate::{pinning::pin_name, web::shown};

pub use self::{
    endpoint::{Credentials, CredentialsError, Endpoint, EndpointError},
    error::KuboError,
    publish::Published,
};

/// The first version of Kubo that will do: it finds pins by their names.
pub const VERSION_MIN: &str = "0.29.0";

/// Most pins of a home at one Kubo.
pub const PINS_MAX: usize = 65_536;

/// A Kubo that answered. Everything blocks the thread.
#[derive(Debug)]
pub struct Kubo {
    rpc: Rpc,
    runtime: Runtime,
    version: String,
}

impl Kubo {
    /// Connects, and looks at the version. Setting `stop` ends whatever is being waited for.
    ///
    /// # Errors
    /// Nobody answers, or not as a Kubo does, or it is too old, or wants other credentials.
    pub fn connect(
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, KuboError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| KuboError::Client(Box::new(cause)))?;
        let rpc = Rpc::new(endpoint, credentials, stop)?;
        let version = shown(&runtime.block_on(rpc.version())?);
        let numbers = numbers(&version).ok_or_else(|| KuboError::NotKubo {
            endpoint: endpoint.clone(),
            why: format!("it says that it is of version {version:?}"),
        })?;
        if Some(numbers) < self::numbers(VERSION_MIN) {
            return Err(KuboError::Old { found: version });
        }
        tracing::debug!(%endpoint, %version, "a Kubo answers");
        Ok(Self {
            rpc,
            runtime,
            version,
        })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The roots that a home has pinned there.
    ///
    /// # Errors
    /// The Kubo fails, or what it says is malformed.
    pub fn pins(&self, home: &PeerId) -> Result<Vec<Cid>, KuboError> {
        let name = pin_name(home);
        let malformed = |what| KuboError::Malformed {
            call: "pin/ls",
            what,
        };
        let mut roots = Vec::new();
        let mut wrong = None;
        let listing = self.rpc.pins(&name, |pin| {
            // It looks for names that hold this one.
            if pin.name != name {
                return;
            }
            match pin.cid.parse() {
                Ok(root) if roots.len() < PINS_MAX => roots.push(root),
                Ok(_) => wrong = Some(format!("more than {PINS_MAX} pins")),
                Err(_) => wrong = Some(format!("{:?} is not a CID", shown(&pin.cid))),
            }
        });
        self.runtime.block_on(listing)?;
        wrong.map_or(Ok(roots), |what| Err(malformed(what)))
    }

    /// Takes away the pin that a home made. The blocks stay until the Kubo collects its garbage.
    ///
    /// # Errors
    /// The home has not pinned it there; or the Kubo fails.
    pub fn unpin(&self, root: &Cid, home: &PeerId) -> Result<(), KuboError> {
        if !self.pins(home)?.contains(root) {
            return Err(KuboError::NotPinned { root: *root });
        }
        let removed = self.runtime.block_on(self.rpc.pin_rm(&root.to_string()))?;
        self.check_root(root, &removed)
    }

    /// Checks that Kubo speaks of the same root as we do.
    fn check_root(&self, root: &Cid, found: &[String]) -> Result<(), KuboError> {
        let is_same = |found: &String| found.parse::<Cid>().is_ok_and(|found| found == *root);
        if !found.is_empty() && found.iter().all(is_same) {
            return Ok(());
        }
        Err(KuboError::OtherRoot {
            root: *root,
            found: shown(&found.join(", ")),
        })
    }
}

/// The numbers of a version; what stands behind them does not count.
fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let plain = version.split(['-', '+']).next()?;
    let mut numbers = plain.split('.').map(str::parse);
    let mut next = || numbers.next()?.ok();
    let found = (next()?, next()?, next()?);
    numbers.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let old = |version: &str| numbers(version) < numbers(VERSION_MIN);
        assert!(old("0.4.23") && old("0.28.0") && old("0.9.1-rc1"));
        assert!(!old("0.29.0") && !old("0.43.0") && !old("0.100.0-dev") && !old("1.0.0"));
        for text in ["", "0.43", "kubo/0.43.0", "0.43.0.1", "a.b.c", "-1.0.0"] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
