//! Health, readiness and metrics.

use poem::Response;

use super::ApiState;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::reply;
use crate::model::{DURATION_BOUNDS_US, DurationCounts, Namespace};
use crate::queue::{Activity, Circuit, Health, PartHealth, Queue, QuotaState, ShardView};
use crate::telemetry::metrics::{
    DurationNumbers, NodeNumbers, OperationNumbers, QuotaNumbers, ShardNumbers, Snapshot, TopicNumbers,
};
use crate::tenant::Denied;
use crate::wal::{SYNC_BUCKETS_US, WalHealth, WalStatus};

const TEXT: &str = "text/plain; charset=utf-8";

/// `GET /health`, exactly as the first version answered it.
pub(crate) fn health() -> Response {
    reply::text(TEXT, "OK")
}

/// `GET /livez`: the process answers, and nothing is wrong that only a restart puts right.
pub(crate) fn live(state: &ApiState) -> Result<Response, Problem> {
    match state.queue.wal_status().health {
        // Open to anybody: what went wrong is for the log and for holders of a token.
        WalHealth::Failed(_) => Err(Problem::new(
            Code::LogFailed,
            "the log failed and takes nothing more until the node is restarted",
        )),
        WalHealth::Healthy | WalHealth::Full => Ok(reply::text(TEXT, "live")),
    }
}

/// How every part of the node is, as `/readyz?verbose` and the stream of events tell it.
pub(crate) fn health_of(state: &ApiState) -> Health {
    let mut health = state.queue.health();
    let (ok, detail) = state.hooks.registry.health();
    // Hooks that cannot be looked up or taken over leave what was in force, and so does a configuration that
    // was refused: the node is as ready as before.
    health.parts.push(PartHealth {
        part: "hooks".into(),
        ok,
        detail,
    });
    health.parts.push(state.config.reloads().part());
    health
}

/// `GET /readyz`: whether the node accepts items; each part in words for holders of a token.
pub(crate) fn ready(state: &ApiState, caller: &Caller, verbose: bool) -> Result<Response, Problem> {
    let health = health_of(state);
    if verbose {
        caller.principal(state)?;
        if !health.ready {
            let ill = health.parts.iter().filter(|part| !part.ok);
            let ill: Vec<String> = ill
                .map(|part| format!("{} ({})", part.part, part.detail))
                .collect();
            return Err(Problem::new(
                Code::NotReady,
                format!("not well: {}", ill.join(", ")),
            ));
        }
        return reply::json(&health);
    }
    if health.ready {
        Ok(reply::text(TEXT, "ready"))
    } else {
        Err(Problem::new(Code::NotReady, "the node does not accept new items"))
    }
}

/// `GET /metrics`. It shows every tenant's topics, so it is open to this machine alone and to tokens that
/// open every namespace; a request that a proxy passed on is not from this machine.
pub(crate) fn metrics(state: &ApiState, caller: &Caller) -> Result<Response, Problem> {
    let open = state.limits.metrics_open_on_loopback && caller.is_local() && !caller.has_token();
    if !open && !caller.principal(state)?.opens_everything() {
        return Err(Denied::Everything.into());
    }
    let text = state
        .metrics
        .render()
        .map_err(|error| Problem::internal(error.to_string()))?;
    Ok(reply::text("text/plain; version=0.0.4; charset=utf-8", text))
}

/// `GET /problems/{code}`: what a problem means.
pub(crate) fn problem_page(code: &str) -> Result<Response, Problem> {
    let code =
        Code::find(code).ok_or_else(|| Problem::new(Code::RouteNotFound, "no problem has this code"))?;
    let text = format!(
        "{} ({} {})\n\n{}\n",
        code.title(),
        code.status().as_u16(),
        code.as_str(),
        code.meaning()
    );
    Ok(reply::text(TEXT, text))
}

fn shard_numbers(shard: ShardView) -> ShardNumbers {
    ShardNumbers {
        shard: shard.shard,
        open: shard.state != Circuit::Closed,
        openings_total: shard.openings,
        refused_total: shard.refused,
        items: shard.items,
    }
}

fn operation_numbers(numbers: crate::queue::OperationNumbers) -> OperationNumbers {
    OperationNumbers {
        kind: numbers.kind,
        running: numbers.running,
        ended: numbers.ended,
    }
}

fn quota_numbers((namespace, state): &(Namespace, QuotaState)) -> QuotaNumbers {
    let held = state.held.unwrap_or_default();
    let rate = state.rate.map(|usage| {
        let at_once = usage.rate.at_once().get();
        let used = at_once.saturating_sub(usage.remaining);
        ("enqueue", u64::from(at_once), u64::from(used))
    });
    let stored = state
        .quota
        .stored_bytes
        .map(|most| ("stored_bytes", most, held.bytes));
    let leases = state.quota.leases.map(|most| ("leases", most, held.leased));
    QuotaNumbers {
        namespace: namespace.to_string(),
        quotas: [rate, stored, leases].into_iter().flatten().collect(),
    }
}

/// What `/metrics` shows of `queue`; nothing of hooks.
pub fn snapshot(queue: &Queue) -> Snapshot {
    let topics = queue
        .all_stats()
        .into_iter()
        .map(|(key, paused, stats)| TopicNumbers {
            namespace: key.namespace().to_string(),
            topic: key.topic().to_string(),
            paused,
            ready: stats.ready,
            scheduled: stats.scheduled,
            leased: stats.leased,
            dead: stats.dead,
            oldest_ready_age_ms: stats.oldest_ready_age_ms,
            enqueued_total: stats.totals.enqueued,
            delivered_total: stats.totals.delivered,
            acked_total: stats.totals.acked,
            failed_by_nack_total: stats.totals.failed_by_nack,
            failed_by_reject_total: stats.totals.failed_by_reject,
            failed_by_time_total: stats.totals.failed_by_time,
            dead_total: stats.totals.dead,
            expired_total: stats.totals.expired,
            filtered_total: stats.totals.filtered,
            rejected_total: stats.totals.rejected,
        });
    let (log, did) = (queue.wal_status(), queue.activity());
    let truth = |yes: bool| if yes { 1.0 } else { 0.0 };
    let health = queue.health();
    let is_hot_well = health.parts.iter().all(|part| part.ok || part.part != "redis");
    let node = NodeNumbers::from([
        ("mqueue_ready", truth(health.ready)),
        ("mqueue_hot_tier_healthy", truth(is_hot_well)),
        ("mqueue_wal_healthy", truth(log.health == WalHealth::Healthy)),
        ("mqueue_wal_segments", log.segments as f64),
        ("mqueue_wal_bytes", log.bytes as f64),
        ("mqueue_wal_pending_bytes", log.pending_bytes as f64),
        ("mqueue_wal_frames_total", log.frames as f64),
        ("mqueue_wal_written_bytes_total", log.written_bytes as f64),
        ("mqueue_wal_syncs_total", log.syncs as f64),
        ("mqueue_wal_sync_seconds_total", log.sync_time.as_secs_f64()),
        ("mqueue_flushed_rows_total", did.flushes.rows as f64),
        ("mqueue_flush_failures_total", did.flushes.failures as f64),
        ("mqueue_flush_lag_records", did.flush_lag_records as f64),
        ("mqueue_shards_failing", did.shards_failing as f64),
        ("mqueue_prefetched_rows_total", did.refills.rows as f64),
        ("mqueue_prefetch_failures_total", did.refills.failures as f64),
    ]);
    Snapshot {
        topics: topics.collect(),
        hooks: Vec::new(),
        hook_cpu: Vec::new(),
        durations: durations(&log, &did),
        shards: queue.shards().into_iter().map(shard_numbers).collect(),
        quotas: queue.named_quotas().iter().map(quota_numbers).collect(),
        operations: queue
            .operation_numbers()
            .into_iter()
            .map(operation_numbers)
            .collect(),
        node,
    }
}

fn durations(log: &WalStatus, did: &Activity) -> Vec<DurationNumbers> {
    let counted = |name, read: &DurationCounts| DurationNumbers {
        name,
        bounds_us: &DURATION_BOUNDS_US,
        counts: read.counts.to_vec(),
        sum_us: read.sum_us,
    };
    vec![
        counted("mqueue_item_wait_seconds", &did.waits),
        counted("mqueue_item_turnaround_seconds", &did.turnarounds),
        counted("mqueue_lease_duration_seconds", &did.leases),
        counted("mqueue_flush_duration_seconds", &did.flushes.took),
        counted("mqueue_prefetch_duration_seconds", &did.refills.took),
        DurationNumbers {
            name: "mqueue_wal_sync_duration_seconds",
            bounds_us: &SYNC_BUCKETS_US,
            counts: log.sync_buckets.to_vec(),
            sum_us: u64::try_from(log.sync_time.as_micros()).unwrap_or(u64::MAX),
        },
    ]
}
