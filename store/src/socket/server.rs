//! Answers other processes, in a thread of its own that ends with the store.

use std::{
    fs::Permissions,
    io,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::{
    Address, is_trusted,
    message::{Answer, QUESTION_SIZE_MAX, Question, receive, send},
};
use crate::{StoreError, catalog::Owned, disk::Disk};

/// Most readers at a time. One more is refused, and tries again.
const READERS_MAX: usize = 32;
/// How long a reader may take to say what it asks or to take its answer.
const READER_WAIT: Duration = Duration::from_secs(1);

/// The socket, bound but not served yet: who connects, waits.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    home: PathBuf,
}

/// The thread that serves.
#[derive(Debug)]
pub(crate) struct Server {
    thread: Option<JoinHandle<()>>,
    /// Closing it ends the thread.
    alive: Option<UnixStream>,
    home: PathBuf,
}

impl Server {
    /// Binds the home's socket in place of one that a dead process left. Only who holds the
    /// lock may do that.
    pub(crate) fn bind(home: &Path, disk: &Disk) -> io::Result<Socket> {
        remove(home);
        let mut bound = None;
        disk.step(|_| {
            let address = Address::of(home)?;
            let listener = UnixListener::bind(&address.path)?;
            std::fs::set_permissions(&address.path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            bound = Some(listener);
            Ok(())
        })?;
        let listener = bound.ok_or_else(|| io::Error::other("the socket was not bound"))?;
        Ok(Socket {
            listener,
            home: home.to_owned(),
        })
    }

    /// Begins to answer.
    pub(crate) fn start(socket: Socket, owned: Arc<Owned>) -> io::Result<Self> {
        let (alive, watch) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("store-readers".to_owned())
            .spawn(move || serve(&socket.listener, &watch, &owned))?;
        Ok(Self {
            thread: Some(thread),
            alive: Some(alive),
            home: socket.home,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        remove(&self.home);
    }
}

fn remove(home: &Path) {
    let _ = std::fs::remove_file(home.join("store.sock"));
}

fn serve(listener: &UnixListener, watch: &UnixStream, owned: &Owned) {
    let mut readers: Vec<UnixStream> = Vec::new();
    loop {
        let mut fds = vec![
            PollFd::new(watch, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        fds.extend(readers.iter().map(|r| PollFd::new(r, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => {
                tracing::warn!(error = %e, "readers are not served any more");
                return;
            }
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            return;
        }
        let mut asks = ready[2..].iter();
        readers.retain_mut(|reader| {
            let ready = asks.next().copied().unwrap_or(false);
            !ready || answer(reader, owned).is_ok()
        });
        if ready[1]
            && let Ok((reader, _)) = listener.accept()
            && readers.len() < READERS_MAX
            && is_trusted(&reader)
            && reader.set_read_timeout(Some(READER_WAIT)).is_ok()
            && reader.set_write_timeout(Some(READER_WAIT)).is_ok()
            && reader.set_nonblocking(false).is_ok()
        {
            readers.push(reader);
        }
    }
}

/// Answers one question. An error ends the connection.
fn answer(reader: &mut UnixStream, owned: &Owned) -> io::Result<()> {
    let bytes = receive(reader, QUESTION_SIZE_MAX)?;
    let answered = match Question::decode(&bytes) {
        Some(Question::Locate(multihash)) => owned.locate_durable(&multihash).map(Answer::Locate),
        Some(Question::Value(table, key)) => owned.value_durable(table, &key).map(Answer::Value),
        Some(Question::Page(table, after)) => owned.page(table, after.as_deref()).map(Answer::Page),
        Some(Question::Blocks) => owned.blocks().map(Answer::Blocks),
        None => Ok(Answer::Failed("the question is not understood".to_owned())),
    };
    let answer = answered.unwrap_or_else(|error| Answer::Failed(describe(&error)));
    send(reader, &answer.encode())
}

fn describe(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
