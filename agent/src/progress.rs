//! Counters of running work, which a terminal shows; and the switch that stops it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

/// Shared by the threads of one operation and whoever watches it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Bytes read: of sources, on export; of blocks, on import and verify.
    pub bytes_read: Arc<AtomicU64>,
    /// Bytes of unchanged units, which were not read.
    pub bytes_skipped: Arc<AtomicU64>,
    /// Bytes written: sealed, on export; restored, on import.
    pub bytes_written: Arc<AtomicU64>,
    /// Bytes there are to read, once that is known; 0 before.
    pub bytes_total: Arc<AtomicU64>,
    /// Set to stop.
    pub stop: Arc<AtomicBool>,
}
