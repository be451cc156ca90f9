//! Test cases and dry runs.

use std::collections::HashMap;

use poem_openapi::{Enum, Object};

use super::super::super::dto::{Instant, ItemState};
use super::observed::LogLevel;
use super::{Bytes, Json, Side};

/// The item of a test or a dry run: at most one of `json`, `text` and `payload`.
#[derive(Object)]
pub(in super::super) struct TestItem {
    /// The payload as any JSON value.
    json: Option<Json>,
    /// The payload as text.
    text: Option<String>,
    /// The payload as base64.
    payload: Option<Bytes>,
    /// The payload's media type.
    content_type: Option<String>,
    /// Headers.
    headers: Option<HashMap<String, String>>,
    /// Smaller goes first; 0 when absent.
    priority: Option<i32>,
    /// When the item was accepted; now when absent.
    enqueued_at: Option<Instant>,
    /// The earliest delivery; the acceptance when absent.
    deliver_after: Option<Instant>,
    /// Which delivery it is; 0 on enqueue and 1 on dequeue when absent.
    attempt: Option<u32>,
    /// How many times hooks have routed the item.
    hops: Option<u32>,
}

/// A verdict, or how a call failed.
#[derive(Enum)]
#[oai(rename_all = "snake_case", rename = "HookVerdict")]
pub(in super::super) enum Verdict {
    /// Enqueue: store it as it is.
    Keep,
    /// Enqueue: store it with another payload.
    Replace,
    /// Enqueue: store it changed.
    Edit,
    /// Enqueue: store several in its place.
    Split,
    /// Enqueue: refuse it.
    Reject,
    /// Dequeue: hand it out as it is.
    Deliver,
    /// Dequeue: hand out another payload.
    DeliverAs,
    /// Dequeue: hand it out changed.
    DeliverEdited,
    /// Dequeue: not now.
    Defer,
    /// Say yes and forget it.
    Drop,
    /// Make it a dead letter.
    DeadLetter,
    /// The hook said that it failed on the item.
    Error,
    /// What it gave back is not valid.
    Invalid,
    /// It trapped.
    Trap,
    /// It ran out of time.
    Timeout,
    /// It was not run.
    Overload,
}

/// What a hook must say of an item; members that are absent are not looked at.
#[derive(Object)]
pub(in super::super) struct Expected {
    /// The verdict.
    verdict: Verdict,
    /// The code of its reason.
    code: Option<String>,
    /// The message of its reason, or a part of how it fails.
    message: Option<String>,
    /// How long it defers the item, in milliseconds.
    delay_ms: Option<u32>,
    /// The new payload, equal as JSON.
    json: Option<Json>,
    /// The new payload as text.
    text: Option<String>,
    /// The new payload as base64.
    payload: Option<Bytes>,
    /// All headers, whatever their order.
    headers: Option<HashMap<String, String>>,
    /// The new priority.
    priority: Option<i32>,
    /// The new earliest delivery.
    deliver_after: Option<Instant>,
    /// The topic it is sent to.
    topic: Option<String>,
    /// The parts of a split, in order.
    items: Option<Vec<ExpectedItem>>,
}

/// One part of a split.
#[derive(Object)]
pub(in super::super) struct ExpectedItem {
    /// Its payload, equal as JSON.
    json: Option<Json>,
    /// Its payload as text.
    text: Option<String>,
    /// Its payload as base64.
    payload: Option<Bytes>,
    /// All headers, whatever their order.
    headers: Option<HashMap<String, String>>,
    /// Its priority.
    priority: Option<i32>,
    /// Its earliest delivery.
    deliver_after: Option<Instant>,
    /// The topic it is sent to.
    topic: Option<String>,
}

/// One test of a hook.
#[derive(Object)]
pub(in super::super) struct TestCase {
    /// The path's name counts, not this one.
    name: Option<String>,
    /// Which export runs.
    side: Side,
    /// The topic; `test` when absent.
    topic: Option<String>,
    /// Who asks.
    principal: Option<String>,
    /// The words of the asker's scope.
    scopes: Option<Vec<String>>,
    /// The time the hook sees; the beginning of 2026 when absent.
    now: Option<Instant>,
    /// The configuration, in place of the version's.
    config: Option<HashMap<String, Json>>,
    /// Stand-ins for secrets, in place of the version's.
    secrets: Option<HashMap<String, String>>,
    /// The item.
    item: TestItem,
    /// What the hook must say.
    expect: Expected,
}

/// A test case kept with a hook.
#[derive(Object)]
pub(in super::super) struct StoredTest {
    /// Its name.
    name: String,
    /// The case.
    case: Option<TestCase>,
}

/// The test cases of a hook, by name.
#[derive(Object)]
pub(in super::super) struct TestList {
    /// The test cases.
    tests: Vec<StoredTest>,
}

/// How a version did in the stored test cases.
#[derive(Object)]
pub(in super::super) struct TestsRun {
    /// How many it passed.
    passed: u64,
    /// How many it failed.
    failed: u64,
    /// How each went.
    results: Vec<TestRun>,
}

/// How a test case went.
#[derive(Object)]
pub(in super::super) struct TestRun {
    /// Its name.
    name: String,
    /// Whether the hook did what the case expects.
    passed: bool,
    /// What was expected and what came.
    mismatch: Option<String>,
    /// What the hook said.
    verdict: Option<Verdict>,
    /// What the call used.
    usage: Option<Usage>,
}

/// Which items to run a version on: `items`, or `last` with `topic`.
#[derive(Object)]
pub(in super::super) struct DryRunRequest {
    /// These items, at most 100.
    #[oai(validator(max_items = 100))]
    items: Option<Vec<TestItem>>,
    /// Up to this many items that are in `topic`, the one accepted last first, at most 100.
    #[oai(validator(maximum(value = "100")))]
    last: Option<u32>,
    /// The topic the hook sees, and which `last` reads.
    topic: Option<String>,
    /// The state of the items `last` reads; ready when absent.
    state: Option<ItemState>,
    /// Which export runs; needed when the version has both.
    side: Option<Side>,
    /// Who asks, as the hook sees it.
    principal: Option<String>,
    /// The words of the asker's scope.
    scopes: Option<Vec<String>>,
    /// The time the hook sees; now when absent.
    now: Option<Instant>,
}

/// What a version would do.
#[derive(Object)]
pub(in super::super) struct DryRun {
    /// The hook and version, as `name@version`.
    version: String,
    /// Which export ran.
    side: Side,
    /// The topic the hook saw.
    topic: String,
    /// How often each verdict came.
    verdicts: HashMap<String, u64>,
    /// Items at the end that were not run, because the answer would be too large.
    not_run: u64,
    /// How each item went, in order.
    items: Vec<DryRunItem>,
}

/// How one item of a dry run went.
#[derive(Object)]
pub(crate) struct DryRunItem {
    /// The item's id, when it is one that is stored.
    id: Option<String>,
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
    /// What the call used.
    usage: Usage,
    /// How near it came to its limits.
    limits: Nearness,
    /// What the call logged.
    log: Vec<RehearsedLine>,
    /// Log lines beyond the limit.
    log_lines_dropped: u32,
}

/// Why a hook dropped, refused or buried an item.
#[derive(Object)]
pub(in super::super) struct HookReason {
    /// For machines.
    code: String,
    /// For people.
    message: String,
}

/// What a hook would change about an item; what is absent stays.
#[derive(Object)]
pub(in super::super) struct ItemChange {
    /// The new payload, as JSON.
    json: Option<Json>,
    /// The new payload, as text.
    text: Option<String>,
    /// The new payload, as base64.
    payload: Option<Bytes>,
    /// How it differs from the item's own.
    diff: Option<PayloadDiff>,
    /// All headers anew.
    headers: Option<HashMap<String, String>>,
    /// The new priority.
    priority: Option<i32>,
    /// The new earliest delivery.
    deliver_after: Option<Instant>,
    /// The topic it goes to.
    topic: Option<String>,
}

/// How a payload differs from the one it replaces.
#[derive(Object)]
pub(in super::super) struct PayloadDiff {
    /// `same`, `json` with a patch, or `bytes` with lengths.
    kind: String,
    /// An RFC 6902 patch from the old to the new.
    patch: Option<Vec<Json>>,
    /// Length of the old one, in bytes.
    before_bytes: Option<u64>,
    /// Length of the new one, in bytes.
    after_bytes: Option<u64>,
    /// Bytes that are the same at the beginning.
    same_prefix_bytes: Option<u64>,
    /// Bytes that are the same at the end, beside the beginning.
    same_suffix_bytes: Option<u64>,
}

/// What a call used.
#[derive(Object)]
#[oai(rename = "HookUsage")]
pub(in super::super) struct Usage {
    /// Time on its thread, in microseconds.
    run_us: u64,
    /// Time in the queue for a thread, in microseconds.
    wait_us: u64,
    /// Instructions.
    instructions: Option<u64>,
    /// Most linear memory, in bytes.
    memory_bytes: u64,
    /// Calls of imports.
    host_calls: u32,
    /// Bytes given in.
    bytes_in: u64,
    /// Bytes given back.
    bytes_out: u64,
}

/// How much of each limit a call used, in percent, rounded up.
#[derive(Object)]
#[oai(rename = "HookNearness")]
pub(in super::super) struct Nearness {
    /// Of the time for a call with one item.
    time_percent: u32,
    /// Of the linear memory.
    memory_percent: u32,
    /// Of the bytes a call may give back.
    output_percent: u32,
    /// Of the calls of imports.
    host_calls_percent: u32,
    /// Of the log lines; over 100 when lines were dropped.
    log_lines_percent: u32,
}

/// A line a rehearsed call logged.
#[derive(Object)]
pub(in super::super) struct RehearsedLine {
    /// How loud.
    level: LogLevel,
    /// The line.
    message: String,
}
