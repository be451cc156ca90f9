//! What hooks did, on a scrape.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::catalogue::help;
use super::metrics::{OTHER, Snapshot, stem};

/// Most versions of hooks with labels of their own; the idlest others are summed as `_other`.
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
    /// Instructions of its sampled calls.
    pub fuel_sampled: u64,
    /// How many were sampled.
    pub fuel_samples: u64,
    /// Most linear memory a call had, in bytes.
    pub memory_bytes_max: u64,
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

    fn add(&mut self, other: &Self) {
        add_counts(&mut self.calls, &other.calls);
        add_counts(&mut self.items, &other.items);
        add_counts(&mut self.shadow, &other.shadow);
        self.run_seconds += other.run_seconds;
        self.fuel_sampled += other.fuel_sampled;
        self.fuel_samples += other.fuel_samples;
        self.memory_bytes_max = self.memory_bytes_max.max(other.memory_bytes_max);
        self.log_lines_dropped += other.log_lines_dropped;
        self.breaker_open |= other.breaker_open;
    }
}

fn add_counts(sums: &mut Vec<(&'static str, u64)>, more: &[(&'static str, u64)]) {
    for (name, count) in more {
        match sums.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += count,
            None => sums.push((name, *count)),
        }
    }
}

/// The busiest versions as they are, the others summed, so that tenants cannot grow the scrape at will.
pub(super) fn bounded(mut hooks: Vec<HookNumbers>) -> Vec<HookNumbers> {
    if hooks.len() > HOOKS_MAX {
        hooks.sort_by_key(|hook| std::cmp::Reverse(hook.busy()));
        let mut other = HookNumbers {
            namespace: OTHER.to_owned(),
            hook: OTHER.to_owned(),
            version: OTHER.to_owned(),
            ..HookNumbers::default()
        };
        for hook in hooks.drain(HOOKS_MAX..) {
            other.add(&hook);
        }
        hooks.push(other);
    }
    hooks
}

/// The busiest namespaces as they are, the others summed.
pub(super) fn bounded_cpu(mut cpu: Vec<(String, f64)>) -> Vec<(String, f64)> {
    if cpu.len() > HOOKS_MAX {
        cpu.sort_by(|a, b| b.1.total_cmp(&a.1));
        let other = cpu.drain(HOOKS_MAX..).map(|(_, seconds)| seconds).sum();
        cpu.push((OTHER.to_owned(), other));
    }
    cpu
}

pub(super) fn observe_hooks(meter: &Meter, latest: &Arc<Mutex<Snapshot>>) {
    type Read = fn(&HookNumbers) -> &[(&'static str, u64)];
    type Sum = fn(&HookNumbers) -> u64;
    let counters: [(&'static str, &'static str, Read); 3] = [
        ("mqueue_hook_calls_total", "result", |hook| &hook.calls),
        ("mqueue_hook_items_total", "result", |hook| &hook.items),
        ("mqueue_hook_shadow_items_total", "outcome", |hook| &hook.shadow),
    ];
    for (name, label, read) in counters {
        let source = latest.clone();
        meter
            .u64_observable_counter(stem(name))
            .with_description(help(name))
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
        .with_description(help("mqueue_hook_run_seconds_total"))
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(hook.run_seconds, &hook.labels(None));
            }
        })
        .build();
    let source = latest.clone();
    meter
        .f64_observable_counter("mqueue_hook_cpu_seconds")
        .with_description(help("mqueue_hook_cpu_seconds_total"))
        .with_callback(move |observer| {
            for (namespace, seconds) in &source.lock().hook_cpu {
                observer.observe(*seconds, &[KeyValue::new("namespace", namespace.clone())]);
            }
        })
        .build();
    let sums: [(&'static str, Sum); 3] = [
        ("mqueue_hook_log_lines_dropped_total", |hook| {
            hook.log_lines_dropped
        }),
        ("mqueue_hook_fuel_sampled_total", |hook| hook.fuel_sampled),
        ("mqueue_hook_fuel_samples_total", |hook| hook.fuel_samples),
    ];
    for (name, read) in sums {
        let source = latest.clone();
        meter
            .u64_observable_counter(stem(name))
            .with_description(help(name))
            .with_callback(move |observer| {
                for hook in &source.lock().hooks {
                    observer.observe(read(hook), &hook.labels(None));
                }
            })
            .build();
    }
    let source = latest.clone();
    meter
        .u64_observable_gauge("mqueue_hook_memory_max_bytes")
        .with_description(help("mqueue_hook_memory_max_bytes"))
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(hook.memory_bytes_max, &hook.labels(None));
            }
        })
        .build();
    let source = latest.clone();
    meter
        .u64_observable_gauge("mqueue_hook_breaker_open")
        .with_description(help("mqueue_hook_breaker_open"))
        .with_callback(move |observer| {
            for hook in &source.lock().hooks {
                observer.observe(u64::from(hook.breaker_open), &hook.labels(None));
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_with_many_hooks_cannot_grow_the_scrape() {
        let hook = |n: u64| HookNumbers {
            hook: format!("h{n}"),
            calls: vec![("ok", n), ("trap", 1)],
            memory_bytes_max: n,
            ..HookNumbers::default()
        };
        let hooks = bounded((0..1_000).map(hook).collect());
        assert_eq!(hooks.len(), HOOKS_MAX + 1);
        let other = hooks.last().unwrap();
        assert_eq!(other.hook, OTHER);
        assert_eq!(other.calls, [("ok", 799 * 800 / 2), ("trap", 800)]);
        assert_eq!(other.memory_bytes_max, 799);
        let cpu = bounded_cpu((0..1_000).map(|n| (n.to_string(), f64::from(n))).collect());
        assert_eq!(cpu.len(), HOOKS_MAX + 1);
        assert_eq!(cpu[HOOKS_MAX], (OTHER.to_owned(), f64::from(799 * 800 / 2)));
    }
}
