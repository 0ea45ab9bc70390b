//! What the HTTP server spends on those who ask, at most. `docs/node.md` explains each number.

use std::time::Duration;

/// Most connections at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Most connections from one address (IPv4, or IPv6 /64).
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// How long a request may take to arrive, and a connection to be idle.
pub const HEADER_WAIT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
pub const HEAD_SIZE_MAX: usize = 16 << 10;
/// Most header fields of a request.
pub const HEADERS_MAX: usize = 64;
/// How long it may take until a step of a response is taken.
pub const STEP_WAIT: Duration = Duration::from_secs(10);
/// Bytes of such a step.
pub const STEP_SIZE: usize = 64 << 10;
/// How long to wait before connections are accepted again after that failed.
pub const ACCEPT_WAIT: Duration = Duration::from_millis(100);

/// Longest path and query, in bytes.
pub const TARGET_LEN_MAX: usize = 4 << 10;
/// Most names in a path below a CID.
pub const PATH_NAMES_MAX: usize = 32;
/// Most media ranges of an `Accept` header.
pub const MEDIA_RANGES_MAX: usize = 32;

/// Blocks that are read for HTTP at the same time.
pub const READS_MAX: usize = 8;
/// Bytes of blocks that wait to be sent, for all connections together.
pub const BLOCK_BYTES_MAX: usize = 64 << 20;
/// How long a request may wait for room among them.
pub const BLOCK_BYTES_WAIT: Duration = Duration::from_secs(5);
/// How long a block may wait for the rate of uploads.
pub const BLOCK_RATE_WAIT: Duration = Duration::from_secs(5);
/// How long a CAR that is being sent may wait for it, before it is cut off.
pub const CAR_RATE_WAIT: Duration = Duration::from_secs(120);
/// CARs that are sent at the same time.
pub const CARS_MAX: usize = 8;
/// Bytes of a CAR that are made at a time, and one block more at most.
pub const CAR_STEP_SIZE: usize = 256 << 10;
/// Links that the walk of a CAR has yet to follow.
pub const CAR_LINKS_MAX: usize = 64 << 10;
/// Blocks that the walk of a CAR comes by again without sending them.
pub const CAR_REVISITS_MAX: usize = 64 << 10;
/// Tiles and bundles of logs that are read, and wait to be sent, at the same time.
pub const LOG_READS_MAX: usize = 32;
/// Requests to cosign that arrive, or are decided on, at the same time.
pub const WITNESS_CALLS_MAX: usize = 32;
/// How long the body of a request may take to arrive.
pub const REQUEST_WAIT: Duration = Duration::from_secs(10);
