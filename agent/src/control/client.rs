//! Asks the agent of a home, if one runs.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{Address, LINE_WAIT, REPLY_SIZE_MAX, Reply, Request, is_trusted};
use crate::node::Status;

/// A connection to the agent that runs on a home.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It is gone, or too slow.
    #[error("the agent of this home does not answer")]
    Io(#[from] io::Error),
    /// It says something else than what was asked, as a different version may.
    #[error("the agent of this home answers what this program does not understand")]
    Unexpected,
    /// It could not do it.
    #[error("the agent of this home failed: {0}")]
    Failed(String),
}

impl Client {
    /// Connects with the agent of a home; nothing if none runs.
    #[must_use]
    pub fn connect(home: &Path) -> Option<Self> {
        let stream = UnixStream::connect(Address::of(home).ok()?.path).ok()?;
        stream.set_write_timeout(Some(LINE_WAIT)).ok()?;
        is_trusted(&stream).then(|| Self {
            stream: BufReader::new(stream),
        })
    }

    /// What the agent is and does.
    ///
    /// # Errors
    /// It does not answer, or not as it should.
    pub fn status(mut self) -> Result<Status, ControlError> {
        self.ask(&Request::Status)?;
        match self.reply(LINE_WAIT)? {
            Reply::Status(status) => Ok(*status),
            Reply::Failed(why) => Err(ControlError::Failed(why)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(), ControlError> {
        let mut line = serde_json::to_vec(request).expect("plain structures serialize");
        line.push(b'\n');
        Ok(self.stream.get_mut().write_all(&line)?)
    }

    fn reply(&mut self, wait: Duration) -> Result<Reply, ControlError> {
        self.stream.get_mut().set_read_timeout(Some(wait))?;
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(REPLY_SIZE_MAX);
        bounded.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        serde_json::from_slice(&line).map_err(|_| ControlError::Unexpected)
    }
}
