//! Everything of Souverain that does I/O: sources, targets, the sealing pipeline.
//!
//! Data flows one way: [`source`] -> [`intake`] -> [`export`] -> store on the way
//! in, and [`blocks`] -> [`reading`] -> [`import`] -> [`target`] on the way back.

mod archive;
pub mod bitswap;
pub mod blocks;
mod buffers;
pub mod catalog;
pub mod compare;
pub mod control;
pub mod daemon;
mod dag;
pub mod diff;
mod durable_file;
pub mod export;
pub mod federation;
pub mod handover;
pub mod home;
pub mod http;
pub mod import;
pub mod intake;
pub mod keyring;
pub mod keys;
pub mod kubo;
pub mod log;
pub mod migrate;
pub mod names;
pub mod node;
pub mod open;
pub mod pinning;
mod postgres;
pub mod progress;
pub mod pull;
pub mod reading;
pub mod recipients;
pub mod sample;
pub mod secret_file;
pub mod sharing;
mod shelf;
pub mod source;
pub mod sqlite;
pub mod target;
pub mod url;
pub mod verify;
mod web;
