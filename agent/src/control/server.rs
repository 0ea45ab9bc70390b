//! Answers verbs, within the agent.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cid::Cid;
use store::Store;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime,
    sync::{Semaphore, mpsc::UnboundedSender, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Address, CONNECTIONS_MAX, FailureKind, LINE_WAIT, PROGRESS_EVERY, REQUEST_SIZE_MAX, Reply,
    Request, is_trusted,
};
use crate::{
    log::following::Told,
    node::{self, Handle, Multiaddr},
    progress::Progress,
    pull::{self, Arrivals, GatewayUrl, Named, PullError, PullReport, Scope},
    shelf::Shelf,
};

/// The socket, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// What answers.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) home: PathBuf,
    pub(crate) node: Handle,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) told: UnboundedSender<Told>,
}

impl Socket {
    /// Binds the home's socket in place of one that a dead process left. Only the one agent of the
    /// home may do that. Must be called within a runtime.
    pub(crate) fn bind(home: &Path) -> io::Result<Self> {
        let path = home.join("agent.sock");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let address = Address::of(home)?;
        let listener = UnixListener::bind(&address.path)?;
        std::fs::set_permissions(&address.path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers for as long as it is polled.
    pub(crate) async fn serve(&self, service: Arc<Service>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a verb could not connect");
                    tokio::time::sleep(LINE_WAIT).await;
                    continue;
                }
            };
            if !is_trusted(&stream) {
                tracing::warn!("another user tried to control the agent");
                continue;
            }
            let service = service.clone();
            tokio::spawn(async move {
                if let Err(error) = answer(stream, &service).await {
                    tracing::debug!(%error, "a verb is gone");
                }
                drop(place);
            });
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What is to be pulled, as it was asked for.
struct Wanted {
    root: String,
    scope: Scope,
    peers: Vec<Multiaddr>,
    gateways: Vec<GatewayUrl>,
    created: String,
}

async fn answer(stream: UnixStream, service: &Service) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut bounded = BufReader::new(read.take(REQUEST_SIZE_MAX));
    timeout(LINE_WAIT, bounded.read_until(b'\n', &mut line)).await??;
    let mut read = bounded.into_inner().into_inner();
    let reply = match serde_json::from_slice(&line) {
        Ok(Request::Status) => service.status().await,
        Ok(Request::Refresh) => service.refresh().await,
        Ok(Request::Grew) => service.tell(Told::Grew),
        Ok(Request::Federation) => service.federation().await,
        Ok(Request::Pull {
            root,
            scope,
            peers,
            gateways,
            created,
        }) => {
            let wanted = Wanted {
                root,
                scope,
                peers,
                gateways,
                created,
            };
            service.pull(wanted, &mut read, &mut write).await?
        }
        Err(error) => Reply::failed(&error, FailureKind::Other),
    };
    say(&mut write, &reply).await
}

async fn say(to: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).expect("plain structures serialize");
    line.push(b'\n');
    timeout(LINE_WAIT, to.write_all(&line)).await?
}

impl Service {
    async fn status(&self) -> Reply {
        match self.node.status().await {
            Ok(status) => Reply::Status(Box::new(status)),
            Err(stopped) => Reply::failed(&stopped, FailureKind::Other),
        }
    }

    async fn refresh(&self) -> Reply {
        let shelf = self.shelf.clone();
        match spawn_blocking(move || shelf.refresh()).await {
            Ok(Ok(())) => {
                self.node.changed(self.shelf.public()).await;
                Reply::Done
            }
            Ok(Err(error)) => Reply::failed(&error, FailureKind::Other),
            Err(error) => Reply::failed(&error, FailureKind::Other),
        }
    }

    fn tell(&self, told: Told) -> Reply {
        match self.told.send(told) {
            Ok(()) => Reply::Done,
            Err(_) => Reply::failed(&node::Stopped, FailureKind::Other),
        }
    }

    async fn federation(&self) -> Reply {
        let (reply, answer) = oneshot::channel();
        if self.told.send(Told::Federation(reply)).is_err() {
            return Reply::failed(&node::Stopped, FailureKind::Other);
        }
        match answer.await {
            Ok(Ok(())) => Reply::Done,
            Ok(Err(error)) => Reply::failed(&error, FailureKind::Other),
            Err(_) => Reply::failed(&node::Stopped, FailureKind::Other),
        }
    }

    /// Pulls, and says how far it is. Stops when nobody listens any more.
    async fn pull(
        &self,
        wanted: Wanted,
        read: &mut OwnedReadHalf,
        write: &mut OwnedWriteHalf,
    ) -> io::Result<Reply> {
        let root: Cid = match wanted.root.parse() {
            Ok(root) => root,
            Err(error) => return Ok(Reply::failed(&error, FailureKind::Other)),
        };
        let mut named = Vec::new();
        for address in wanted.peers {
            match node::peer_of(&address) {
                Ok(peer) => named.push((peer, address)),
                Err(error) => return Ok(Reply::failed(&error, FailureKind::Other)),
            }
        }
        let progress = Progress::default();
        let _stop = StopOnDrop(progress.stop.clone());
        let (home, node, shown) = (self.home.clone(), self.node.clone(), progress.clone());
        let mut pulling = spawn_blocking(move || {
            let (scope, created) = (&wanted.scope, &wanted.created);
            let named = Named {
                node: Some(&node),
                peers: named,
                gateways: &wanted.gateways,
                download: node.download().clone(),
                threads: &runtime::Handle::current(),
            };
            blocking_pull(&home, named, root, scope, created, &shown)
        });
        loop {
            tokio::select! {
                done = &mut pulling => return Ok(match done {
                    Ok(Ok(report)) => {
                        self.node.changed(self.shelf.public()).await;
                        Reply::Pulled(report)
                    }
                    Ok(Err(error)) => {
                        Reply::failed(&error, kind(&error))
                    }
                    Err(error) => Reply::failed(&error, FailureKind::Other),
                }),
                () = gone(read) => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    let reply = Reply::Progress {
                        bytes: progress.bytes_read.load(Ordering::Relaxed),
                        total: progress.bytes_total.load(Ordering::Relaxed),
                    };
                    say(write, &reply).await?;
                }
            }
        }
    }
}

fn kind(error: &PullError) -> FailureKind {
    match error {
        PullError::Missing { .. } | PullError::NoProvider { .. } => FailureKind::Missing,
        PullError::Unreachable { .. } => FailureKind::Unreachable,
        PullError::NotSnapshot { .. } | PullError::Node { .. } => FailureKind::Unverified,
        _ => FailureKind::Other,
    }
}

/// Holds the store to write for as long as the pull takes.
fn blocking_pull(
    home: &Path,
    named: Named<'_>,
    root: Cid,
    scope: &Scope,
    created: &str,
    progress: &Progress,
) -> Result<PullReport, PullError> {
    let (store, _) = Store::open_salvaging(home, "pull")?;
    let into = pull::Keeping {
        store: &store,
        created,
        arrivals: &Arrivals::default(),
        progress,
    };
    pull::from_sources(named, root, scope, into)
}

/// Waits until the verb is gone. It says nothing more after its request.
async fn gone(read: &mut OwnedReadHalf) {
    let mut byte = [0];
    while matches!(read.read(&mut byte).await, Ok(1..)) {}
}

/// Stops work that nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
