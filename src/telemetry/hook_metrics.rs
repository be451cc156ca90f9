//! What hooks did, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::metrics::Snapshot;

/// Most versions of hooks with labels of their own; the idlest others are left out.
const HOOKS_MAX: usize = 200;

/// The numbers of one version of a hook at the time of a scrape, since the node started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HookNumbers {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub hook: String,
    /// Its number.
    pub version: String,
    /// Calls by how they ended.
    pub calls: Vec<(&'static str, u64)>,
    /// Items by what was said of them.
    pub items: Vec<(&'static str, u64)>,
    /// Items by how a shadow compared.
    pub shadow: Vec<(&'static str, u64)>,
    /// Time its calls ran.
    pub run_seconds: f64,
    /// Log lines that were dropped.
    pub log_lines_dropped: u64,
    /// Whether its breaker is open.
    pub breaker_open: bool,
}

impl HookNumbers {
    fn labels(&self, more: Option<(&'static str, &'static str)>) -> Vec<KeyValue> {
        let mut labels = vec![
            KeyValue::new("namespace", self.namespace.clone()),
            KeyValue::new("hook", self.hook.clone()),
            KeyValue::new("version", self.version.clone()),
        ];
        labels.extend(more.map(|(name, value)| KeyValue::new(name, value)));
        labels
    }

    fn busy(&self) -> u64 {
        self.calls.iter().map(|(_, calls)| calls).sum()
    }
}

/// The busiest versions, so that tenants cannot grow the scrape at will.
pub(super) fn bounded(mut hooks: Vec<HookNumbers>) -> Vec<HookNumbers> {
    if hooks.len() > HOOKS_MAX {
        hooks.sort_by_key(|hook| std::cmp::Reverse(hook.busy()));
        hooks.truncate(HOOKS_MAX);
    }
    hooks
}

pub(super) fn observe_hooks(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    type Read = fn(&HookNumbers) -> &[(&'static str, u64)];
    let counters: [(&'static str, &'static str, &'static str, Read); 3] = [
        (
            "mqueue_hook_calls",
            "Calls of hooks, by how they ended",
            "result",
            |hook| &hook.calls,
        ),
        (
            "mqueue_hook_items",
            "Items given to hooks, by what was said of them",
            "result",
            |hook| &hook.items,
        ),
        (
            "mqueue_hook_shadow_items",
            "Items a shadow ran on, by how it compared",
            "outcome",
            |hook| &hook.shadow,
        ),
    ];
    for (name, help, label, read) in counters {
        let source = latest.clone();
        meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                for hook in &source.lock().hooks {
                    for (value, count) in read(hook) {
                        observer.observe(*count, &hook.labels(Some((label, value))));
                    }
                }
            })
            .build();
    }
    let source = latest.clone();
    meter
        .f64_observable_counter("mqueue_hook_run_seconds")
        .with_description("Time hooks ran on their threads")
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(hook.run_seconds, &hook.labels(None));
            }
        })
        .build();
    let source = latest.clone();
    meter
        .u64_observable_counter("mqueue_hook_log_lines_dropped")
        .with_description("Log lines of hooks beyond their limits")
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(hook.log_lines_dropped, &hook.labels(None));
            }
        })
        .build();
    let source = latest.clone();
    meter
        .u64_observable_gauge("mqueue_hook_breaker_open")
        .with_description("1 while a hook's policy is applied without running it")
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(u64::from(hook.breaker_open), &hook.labels(None));
            }
        })
        .build();
}
