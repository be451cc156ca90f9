//! Every metric by name: what it is and what to watch for. Help texts in `/metrics` and docs/METRICS.md come
//! from here.

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up, from 0 at the start of the node.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// Its name, as `/metrics` has it.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// What operators watch for; nothing where it only explains others.
    pub watch: &'static str,
}

const TOPIC: &[&str] = &["namespace", "topic"];
const HOOK: &[&str] = &["namespace", "hook", "version"];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    watch: &'static str,
) -> Described {
    Described {
        name,
        kind: Kind::Counter,
        labels,
        help,
        watch,
    }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    watch: &'static str,
) -> Described {
    Described {
        name,
        kind: Kind::Gauge,
        labels,
        help,
        watch,
    }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    watch: &'static str,
) -> Described {
    Described {
        name,
        kind: Kind::Histogram,
        labels,
        help,
        watch,
    }
}

/// Every metric, in the order of docs/METRICS.md.
pub const METRICS: &[Described] = &[
    gauge("mqueue_ready", &[], "1 while the node accepts items", "0"),
    gauge(
        "mqueue_items",
        &["namespace", "topic", "state"],
        "Items held, by state: ready, scheduled, leased, dead. Over a shared Redis each node tells those of all nodes: take the largest, not the sum",
        "`ready` growing, `dead` above 0",
    ),
    gauge(
        "mqueue_oldest_ready_age_seconds",
        TOPIC,
        "How long the item that would go out next has been due; over a shared Redis on all nodes",
        "above what your work may wait",
    ),
    gauge(
        "mqueue_topic_paused",
        TOPIC,
        "1 while a topic's deliveries are stopped",
        "forgotten ones",
    ),
    counter("mqueue_items_enqueued_total", TOPIC, "Items accepted", ""),
    counter(
        "mqueue_items_rejected_total",
        TOPIC,
        "Items refused by a hook, or for an idempotency key with another body",
        "growing after a change of a hook",
    ),
    counter(
        "mqueue_items_filtered_total",
        TOPIC,
        "Items that hooks dropped on purpose",
        "",
    ),
    counter(
        "mqueue_items_delivered_total",
        TOPIC,
        "Items handed out",
        "far above acked: failing consumers",
    ),
    counter("mqueue_items_acked_total", TOPIC, "Items acked", ""),
    counter(
        "mqueue_deliveries_failed_total",
        &["namespace", "topic", "reason"],
        "Deliveries that failed, by why: `nack`, `reject`, `lease_ended`; the last over a shared Redis on all nodes",
        "growing",
    ),
    counter(
        "mqueue_items_dead_total",
        TOPIC,
        "Items that became dead letters",
        "growing",
    ),
    counter(
        "mqueue_items_expired_total",
        TOPIC,
        "Items whose time to live passed",
        "",
    ),
    histogram(
        "mqueue_item_wait_seconds",
        &[],
        "From when an item was due to its delivery, to the millisecond",
        "above what your work may wait",
    ),
    histogram(
        "mqueue_item_turnaround_seconds",
        &[],
        "From when an item was due to its ack, to the millisecond; the wait, earlier deliveries and the last lease together",
        "above what your work may take",
    ),
    histogram(
        "mqueue_lease_duration_seconds",
        &[],
        "From a hand-out to the end of its lease, to the millisecond: ack, nack, release, reject, or running out. A lease that ran out is counted when its item goes out again or dies; of a hand-out before a restart without Redis nothing is known",
        "near the lease: consumers that should extend",
    ),
    counter(
        "mqueue_over_quota_items_total",
        &[],
        "Items refused because of a quota",
        "growing",
    ),
    gauge(
        "mqueue_quota_limit",
        &["namespace", "quota"],
        "What a namespace with quotas of its own may have: `enqueue` (at once), `stored_bytes`, `leases`; the first 200 namespaces by name",
        "",
    ),
    gauge(
        "mqueue_quota_used",
        &["namespace", "quota"],
        "What a namespace with quotas of its own has; `stored_bytes` and `leases` over a shared Redis on all nodes",
        "near the limit",
    ),
    gauge(
        "mqueue_operations_running",
        &["kind"],
        "Operations that the node works on",
        "above 0 for long",
    ),
    counter(
        "mqueue_operations_ended_total",
        &["kind", "outcome"],
        "Operations that ended on the node, by how: `succeeded`, `failed`, `cancelled`, `stopped`",
        "`failed`, `stopped` growing",
    ),
    counter(
        "mqueue_config_reloads_succeeded_total",
        &[],
        "Reloads of the configuration that were taken over",
        "",
    ),
    counter(
        "mqueue_config_reloads_failed_total",
        &[],
        "Reloads of the configuration that were refused",
        "growing",
    ),
    gauge(
        "mqueue_config_last_reload_ok",
        &[],
        "0 while the last reload of the configuration failed",
        "0",
    ),
    gauge(
        "mqueue_config_loaded_timestamp_seconds",
        &[],
        "When the configuration in force was read, in seconds since 1970",
        "",
    ),
    gauge(
        "mqueue_config_restart_needed_keys",
        &[],
        "Keys of the configuration that changed and wait for a restart",
        "above 0 for long",
    ),
    counter(
        "mqueue_auth_failures_total",
        &[],
        "Requests whose token was refused",
        "a flood",
    ),
    counter(
        "mqueue_connections_refused_total",
        &["reason"],
        "Connections closed, and requests answered, before any route saw them: `full` and `full_for_address` (as many connections as may be), `tls`, `silent` (a head too late, an answer not taken), `parse` (no HTTP), `too_large` (a head)",
        "growing: a client at fault, or an attack",
    ),
    counter(
        "mqueue_http_requests_total",
        &["route", "status"],
        "Requests answered, by route and class of status",
        "5xx",
    ),
    histogram(
        "mqueue_http_request_duration_seconds",
        &["route"],
        "Time from the request's head to the answer's, long polls included; of the route `enqueue`, how long until an item is durable",
        "`enqueue` above a few syncs",
    ),
    gauge(
        "mqueue_hot_tier_healthy",
        &[],
        "1 while what holds hot items works, always without Redis; 0 while Redis is away, is full or is filled again",
        "0",
    ),
    gauge("mqueue_wal_healthy", &[], "1 while the log takes records", "0"),
    gauge(
        "mqueue_wal_bytes",
        &[],
        "Size of the log",
        "near `wal.bytes_max`: a shard does not keep up",
    ),
    gauge("mqueue_wal_segments", &[], "Files of the log", ""),
    gauge(
        "mqueue_wal_pending_bytes",
        &[],
        "Bytes that wait for the disk",
        "growing",
    ),
    counter("mqueue_wal_frames_total", &[], "Requests made durable", ""),
    counter("mqueue_wal_written_bytes_total", &[], "Bytes of log written", ""),
    counter("mqueue_wal_syncs_total", &[], "Syncs of the log", ""),
    counter(
        "mqueue_wal_sync_seconds_total",
        &[],
        "Time spent syncing the log",
        "",
    ),
    histogram(
        "mqueue_wal_sync_duration_seconds",
        &[],
        "How long a sync of the log took",
        "above a few milliseconds: the disk",
    ),
    histogram(
        "mqueue_flush_duration_seconds",
        &[],
        "How long a checkpoint into a shard took",
        "",
    ),
    counter(
        "mqueue_flushed_rows_total",
        &[],
        "Rows that checkpoints wrote or deleted",
        "",
    ),
    counter(
        "mqueue_flush_failures_total",
        &[],
        "Checkpoints that failed; they are tried again",
        "growing",
    ),
    gauge(
        "mqueue_flush_lag_records",
        &[],
        "Records of the log that the shard furthest behind has not stored; `hot.buffer_ttl` of them are normal",
        "growing without end",
    ),
    gauge(
        "mqueue_shards_failing",
        &[],
        "Shards whose last checkpoint failed",
        "above 0",
    ),
    gauge(
        "mqueue_shard_breaker_open",
        &["shard"],
        "1 while a shard is left alone and its topics are refused",
        "1",
    ),
    counter(
        "mqueue_shard_breaker_openings_total",
        &["shard"],
        "Times that a shard was left alone",
        "growing",
    ),
    counter(
        "mqueue_shard_calls_refused_total",
        &["shard"],
        "Calls of a shard that failed at once",
        "",
    ),
    gauge(
        "mqueue_shard_items",
        &["shard"],
        "Items of a shard's topics, in memory or stored",
        "one far above the others",
    ),
    histogram(
        "mqueue_prefetch_duration_seconds",
        &[],
        "How long it took to read a page of cold items",
        "",
    ),
    counter(
        "mqueue_prefetched_rows_total",
        &[],
        "Cold items read back into memory",
        "",
    ),
    counter(
        "mqueue_prefetch_failures_total",
        &[],
        "Pages of cold items that could not be read",
        "growing",
    ),
    counter(
        "mqueue_hook_calls_total",
        &["namespace", "hook", "version", "result"],
        "Calls of hooks, by how they ended",
        "`trap`, `timeout`, `overload` growing",
    ),
    counter(
        "mqueue_hook_items_total",
        &["namespace", "hook", "version", "result"],
        "Items given to hooks, by what was said of them",
        "`error`, `skipped` growing",
    ),
    counter(
        "mqueue_hook_shadow_items_total",
        &["namespace", "hook", "version", "outcome"],
        "Items a shadow ran on, by how it compared",
        "",
    ),
    counter("mqueue_hook_run_seconds_total", HOOK, "Time hooks ran", ""),
    counter(
        "mqueue_hook_cpu_seconds_total",
        &["namespace"],
        "Time of a namespace's hooks that its quota counts, rehearsals included",
        "near the quota",
    ),
    counter(
        "mqueue_hook_fuel_sampled_total",
        HOOK,
        "Instructions that the sampled calls took; by `mqueue_hook_fuel_samples_total` it is what an item takes",
        "a version that takes more than the one before",
    ),
    counter(
        "mqueue_hook_fuel_samples_total",
        HOOK,
        "Calls that were made once more, of one item, to count their instructions: one a second at most",
        "",
    ),
    gauge(
        "mqueue_hook_memory_max_bytes",
        HOOK,
        "Most linear memory that a call had",
        "near `hooks.memory_bytes`",
    ),
    counter(
        "mqueue_hook_log_lines_dropped_total",
        HOOK,
        "Log lines of hooks beyond their limits",
        "",
    ),
    counter(
        "mqueue_hook_ceiling_trips_total",
        HOOK,
        "Calls of hooks that ran into the memory, the stack or the calls of imports they may have",
        "a rise: a hundred put the version in quarantine",
    ),
    gauge(
        "mqueue_hook_quarantined",
        HOOK,
        "1 while a version is not run until its owner acknowledges why",
        "1",
    ),
    gauge(
        "mqueue_hook_breaker_open",
        HOOK,
        "1 while a hook's policy is applied without running it",
        "1",
    ),
    gauge(
        "mqueue_hook_instances_busy",
        &[],
        "Instances of modules that are called now",
        "near `hooks.instances`",
    ),
    gauge(
        "mqueue_hook_instances_warm",
        &[],
        "Instances of modules kept for the next call",
        "",
    ),
    counter(
        "mqueue_hook_pool_exhausted_total",
        &[],
        "Calls that found no free instance",
        "growing",
    ),
    gauge(
        "mqueue_hook_calls_waiting",
        &[],
        "Calls that wait for a thread",
        "growing",
    ),
    counter(
        "mqueue_hook_calls_in_passing_total",
        &[],
        "Calls of hooks made by the threads that serve requests",
        "",
    ),
    counter(
        "mqueue_hook_overruns_total",
        &[],
        "Calls made so that failed or took too long",
        "more than a few an hour: a tenant's hook is brief and then is not",
    ),
    gauge(
        "mqueue_hook_compiles",
        &[],
        "Modules being compiled, or waiting for it",
        "",
    ),
    gauge(
        "mqueue_hook_modules_loaded",
        &[],
        "Modules ready to be called",
        "",
    ),
];

/// What is said of the metric `name`; nothing of one that is not in the list.
pub(super) fn help(name: &str) -> &'static str {
    METRICS
        .iter()
        .find(|metric| metric.name == name)
        .map_or("", |metric| metric.help)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_told_once_and_say_what_they_count() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            assert!(
                metric.name.starts_with("mqueue_") && !metric.help.is_empty(),
                "{}",
                metric.name
            );
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{}",
                metric.name
            );
        }
    }
}
