//! Durable state of a node: sealed blocks in packs, and an index with small tables.
//!
//! [`Store`] is all that others see. Blocks go to append-only packs, each a
//! CAR; where they are, and the tables, are in sled, which no other module
//! than `index` names. `docs/store.md` has the layout and the crash argument.
//!
//! What holds, and the test that would notice:
//!
//! | invariant | test |
//! |---|---|
//! | only a `Block` can be put, so plaintext cannot | the type of [`Store::put`] |
//! | pack bytes are synced, then their directory, then the index says so, then `commit` returns | `tests/durability/faults.rs` |
//! | what `commit` acknowledged is there after any crash, and verifies | `tests/durability/faults.rs`, `tests/durability/kill.rs` |
//! | what was set together is there together, or not at all | `tests/durability/faults.rs`, `tests/durability/kill.rs` |
//! | what was not committed is gone after a reopen, but for blocks that were asked for | `tests/durability/model.rs`, `tests/durability/processes.rs` |
//! | a block that is stored is never written again | `tests/durability/model.rs` |
//! | unless its copy is damaged and a good one comes | `tests/durability/damage.rs` |
//! | unknown or damaged state stops, it is never repaired | `tests/durability/damage.rs` |
//! | an index that forgot commits never lets packs be cut | `tests/durability/damage.rs` |
//! | nobody waits for a sync but who commits | `tests/durability/concurrent.rs` |
//! | one process writes; others read what is committed meanwhile | `tests/durability/processes.rs` |
//! | who only reads is in no writer's way | `tests/durability/processes.rs` |
//! | a full disk loses nothing and is not the end | `tests/durability/faults.rs`, `tests/durability/full.rs` |

mod catalog;
mod commit;
mod disk;
mod error;
#[cfg(feature = "fault")]
mod fault;
mod head;
mod index;
mod lock;
pub mod log;
mod owned;
mod pack;
mod socket;
mod staged;
mod store;

pub use disk::Disk;
pub use error::StoreError;
#[cfg(feature = "fault")]
pub use fault::{FaultKind, Faults};
pub use index::{Blocks, KEY_SIZE_MAX, Table, VALUE_SIZE_MAX};
pub use pack::PACK_SIZE_MAX;
pub use staged::{PENDING_BLOCKS_MAX, PENDING_VALUES_SIZE_MAX};
pub use store::{Scan, Store};
