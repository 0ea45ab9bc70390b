//! What a node says of itself.

use serde::{Deserialize, Serialize};

/// What a running node is and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its peer id.
    pub peer: String,
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it began.
    pub uptime_s: u64,
    /// Addresses that it listens on, with its peer id.
    pub listening: Vec<String>,
    /// Addresses at which others reach it, as far as that was confirmed.
    pub external: Vec<String>,
    /// Bytes of all streams that came in.
    pub bytes_received: u64,
    /// Bytes of all streams that went out.
    pub bytes_sent: u64,
    /// Snapshots that the DHT is told of.
    pub provided: usize,
    /// Peers that it is connected with.
    pub peers: Vec<PeerStatus>,
}

/// A peer that a node is connected with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its peer id.
    pub peer: String,
    /// The address of its first connection.
    pub address: String,
    /// Whether that peer opened this connection.
    pub inbound: bool,
    /// Number of its connections.
    pub connections: usize,
    /// What it says that it runs.
    pub agent: Option<String>,
    /// Round trip in microseconds, if it was measured.
    pub rtt_us: Option<u64>,
    /// Blocks that it was sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub block_bytes_sent: u64,
    /// Blocks that it sent, and that were wanted.
    pub blocks_received: u64,
    /// Their bytes.
    pub block_bytes_received: u64,
}
