//! `/metrics`: what the node did and holds, in the Prometheus text format.
//!
//! Requests are counted in atomics as they end. Everything about topics and the log is read when a scrape
//! asks for it, by observable instruments, so that the hot path pays nothing for it.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use parking_lot::Mutex;
use prometheus::core::Metric;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::catalogue::help;
use super::duration_metrics::DurationCollector;
pub use super::duration_metrics::DurationNumbers;
pub use super::hook_metrics::HookNumbers;
use super::hook_metrics::{self, observe_hooks};
pub use super::node_metrics::NodeNumbers;
use super::node_metrics::observe_node;
pub use super::operation_metrics::OperationNumbers;
use super::operation_metrics::observe_operations;
pub use super::quota_metrics::QuotaNumbers;
use super::quota_metrics::{self, observe_quotas};
pub use super::shard_metrics::ShardNumbers;
use super::shard_metrics::observe_shards;
use super::topic_metrics::observe_topics;

/// Most topics with labels of their own; the others are summed as `_other`.
const TOPICS_MAX: usize = 200;
/// The label of what is summed.
pub(super) const OTHER: &str = "_other";
/// Upper bounds of the latency buckets, in seconds: from a cached answer to the longest poll.
const LATENCY_BUCKETS_S: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
    30.0,
];
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Why metrics cannot be made or shown.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(String);

impl MetricsError {
    pub(super) fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A topic's numbers at the time of a scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopicNumbers {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub topic: String,
    /// Whether deliveries are stopped.
    pub paused: bool,
    /// Items due and waiting.
    pub ready: u64,
    /// Items not due yet.
    pub scheduled: u64,
    /// Items handed out.
    pub leased: u64,
    /// Dead letters held.
    pub dead: u64,
    /// How long the next item has been due, in milliseconds.
    pub oldest_ready_age_ms: i64,
    /// Items accepted since start.
    pub enqueued_total: u64,
    /// Items handed out since start.
    pub delivered_total: u64,
    /// Items acked since start.
    pub acked_total: u64,
    /// Deliveries that consumers nacked since start.
    pub failed_by_nack_total: u64,
    /// Deliveries that consumers rejected since start.
    pub failed_by_reject_total: u64,
    /// Deliveries whose lease ended since start.
    pub failed_by_time_total: u64,
    /// Items that died since start.
    pub dead_total: u64,
    /// Items whose time to live passed since start.
    pub expired_total: u64,
    /// Items that hooks dropped since start.
    pub filtered_total: u64,
    /// Items refused since start.
    pub rejected_total: u64,
}

impl TopicNumbers {
    fn depth(&self) -> u64 {
        self.ready + self.scheduled + self.leased + self.dead
    }

    fn add(&mut self, other: &Self) {
        self.paused |= other.paused;
        self.ready += other.ready;
        self.scheduled += other.scheduled;
        self.leased += other.leased;
        self.dead += other.dead;
        self.oldest_ready_age_ms = self.oldest_ready_age_ms.max(other.oldest_ready_age_ms);
        self.enqueued_total += other.enqueued_total;
        self.delivered_total += other.delivered_total;
        self.acked_total += other.acked_total;
        self.failed_by_nack_total += other.failed_by_nack_total;
        self.failed_by_reject_total += other.failed_by_reject_total;
        self.failed_by_time_total += other.failed_by_time_total;
        self.dead_total += other.dead_total;
        self.expired_total += other.expired_total;
        self.filtered_total += other.filtered_total;
        self.rejected_total += other.rejected_total;
    }
}

/// What a scrape reads from the rest of the node.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every topic's numbers.
    pub topics: Vec<TopicNumbers>,
    /// The numbers of versions of hooks that did something.
    pub hooks: Vec<HookNumbers>,
    /// Seconds that hooks ran, by namespace.
    pub hook_cpu: Vec<(String, f64)>,
    /// How long things took; their names must not change while the node runs.
    pub durations: Vec<DurationNumbers>,
    /// The shards' numbers.
    pub shards: Vec<ShardNumbers>,
    /// The quotas of namespaces that have one of their own.
    pub quotas: Vec<QuotaNumbers>,
    /// The operations, by kind.
    pub operations: Vec<OperationNumbers>,
    /// The node's own numbers; their names must not change while the node runs.
    pub node: NodeNumbers,
}

type Source = Box<dyn Fn() -> Snapshot + Send + Sync>;

/// Counts requests and shows everything on a scrape.
pub struct Metrics {
    registry: Registry,
    requests: Vec<RouteMetrics>,
    auth_failures: IntCounter,
    over_quota: IntCounter,
    refused: IntCounterVec,
    source: Source,
    latest: Arc<Mutex<Snapshot>>,
    /// Observable instruments live as long as their provider.
    _provider: SdkMeterProvider,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metrics({} routes)", self.requests.len())
    }
}

/// How long the answers to one group of routes took since the node started.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RouteLatency {
    /// The group's label, as in `/metrics`.
    pub route: &'static str,
    /// How many answers took at most so many microseconds, cumulative: `[bound, count]`, ascending.
    pub within_us: Vec<(u64, u64)>,
    /// How many answers there were.
    pub count: u64,
}

struct RouteMetrics {
    route: &'static str,
    by_status: [IntCounter; 5],
    latency: Histogram,
}

impl Metrics {
    /// Metrics of requests to `routes`, and of whatever `source` tells on a scrape.
    ///
    /// # Errors
    /// When two metrics carry one name.
    pub fn new(
        routes: &[&'static str],
        source: impl Fn() -> Snapshot + Send + Sync + 'static,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let first = source();
        let node: Vec<&'static str> = first.node.keys().copied().collect();
        let latest = Arc::new(Mutex::new(first));
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(MetricsError::of)?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("mqueue");
        observe_topics(&meter, &latest);
        observe_hooks(&meter, &latest);
        observe_shards(&meter, &latest);
        observe_quotas(&meter, &latest);
        observe_operations(&meter, &latest);
        observe_node(&meter, &node, &latest);
        registry
            .register(Box::new(DurationCollector::new(latest.clone())?))
            .map_err(MetricsError::of)?;
        let counter = |name: &str| -> Result<IntCounter, MetricsError> {
            let counter = IntCounter::new(name, help(name)).map_err(MetricsError::of)?;
            registry
                .register(Box::new(counter.clone()))
                .map_err(MetricsError::of)?;
            Ok(counter)
        };
        let refused = "mqueue_connections_refused_total";
        let refused = IntCounterVec::new(Opts::new(refused, help(refused)), &["reason"]);
        let refused = refused.map_err(MetricsError::of)?;
        registry
            .register(Box::new(refused.clone()))
            .map_err(MetricsError::of)?;
        Ok(Self {
            refused,
            requests: request_metrics(&registry, routes)?,
            auth_failures: counter("mqueue_auth_failures_total")?,
            over_quota: counter("mqueue_over_quota_items_total")?,
            registry,
            source: Box::new(source),
            latest,
            _provider: provider,
        })
    }

    /// Counts one request to the route numbered `route` that was answered with `status` after `elapsed`.
    pub fn request(&self, route: usize, status: u16, elapsed: Duration) {
        if let Some(metrics) = self.requests.get(route) {
            let class = usize::from(status / 100).clamp(1, 5) - 1;
            metrics.by_status[class].inc();
            metrics.latency.observe(elapsed.as_secs_f64());
        }
    }

    /// How long answers took, by route, as the histogram of `/metrics` has it.
    pub fn latencies(&self) -> Vec<RouteLatency> {
        let latency = |metrics: &RouteMetrics| {
            let metric = metrics.latency.metric();
            let histogram = metric.get_histogram();
            let within_us = histogram.get_bucket().iter().map(|bucket| {
                let bound_us = (bucket.upper_bound() * 1e6).round() as u64;
                (bound_us, bucket.cumulative_count())
            });
            RouteLatency {
                route: metrics.route,
                within_us: within_us.collect(),
                count: histogram.get_sample_count(),
            }
        };
        self.requests.iter().map(latency).collect()
    }

    /// Counts a token that was refused.
    pub fn auth_failure(&self) {
        self.auth_failures.inc();
    }

    /// Shows reasons for which connections are refused, before the first is.
    pub fn show_refusals(&self, reasons: impl IntoIterator<Item = &'static str>) {
        for reason in reasons {
            self.refused.with_label_values(&[reason]);
        }
    }

    /// Counts a connection, or a request on one, that was refused before any route saw it.
    pub fn connection_refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// Counts items refused because of a quota.
    pub fn over_quota(&self, items: usize) {
        self.over_quota.inc_by(items as u64);
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// When the numbers cannot be written as text.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut snapshot = (self.source)();
        snapshot.topics = bounded(snapshot.topics);
        snapshot.hooks = hook_metrics::bounded(snapshot.hooks);
        snapshot.hook_cpu = hook_metrics::bounded_cpu(snapshot.hook_cpu);
        snapshot.quotas = quota_metrics::bounded(snapshot.quotas);
        *self.latest.lock() = snapshot;
        let mut text = Vec::new();
        prometheus::TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(MetricsError::of)?;
        String::from_utf8(text).map_err(MetricsError::of)
    }
}

fn request_metrics(registry: &Registry, routes: &[&'static str]) -> Result<Vec<RouteMetrics>, MetricsError> {
    let requests = IntCounterVec::new(
        Opts::new("mqueue_http_requests_total", help("mqueue_http_requests_total")),
        &["route", "status"],
    )
    .map_err(MetricsError::of)?;
    let latency = HistogramVec::new(
        HistogramOpts::new(
            "mqueue_http_request_duration_seconds",
            help("mqueue_http_request_duration_seconds"),
        )
        .buckets(LATENCY_BUCKETS_S.to_vec()),
        &["route"],
    )
    .map_err(MetricsError::of)?;
    registry
        .register(Box::new(requests.clone()))
        .map_err(MetricsError::of)?;
    registry
        .register(Box::new(latency.clone()))
        .map_err(MetricsError::of)?;
    Ok(routes
        .iter()
        .map(|route| RouteMetrics {
            route,
            by_status: STATUS_CLASSES.map(|class| requests.with_label_values(&[route, class])),
            latency: latency.with_label_values(&[route]),
        })
        .collect())
}

/// The busiest topics as they are, the others summed, so that tenants cannot grow the scrape at will.
fn bounded(mut topics: Vec<TopicNumbers>) -> Vec<TopicNumbers> {
    if topics.len() > TOPICS_MAX {
        topics.sort_by_key(|t| std::cmp::Reverse((t.depth(), t.enqueued_total)));
        let mut other = TopicNumbers {
            namespace: OTHER.to_owned(),
            topic: OTHER.to_owned(),
            ..TopicNumbers::default()
        };
        for topic in topics.drain(TOPICS_MAX..) {
            other.add(&topic);
        }
        topics.push(other);
    }
    topics
}

/// The name of a counter as the exporter takes it: it appends the suffix itself.
pub(super) fn stem(name: &'static str) -> &'static str {
    name.strip_suffix("_total").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: u64) -> TopicNumbers {
        TopicNumbers {
            namespace: "a".into(),
            topic: format!("t{n}"),
            ready: n,
            enqueued_total: 2 * n,
            failed_by_nack_total: 3 * n,
            ..TopicNumbers::default()
        }
    }

    #[test]
    fn a_scrape_shows_topics_requests_and_the_node() {
        let metrics = Metrics::new(&["enqueue", "other"], || Snapshot {
            topics: vec![topic(7)],
            hooks: vec![],
            hook_cpu: vec![("a".into(), 1.5)],
            durations: vec![DurationNumbers {
                name: "mqueue_wal_sync_duration_seconds",
                bounds_us: &[100, 1_000],
                counts: vec![2, 0, 1],
                sum_us: 5_000_150,
            }],
            shards: vec![ShardNumbers {
                shard: 1,
                open: true,
                ..ShardNumbers::default()
            }],
            quotas: vec![QuotaNumbers {
                namespace: "a".into(),
                quotas: vec![("leases", 5, 2)],
            }],
            operations: vec![OperationNumbers {
                kind: "purge",
                running: 1,
                ended: vec![("failed", 2)],
            }],
            node: NodeNumbers::from([("mqueue_wal_bytes", 5.0), ("mqueue_wal_syncs_total", 3.0)]),
        })
        .unwrap();
        metrics.request(0, 200, Duration::from_micros(300));
        metrics.request(0, 503, Duration::from_secs(60));
        metrics.over_quota(4);
        let text = metrics.render().unwrap();
        for line in [
            r#"mqueue_items{namespace="a",state="ready",topic="t7"} 7"#,
            r#"mqueue_items_enqueued_total{namespace="a",topic="t7"} 14"#,
            r#"mqueue_deliveries_failed_total{namespace="a",reason="nack",topic="t7"} 21"#,
            r#"mqueue_http_requests_total{route="enqueue",status="2xx"} 1"#,
            r#"mqueue_http_requests_total{route="enqueue",status="5xx"} 1"#,
            r#"mqueue_http_request_duration_seconds_bucket{route="enqueue",le="0.0005"} 1"#,
            "mqueue_over_quota_items_total 4",
            r#"mqueue_quota_limit{namespace="a",quota="leases"} 5"#,
            r#"mqueue_hook_cpu_seconds_total{namespace="a"} 1.5"#,
            r#"mqueue_quota_used{namespace="a",quota="leases"} 2"#,
            r#"mqueue_operations_running{kind="purge"} 1"#,
            r#"mqueue_operations_ended_total{kind="purge",outcome="failed"} 2"#,
            "mqueue_wal_bytes 5",
            r#"mqueue_shard_breaker_open{shard="1"} 1"#,
            "mqueue_wal_syncs_total 3",
            "# HELP mqueue_wal_bytes Size of the log",
            "# TYPE mqueue_wal_sync_duration_seconds histogram",
            r#"mqueue_wal_sync_duration_seconds_bucket{le="0.001"} 2"#,
            r#"mqueue_wal_sync_duration_seconds_bucket{le="+Inf"} 3"#,
            "mqueue_wal_sync_duration_seconds_sum 5.00015",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("otel_scope"), "{text}");
    }

    #[test]
    fn a_tenant_with_many_topics_cannot_grow_the_scrape() {
        let topics = bounded((0..1_000).map(topic).collect());
        assert_eq!(topics.len(), TOPICS_MAX + 1);
        assert_eq!(topics.iter().map(|t| t.ready).sum::<u64>(), 999 * 1_000 / 2);
        assert_eq!(topics.last().unwrap().topic, OTHER);
    }
}
