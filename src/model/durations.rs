//! How long things took: a histogram in atomics, for paths that may not wait.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the buckets, in microseconds, from a hundred of them to a day; what takes longer is in the
/// last bucket, which has none.
pub const DURATION_BOUNDS_US: [u64; 20] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    14_400_000_000,
    86_400_000_000,
];
const BUCKETS: usize = DURATION_BOUNDS_US.len() + 1;

/// Counts durations since the node started.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// What [`Durations`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DurationCounts {
    /// How many were in each bucket of [`DURATION_BOUNDS_US`], and above the last.
    pub counts: [u64; BUCKETS],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// Counts one duration, in microseconds.
    pub fn record(&self, us: u64) {
        self.record_all([us]);
    }

    /// Counts several durations at once, in microseconds: those of a batch are alike, and touch few buckets.
    pub fn record_all(&self, all_us: impl IntoIterator<Item = u64>) {
        let mut counts = [0; BUCKETS];
        let mut sum_us: u64 = 0;
        for us in all_us {
            counts[DURATION_BOUNDS_US.partition_point(|&bound| bound < us)] += 1;
            sum_us = sum_us.saturating_add(us);
        }
        for (total, count) in self.counts.iter().zip(counts) {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
        self.sum_us.fetch_add(sum_us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> DurationCounts {
        let mut read = DurationCounts::default();
        for (count, total) in read.counts.iter_mut().zip(&self.counts) {
            *count = total.load(Ordering::Relaxed);
        }
        read.sum_us = self.sum_us.load(Ordering::Relaxed);
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let durations = Durations::default();
        durations.record_all([0, 100, 101, 250]);
        durations.record(u64::MAX / 2);
        let read = durations.read();
        assert_eq!(read.counts[..3], [2, 2, 0]);
        assert_eq!(read.counts[BUCKETS - 1], 1);
        assert_eq!(read.counts.iter().sum::<u64>(), 5);
        assert_eq!(read.sum_us, 451 + u64::MAX / 2);
    }
}
