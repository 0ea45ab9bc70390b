//! Asks the process that holds the store.

use std::{
    fs::File,
    io,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    Address, is_trusted, lock_passing,
    message::{ANSWER_SIZE_MAX, Answer, Question, receive, send},
};
use crate::{
    Blocks, StoreError, Table,
    index::{Location, Page},
};

/// How long an answer may take: the holder may be recovering, or syncing to a slow disk.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The holder is gone. Somebody else holds the store, or nobody.
    Gone,
    /// Another try would not help.
    Failed(StoreError),
}

/// A connection to the process that holds the store.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Mutex<UnixStream>,
    gone: AtomicBool,
}

impl Client {
    /// Connects to whoever holds the store; nothing if nobody serves there.
    pub(crate) fn connect(home: &Path) -> Option<Self> {
        let stream = UnixStream::connect(Address::of(home).ok()?.path).ok()?;
        stream.set_read_timeout(Some(ANSWER_WAIT)).ok()?;
        stream.set_write_timeout(Some(ANSWER_WAIT)).ok()?;
        is_trusted(&stream).then(|| Self {
            stream: Mutex::new(stream),
            gone: AtomicBool::new(false),
        })
    }

    /// Whether the connection is of no more use.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn locate(&self, multihash: &[u8]) -> Result<Option<Location>, ClientError> {
        match self.ask(&Question::Locate(multihash.to_vec()))? {
            Answer::Locate(location) => Ok(location),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        match self.ask(&Question::Value(table, key.to_vec()))? {
            Answer::Value(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn page(&self, table: Table, after: Option<&[u8]>) -> Result<Page, ClientError> {
        match self.ask(&Question::Page(table, after.map(<[u8]>::to_vec)))? {
            Answer::Page(page) => Ok(page),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn blocks(&self) -> Result<Blocks, ClientError> {
        match self.ask(&Question::Blocks)? {
            Answer::Blocks(blocks) => Ok(blocks),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks for the lock; nothing if the holder keeps it, or is gone.
    fn lock(self) -> Option<File> {
        match self.ask(&Question::HandOver) {
            Ok(Answer::HandedOver) => {}
            _ => return None,
        }
        let stream = self.stream.into_inner().expect("no panic while it is held");
        lock_passing::receive_file(&stream).ok()
    }

    fn ask(&self, question: &Question) -> Result<Answer, ClientError> {
        let mut stream = self.stream.lock().expect("no panic while it is held");
        if self.is_gone() {
            return Err(ClientError::Gone);
        }
        let received = send(&mut *stream, &question.encode())
            .and_then(|()| receive(&mut *stream, ANSWER_SIZE_MAX));
        let answer = match received {
            Ok(bytes) => Answer::decode(question, &bytes),
            Err(e) => {
                // What comes later would be taken for the answer to another question.
                self.gone.store(true, Ordering::Relaxed);
                return Err(lost(&e));
            }
        };
        answer.ok_or_else(|| failed("it is malformed".to_owned()))
    }
}

/// Asks whoever holds the store for the lock. A holder that only reads hands it over.
pub(crate) fn ask_for_lock(home: &Path) -> Option<File> {
    Client::connect(home)?.lock()
}

fn lost(error: &io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            failed(format!("nothing within {} s", ANSWER_WAIT.as_secs()))
        }
        io::ErrorKind::InvalidData => failed(error.to_string()),
        _ => ClientError::Gone,
    }
}

fn unexpected(answer: &Answer) -> ClientError {
    match answer {
        Answer::Failed(why) => failed(why.clone()),
        _ => failed("it answers another question".to_owned()),
    }
}

fn failed(what: String) -> ClientError {
    ClientError::Failed(StoreError::Answer { what })
}
