//! What a run measured.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use super::process::Usage;
use super::tally::Tally;
use super::{BenchArgs, Mode, Target};
use crate::cli::output;
use crate::model::some;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mode: Mode,
    target: Target,
    connections: u32,
    batch: u32,
    payload_bytes: u32,
    priorities: u32,
    topics: u32,
    /// Items offered per second; none for a closed loop.
    rate: Option<u32>,
    /// From the end of the warm-up to the last answer.
    seconds: f64,
    requests: u64,
    /// Items accepted (enqueue) or acked (e2e, dequeue).
    items: u64,
    items_per_s: f64,
    requests_per_s: f64,
    /// Items refused one by one.
    rejected: u64,
    /// Requests that were due and never sent.
    unsent: u64,
    /// Items of earlier runs.
    foreign: u64,
    /// Failed requests by status and code, those of the warm-up included.
    errors: BTreeMap<String, u64>,
    /// Latency by step, in microseconds.
    latency_us: BTreeMap<&'static str, Percentiles>,
    generator_cpu_s: Option<f64>,
    server_cpu_s: Option<f64>,
    /// Processor time of the server for a million items, in seconds.
    server_cpu_s_per_million: Option<f64>,
    server_rss_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    count: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Report {
    pub(super) fn new(
        args: &BenchArgs,
        tally: &Tally,
        measured_from: Instant,
        unsent: u64,
        generator: Option<Usage>,
        server: Option<Option<Usage>>,
    ) -> Self {
        let last = tally.last.unwrap_or(measured_from);
        let seconds = last.saturating_duration_since(measured_from).as_secs_f64();
        let per_second = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        let server = server.flatten();
        let latencies = tally.latencies_us.iter();
        Self {
            mode: args.mode,
            target: args.target,
            connections: args.connections,
            batch: args.batch,
            payload_bytes: args.payload_bytes,
            priorities: args.priorities,
            topics: args.topics,
            rate: args.rate,
            seconds,
            requests: tally.requests,
            items: tally.items,
            items_per_s: per_second(tally.items),
            requests_per_s: per_second(tally.requests),
            rejected: tally.rejected,
            unsent,
            foreign: tally.foreign,
            errors: tally.errors.clone(),
            latency_us: latencies
                .map(|(step, histogram)| (step.word(), Percentiles::of(histogram)))
                .collect(),
            generator_cpu_s: generator.map(|usage| usage.cpu_s),
            server_cpu_s: server.map(|usage| usage.cpu_s),
            server_cpu_s_per_million: server
                .filter(|_| tally.items > 0)
                .map(|usage| usage.cpu_s * 1e6 / tally.items as f64),
            server_rss_bytes: server.map(|usage| usage.rss_bytes),
        }
    }

    /// Requests that failed.
    pub(super) fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// For people.
    pub(super) fn rendered(&self) -> String {
        let ms = |us: u64| format!("{:.3}", us as f64 / 1_000.0);
        let mut lines = vec![format!(
            "{} in {:.2} s: {:.0} items/s, {:.0} requests/s",
            some(self.items, "item"),
            self.seconds,
            self.items_per_s,
            self.requests_per_s
        )];
        let rows = self.latency_us.iter().map(|(step, p)| {
            let count = p.count.to_string();
            vec![
                (*step).to_owned(),
                count,
                ms(p.p50),
                ms(p.p90),
                ms(p.p99),
                ms(p.p99_9),
                ms(p.max),
            ]
        });
        lines.push(output::table(
            &["latency, ms", "count", "p50", "p90", "p99", "p99.9", "max"],
            rows,
        ));
        if let Some(cpu) = self.generator_cpu_s {
            lines.push(format!("generator: {cpu:.2} s of processor time"));
        }
        if let (Some(cpu), Some(rss)) = (self.server_cpu_s, self.server_rss_bytes) {
            let each = self.server_cpu_s_per_million.unwrap_or_default();
            let mib = rss >> 20;
            lines.push(format!(
                "server: {cpu:.2} s of processor time, {each:.2} s per million items, {mib} MiB resident"
            ));
        }
        let losses = [
            ("rejected items", self.rejected),
            ("unsent requests", self.unsent),
            ("items of earlier runs", self.foreign),
        ];
        lines.extend(
            losses
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(what, count)| format!("{what}: {count}")),
        );
        lines.extend(
            self.errors
                .iter()
                .map(|(code, count)| format!("error {}: {count}", output::escaped(code))),
        );
        lines.join("\n")
    }
}
