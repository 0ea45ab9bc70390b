//! What the end-to-end tests share: nodes, and the real components that they talk to.

pub mod disk;
pub mod federation;
pub mod forge;
pub mod forge_log;
mod go;
pub mod helia;
pub mod http;
pub mod kubo;
pub mod litewitness;
pub mod log;
pub mod member;
pub mod node;
pub mod packs;
pub mod peer;
pub mod pinning;
pub mod postgres;
pub mod program;
pub mod relay;
pub mod running;
pub mod tlog;
pub mod web;
pub mod wire;
pub mod witness;
