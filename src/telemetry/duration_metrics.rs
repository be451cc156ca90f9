//! Durations that others counted, shown as histograms on a scrape.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::catalogue::help;
use super::metrics::{MetricsError, Snapshot};

/// How long things of one kind took since the node started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationNumbers {
    /// The metric's name.
    pub name: &'static str,
    /// Upper bounds of the buckets, in microseconds.
    pub bounds_us: &'static [u64],
    /// How many were in each bucket, and above the last.
    pub counts: Vec<u64>,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

/// Shows the durations of the latest snapshot.
pub(super) struct DurationCollector {
    latest: Arc<Mutex<Snapshot>>,
    descriptions: Vec<Desc>,
}

impl DurationCollector {
    /// A collector of the durations that `latest` has now; their names must not change.
    pub(super) fn new(latest: Arc<Mutex<Snapshot>>) -> Result<Self, MetricsError> {
        let describe = |durations: &DurationNumbers| {
            let (name, help) = (durations.name.to_owned(), help(durations.name).to_owned());
            Desc::new(name, help, Vec::new(), HashMap::new()).map_err(MetricsError::of)
        };
        let descriptions = latest
            .lock()
            .durations
            .iter()
            .map(describe)
            .collect::<Result<_, _>>()?;
        Ok(Self { latest, descriptions })
    }
}

impl Collector for DurationCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.latest.lock().durations.iter().map(family).collect()
    }
}

fn family(durations: &DurationNumbers) -> MetricFamily {
    let mut below = 0;
    let buckets = durations
        .bounds_us
        .iter()
        .zip(&durations.counts)
        .map(|(bound_us, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound_us as f64 / 1e6);
            bucket.set_cumulative_count(below);
            bucket
        });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(durations.counts.iter().sum());
    histogram.set_sample_sum(durations.sum_us as f64 / 1e6);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name(durations.name.to_owned());
    family.set_help(help(durations.name).to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}
