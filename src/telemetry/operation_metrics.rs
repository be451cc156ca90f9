//! Operations that run and how they ended, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::{Snapshot, stem};

/// The operations of one kind at the time of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OperationNumbers {
    /// The kind.
    pub kind: &'static str,
    /// How many the node works on.
    pub running: u64,
    /// How many ended on it since start, by how.
    pub ended: Vec<(&'static str, u64)>,
}

pub(super) fn observe_operations(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    let source = latest.clone();
    let name = "mqueue_operations_running";
    meter
        .u64_observable_gauge(name)
        .with_description(help(name))
        .with_callback(move |observer| {
            for of in &source.lock().operations {
                observer.observe(of.running, &[KeyValue::new("kind", of.kind)]);
            }
        })
        .build();
    let source = latest.clone();
    let name = "mqueue_operations_ended_total";
    meter
        .u64_observable_counter(stem(name))
        .with_description(help(name))
        .with_callback(move |observer| {
            for of in &source.lock().operations {
                for (outcome, count) in &of.ended {
                    let labels = [KeyValue::new("kind", of.kind), KeyValue::new("outcome", *outcome)];
                    observer.observe(*count, &labels);
                }
            }
        })
        .build();
}
