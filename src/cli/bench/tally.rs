//! What a run has seen.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Items done so far, for the progress bar.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) items: AtomicU64,
}

/// What latency is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// From when an enqueue was due to its answer.
    Enqueue,
    /// From when an item's enqueue was due to its arrival at a consumer.
    Delivery,
    /// From sending a dequeue to its answer, when that had items.
    Dequeue,
    /// From sending an ack to its answer.
    Ack,
}

impl Step {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Delivery => "delivery",
            Self::Dequeue => "dequeue",
            Self::Ack => "ack",
        }
    }
}

/// Counts and latencies of the measured part of a run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) items: u64,
    /// Items refused one by one in answers that were no problem as a whole.
    pub(super) rejected: u64,
    /// Items that earlier runs had left in the topics.
    pub(super) foreign: u64,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) latencies_us: BTreeMap<Step, Histogram<u64>>,
    /// When the last measured request was answered.
    pub(super) last: Option<Instant>,
}

impl Tally {
    pub(super) fn latency(&mut self, step: Step, latency: Duration) {
        let histogram = self.latencies_us.entry(step).or_insert_with(microseconds);
        histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn error(&mut self, code: String) {
        *self.errors.entry(code).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.rejected += other.rejected;
        self.foreign += other.foreign;
        self.last = self.last.max(other.last);
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        for (step, histogram) in other.latencies_us {
            let own = self.latencies_us.entry(step).or_insert_with(microseconds);
            // Both have the same bounds, so nothing can fall outside.
            let _ = own.add(histogram);
        }
    }
}

/// One microsecond to an hour with three digits; `new_with_bounds` refuses only other bounds.
fn microseconds() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, 3_600_000_000, 3) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("the bounds are constants"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut one = Tally::default();
        let mut other = Tally::default();
        for ms in 1..=50 {
            one.latency(Step::Enqueue, Duration::from_millis(ms));
            other.latency(Step::Enqueue, Duration::from_millis(50 + ms));
        }
        other.latency(Step::Ack, Duration::from_secs(100_000));
        other.error("429 quota_exceeded".into());
        other.items = 5;
        one.merge(other);
        let enqueue = &one.latencies_us[&Step::Enqueue];
        assert_eq!(enqueue.len(), 100);
        assert!(enqueue.equivalent(enqueue.value_at_quantile(0.5), 50_000));
        assert!(enqueue.equivalent(enqueue.max(), 100_000));
        assert!(one.latencies_us[&Step::Ack].max() >= 3_600_000_000);
        assert_eq!((one.items, one.errors["429 quota_exceeded"]), (5, 1));
    }
}
