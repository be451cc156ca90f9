//! What the queue counts of its own work, beside the topics' counters.

use super::core::{Core, Queue};
use crate::clock::{Stopwatch, Timestamp};
use crate::model::{DurationCounts, Durations, QueuedItem, Standing};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counted as it happens, in atomics.
#[derive(Debug, Default)]
pub(super) struct Counted {
    waits: Durations,
    turnarounds: Durations,
    leases: Durations,
    pub(super) flushes: Work,
    pub(super) refills: Work,
}

/// Work on a shard, a statement or transaction at a time.
#[derive(Debug, Default)]
pub(super) struct Work {
    took: Durations,
    rows: AtomicU64,
    failures: AtomicU64,
}

/// What was done on shards of one kind of work since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkDone {
    /// How long each piece took, failed ones included.
    pub took: DurationCounts,
    /// Rows written or read.
    pub rows: u64,
    /// Pieces that failed.
    pub failures: u64,
}

/// What the queue did since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// From when an item was due to its delivery.
    pub waits: DurationCounts,
    /// From when an item was due to its ack.
    pub turnarounds: DurationCounts,
    /// From hand-outs to the ends of their leases, as far as the hand-outs are known.
    pub leases: DurationCounts,
    /// Checkpoints into shards.
    pub flushes: WorkDone,
    /// Pages of cold items read from shards.
    pub refills: WorkDone,
    /// How many records of the log the shard that is furthest behind has not stored.
    pub flush_lag_records: u64,
    /// Shards whose last checkpoint failed.
    pub shards_failing: u64,
}

impl Queue {
    /// What the queue did so far.
    pub fn activity(&self) -> Activity {
        let core = &self.core;
        let applied = core.wal.applied_lsn().0;
        let lags = core
            .flush
            .iter()
            .map(|flush| applied.saturating_sub(flush.stored().0));
        Activity {
            waits: core.counted.waits.read(),
            turnarounds: core.counted.turnarounds.read(),
            leases: core.counted.leases.read(),
            flushes: core.counted.flushes.done(),
            refills: core.counted.refills.done(),
            flush_lag_records: lags.max().unwrap_or(0),
            shards_failing: core
                .flush
                .iter()
                .filter(|flush| flush.failure().is_some())
                .count() as u64,
        }
    }
}

impl Counted {
    /// Notes how long leases lasted that are over, in milliseconds each.
    pub(super) fn note_leases(&self, all_ms: impl IntoIterator<Item = u64>) {
        self.leases
            .record_all(all_ms.into_iter().map(|ms| ms.saturating_mul(1_000)));
    }
}

impl Core {
    /// Notes how long items waited that are handed out now.
    pub(super) fn note_waits<'a>(&self, items: impl Iterator<Item = &'a QueuedItem>) {
        let now = self.clock.now();
        self.counted
            .waits
            .record_all(items.map(|item| since_due_us(&item.standing, now)));
    }

    /// Notes how long it took from when items were due to their acks, in microseconds each.
    pub(super) fn note_turnarounds(&self, all_us: Vec<u64>) {
        self.counted.turnarounds.record_all(all_us);
    }
}

/// How long ago `item` was due, in microseconds.
pub(super) fn since_due_us(standing: &Standing, now: Timestamp) -> u64 {
    now.since_ms(standing.due).max(0).unsigned_abs() * 1_000
}

impl Work {
    /// Notes that a piece is over: with so many rows, or failed.
    pub(super) fn note(&self, began: Stopwatch, rows: Option<usize>) {
        self.took
            .record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        match rows {
            Some(rows) => self.rows.fetch_add(rows as u64, Ordering::Relaxed),
            None => self.failures.fetch_add(1, Ordering::Relaxed),
        };
    }

    fn done(&self) -> WorkDone {
        WorkDone {
            took: self.took.read(),
            rows: self.rows.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }
}
