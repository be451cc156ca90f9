//! What each version did: counted as calls end.

use std::time::Duration;

use super::VersionStats;
use crate::hooks::{DequeueVerdict, EnqueueVerdict, Failure, Report, ShadowOutcome, Verdicts};
use crate::model::Side;

/// The names of verdicts, in the order they are counted in.
const VERDICTS: [&str; 12] = [
    "keep",
    "replace",
    "edit",
    "split",
    "drop",
    "reject",
    "dead_letter",
    "deliver",
    "deliver_as",
    "deliver_edited",
    "defer",
    "error",
];
/// Run times by the number of bits of their microseconds: up to an hour.
const BUCKETS: usize = 32;

/// The counts of one version.
#[derive(Debug, Default)]
pub(super) struct Counts {
    calls: u64,
    items: u64,
    verdicts: [u64; VERDICTS.len()],
    invalid: u64,
    traps: u64,
    timeouts: u64,
    overloads: u64,
    pub(super) skipped: u64,
    shadow: [u64; 3],
    pub(super) breaker_open: bool,
    ceiling_trips: u64,
    /// Those since the version was last let run, up to which it is quarantined.
    trips: u32,
    run: Duration,
    runs: [u64; BUCKETS],
    memory_bytes_max: u64,
    host_calls: u64,
    pub(super) log_lines_dropped: u64,
}

impl Counts {
    pub(super) fn called(&mut self, items: usize, report: &Report) {
        self.calls += 1;
        self.items += items as u64;
        self.host_calls += u64::from(report.usage.host_calls);
        self.memory_bytes_max = self.memory_bytes_max.max(report.usage.memory_bytes);
        self.log_lines_dropped += u64::from(report.usage.log_lines_dropped);
        match &report.outcome {
            Ok(Verdicts::Kept(side, count)) => {
                let place = match side {
                    Side::Enqueue => enqueue_place(Some(&EnqueueVerdict::Keep)),
                    Side::Dequeue => dequeue_place(Some(&DequeueVerdict::Deliver)),
                };
                self.verdicts[place] += *count as u64;
            }
            Ok(Verdicts::Enqueue(verdicts)) => {
                for verdict in verdicts {
                    self.verdicts[enqueue_place(verdict.as_ref().ok())] += 1;
                }
            }
            Ok(Verdicts::Dequeue(verdicts)) => {
                for verdict in verdicts {
                    self.verdicts[dequeue_place(verdict.as_ref().ok())] += 1;
                }
            }
            Err(Failure::Invalid(_)) => self.invalid += 1,
            Err(Failure::Trap(_)) => self.traps += 1,
            Err(Failure::Timeout(_)) => self.timeouts += 1,
            Err(Failure::Overload { .. }) => {
                self.overloads += 1;
                // It did not run.
                return;
            }
        }
        self.run += report.usage.run;
        let us = u64::try_from(report.usage.run.as_micros()).unwrap_or(u64::MAX);
        let bits = (u64::BITS - us.leading_zeros()) as usize;
        self.runs[bits.min(BUCKETS - 1)] += 1;
    }

    /// Counts a call that ran into a limit; returns how many did since the version was last let run.
    pub(super) fn tripped(&mut self) -> u32 {
        self.ceiling_trips += 1;
        self.trips = self.trips.saturating_add(1);
        self.trips
    }

    /// Begins to count anew what a version is quarantined for.
    pub(super) fn forgive(&mut self) {
        self.trips = 0;
    }

    pub(super) fn compared(&mut self, outcome: ShadowOutcome) {
        let place = match outcome {
            ShadowOutcome::Same => 0,
            ShadowOutcome::Different => 1,
            ShadowOutcome::Failed => 2,
        };
        self.shadow[place] += 1;
    }

    pub(super) fn view(&self, version: u32) -> VersionStats {
        let verdicts = VERDICTS.iter().copied().zip(self.verdicts);
        VersionStats {
            version,
            calls: self.calls,
            items: self.items,
            verdicts: verdicts.filter(|(_, count)| *count > 0).collect(),
            invalid: self.invalid,
            traps: self.traps,
            timeouts: self.timeouts,
            overloads: self.overloads,
            skipped: self.skipped,
            shadow: self.shadow,
            ceiling_trips: self.ceiling_trips,
            breaker_open: self.breaker_open,
            // The registry knows.
            quarantined: false,
            run: self.run,
            run_p50: self.quantile(50),
            run_p99: self.quantile(99),
            memory_bytes_max: self.memory_bytes_max,
            host_calls: self.host_calls,
            log_lines_dropped: self.log_lines_dropped,
        }
    }

    /// The time that `percent` of the calls ran at most.
    fn quantile(&self, percent: u64) -> Duration {
        let all: u64 = self.runs.iter().sum();
        let wanted = (all * percent).div_ceil(100);
        let mut seen = 0;
        for (bits, count) in self.runs.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(1 << bits);
            }
        }
        Duration::ZERO
    }
}

fn enqueue_place(verdict: Option<&EnqueueVerdict>) -> usize {
    match verdict {
        Some(EnqueueVerdict::Keep) => 0,
        Some(EnqueueVerdict::Replace(_)) => 1,
        Some(EnqueueVerdict::Edit(_)) => 2,
        Some(EnqueueVerdict::Split(_)) => 3,
        Some(EnqueueVerdict::Drop(_)) => 4,
        Some(EnqueueVerdict::Reject(_)) => 5,
        Some(EnqueueVerdict::DeadLetter(_)) => 6,
        None => 11,
    }
}

fn dequeue_place(verdict: Option<&DequeueVerdict>) -> usize {
    match verdict {
        Some(DequeueVerdict::Deliver) => 7,
        Some(DequeueVerdict::DeliverAs(_)) => 8,
        Some(DequeueVerdict::DeliverEdited(_)) => 9,
        Some(DequeueVerdict::Defer(_)) => 10,
        Some(DequeueVerdict::Drop(_)) => 4,
        Some(DequeueVerdict::DeadLetter(_)) => 6,
        None => 11,
    }
}
