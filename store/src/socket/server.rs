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
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::{
    Address, is_trusted, lock_passing,
    message::{Answer, QUESTION_SIZE_MAX, Question, receive, send},
};
use crate::{
    StoreError,
    catalog::{Owned, Reader},
    disk::Disk,
};

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

    /// Begins to answer. If the holder only reads, `reader` is who it is, and lets go of the
    /// store when a writer asks for it.
    pub(crate) fn start(
        socket: Socket,
        owned: Arc<Owned>,
        reader: Option<Reader>,
    ) -> io::Result<Self> {
        let (alive, watch) = UnixStream::pair()?;
        let Socket { listener, home } = socket;
        let thread = thread::Builder::new()
            .name("store-readers".to_owned())
            .spawn(move || {
                let serving = Serving {
                    listener,
                    watch,
                    owned,
                    reader,
                };
                serving.run();
            })?;
        Ok(Self {
            thread: Some(thread),
            alive: Some(alive),
            home,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take()
            // The thread itself drops this when it hands the lock over.
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        remove(&self.home);
    }
}

fn remove(home: &Path) {
    let _ = std::fs::remove_file(home.join("store.sock"));
}

/// What the thread has.
struct Serving {
    listener: UnixListener,
    watch: UnixStream,
    owned: Arc<Owned>,
    reader: Option<Reader>,
}

/// What becomes of a connection after a question.
enum Next {
    /// More questions may come.
    Listen,
    /// The process at the other end wants the lock, and gets it.
    HandOver,
    /// It is of no more use.
    Close,
}

impl Serving {
    /// Answers until the store is dropped, or the lock handed over.
    fn run(self) {
        let mut readers: Vec<UnixStream> = Vec::new();
        loop {
            let mut fds = vec![
                PollFd::new(&self.watch, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
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
            let mut kept = Vec::with_capacity(readers.len() + 1);
            for (mut reader, asks) in readers.into_iter().zip(&ready[2..]) {
                let next = if *asks {
                    self.answer(&mut reader)
                } else {
                    Next::Listen
                };
                match next {
                    Next::Listen => kept.push(reader),
                    Next::Close => {}
                    Next::HandOver => {
                        // All other connections are closed, so that readers look for the next holder.
                        return self.hand_over(&reader);
                    }
                }
            }
            readers = kept;
            if ready[1]
                && let Ok((reader, _)) = self.listener.accept()
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

    /// Answers one question.
    fn answer(&self, reader: &mut UnixStream) -> Next {
        let Ok(bytes) = receive(reader, QUESTION_SIZE_MAX) else {
            return Next::Close;
        };
        let owned = &self.owned;
        let answered = match Question::decode(&bytes) {
            Some(Question::Locate(multihash)) => {
                owned.locate_durable(&multihash).map(Answer::Locate)
            }
            Some(Question::Value(table, key)) => {
                owned.value_durable(table, &key).map(Answer::Value)
            }
            Some(Question::Page(table, after)) => {
                owned.page(table, after.as_deref()).map(Answer::Page)
            }
            Some(Question::Blocks) => owned.blocks().map(Answer::Blocks),
            Some(Question::HandOver) if self.reader.is_some() => return Next::HandOver,
            Some(Question::HandOver) => Ok(Answer::Kept),
            None => Ok(Answer::Failed("the question is not understood".to_owned())),
        };
        let answer = answered.unwrap_or_else(|error| Answer::Failed(describe(&error)));
        match send(reader, &answer.encode()) {
            Ok(()) => Next::Listen,
            Err(_) => Next::Close,
        }
    }

    /// Lets go of the index, and then passes the lock on.
    fn hand_over(self, to: &UnixStream) {
        let Self { owned, reader, .. } = self;
        drop(owned);
        let Some(lock) = reader.and_then(Reader::let_go) else {
            return;
        };
        let Some(file) = lock.hand_over() else {
            return;
        };
        // If the process at the other end is gone, the lock is free when the file is closed.
        let mut stream = to;
        let sent = send(&mut stream, &Answer::HandedOver.encode())
            .and_then(|()| lock_passing::send_file(to, &file));
        if let Err(e) = sent {
            tracing::debug!(error = %e, "the process that wanted the store is gone");
        }
    }
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
