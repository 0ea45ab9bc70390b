//! Every limit of a replica, in one place.

use crate::log::fork::FORK_HEADER;

/// Largest message, in bytes: a range with its proofs, or as many heads.
pub const MESSAGE_SIZE_MAX: usize = 2 << 20;
/// Largest message that is gossiped, in bytes: a checkpoint, or a fork proof.
pub const GOSSIP_SIZE_MAX: usize = 32 << 10;
/// Largest checkpoint with its signatures that is told, in bytes: some 50 cosignatures.
pub const HEAD_SIZE_MAX: usize = 8 << 10;
/// Largest fork proof that is told, in bytes: two entries of the largest size fit.
pub const FORK_TOLD_SIZE_MAX: usize = (16 << 10) + FORK_HEADER.len();
/// Most heads in a message.
pub const HEADS_PER_MESSAGE_MAX: usize = 1024;
/// Bytes of heads that a message is filled up to.
pub const HEADS_SIZE_MAX: usize = 1 << 20;
/// Most entries in a range.
pub const RANGE_ENTRIES_MAX: usize = 4096;
/// How many are asked for, at least, of a peer that is slow.
pub const RANGE_ENTRIES_MIN: u64 = 64;
/// Most bytes of entries in a range.
pub const RANGE_SIZE_MAX: usize = 1 << 20;
/// Most entries ahead of a range that tell of the log's keys.
pub const CHANGES_MAX: usize = 64;

/// Most logs that are followed.
pub const ORIGINS_MAX: usize = 4096;
/// Most members that are witnesses.
pub const WITNESSES_MAX: usize = 256;
/// Most peers that are connected at once; further ones are ignored.
pub const PEERS_MAX: usize = 512;
/// Most checkpoints of a log that are not known yet to go with what is kept of it.
pub const OPEN_PER_ORIGIN_MAX: usize = 4;
/// Checkpoints of a log that are remembered to go with what is kept of it.
pub const SETTLED_PER_ORIGIN_MAX: usize = 16;
/// Most peers of which it is remembered how much of a log they have.
pub const HOLDERS_PER_ORIGIN_MAX: usize = 8;
/// Most fork proofs about a log, beside the one that froze it, that are kept because of a replica.
pub const FORKS_PER_ORIGIN_MAX: usize = 4;
/// Most fork proofs that cannot be checked until more of a log is known.
pub const UNJUDGED_FORKS_MAX: usize = 64;

/// Most requests that are not answered yet.
pub const REQUESTS_MAX: usize = 32;
/// The same, of one peer.
pub const REQUESTS_PER_PEER_MAX: usize = 4;
/// How long an answer may take, in milliseconds; then another peer is asked.
pub const ANSWER_WAIT_MS: u64 = 5_000;
/// Most ranges that are being read for peers.
pub const READS_MAX: usize = 64;
/// The same, for one peer; what it asks beyond that is not answered.
pub const READS_PER_PEER_MAX: usize = 8;
/// What a peer may make a replica check per second on average: checkpoints, fork proofs, requests.
pub const CHECKS_PER_SECOND_MAX: u64 = 256;
/// How many of them it may have saved up.
pub const CHECKS_SAVED_MAX: u64 = 4_096;

/// How often heads are exchanged, in milliseconds, at least and at most.
pub const EXCHANGE_EVERY_MS: [u64; 2] = [25_000, 35_000];
/// How soon after the last time, if something is wanted that no peer is known to have.
pub const EXCHANGE_SOON_MS: u64 = 10_000;
/// With how many peers each time.
pub const EXCHANGE_PEERS: usize = 2;
/// How long a peer is not told again of a fork that it does not seem to know of, in milliseconds.
pub const FORK_AGAIN_AFTER_MS: u64 = 10_000;
/// Most requests to cosign that wait for the memory of a witness.
pub const COSIGNS_MAX: usize = 256;
