//! The numbers of topics, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::{Snapshot, TopicNumbers, stem};

fn labels(topic: &TopicNumbers, more: Option<KeyValue>) -> Vec<KeyValue> {
    let mut labels = vec![
        KeyValue::new("namespace", topic.namespace.clone()),
        KeyValue::new("topic", topic.topic.clone()),
    ];
    labels.extend(more);
    labels
}

/// What each topic has now, and what happened in it.
pub(super) fn observe_topics(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    let source = latest.clone();
    meter
        .u64_observable_gauge("mqueue_items")
        .with_description(help("mqueue_items"))
        .with_callback(move |observer| {
            for topic in &source.lock().topics {
                for (state, value) in [
                    ("ready", topic.ready),
                    ("scheduled", topic.scheduled),
                    ("leased", topic.leased),
                    ("dead", topic.dead),
                ] {
                    observer.observe(value, &labels(topic, Some(KeyValue::new("state", state))));
                }
            }
        })
        .build();
    type Gauge = fn(&TopicNumbers) -> f64;
    let gauges: [(&'static str, Gauge); 2] = [
        ("mqueue_oldest_ready_age_seconds", |t| {
            t.oldest_ready_age_ms as f64 / 1_000.0
        }),
        ("mqueue_topic_paused", |t| f64::from(u8::from(t.paused))),
    ];
    for (name, read) in gauges {
        let source = latest.clone();
        meter
            .f64_observable_gauge(name)
            .with_description(help(name))
            .with_callback(move |observer| {
                for topic in &source.lock().topics {
                    observer.observe(read(topic), &labels(topic, None));
                }
            })
            .build();
    }
    count_topics(meter, latest);
}

/// What happened in each topic since the node started.
fn count_topics(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    let source = latest.clone();
    meter
        .u64_observable_counter(stem("mqueue_deliveries_failed_total"))
        .with_description(help("mqueue_deliveries_failed_total"))
        .with_callback(move |observer| {
            for topic in &source.lock().topics {
                for (reason, value) in [
                    ("nack", topic.failed_by_nack_total),
                    ("reject", topic.failed_by_reject_total),
                    ("lease_ended", topic.failed_by_time_total),
                ] {
                    observer.observe(value, &labels(topic, Some(KeyValue::new("reason", reason))));
                }
            }
        })
        .build();
    type Read = fn(&TopicNumbers) -> u64;
    let counters: [(&'static str, Read); 7] = [
        ("mqueue_items_enqueued_total", |t| t.enqueued_total),
        ("mqueue_items_rejected_total", |t| t.rejected_total),
        ("mqueue_items_filtered_total", |t| t.filtered_total),
        ("mqueue_items_delivered_total", |t| t.delivered_total),
        ("mqueue_items_acked_total", |t| t.acked_total),
        ("mqueue_items_dead_total", |t| t.dead_total),
        ("mqueue_items_expired_total", |t| t.expired_total),
    ];
    for (name, read) in counters {
        let source = latest.clone();
        meter
            .u64_observable_counter(stem(name))
            .with_description(help(name))
            .with_callback(move |observer| {
                for topic in &source.lock().topics {
                    observer.observe(read(topic), &labels(topic, None));
                }
            })
            .build();
    }
}
