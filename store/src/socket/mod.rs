//! How a process reads the index while another one holds it: over a Unix socket in the home.
//!
//! The process that holds the lock serves; whoever reads asks where blocks are and what tables
//! hold, and reads the packs itself. Only what is committed is ever answered. Who only reads hands
//! the lock over to a process that wants to write.

mod client;
mod lock_passing;
mod message;
mod server;

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
};

pub(crate) use client::{Client, ClientError, ask_for_lock};
pub(crate) use server::Server;

/// Longest path that every system takes for a socket, in bytes.
const PATH_SIZE_MAX: usize = 103;

/// A path that leads to the home's socket, and is short enough, as long as this lives.
struct Address {
    path: PathBuf,
    _dir: Option<File>,
}

impl Address {
    fn of(home: &Path) -> io::Result<Self> {
        let path = home.join("store.sock");
        if path.as_os_str().len() <= PATH_SIZE_MAX {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(home)?;
        Ok(Self {
            path: PathBuf::from(format!("/proc/self/fd/{}/store.sock", dir.as_raw_fd())),
            _dir: Some(dir),
        })
    }
}

/// Whether the process at the other end belongs to the same user, or to root.
#[cfg(target_os = "linux")]
fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == own || peer.uid.is_root() || own.is_root())
}

/// Elsewhere the permissions of the home and the socket have to do.
#[cfg(not(target_os = "linux"))]
fn is_trusted(_stream: &UnixStream) -> bool {
    true
}
