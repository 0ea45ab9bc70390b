//! The agent that runs on a home: its node, the control socket, and the lock that keeps it alone.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::{
        fs::{FileExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Span;
use libp2p::Multiaddr;
use protocol::log::{checkpoint::Origin, replica::limits::PEERS_MAX};
use rustix::fs::{FlockOperation, flock};
use store::{Store, StoreError};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::{
    control::{Service, Socket},
    federation::{Federation, FederationError},
    home::Home,
    http::{HttpError, HttpOptions, Server},
    log::{
        LogError, OwnLog,
        archives::Archives,
        cosigners,
        following::{self, Following},
        keys_of, now_ms, open_own,
        recorder::Recorder,
    },
    node::{self, Budgets, NodeError, NodeOptions},
    sharing::SharingError,
    shelf::Shelf,
};

/// Threads that wait for the disk, at most.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long a node that stops for good may take to tell others why.
const TELL_WAIT: Duration = Duration::from_secs(1);
/// Most bytes of the lock file that are read.
const HOLDER_SIZE_MAX: u64 = 32;

/// A running agent.
#[derive(Debug)]
pub struct Daemon {
    // In the order in which it ends: the socket last but one, so that nobody asks an agent that is gone.
    node: JoinHandle<()>,
    service: Arc<Service>,
    addresses: Vec<Multiaddr>,
    http: Option<Server>,
    following: Following,
    _archives: Option<Archives>,
    ended: oneshot::Receiver<LogError>,
    socket: Socket,
    runtime: Runtime,
    _lock: Lock,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// There is one already.
    #[error("an agent runs on this home already (process {pid})")]
    Running {
        /// Its process.
        pid: u32,
    },
    /// The node cannot be started.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its log cannot be written.
    #[error("cannot write the log of the agent")]
    Log(#[from] LogError),
    /// Nothing can be served over HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It is not known who may have what.
    #[error(transparent)]
    Sharing(#[from] SharingError),
    /// A file or socket of the home cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The system gives no threads or timers.
    #[error("cannot start the threads of the agent")]
    Threads(#[source] io::Error),
    /// Whose logs are followed cannot be read.
    #[error(transparent)]
    Federation(#[from] FederationError),
    /// The node's task ended by itself.
    #[error("the node stopped by itself")]
    Ended,
}

impl Daemon {
    /// Starts an agent, which then listens and answers verbs, and archives what is older than `archive_log` in its log.
    ///
    /// # Errors
    /// One runs already; the options make no sense; something cannot be used.
    pub fn start(
        home: &Home,
        options: &NodeOptions,
        http: Option<&HttpOptions>,
        archive_log: Option<Span>,
        session: [u8; 16],
    ) -> Result<Self, DaemonError> {
        let lock = lock(home.path())?;
        let store = Arc::new(Store::open_read(home.path(), "agent")?);
        let alone = Federation::load(home.path())?.members().next().is_none();
        let origin = match OwnLog::new(home, session).record(now_ms(), &[]) {
            Ok(recorded) => Origin::new(recorded.vkey.name()).map_err(LogError::from)?,
            // Members may have what is missing.
            Err(LogError::Behind { .. } | LogError::Doubted { .. }) if !alone => {
                let own = open_own(home.path())?.ok_or(LogError::Empty)?;
                keys_of(&own)?.origin().clone()
            }
            Err(error) => return Err(error.into()),
        };
        let runtime = threads()?;
        let (ends, port) = {
            let _entered = runtime.enter();
            following::port()
        };
        let told = port.told.clone();
        let (standing, agreed) = crossbeam_channel::bounded(PEERS_MAX);
        let agreed = (!alone).then_some(agreed);
        let recorder = Recorder::start(home, session, agreed, told.clone())?;
        let shelf = Arc::new(Shelf::recorded(store, recorder));
        shelf.refresh()?;
        let witness = home.witness_key().map_err(LogError::Key)?.key().clone();
        let budgets = Budgets::new(&options.rates);
        let http = http.map(|http| {
            let witness = Some((witness, port.witnessing.clone()));
            let (shelf, upload) = (shelf.clone(), budgets.upload.clone());
            runtime.block_on(Server::bind(home.path(), http, shelf, upload, witness))
        });
        let http = http.transpose()?;
        let (node, addresses, task) = runtime.block_on(node::start(
            home.node_key(),
            options,
            &budgets,
            shelf.clone(),
            Some(port),
            lock.after_kill,
        ))?;
        let (end, ended) = oneshot::channel();
        let (size, grown) = watch::channel(0);
        let following = {
            let _entered = runtime.enter();
            Following::start(home, &origin, ends, told.clone(), standing, end, size)?
        };
        let archives = archive_log.map(|age| Archives::start(home, session, age, told.clone()));
        runtime.spawn(cosigners::run(
            home.path().to_owned(),
            node.clone(),
            told.clone(),
            grown,
        ));
        runtime.block_on(node.changed(shelf.public()));
        let socket = {
            let _entered = runtime.enter();
            Socket::bind(home.path()).map_err(|cause| DaemonError::Io {
                path: home.path().join("agent.sock"),
                cause,
            })?
        };
        tracing::info!(peer = %home.peer_id(), "agent started");
        Ok(Self {
            node: task,
            service: Arc::new(Service {
                home: home.path().to_owned(),
                node,
                shelf,
                told,
            }),
            following,
            _archives: archives.transpose()?,
            ended,
            addresses,
            http,
            socket,
            runtime,
            _lock: lock,
        })
    }

    /// Addresses that the node listens on, with its peer id.
    #[must_use]
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.addresses
    }

    /// Where it serves over HTTP, if it does.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.http.as_ref().map(Server::url)
    }

    /// Runs until there is something to read from `stop`, and then stops cleanly.
    ///
    /// # Errors
    /// The node ended by itself.
    pub fn run(self, stop: UnixStream) -> Result<(), DaemonError> {
        let Self {
            mut node,
            service,
            http,
            following,
            ended,
            socket,
            runtime,
            ..
        } = self;
        let because = runtime.block_on(async {
            let stop = watch(stop).map_err(DaemonError::Threads)?;
            tokio::select! {
                () = socket.serve(service.clone()) => Err(DaemonError::Ended),
                () = serve(http.as_ref()) => Err(DaemonError::Ended),
                _ = &mut node => Err(DaemonError::Ended),
                error = ended => Err(error.map_or(DaemonError::Ended, DaemonError::Log)),
                readable = stop.readable() => readable.map_err(DaemonError::Threads),
            }
        });
        drop((http, socket));
        if matches!(because, Err(DaemonError::Ended | DaemonError::Threads(_))) {
            drop(following);
            return because;
        }
        if matches!(because, Err(DaemonError::Log(LogError::Forked { .. }))) {
            // Others are to have the proof.
            runtime.block_on(async { tokio::time::sleep(TELL_WAIT).await });
        }
        // A pull that is under way ends too: what came is committed.
        runtime.block_on(async {
            service.node.stop().await;
            if let Err(error) = node.await {
                tracing::warn!(%error, "the node did not stop cleanly");
            }
        });
        drop(following);
        tracing::info!("agent stopped");
        because
    }
}

async fn serve(http: Option<&Server>) {
    match http {
        Some(http) => http.serve().await,
        None => std::future::pending().await,
    }
}

fn watch(stop: UnixStream) -> io::Result<tokio::net::UnixStream> {
    stop.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stop)
}

/// The threads of a node.
pub(crate) fn threads() -> Result<Runtime, DaemonError> {
    Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("agent")
        .enable_all()
        .build()
        .map_err(DaemonError::Threads)
}

/// What keeps others from being the agent of a home.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    /// Whether the one before was killed, and did not let go of it.
    pub(crate) after_kill: bool,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Otherwise the next one takes this one for killed, and is a little more patient with peers.
        let _ = self.file.set_len(0);
    }
}

/// Makes this the one agent of the home.
pub(crate) fn lock(home: &Path) -> Result<Lock, DaemonError> {
    let path = home.join("agent.lock");
    let failed = |cause| DaemonError::Io {
        path: path.clone(),
        cause,
    };
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Without a number it just starts or ends.
            let _ = file.take(HOLDER_SIZE_MAX).read_to_string(&mut text);
            let pid = text.trim_end().parse().unwrap_or(0);
            return Err(DaemonError::Running { pid });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    let after_kill = file.metadata().map_err(failed)?.len() > 0;
    file.set_len(0)
        .and_then(|()| file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0))
        .map_err(failed)?;
    Ok(Lock { file, after_kill })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_tells_whether_the_one_before_was_killed() {
        let home = tempfile::tempdir().expect("a directory");
        let first = lock(home.path()).expect("locks");
        assert!(!first.after_kill);
        let held = lock(home.path()).expect_err("it is held");
        assert!(matches!(held, DaemonError::Running { pid } if pid == std::process::id()));
        drop(first);
        assert!(!lock(home.path()).expect("locks").after_kill, "it ended");
        // As a process leaves it that is killed.
        std::fs::write(home.path().join("agent.lock"), "4711\n").expect("writes");
        assert!(lock(home.path()).expect("locks").after_kill);
    }
}
