//! The node's own numbers, on a scrape.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::Snapshot;

/// Single numbers of the node, by metric name: gauges, or counters when the name ends in `_total`.
pub type NodeNumbers = BTreeMap<&'static str, f64>;

pub(super) fn observe_node(meter: &Meter, names: &[&'static str], latest: &Arc<Mutex<Snapshot>>) {
    for &name in names {
        let source = latest.clone();
        let read = move || source.lock().node.get(name).copied().unwrap_or_default();
        match name.strip_suffix("_total") {
            Some(stem) => {
                meter
                    .f64_observable_counter(stem)
                    .with_description(help(name))
                    .with_callback(move |observer| observer.observe(read(), &[]))
                    .build();
            }
            None => {
                meter
                    .f64_observable_gauge(name)
                    .with_description(help(name))
                    .with_callback(move |observer| observer.observe(read(), &[]))
                    .build();
            }
        }
    }
}
