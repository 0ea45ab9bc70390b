//! The exchange of blocks with other peers: Bitswap 1.2.0, as `docs/bitswap.md` describes it.
//!
//! [`Engine`] decides, and does no I/O: it takes an [`Input`] and the time, and gives [`Effect`]s.
//! [`message`] and `wire.rs` are the messages. Streams, timers, the store and the access rules are
//! its caller's, the node.

mod bucket;
mod client;
mod engine;
mod events;
pub mod limits;
pub mod message;
mod rate;
mod server;
mod wire;

pub use bucket::SharedBucket;
pub use engine::Engine;
pub use events::{
    Answer, Config, Effect, Held, Input, MessageId, Misbehaviour, Now, PROTOCOLS, PeerCounts,
    Protocol, RefusedBecause, SessionId, Ticket, Wanted,
};
pub use rate::{Rates, Schedule, ScheduleError, Window};
