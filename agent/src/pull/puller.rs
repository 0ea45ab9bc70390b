//! Who pulls: the agent that runs on the home, or a node that runs for as long as it takes.

use std::{path::PathBuf, sync::Arc};

use libp2p::{Multiaddr, PeerId};
use store::{Store, StoreError};
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{Arrivals, Keeping, Named, PullError, PullReport, PullRequest, Scope, from_sources};
use crate::{
    control::{Client, ControlError},
    daemon::{self, DaemonError, Lock},
    home::Home,
    node::{self, Budget, Budgets, Handle, NodeOptions},
    progress::Progress,
    shelf::Shelf,
};

/// Pulls one snapshot, whole or in parts.
#[derive(Debug)]
pub struct Puller {
    wanted: PullRequest,
    how: How,
}

#[derive(Debug)]
enum How {
    /// Two nodes with one key would get each other's answers, so a running agent is asked.
    Agent {
        home: PathBuf,
    },
    Alone(Box<Alone>),
}

#[derive(Debug)]
struct Alone {
    store: Arc<Store>,
    peers: Vec<(PeerId, Multiaddr)>,
    download: Budget,
    /// There until this is dropped, if there are peers to ask.
    node: Option<(Handle, JoinHandle<()>)>,
    runtime: Runtime,
    _lock: Lock,
}

/// Why a snapshot could not be pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullerError {
    /// The node cannot be started.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The pull failed.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The running agent could not do it.
    #[error(transparent)]
    Agent(#[from] ControlError),
}

impl Puller {
    /// Makes ready to pull. Without an agent on this home a node is started, which listens nowhere
    /// unless `options` say so.
    ///
    /// # Errors
    /// An agent just starts; or the node cannot be started, or the store not be written to.
    pub fn start(
        home: &Home,
        options: &NodeOptions,
        wanted: PullRequest,
    ) -> Result<Self, PullerError> {
        let how = if Client::connect(home.path()).is_some() {
            How::Agent {
                home: home.path().to_owned(),
            }
        } else {
            How::Alone(Box::new(Alone::start(home, options, &wanted)?))
        };
        Ok(Self { wanted, how })
    }

    /// The snapshot's root.
    #[must_use]
    pub fn root(&self) -> cid::Cid {
        self.wanted.root
    }

    /// Whether the agent of this home pulls.
    #[must_use]
    pub fn is_of_agent(&self) -> bool {
        matches!(self.how, How::Agent { .. })
    }

    /// The store that blocks come into.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn store(&self) -> Result<Arc<Store>, StoreError> {
        match &self.how {
            How::Agent { home } => Ok(Arc::new(Store::open_read(home, "pull")?)),
            How::Alone(alone) => Ok(alone.store.clone()),
        }
    }

    /// Pulls; what came is durable on return. Who waits at `arrivals` is told of each block, unless
    /// the agent pulls.
    ///
    /// # Errors
    /// See [`PullError`]; or the agent does not answer.
    pub fn pull(
        &self,
        scope: &Scope,
        created: &str,
        arrivals: &Arrivals,
        progress: &Progress,
    ) -> Result<PullReport, PullerError> {
        match &self.how {
            How::Agent { home } => {
                let agent = Client::connect(home).ok_or(PullError::Stopped)?;
                Ok(agent.pull(&self.wanted, scope, created, progress)?)
            }
            How::Alone(alone) => {
                let into = Keeping {
                    store: &alone.store,
                    created,
                    arrivals,
                    progress,
                };
                let named = Named {
                    node: alone.node.as_ref().map(|(node, _)| node),
                    peers: alone.peers.clone(),
                    gateways: &self.wanted.gateways,
                    download: alone.download.clone(),
                    threads: alone.runtime.handle(),
                };
                Ok(from_sources(named, self.wanted.root, scope, into)?)
            }
        }
    }
}

impl Alone {
    fn start(
        home: &Home,
        options: &NodeOptions,
        wanted: &PullRequest,
    ) -> Result<Self, DaemonError> {
        let lock = daemon::lock(home.path())?;
        let peers = options.peers_at(&wanted.peers)?;
        let (store, _) = Store::open_salvaging(home.path(), "pull")?;
        let store = Arc::new(store);
        let shelf = Arc::new(Shelf::new(store.clone()));
        let runtime = daemon::threads()?;
        let budgets = Budgets::new(&options.rates);
        let node = if peers.is_empty() && !wanted.gateways.is_empty() {
            None
        } else {
            let start = node::start(
                home.node_key(),
                options,
                &budgets,
                shelf,
                None,
                lock.after_kill,
            );
            let (node, _, task) = runtime.block_on(start)?;
            Some((node, task))
        };
        Ok(Self {
            store,
            peers,
            download: budgets.download,
            node,
            runtime,
            _lock: lock,
        })
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let Some((node, task)) = self.node.take() else {
            return;
        };
        // Without a handle the node says goodbye to its peers, and ends.
        drop(node);
        if let Err(error) = self.runtime.block_on(task) {
            tracing::warn!(%error, "the node did not stop cleanly");
        }
    }
}
