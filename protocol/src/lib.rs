//! Formats, cryptography and rules of Souverain.
//!
//! Everything here is a function of its arguments: no files, no sockets, no
//! clock. (The `age` crate draws file keys and nonces from the operating
//! system itself; nothing else is random.) `docs/format.md` and
//! `docs/log.md` are the specifications that these modules implement.

pub mod block;
pub mod car;
pub mod cut;
pub mod keys;
pub mod list;
pub mod log;
pub mod manifest;
pub mod migration;
pub mod note;
pub mod recover;
pub mod seal;
pub mod snapshot;
pub mod unixfs;
