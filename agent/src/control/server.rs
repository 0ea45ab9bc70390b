//! Answers verbs, within the agent.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::Semaphore,
    time::timeout,
};

use super::{Address, CONNECTIONS_MAX, LINE_WAIT, REQUEST_SIZE_MAX, Reply, Request, is_trusted};
use crate::node::Handle;

/// The socket, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// What answers.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) node: Handle,
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

async fn answer(stream: UnixStream, service: &Service) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut bounded = BufReader::new(read.take(REQUEST_SIZE_MAX));
    timeout(LINE_WAIT, bounded.read_until(b'\n', &mut line)).await??;
    let reply = match serde_json::from_slice(&line) {
        Ok(request) => service.answer(request).await,
        Err(_) => Reply::Failed("the request is not understood".to_owned()),
    };
    say(&mut write, &reply).await
}

async fn say(to: &mut OwnedWriteHalf, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).expect("plain structures serialize");
    line.push(b'\n');
    timeout(LINE_WAIT, to.write_all(&line)).await?
}

impl Service {
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status => match self.node.status().await {
                Ok(status) => Reply::Status(Box::new(status)),
                Err(stopped) => Reply::Failed(stopped.to_string()),
            },
        }
    }
}
