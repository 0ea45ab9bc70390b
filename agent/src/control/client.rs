//! Asks the agent of a home, if one runs.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::Ordering,
    time::Duration,
};

use super::{Address, FailureKind, LINE_WAIT, REPLY_SIZE_MAX, Reply, Request, is_trusted};
use crate::{
    node::Status,
    progress::Progress,
    pull::{PullReport, PullRequest, Scope},
};

/// How long the agent may take to walk what is shared.
const REFRESH_WAIT: Duration = Duration::from_secs(600);

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
    #[error("{error}{}", caused_by(causes))]
    Failed {
        /// What failed.
        error: String,
        /// Its causes.
        causes: Vec<String>,
        /// Of what kind the failure is.
        kind: FailureKind,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

fn caused_by(causes: &[String]) -> String {
    causes.iter().map(|cause| format!(": {cause}")).collect()
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
            other => Err(unexpected(other)),
        }
    }

    /// Lets the agent take in changes of who may have what. They hold when this returns.
    ///
    /// # Errors
    /// It does not answer, or could not.
    pub fn refresh(mut self) -> Result<(), ControlError> {
        self.ask(&Request::Refresh)?;
        self.done(REFRESH_WAIT)
    }

    /// Lets the agent tell its peers that the log of the home grew.
    ///
    /// # Errors
    /// It does not answer, or could not.
    pub fn log_grew(mut self) -> Result<(), ControlError> {
        self.ask(&Request::Grew)?;
        self.done(LINE_WAIT)
    }

    /// Lets the agent take in changes of the federation. They hold when this returns.
    ///
    /// # Errors
    /// It does not answer, or could not.
    pub fn federation_changed(mut self) -> Result<(), ControlError> {
        self.ask(&Request::Federation)?;
        self.done(REFRESH_WAIT)
    }

    /// Lets the agent pull a snapshot, or a part of it, and follows how far it is.
    ///
    /// # Errors
    /// It does not answer, or could not.
    pub fn pull(
        mut self,
        wanted: &PullRequest,
        scope: &Scope,
        created: &str,
        progress: &Progress,
    ) -> Result<PullReport, ControlError> {
        self.ask(&Request::Pull {
            root: wanted.root.to_string(),
            scope: scope.clone(),
            peers: wanted.peers.clone(),
            gateways: wanted.gateways.clone(),
            created: created.to_owned(),
        })?;
        loop {
            // The agent ends the pull when this end of the connection is gone.
            if progress.stop.load(Ordering::Relaxed) {
                return Err(ControlError::Interrupted);
            }
            match self.reply(LINE_WAIT)? {
                Reply::Progress { bytes, total } => {
                    progress.bytes_read.store(bytes, Ordering::Relaxed);
                    progress.bytes_total.store(total, Ordering::Relaxed);
                }
                Reply::Pulled(report) => return Ok(report),
                other => return Err(unexpected(other)),
            }
        }
    }

    fn done(&mut self, wait: Duration) -> Result<(), ControlError> {
        match self.reply(wait)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
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

fn unexpected(reply: Reply) -> ControlError {
    match reply {
        Reply::Failed {
            error,
            causes,
            kind,
        } => ControlError::Failed {
            error,
            causes,
            kind,
        },
        _ => ControlError::Unexpected,
    }
}
