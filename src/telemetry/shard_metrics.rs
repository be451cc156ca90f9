//! How the shards are, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::{Snapshot, stem};

/// A shard's numbers at the time of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardNumbers {
    /// Its place in `DATABASE_URLS`, from 0.
    pub shard: u16,
    /// Whether calls of it fail at once.
    pub open: bool,
    /// How many times it was left alone since start.
    pub openings_total: u64,
    /// Calls that failed at once since start.
    pub refused_total: u64,
    /// Items of its topics, in memory or stored.
    pub items: u64,
}

pub(super) fn observe_shards(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    type Read = fn(&ShardNumbers) -> u64;
    let gauges: [(&'static str, Read); 2] = [
        ("mqueue_shard_breaker_open", |shard| u64::from(shard.open)),
        ("mqueue_shard_items", |shard| shard.items),
    ];
    for (name, read) in gauges {
        let source = latest.clone();
        meter
            .u64_observable_gauge(name)
            .with_description(help(name))
            .with_callback(move |observer| {
                for shard in &source.lock().shards {
                    observer.observe(read(shard), &[KeyValue::new("shard", i64::from(shard.shard))]);
                }
            })
            .build();
    }
    let counters: [(&'static str, Read); 2] = [
        ("mqueue_shard_breaker_openings_total", |shard| {
            shard.openings_total
        }),
        ("mqueue_shard_calls_refused_total", |shard| shard.refused_total),
    ];
    for (name, read) in counters {
        let source = latest.clone();
        meter
            .u64_observable_counter(stem(name))
            .with_description(help(name))
            .with_callback(move |observer| {
                for shard in &source.lock().shards {
                    observer.observe(read(shard), &[KeyValue::new("shard", i64::from(shard.shard))]);
                }
            })
            .build();
    }
}
