//! Replicas of logs: following the logs of others, and telling of one's own.

pub mod limits;
mod wire;

pub use wire::{Frontiers, Message, MessageError, Range, Request};
