//! Quotas and how much of them is used, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::Snapshot;

/// Most namespaces with labels of their own, the first by name.
const NAMESPACES_MAX: usize = 200;

/// The quotas of one namespace at the time of a scrape: the name of each, its limit and what of it is used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QuotaNumbers {
    /// The namespace.
    pub namespace: String,
    /// Name, limit, used.
    pub quotas: Vec<(&'static str, u64, u64)>,
}

/// As many as a scrape may have, so that it stays small.
pub(super) fn bounded(mut quotas: Vec<QuotaNumbers>) -> Vec<QuotaNumbers> {
    quotas.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    quotas.truncate(NAMESPACES_MAX);
    quotas
}

pub(super) fn observe_quotas(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    type Read = fn(&(&'static str, u64, u64)) -> u64;
    let gauges: [(&'static str, Read); 2] = [
        ("mqueue_quota_limit", |(_, limit, _)| *limit),
        ("mqueue_quota_used", |(.., used)| *used),
    ];
    for (name, read) in gauges {
        let source = latest.clone();
        meter
            .u64_observable_gauge(name)
            .with_description(help(name))
            .with_callback(move |observer| {
                for of in &source.lock().quotas {
                    for quota in &of.quotas {
                        let labels = [
                            KeyValue::new("namespace", of.namespace.clone()),
                            KeyValue::new("quota", quota.0),
                        ];
                        observer.observe(read(quota), &labels);
                    }
                }
            })
            .build();
    }
}
