//! What a node spends on peers, at most. `docs/node.md` explains each number.

use std::{num::NonZeroUsize, time::Duration};

/// Most connections at a time.
pub const CONNECTIONS_MAX: u32 = 640;
/// Most of them that others opened, so that nobody can fill them all.
pub const CONNECTIONS_INBOUND_MAX: u32 = 512;
/// Most connections with one peer.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 10;
/// Most inbound connections that are not authenticated yet.
pub const CONNECTIONS_PENDING_INBOUND_MAX: u32 = 64;
/// Most outbound connections that are not authenticated yet.
pub const CONNECTIONS_PENDING_OUTBOUND_MAX: u32 = 64;
/// Connections with a peer of the same kind that blocks are fetched over, when it is far away: each has its
/// own window, and its own losses.
pub const CONNECTIONS_FAR: usize = 8;
/// Round trip from which a peer is far away.
pub const FAR: Duration = Duration::from_millis(20);
/// Most streams of a connection, in each direction.
pub const STREAMS_MAX: u32 = 512;
/// Most inbound streams of a connection whose protocol is not agreed on yet.
pub const STREAMS_NEGOTIATING_MAX: usize = 128;
/// Memory of the process above which no connection is accepted, in bytes.
pub const MEMORY_MAX: usize = 1 << 30;

/// How long a connection may take to authenticate.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a connection lives that nothing needs.
pub const IDLE_WAIT: Duration = Duration::from_secs(60);

/// Bytes on the way on one QUIC stream: 160 MB/s at 100 ms.
pub const QUIC_STREAM_WINDOW: u32 = 16 << 20;
/// Bytes on the way on one QUIC connection.
pub const QUIC_CONNECTION_WINDOW: u32 = 24 << 20;

/// Bytes of a yamux frame that are taken at once; a longer one is cut.
pub const YAMUX_FRAME_MAX: u32 = 64 << 10;

/// Bytes of frames that are gathered for one write, on their way out: four full records of TLS.
pub const GATHERED_MAX: usize = 64 << 10;
/// Bytes that are read from a socket at once.
pub const READ_AHEAD_MAX: usize = 128 << 10;
/// Buffers of that size that are kept while nobody uses them.
pub const READ_AHEAD_SPARE_MAX: usize = 4;

/// Inbound connections from one address that are accepted at once.
pub const ADDRESS_BURST: u32 = 256;
/// Inbound connections from one address that are accepted each second after that.
pub const ADDRESS_PER_SECOND: u32 = 32;
/// Connections that one peer may open at once.
pub const PEER_BURST: u32 = 64;
/// Connections that one peer may open each second after that.
pub const PEER_PER_SECOND: u32 = 1;
/// Addresses and peers whose rates are remembered, each.
pub const RATES_MAX: usize = 4096;

/// How long a peer is kept out that sent something it should not have.
pub const BAN: Duration = Duration::from_secs(600);
/// Most peers that are kept out at a time; the oldest ban ends when there is one more.
pub const BANS_MAX: usize = 1024;

/// Addresses of one peer that are remembered.
pub const ADDRESSES_PER_PEER_MAX: usize = 8;
/// Most characters of what a peer says that it runs.
pub const AGENT_NAME_LEN_MAX: usize = 64;

/// Most records of the DHT that are kept for others.
pub const DHT_RECORDS_MAX: usize = 64;
/// Largest of them, in bytes.
pub const DHT_RECORD_SIZE_MAX: usize = 1 << 10;
/// Most keys whose providers are kept.
pub const DHT_PROVIDED_MAX: usize = 4096;
/// How long a look-up in the DHT may take.
pub const DHT_QUERY_WAIT: Duration = Duration::from_secs(30);

/// Commands to the node that wait.
pub const COMMANDS_MAX: usize = 64;
/// Events that wait for a connection's task, and for the swarm.
pub const EVENTS_PER_CONNECTION: NonZeroUsize = NonZeroUsize::new(32).expect("it is not zero");
/// How long a listener may take to say its address.
pub const LISTEN_WAIT: Duration = Duration::from_secs(10);
/// How long connections may take to close when the node stops.
pub const STOP_WAIT: Duration = Duration::from_secs(2);
/// First wait before a peer that was named is dialled again; it doubles.
pub const REDIAL_FIRST: Duration = Duration::from_secs(1);
/// Longest of these waits.
pub const REDIAL_MAX: Duration = Duration::from_secs(60);

/// Inbound streams of a connection that are read at a time; one more is dropped.
pub const INBOUND_STREAMS_MAX: usize = 64;
/// Bytes of messages that are being read, for all connections together.
pub const INBOUND_BYTES_MAX: usize = 64 << 20;
/// How long an inbound stream may be idle between two messages.
pub const STREAM_IDLE_WAIT: Duration = Duration::from_secs(120);
/// How long a step of a message, up to 64 KiB, may take in either direction.
pub const STREAM_STEP_WAIT: Duration = Duration::from_secs(30);
/// How long a stream may take to be opened.
pub const STREAM_OPEN_WAIT: Duration = Duration::from_secs(10);
/// How often it is told that a message is moving.
pub const ACTIVITY_EVERY: Duration = Duration::from_millis(250);

/// Bytes of blocks that wait to be taken by a session, above which no more is asked for.
pub const SESSION_BYTES_HELD: usize = 48 << 20;
/// Bytes below which more is asked for again. What a disk takes while an answer is on its way from afar.
pub const SESSION_BYTES_GO_ON: usize = 40 << 20;
/// How soon the engine's timer may come again.
pub const TICK_MIN: Duration = Duration::from_millis(1);
/// How long a relay carries one connection of others.
pub const RELAYED_TIME_MAX: Duration = Duration::from_secs(60 * 60);
/// How many bytes of one connection of others a relay carries.
pub const RELAYED_BYTES_MAX: u64 = 16 << 30;

/// Bytes of messages of replicas that wait to be taken in, for all members together.
pub const LOG_BYTES_MAX: usize = 64 << 20;
/// Messages to one member that wait to be said.
pub const LOG_MESSAGES_MAX: usize = 64;
/// Streams of messages of one member that are read; one more takes the place of the oldest.
pub const LOG_STREAMS_MAX: usize = 2;
/// What a member may be blamed for before it is kept out, in points. One is forgiven each second.
pub const BLAME_MAX: u32 = 100;
/// Requests of members to cosign that are read and answered at a time; one more is dropped.
pub const COSIGNING_MAX: usize = 32;
