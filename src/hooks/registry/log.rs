//! The logs of hooks: the last lines of each, and whoever follows them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::LogEntry;
use crate::clock::{Monotonic, Timestamp};
use crate::hooks::{LogLevel, LogLine};

/// Lines kept of a hook.
const LINES_MAX: usize = 1_000;
/// Bytes kept of all hooks together.
pub(super) const BYTES_MAX: usize = 64 << 20;
/// Bytes a hook may log per second; as many at once.
const RATE_BYTES: i64 = 64 << 10;
/// Lines a slow follower may be behind before it misses some.
const FOLLOW_LINES: usize = 256;
/// What a line costs beside its text.
const LINE_OVERHEAD: usize = 64;

/// The log of one hook.
#[derive(Debug)]
pub(super) struct HookLog {
    lines: Mutex<Lines>,
    followers: broadcast::Sender<LogEntry>,
}

#[derive(Debug)]
struct Lines {
    kept: VecDeque<LogEntry>,
    next: u64,
    bytes: usize,
    /// What may still be logged now, in bytes, and when that was so.
    allowance: i64,
    refilled: Monotonic,
}

impl HookLog {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            lines: Mutex::new(Lines {
                kept: VecDeque::new(),
                next: 1,
                bytes: 0,
                allowance: RATE_BYTES,
                refilled: now,
            }),
            followers: broadcast::channel(FOLLOW_LINES).0,
        }
    }

    /// Adds the lines of a call; returns how many were dropped because the hook logs too much. `total` counts
    /// the bytes of all logs.
    pub(super) fn add(
        &self,
        version: u32,
        added: &[LogLine],
        (at, now): (Timestamp, Monotonic),
        total: &AtomicUsize,
    ) -> u64 {
        let mut lines = self.lines.lock();
        lines.refill(now);
        let mut dropped = 0;
        for line in added {
            let cost = cost(&line.message) as i64;
            if lines.allowance < cost {
                dropped += 1;
                continue;
            }
            lines.allowance -= cost;
            self.push(&mut lines, at, version, line.level, &line.message, total);
        }
        dropped
    }

    /// Adds a line by the server about the hook, which counts against nothing.
    pub(super) fn say(&self, level: LogLevel, message: &str, at: Timestamp, total: &AtomicUsize) {
        let mut lines = self.lines.lock();
        self.push(&mut lines, at, 0, level, message, total);
    }

    fn push(
        &self,
        lines: &mut Lines,
        at: Timestamp,
        version: u32,
        level: LogLevel,
        message: &str,
        total: &AtomicUsize,
    ) {
        let entry = LogEntry {
            seq: lines.next,
            at,
            version,
            level,
            message: message.into(),
        };
        lines.next += 1;
        if lines.kept.len() == LINES_MAX {
            lines.forget(total);
        }
        let cost = cost(message);
        lines.bytes += cost;
        total.fetch_add(cost, Ordering::Relaxed);
        lines.kept.push_back(entry.clone());
        // Nobody follows, mostly.
        let _ = self.followers.send(entry);
    }

    pub(super) fn bytes(&self) -> usize {
        self.lines.lock().bytes
    }

    /// Forgets the older half.
    pub(super) fn halve(&self, total: &AtomicUsize) {
        let mut lines = self.lines.lock();
        for _ in 0..lines.kept.len().div_ceil(2) {
            lines.forget(total);
        }
    }

    /// Up to `limit` lines after `after`, the oldest first.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<LogEntry> {
        let lines = self.lines.lock();
        let first = lines.kept.partition_point(|line| line.seq <= after);
        lines.kept.range(first..).take(limit).cloned().collect()
    }

    pub(super) fn follow(&self) -> broadcast::Receiver<LogEntry> {
        self.followers.subscribe()
    }
}

impl Lines {
    fn refill(&mut self, now: Monotonic) {
        let passed_ms = (now.0 - self.refilled.0).clamp(0, 1_000);
        // Whole bytes only: what is less stays for the next time.
        self.allowance = (self.allowance + passed_ms * RATE_BYTES / 1_000).min(RATE_BYTES);
        self.refilled = now;
    }

    fn forget(&mut self, total: &AtomicUsize) {
        if let Some(line) = self.kept.pop_front() {
            let cost = cost(&line.message);
            self.bytes -= cost;
            total.fetch_sub(cost, Ordering::Relaxed);
        }
    }
}

fn cost(message: &str) -> usize {
    message.len() + LINE_OVERHEAD
}
