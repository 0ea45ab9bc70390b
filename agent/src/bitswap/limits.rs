//! Every limit of the exchange, in one place.
//!
//! Those of a message bind the decoder as well as what is sent. Those of state bound what one
//! peer, and all of them together, can make this node remember.

use std::time::Duration;

use protocol::block::FOREIGN_BLOCK_SIZE_MAX;

/// Largest message that is sent or accepted, without its length prefix, in bytes.
pub const MESSAGE_SIZE_MAX: usize = 4 << 20;
/// Bytes of blocks that a message is filled up to; one larger block goes alone.
pub const MESSAGE_SIZE_PACKED: usize = 1 << 20;
/// Largest block that is sent or accepted, in bytes.
pub const BLOCK_SIZE_MAX: usize = FOREIGN_BLOCK_SIZE_MAX;
/// Most blocks in a message that is accepted.
pub const BLOCKS_PER_MESSAGE_MAX: usize = 4096;
/// Most blocks that are put into one message.
pub const BLOCKS_PER_MESSAGE_PACKED: usize = 256;
/// Most wantlist entries in a message that is accepted.
pub const ENTRIES_PER_MESSAGE_MAX: usize = 16_384;
/// Most wantlist entries that are put into one message: what Kubo keeps of a peer.
pub const ENTRIES_PER_MESSAGE_PACKED: usize = 1024;
/// Most HAVE and DONT_HAVE in a message that is accepted.
pub const PRESENCES_PER_MESSAGE_MAX: usize = 16_384;
/// Most HAVE and DONT_HAVE that are put into one message.
pub const PRESENCES_PER_MESSAGE_PACKED: usize = 4096;
/// Longest CID that is read, in bytes.
pub const CID_SIZE_MAX: usize = 168;

/// Most peers that are connected at once; further ones are ignored.
pub const PEERS_MAX: usize = 512;
/// Most peers that are ignored for what they did; the first of them are forgotten first.
pub const BANNED_PEERS_MAX: usize = 4096;
/// Most peers that are remembered after they went: what they may still send, and what they sent too much.
pub const DEPARTED_PEERS_MAX: usize = 64;

/// Most wants and unsent answers that are kept for a peer.
pub const SERVED_WANTS_PER_PEER_MAX: usize = 4096;
/// Wants and unsent answers that every peer may have, whatever the others have.
pub const SERVED_WANTS_PER_PEER_RESERVED: usize = 64;
/// Most wants and unsent answers that are kept for all peers, beside the reserved ones.
pub const SERVED_WANTS_MAX: usize = 65_536;
/// Wantlist entries that a peer may send per second on average.
pub const ENTRIES_PER_SECOND_MAX: u64 = 100_000;
/// How far a peer may be ahead of that before it counts as a flood.
pub const ENTRIES_AHEAD_MAX: Duration = Duration::from_secs(10);
/// Look-ups that are under way at once, one for each peer at most.
pub const LOOKUPS_IN_FLIGHT_MAX: usize = 256;
/// Wants in one look-up.
pub const WANTS_PER_LOOKUP_MAX: usize = 1024;
/// Loads that are under way at once; each is the blocks of one message.
pub const LOADS_IN_FLIGHT_MAX: usize = 32;
/// Bytes that are loaded, or sent but not taken, for one peer, when few take anything; else a peer
/// has its share of [`UNTAKEN_BYTES_MAX`], and one message at least.
pub const UNTAKEN_BYTES_PER_PEER_MAX: usize = 16 << 20;
/// Bytes that are loaded, or sent but not taken, for all peers.
pub const UNTAKEN_BYTES_MAX: usize = 64 << 20;
/// Messages that are sent but not taken, for one peer.
pub const UNTAKEN_MESSAGES_PER_PEER_MAX: usize = 16;
/// How long a peer may take nothing of what it was sent.
pub const STALLED_AFTER: Duration = Duration::from_secs(60);
/// The same, while more than half of [`UNTAKEN_BYTES_MAX`] is held.
pub const STALLED_AFTER_PRESSED: Duration = Duration::from_secs(5);
/// How often that is looked at.
pub const STALL_CHECK: Duration = Duration::from_secs(1);
/// Block that is sent in place of HAVE, at most, in bytes.
pub const HAVE_REPLACED_SIZE_MAX: u32 = 1024;
/// A block that is sent and not taken is not sent again for a repeated want, unless the peer has taken
/// nothing for this long.
pub const REPEATED_AFTER: Duration = Duration::from_secs(10);
/// Times that a block is sent again because the stream of its message failed.
pub const SEND_ATTEMPTS_MAX: u8 = 3;

/// Most sessions at once.
pub const SESSIONS_MAX: usize = 64;
/// Most blocks that a session wants at once; further ones are refused.
pub const WANTS_PER_SESSION_MAX: usize = 65_536;
/// Most peers of a session; further ones are ignored.
pub const PEERS_PER_SESSION_MAX: usize = 64;
/// Blocks that are asked of a peer at once: below what Kubo keeps of a peer.
pub const ASKED_PER_PEER_MAX: usize = 768;
/// Blocks whose presence is asked of a peer at once.
pub const PROBED_PER_PEER_MAX: usize = 128;
/// The same, of a peer that is silent.
pub const PROBED_OF_SILENT_MAX: usize = 8;
/// Bytes that are asked of a peer at once, to begin with.
pub const WINDOW_SIZE_INITIAL: u64 = 8 << 20;
/// Bytes that are asked of a peer at once, at least.
pub const WINDOW_SIZE_MIN: u64 = 2 << 20;
/// Bytes that are asked of a peer at once, at most: 640 MB/s at 100 ms.
pub const WINDOW_SIZE_MAX: u64 = 64 << 20;
/// Bytes that are asked of all peers at once, at most.
pub const WINDOW_SIZE_TOTAL_MAX: u64 = 256 << 20;
/// Messages with wants that are sent to a peer and not taken.
pub const UNTAKEN_REQUESTS_PER_PEER_MAX: usize = 8;
/// Wantlist entries that wait to be sent to a peer; it is asked for nothing more above that.
pub const UNSENT_ENTRIES_PER_PEER_MAX: usize = 4096;
/// Wants of a session that are looked through for one that a peer can serve.
pub const SCAN_MAX: usize = 1024;
/// Answered and cancelled wants that are remembered for a peer, to tell late blocks from unsolicited ones.
pub const SETTLED_PER_PEER_MAX: usize = 2048;
/// Bytes of duplicates that a peer may send beyond those that it was useful with.
pub const DUPLICATE_BYTES_MAX: u64 = 32 << 20;
/// How long peers of a node that was killed may send what they were never asked for, within
/// [`DUPLICATE_BYTES_MAX`]: the earlier run may have asked.
pub const EARLIER_RUN_WAIT: Duration = Duration::from_secs(30);
/// Presences that a peer may send unasked before it counts as a flood.
pub const UNASKED_PRESENCES_MAX: u64 = 65_536;
/// How long a peer may be silent before its first answer has told its latency.
pub const SILENCE_INITIAL: Duration = Duration::from_secs(3);
/// Shortest silence after which a block is asked for again.
pub const SILENCE_MIN: Duration = Duration::from_secs(1);
/// Longest silence after which a block is asked for again.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often it is checked who is silent, while something is asked.
pub const SILENCE_CHECK: Duration = Duration::from_millis(100);
/// How long after all peers of a session said DONT_HAVE they are asked again.
pub const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Windows of a rate schedule.
pub const SCHEDULE_WINDOWS_MAX: usize = 64;
