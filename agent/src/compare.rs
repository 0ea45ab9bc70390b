//! Comparing what two places hold, without a snapshot in between.

pub mod sqlite;
pub mod tree;
