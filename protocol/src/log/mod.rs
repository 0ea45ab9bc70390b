//! The audit log: its tree, and what others can check of it.
//!
//! Formats and rules only. Who keeps a log, signs for it or carries it to others calls this; time,
//! randomness, tiles and signatures are arguments.

pub mod archive;
pub mod bundle;
pub mod chain;
pub mod checkpoint;
pub mod cosignature;
pub mod detail;
pub mod entry;
pub mod fork;
pub mod keys;
pub mod policy;
pub mod proof;
pub mod replica;
#[cfg(test)]
mod testing;
pub mod tile;
pub mod tree;
#[cfg(test)]
mod vectors;
pub mod witness;
