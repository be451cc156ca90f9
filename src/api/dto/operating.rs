//! The documented shapes of quotas and of the configuration.

use poem_openapi::Object;

use super::Instant;

/// A namespace's quota and how much of it is used on this node. A limit that there is not is absent.
#[derive(Object)]
pub(crate) struct Quota {
    /// Whether there is a limit on the rate of enqueues.
    limited: bool,
    /// Items per minute.
    per_minute: Option<u32>,
    /// Items at once: the burst, or a whole minute's where none is set.
    burst: Option<u32>,
    /// Items that may be enqueued now.
    remaining: Option<u32>,
    /// Time until all of them are there again, in milliseconds.
    reset_ms: Option<u64>,
    /// Bytes that the items of the namespace may have.
    stored_bytes_max: Option<u64>,
    /// Bytes that they have: payloads and headers, and 256 for each item; dead letters count.
    stored_bytes: Option<u64>,
    /// Items that may be with consumers at once.
    leases_max: Option<u64>,
    /// Items that are with consumers.
    leases: Option<u64>,
    /// Processor time of the namespace's hooks in each second, in milliseconds.
    hook_cpu_ms_per_s: u64,
    /// Processor time that its hooks may save up, in milliseconds.
    hook_cpu_burst_ms: u64,
    /// What is set over the configuration; absent when nothing is.
    own: Option<QuotaSettings>,
}

/// A quota over the configuration's. What is absent comes from there; 0 is no limit.
#[derive(Object)]
pub(crate) struct QuotaSettings {
    /// Items per minute.
    per_minute: Option<u32>,
    /// Items at once, at least 1, beside those that come back in a minute; without it no minute has more than
    /// `per_minute`.
    burst: Option<u32>,
    /// Bytes that the items of the namespace may have.
    stored_bytes: Option<u64>,
    /// Items that may be with consumers at once.
    leases: Option<u64>,
    /// Processor time of the namespace's hooks in each second, in milliseconds, 1 to 1000000.
    hook_cpu_ms_per_s: Option<u32>,
    /// Processor time that its hooks may save up, in milliseconds, 1 to 1000000.
    hook_cpu_burst_ms: Option<u32>,
}

/// The configuration of a node.
#[derive(Object)]
pub(crate) struct Configuration {
    /// Every key.
    entries: Vec<ConfigEntry>,
    /// How reloads went.
    reloads: Reloads,
}

/// One key of the configuration.
#[derive(Object)]
pub(crate) struct ConfigEntry {
    /// `section.key`.
    key: String,
    /// The value in force as text; secrets are masked.
    value: String,
    /// Where it came from: a flag, the environment, a file, or the defaults.
    source: String,
    /// Whether a change counts while the node runs.
    reloadable: bool,
}

/// How reloads of the configuration went since the node started.
#[derive(Object)]
pub(crate) struct Reloads {
    /// How many put a configuration in force.
    succeeded: u64,
    /// How many changed nothing because of an error.
    failed: u64,
    /// When what is in force was read.
    loaded_at: Instant,
    /// The last one; absent before the first.
    last: Option<Reload>,
    /// Keys that were changed since the node started and count only at its next start.
    restart_needed: Vec<String>,
}

/// One reload of the configuration.
#[derive(Object)]
pub(crate) struct Reload {
    /// When.
    at: Instant,
    /// What asked for it: `file`, `signal` or `request`.
    trigger: String,
    /// Whether it put a configuration in force.
    ok: bool,
    /// The keys it changed.
    changed: Vec<String>,
    /// What was wrong.
    faults: Vec<ConfigFault>,
}

/// One thing that is wrong with a configuration.
#[derive(Object)]
pub(crate) struct ConfigFault {
    /// The key, when it is about one.
    key: Option<String>,
    /// What is wrong and what to change.
    detail: String,
}
