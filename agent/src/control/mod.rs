//! The local control socket: how a verb speaks with the agent that runs on the same home.
//!
//! `HOME/agent.sock`, for the same user alone. A request is a line of JSON, and so is each reply;
//! a connection is for one request. Lines, connections and waits are bounded on both sides.

mod client;
mod message;
mod server;

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

pub use client::{Client, ControlError};
pub use message::FailureKind;
pub(crate) use message::{Reply, Request};
pub(crate) use server::{Service, Socket};

/// Largest request, in bytes.
const REQUEST_SIZE_MAX: u64 = 64 << 10;
/// Largest line of a reply, in bytes.
const REPLY_SIZE_MAX: u64 = 1 << 20;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 16;
/// How long a request may take to arrive, and a line of a reply to be taken.
const LINE_WAIT: Duration = Duration::from_secs(10);
/// How often a long request says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Longest path that every system takes for a socket, in bytes.
const PATH_SIZE_MAX: usize = 103;

/// A path that leads to the home's socket, and is short enough, as long as this lives.
struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    fn of(home: &Path) -> io::Result<Self> {
        let path = home.join("agent.sock");
        if path.as_os_str().len() <= PATH_SIZE_MAX {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(home)?;
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}/agent.sock", dir.as_raw_fd())),
            _dir: Some(dir),
        })
    }
}

/// Whether the process at the other end belongs to the same user, or to root.
#[cfg(target_os = "linux")]
fn is_trusted(stream: &impl std::os::fd::AsFd) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root() || own.is_root())
}

/// Elsewhere the permissions of the home and the socket have to do.
#[cfg(not(target_os = "linux"))]
fn is_trusted(_stream: &impl std::os::fd::AsFd) -> bool {
    true
}
