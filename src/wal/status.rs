//! How the log is doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Lsn;

/// Upper bounds of the buckets that syncs are counted in, in microseconds; the last bucket has none.
pub const SYNC_BUCKETS_US: [u64; 11] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 200_000, 1_000_000,
];

/// Whether the log takes frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalHealth {
    /// It takes all.
    Healthy,
    /// The log has its largest size or the disk is nearly full: nothing can be enqueued until space returns.
    Full,
    /// A write or a sync failed: it takes nothing any more.
    Failed(Arc<str>),
}

/// How the log is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalStatus {
    /// Whether it takes frames.
    pub health: WalHealth,
    /// Segments, the active one included.
    pub segments: usize,
    /// Spare segments ready.
    pub spares: usize,
    /// Bytes of log: whole files, of the active segment what is used.
    pub bytes: u64,
    /// Bytes waiting for the disk.
    pub pending_bytes: usize,
    /// Frames made durable since the log was opened, markers included.
    pub frames: u64,
    /// Bytes of these frames.
    pub written_bytes: u64,
    /// Groups made durable since the log was opened.
    pub syncs: u64,
    /// Time spent syncing them.
    pub sync_time: Duration,
    /// How many syncs took how long: see [`SYNC_BUCKETS_US`].
    pub sync_buckets: [u64; SYNC_BUCKETS_US.len() + 1],
    /// The first position the log held when it was opened.
    pub first_lsn: Lsn,
    /// The last durable position.
    pub durable_lsn: Lsn,
    /// Whether opening left out a group that never became durable.
    pub torn_at_open: bool,
}

/// Counts what the writer does.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) sync_us: AtomicU64,
    pub(super) sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
}

impl Counters {
    pub(super) fn written(&self, frames: u64, bytes: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(us, Ordering::Relaxed);
        let bucket = SYNC_BUCKETS_US.partition_point(|&bound| bound < us);
        self.sync_buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }
}
