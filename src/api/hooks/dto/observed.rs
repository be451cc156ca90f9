//! What hooks did, who changed them, and their limits.

use std::collections::HashMap;

use poem_openapi::{Enum, Object};

use super::super::super::dto::Instant;
use super::rehearsal::{HookReason, ItemChange, PayloadDiff, Verdict};
use super::{Bytes, Side};

/// How loud a log line is.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookLogLevel")]
pub(in super::super) enum LogLevel {
    /// Finest.
    Trace,
    /// For debugging.
    Debug,
    /// Normal.
    Info,
    /// Odd.
    Warn,
    /// Broken.
    Error,
}

/// A line of a hook's log.
#[derive(Object)]
#[oai(rename = "HookLogLine")]
pub(in super::super) struct LogLine {
    /// Goes up with each line of the hook on this node.
    seq: u64,
    /// When the call that wrote it ended.
    at: Instant,
    /// Which version wrote it; 0 for lines by the server.
    version: u32,
    /// How loud.
    level: LogLevel,
    /// The line.
    message: String,
}

/// Lines of a hook's log on this node, the oldest first.
#[derive(Object)]
#[oai(rename = "HookLog")]
pub(in super::super) struct LogList {
    /// The lines.
    lines: Vec<LogLine>,
}

/// What each version of a hook did on this node, the newest first.
#[derive(Object)]
pub(in super::super) struct HookStatsList {
    /// The versions.
    versions: Vec<HookStats>,
}

/// What a version did on this node since it started.
#[derive(Object)]
pub(in super::super) struct HookStats {
    /// The version.
    version: u32,
    /// Calls made.
    calls: u64,
    /// Items given to it.
    items: u64,
    /// Verdicts by their name, and `error` where it failed on an item.
    verdicts: HashMap<String, u64>,
    /// Calls with an answer that was not valid.
    invalid: u64,
    /// Calls that trapped.
    traps: u64,
    /// Calls that ran out of time.
    timeouts: u64,
    /// Calls that were not run for lack of resources.
    overloads: u64,
    /// Items the policy was applied to while the breaker was open.
    skipped: u64,
    /// Items it said the same of as shadow.
    shadow_same: u64,
    /// Items it said something else of as shadow.
    shadow_different: u64,
    /// Items it failed on as shadow.
    shadow_failed: u64,
    /// Calls that ran into the memory, the stack or the calls of imports they may have.
    ceiling_trips: u64,
    /// Whether its breaker is open.
    breaker_open: bool,
    /// Whether it is in quarantine.
    quarantined: bool,
    /// Time its calls ran, in microseconds.
    run_us: u64,
    /// Half of its calls ran no longer than this, in microseconds.
    run_p50_us: u64,
    /// 99 of 100 calls ran no longer than this, in microseconds.
    run_p99_us: u64,
    /// Most linear memory a call had, in bytes.
    memory_bytes_max: u64,
    /// Calls of imports.
    host_calls: u64,
    /// Log lines that were dropped.
    log_lines_dropped: u64,
}

/// The items a hook failed on within a day on this node, the newest first.
#[derive(Object)]
#[oai(rename = "HookFailureList")]
pub(in super::super) struct FailureList {
    /// The failures; none when the manifest does not have them kept.
    failures: Vec<Failure>,
}

/// An item a hook failed on.
#[derive(Object)]
#[oai(rename = "HookFailure")]
pub(in super::super) struct Failure {
    /// When.
    at: Instant,
    /// Which version failed.
    version: u32,
    /// Which way.
    side: Side,
    /// The topic.
    topic: String,
    /// The item's id, decimal.
    id: String,
    /// Its priority.
    priority: i32,
    /// Its headers.
    headers: Option<HashMap<String, String>>,
    /// Its content type.
    content_type: Option<String>,
    /// Its payload, as base64; absent when it was larger than 64 KiB.
    payload: Option<Bytes>,
    /// Which delivery it was; 0 on enqueue.
    attempt: u32,
    /// What happened.
    detail: String,
}

/// The items that shadows of a hook said something else of than counted, or failed on, the last ones on this node,
/// the newest first.
#[derive(Object)]
#[oai(rename = "HookDifferenceList")]
pub(in super::super) struct DifferenceList {
    /// The differences; at most 20.
    differences: Vec<Difference>,
}

/// An item that a shadow said something else of than counted, or failed on.
#[derive(Object)]
#[oai(rename = "HookDifference")]
pub(in super::super) struct Difference {
    /// When.
    at: Instant,
    /// Which way the item went.
    side: Side,
    /// Its topic.
    topic: String,
    /// Its id, decimal.
    id: String,
    /// The version that counted.
    version: u32,
    /// The version that ran on a copy.
    shadow: u32,
    /// How the two compare.
    outcome: ShadowOutcome,
    /// What counted.
    counted: Said,
    /// What the shadow said.
    said: Said,
    /// How the payload that the shadow makes differs from the one that counts, where each makes one.
    diff: Option<PayloadDiff>,
    /// Whether the changes were left out, because they are large.
    cut: bool,
}

/// How what a shadow says compares with what counts.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookShadowOutcome")]
pub(in super::super) enum ShadowOutcome {
    /// It is another verdict.
    Different,
    /// The shadow failed.
    Failed,
}

/// What a version said of an item.
#[derive(Object)]
#[oai(rename = "HookSaid")]
pub(in super::super) struct Said {
    /// The verdict.
    verdict: Verdict,
    /// Why, where verdicts have a reason.
    reason: Option<HookReason>,
    /// How it failed.
    failure: Option<String>,
    /// How long it is deferred, in milliseconds.
    delay_ms: Option<u32>,
    /// What changes: one entry per item that would be stored or handed out in its place.
    changes: Option<Vec<ItemChange>>,
}

/// The limits in force.
#[derive(Object)]
pub(in super::super) struct HookLimits {
    /// Bytes of an upload.
    upload_bytes: u64,
    /// What one call may use.
    call: CallLimits,
    /// How many of everything a namespace may have.
    namespace: NamespaceLimits,
}

/// What one call of a hook may use.
#[derive(Object)]
#[oai(rename = "HookCallLimits")]
pub(in super::super) struct CallLimits {
    /// Time for a call with one item, in milliseconds.
    item_ms: u32,
    /// Time for a call with several items, in milliseconds.
    batch_ms: u32,
    /// Linear memory, in bytes.
    memory_bytes: u64,
    /// Elements of each table.
    table_elements: u32,
    /// Stack, in bytes.
    stack_bytes: u32,
    /// Bytes a call may give back.
    output_bytes: u64,
    /// Calls of imports.
    host_calls: u32,
    /// Log lines of a call.
    log_lines: u32,
    /// Bytes of a log line.
    log_line_bytes: u32,
    /// Items one item may be split into.
    split_items: u32,
    /// Times an item may be routed.
    hops: u32,
}

/// How many of everything a namespace may have.
#[derive(Object)]
#[oai(rename = "HookNamespaceLimits")]
pub(in super::super) struct NamespaceLimits {
    /// Hooks.
    hooks: u64,
    /// Versions kept of each hook.
    versions_per_hook: u64,
    /// Bindings that are on and could meet in one topic on one side.
    bindings_per_topic: u64,
    /// Test cases of each hook.
    tests_per_hook: u64,
    /// Bytes of a test case.
    test_bytes: u64,
    /// Bytes of a configuration, keys and values.
    config_bytes: u64,
    /// Secrets of a version.
    secrets: u64,
    /// Bytes of a secret.
    secret_bytes: u64,
    /// Bytes of the configurations and secrets of all its versions.
    settings_bytes_in_all: u64,
    /// Bytes of the modules of all its versions.
    module_bytes_in_all: u64,
}
