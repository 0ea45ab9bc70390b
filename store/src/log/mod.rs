//! The files of a log: its entries, the hashes of its tree, and the checkpoint that covers them.
//!
//! One directory a log, the node's own or one that it follows. What an entry says, who signs it and
//! whether it may stand there is not known here; see `protocol::log`. `docs/log.md` has the layout, the
//! order in which it becomes durable, and how far each file is trusted.

mod appending;
mod archive;
mod files;
mod reader;
mod writer;

pub use archive::{ArchivedDetails, Archiver};
pub use files::{BUNDLE_WIDTH, ENTRY_SIZE_MAX};
pub use reader::{Head, LogReader};
pub use writer::LogWriter;
