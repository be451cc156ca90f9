//! The documented shapes of bodies. They describe; reading and writing happens elsewhere, in one pass.
//!
//! Tests hold that what is written has only documented members.

mod admin;
mod operating;

use std::borrow::Cow;
use std::collections::HashMap;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{Any, Base64, ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{Enum, Object};
use serde_json::Value;

pub(crate) use admin::*;
pub(crate) use operating::*;

use super::hooks::DryRunItem;

type Json = Any<Value>;
type Bytes = Base64<Vec<u8>>;

/// An RFC 3339 instant, for documentation.
#[derive(Debug, Clone)]
pub(crate) struct Instant(String);

impl Type for Instant {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string(date-time)".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(self.as_raw_value().into_iter())
    }
}

impl ParseFromJSON for Instant {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value {
            Some(Value::String(text)) => Ok(Self(text)),
            other => Err(ParseError::expected_type(other.unwrap_or_default())),
        }
    }
}

impl ToJSON for Instant {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// An RFC 9457 problem: what every answer that is not a success carries.
#[derive(Object)]
#[oai(rename = "Problem")]
pub(crate) struct ProblemBody {
    /// Where the kind of problem is explained, relative to the server.
    #[oai(rename = "type")]
    kind: String,
    /// The kind of problem in one short sentence.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What to change this time.
    detail: String,
    /// The kind of problem, stable, for programs.
    code: String,
    /// The request's id, as in the server's log.
    request_id: String,
    /// The fields that are wrong.
    errors: Option<Vec<FieldProblem>>,
    /// When a whole batch was refused: the result of each item, in order.
    results: Option<Vec<EnqueueResult>>,
}

/// A field and what is wrong with it.
#[derive(Object)]
pub(crate) struct FieldProblem {
    /// The field's path, such as `items[3].ttl_ms`.
    field: String,
    /// What to change.
    detail: String,
}

/// Items to enqueue.
#[derive(Object)]
pub(crate) struct EnqueueRequest {
    /// The items, in the order in which they are to be accepted.
    #[oai(validator(min_items = 1, max_items = 1000))]
    items: Vec<NewItem>,
    /// How safe the items must be when the answer leaves; `logged` when absent.
    durability: Option<Durability>,
}

/// How safe items are when the answer leaves.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Durability {
    /// Synced in the node's write-ahead log.
    Logged,
    /// Also committed in the topic's shard.
    Stored,
}

/// An item to enqueue: exactly one of `payload`, `json` and `text`; the rest comes from the topic's settings.
#[derive(Object)]
pub(crate) struct NewItem {
    /// The payload as standard base64.
    payload: Option<Bytes>,
    /// The payload as any JSON value, nested at most 32 deep.
    json: Option<Json>,
    /// The payload as text.
    text: Option<String>,
    /// Smaller goes first.
    priority: Option<i32>,
    /// The payload's media type.
    content_type: Option<String>,
    /// Free headers, at most 64; `traceparent` travels here.
    headers: Option<HashMap<String, String>>,
    /// Earliest delivery; excludes `delay_ms`.
    deliver_after: Option<Instant>,
    /// Earliest delivery from now, in milliseconds; excludes `deliver_after`.
    delay_ms: Option<i64>,
    /// Time to live from now, in milliseconds.
    ttl_ms: Option<i64>,
    /// Lease length, in milliseconds, 1 s to 12 h.
    lease_ms: Option<u32>,
    /// Deliveries after which the item is dead, 1 to 1000.
    max_attempts: Option<u32>,
    /// The same key in the same topic within the window is the same item.
    idempotency_key: Option<String>,
}

/// What became of the items.
#[derive(Object)]
pub(crate) struct EnqueueResponse {
    /// The durability that was reached for every accepted item.
    durability: Durability,
    /// One result per item, in order.
    results: Vec<EnqueueResult>,
}

/// What became of one item.
#[derive(Object)]
pub(crate) struct EnqueueResult {
    /// The item's id, decimal; absent when it was rejected.
    id: Option<String>,
    /// What a hook split the item into; `id` is the first of them.
    ids: Option<Vec<String>>,
    /// What became of it.
    status: EnqueueStatus,
    /// Why it was rejected: a problem code. Why a hook filtered it or made it a dead letter: the hook's code.
    reason: Option<String>,
    /// The hook's own code, when the reason is `hook_rejected`.
    code: Option<String>,
    /// What to change, or what the hook said.
    detail: Option<String>,
    /// The hook that decided, as `name@version`.
    hook: Option<String>,
    /// When to come back, in milliseconds, when the reason is `hook_overloaded`.
    retry_after_ms: Option<u64>,
}

/// What became of an item.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum EnqueueStatus {
    /// It is in the queue.
    Accepted,
    /// Its idempotency key was used before for the same body; `id` is the first item's.
    Duplicate,
    /// A hook dropped it: nothing was stored, and nothing has to be done.
    Filtered,
    /// A hook made it a dead letter.
    DeadLettered,
    /// It was refused.
    Rejected,
}

/// What a dequeue of one topic asks for. An empty body asks for the defaults.
#[derive(Object)]
pub(crate) struct DequeueRequest {
    /// The most items, 1 to 1000; 10 when absent. An answer ends with the item that fills 8 MiB.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    max: Option<u32>,
    /// How long to wait for the first item, in milliseconds; 0 when absent.
    #[oai(validator(maximum(value = "20000")))]
    wait_ms: Option<u32>,
    /// Lease length, in milliseconds; else each item's own.
    #[oai(validator(minimum(value = "1000"), maximum(value = "43200000")))]
    lease_ms: Option<u32>,
    /// Asking again with the same id returns the same batch while its leases live.
    #[oai(validator(max_length = 128))]
    request_id: Option<String>,
}

/// What a dequeue of several topics asks for.
#[derive(Object)]
pub(crate) struct DequeueManyRequest {
    /// The topics; earlier ones are served first.
    #[oai(validator(min_items = 1, max_items = 100))]
    topics: Vec<TopicShare>,
    /// The most items in all, 1 to 1000; 10 when absent. An answer ends with the item that fills 8 MiB.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    max_total: Option<u32>,
    /// How long to wait for the first item, in milliseconds; 0 when absent.
    #[oai(validator(maximum(value = "20000")))]
    wait_ms: Option<u32>,
    /// Lease length, in milliseconds; else each item's own.
    #[oai(validator(minimum(value = "1000"), maximum(value = "43200000")))]
    lease_ms: Option<u32>,
    /// Asking again with the same id returns the same batch while its leases live.
    #[oai(validator(max_length = 128))]
    request_id: Option<String>,
}

/// One topic and how much of it.
#[derive(Object)]
pub(crate) struct TopicShare {
    /// The topic's name.
    topic: String,
    /// The most items of this topic; `max_total` when absent.
    max: Option<u32>,
}

/// Items handed out.
#[derive(Object)]
pub(crate) struct DequeueResponse {
    /// The items, the most urgent first; none when none was due in time.
    items: Vec<DeliveredItem>,
    /// `leases` when there are fewer items than asked for, and the namespace has as many with its consumers as
    /// its quota allows: settle some.
    limited_by: Option<String>,
}

/// One item handed out. Its payload has the name it was enqueued by.
#[derive(Object)]
pub(crate) struct DeliveredItem {
    /// The item's id, decimal: it may exceed what JavaScript numbers hold.
    id: String,
    /// The topic it came from.
    topic: String,
    /// Smaller goes first.
    priority: i32,
    /// The payload as base64.
    payload: Option<Bytes>,
    /// The payload as the JSON that was given.
    json: Option<Json>,
    /// The payload as text.
    text: Option<String>,
    /// The payload's media type.
    content_type: Option<String>,
    /// The producer's headers.
    headers: Option<HashMap<String, String>>,
    /// The hook that last shaped what is seen here, as `name@version`.
    hook_version: Option<String>,
    /// Which delivery this is, from 1.
    attempt: u32,
    /// When the item was accepted.
    enqueued_at: Instant,
    /// When it was due.
    deliver_after: Instant,
    /// The handle that settles the item; absent from at-most-once topics.
    lease_id: Option<String>,
    /// When the lease ends.
    lease_expires_at: Option<Instant>,
    /// The last failure reported for the item.
    last_error: Option<String>,
}

/// Leases whose items are done.
#[derive(Object)]
pub(crate) struct AckRequest {
    /// The leases; none only beside `then_dequeue`.
    #[oai(validator(max_items = 1000))]
    leases: Vec<AckLease>,
    /// Dequeue in the same call, after the acks.
    then_dequeue: Option<ThenDequeue>,
}

/// One lease.
#[derive(Object)]
pub(crate) struct AckLease {
    /// The handle from the delivery.
    lease_id: String,
}

/// A dequeue that follows an ack.
#[derive(Object)]
pub(crate) struct ThenDequeue {
    /// The namespace.
    namespace: String,
    /// The topic.
    topic: String,
    /// The most items, 1 to 1000; 10 when absent. An answer ends with the item that fills 8 MiB.
    max: Option<u32>,
    /// How long to wait for the first item, in milliseconds, up to 20000.
    wait_ms: Option<u32>,
    /// Lease length, in milliseconds.
    lease_ms: Option<u32>,
}

/// Leases whose items failed.
#[derive(Object)]
pub(crate) struct NackRequest {
    /// The leases.
    #[oai(validator(min_items = 1, max_items = 1000))]
    leases: Vec<NackLease>,
}

/// One lease and why its item failed.
#[derive(Object)]
pub(crate) struct NackLease {
    /// The handle from the delivery.
    lease_id: String,
    /// Time until the next delivery, in milliseconds; the topic's backoff when absent.
    delay_ms: Option<i64>,
    /// What went wrong; cut at 2 KiB.
    error: Option<String>,
}

/// Leases to prolong.
#[derive(Object)]
pub(crate) struct ExtendRequest {
    /// The leases.
    #[oai(validator(min_items = 1, max_items = 1000))]
    leases: Vec<ExtendLease>,
}

/// One lease and for how long.
#[derive(Object)]
pub(crate) struct ExtendLease {
    /// The handle from the delivery.
    lease_id: String,
    /// Length from now, in milliseconds; the item's own when absent.
    lease_ms: Option<u32>,
}

/// Leases to give back without counting the delivery.
#[derive(Object)]
pub(crate) struct ReleaseRequest {
    /// The leases.
    #[oai(validator(min_items = 1, max_items = 1000))]
    leases: Vec<ReleaseLease>,
}

/// One lease to give back.
#[derive(Object)]
pub(crate) struct ReleaseLease {
    /// The handle from the delivery.
    lease_id: String,
    /// Time until the next delivery, in milliseconds; at once when absent.
    delay_ms: Option<i64>,
}

/// Leases whose items will never work.
#[derive(Object)]
pub(crate) struct RejectRequest {
    /// The leases.
    #[oai(validator(min_items = 1, max_items = 1000))]
    leases: Vec<RejectLease>,
}

/// One lease and why its item will never work.
#[derive(Object)]
pub(crate) struct RejectLease {
    /// The handle from the delivery.
    lease_id: String,
    /// What went wrong; cut at 2 KiB.
    error: Option<String>,
}

/// What became of the leases.
#[derive(Object)]
pub(crate) struct SettleResponse {
    /// One result per lease, in order.
    results: Vec<SettleResult>,
    /// What `then_dequeue` handed out.
    items: Option<Vec<DeliveredItem>>,
    /// `leases` when `then_dequeue` asked for more than the namespace's quota of leases has room for.
    limited_by: Option<String>,
}

/// What became of one lease.
#[derive(Object)]
pub(crate) struct SettleResult {
    /// The item's id; absent for a lease id that is not one of the caller's.
    id: Option<String>,
    /// What became of it.
    status: SettleStatus,
    /// The new end of an extended lease.
    lease_expires_at: Option<Instant>,
}

/// What became of a lease.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum SettleStatus {
    /// Done as asked.
    Ok,
    /// This very lease had already settled its item; nothing changed.
    AlreadyDone,
    /// The lease ended, or never was the caller's; nothing changed.
    LeaseLost,
}

/// Settings of a topic or a namespace; what is absent comes from the next level.
#[derive(Object)]
pub(crate) struct Settings {
    /// Priority of items that name none.
    priority: Option<i32>,
    /// Lease of items that name none, in milliseconds, 1 s to 12 h.
    lease_ms: Option<u32>,
    /// Deliveries after which an item is dead, 1 to 1000.
    max_attempts: Option<u32>,
    /// How long a nacked item waits.
    backoff: Option<Backoff>,
    /// Time to live of items that name none, in milliseconds; 0 keeps them for ever.
    ttl_ms: Option<i64>,
    /// What becomes of an item whose time to live passed.
    on_expiry: Option<ExpiryAction>,
    /// How long an idempotency key is remembered, in milliseconds.
    dedup_window_ms: Option<i64>,
    /// Whether a delivery must be acked.
    delivery: Option<Delivery>,
    /// How long dead letters are kept, in milliseconds; 0 keeps them for ever.
    dead_retention_ms: Option<i64>,
}

/// Exponential backoff: `initial_ms` times `factor` to the power of failures, at most `cap_ms`.
#[derive(Object)]
pub(crate) struct Backoff {
    /// Delay after the first failure, in milliseconds.
    initial_ms: Option<u32>,
    /// What each further failure multiplies the delay by, 1 to 100.
    factor: Option<f64>,
    /// Longest delay, in milliseconds.
    cap_ms: Option<u32>,
    /// Share of the delay it is spread by in both directions, 0 to 1.
    jitter: Option<f64>,
}

/// What becomes of an item whose time to live passed.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum ExpiryAction {
    /// It is dropped and counted.
    Drop,
    /// It becomes a dead letter.
    Dead,
}

/// Whether a delivery must be acked.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Delivery {
    /// Redelivered until acked.
    AtLeastOnce,
    /// The delivery is the ack.
    AtMostOnce,
}

/// Settings in force, every one decided; null stands for "for ever".
#[derive(Object)]
pub(crate) struct EffectiveSettings {
    /// Priority of items that name none.
    priority: i32,
    /// Lease of items that name none, in milliseconds.
    lease_ms: u32,
    /// Deliveries after which an item is dead.
    max_attempts: u32,
    /// How long a nacked item waits.
    backoff: Backoff,
    /// Time to live of items that name none, in milliseconds.
    #[oai(nullable)]
    ttl_ms: Option<i64>,
    /// What becomes of an item whose time to live passed.
    on_expiry: ExpiryAction,
    /// How long an idempotency key is remembered, in milliseconds.
    dedup_window_ms: i64,
    /// Whether a delivery must be acked.
    delivery: Delivery,
    /// How long dead letters are kept, in milliseconds.
    #[oai(nullable)]
    dead_retention_ms: Option<i64>,
}

/// A topic's numbers. Flat, so that scalers can read each by its name.
#[derive(Object)]
pub(crate) struct TopicStats {
    /// Items due and waiting.
    ready: u64,
    /// Items not due yet.
    scheduled: u64,
    /// Items handed out.
    leased: u64,
    /// Dead letters.
    dead: u64,
    /// How long the item that would go out next has been due, in milliseconds.
    oldest_ready_age_ms: i64,
    /// Items accepted since the node started.
    enqueued_total: u64,
    /// Items handed out since the node started.
    delivered_total: u64,
    /// Items acked since the node started.
    acked_total: u64,
    /// Deliveries nacked, or whose lease ended, since the node started.
    failed_total: u64,
    /// Items that became dead letters since the node started.
    dead_total: u64,
    /// Items whose time to live passed since the node started.
    expired_total: u64,
    /// Items accepted per second, over about 10 seconds.
    enqueued_per_s: f64,
    /// Items handed out per second, over about 10 seconds.
    delivered_per_s: f64,
    /// Items acked per second, over about 10 seconds.
    acked_per_s: f64,
}

/// A topic's last hour on the node that answers.
#[derive(Object)]
pub(crate) struct TopicHistory {
    /// From one moment to the next, in milliseconds.
    every_ms: i64,
    /// The moments, the oldest first, without a gap; none before the node started or the topic was there.
    moments: Vec<TopicMoment>,
}

/// What happened in a topic since the moment before, and what it held.
#[derive(Object)]
pub(crate) struct TopicMoment {
    /// When.
    at: Instant,
    /// Items accepted since the moment before, by this node.
    enqueued: u32,
    /// Items handed out since then, by this node.
    delivered: u32,
    /// Items acked since then, by this node.
    acked: u32,
    /// Items due and waiting.
    ready: u32,
    /// Items not due yet.
    scheduled: u32,
    /// Items handed out.
    leased: u32,
    /// Dead letters.
    dead: u32,
}

/// One topic in a list.
#[derive(Object)]
pub(crate) struct TopicSummary {
    /// Its name.
    topic: String,
    /// Whether deliveries are stopped.
    paused: bool,
    /// Its numbers.
    stats: TopicStats,
}

/// One page of topics, by name.
#[derive(Object)]
pub(crate) struct TopicList {
    /// The topics.
    topics: Vec<TopicSummary>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A topic with its settings.
#[derive(Object)]
pub(crate) struct TopicDetail {
    /// Its name.
    topic: String,
    /// Whether deliveries are stopped.
    paused: bool,
    /// Its own settings.
    settings: Settings,
    /// The settings in force.
    effective: EffectiveSettings,
    /// Its numbers.
    stats: TopicStats,
}

/// An item's state.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum ItemState {
    /// Not due yet.
    Scheduled,
    /// Due and waiting.
    Ready,
    /// Handed to a consumer.
    Leased,
    /// A dead letter.
    Dead,
}

/// One item in full.
#[derive(Object)]
pub(crate) struct ItemDetail {
    /// The item's id, decimal.
    id: String,
    /// Its state.
    state: ItemState,
    /// Smaller goes first.
    priority: i32,
    /// The payload as base64.
    payload: Option<Bytes>,
    /// The payload as the JSON that was given.
    json: Option<Json>,
    /// The payload as text.
    text: Option<String>,
    /// The payload's media type.
    content_type: Option<String>,
    /// The producer's headers.
    headers: Option<HashMap<String, String>>,
    /// Deliveries counted so far.
    attempt: u32,
    /// Deliveries after which it is dead.
    max_attempts: u32,
    /// Its lease length, in milliseconds.
    lease_ms: u32,
    /// When it was accepted.
    enqueued_at: Instant,
    /// When it is or was due.
    deliver_after: Instant,
    /// When it stops being worth delivering.
    expires_at: Option<Instant>,
    /// When its lease ends.
    lease_expires_at: Option<Instant>,
    /// The last failure reported for it.
    last_error: Option<String>,
    /// The producer's idempotency key.
    idempotency_key: Option<String>,
    /// The hook and version that last shaped it.
    hook_version: Option<String>,
    /// Why and when it died.
    dead: Option<Death>,
}

/// Why and when an item became a dead letter.
#[derive(Object)]
pub(crate) struct Death {
    /// Why.
    reason: DeadReason,
    /// When.
    at: Instant,
}

/// Why an item is dead.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum DeadReason {
    /// It was delivered `max_attempts` times and never acked.
    AttemptsExhausted,
    /// A consumer rejected it.
    Rejected,
    /// Its time to live passed and its topic keeps such items.
    Expired,
    /// A hook sent it here.
    Hook,
}

/// One page of items, in delivery order.
#[derive(Object)]
pub(crate) struct ItemList {
    /// The items. They may be fewer than `limit` and yet not the last: a page is bounded in bytes, and in how much is
    /// looked through for it.
    items: Vec<ItemDetail>,
    /// Where the next page begins; absent at the end, and only there.
    next_cursor: Option<String>,
}

/// How many items an operation touched.
#[derive(Object)]
pub(crate) struct Count {
    /// The number of items.
    count: u64,
}

/// Which dead letters to bring back, and how. An empty body brings back all.
#[derive(Object)]
pub(crate) struct RedriveRequest {
    /// Which; all when absent.
    filter: Option<ItemFilter>,
    /// Into another topic of the namespace; each item gets a new id there.
    to_topic: Option<String>,
    /// At most this many per second; as fast as possible when absent.
    rate_per_s: Option<u32>,
    /// At most this many in all.
    limit: Option<u64>,
    /// Through this hook, `name@version` or the newest version of `name`, as if they were enqueued again: what
    /// it changes comes back as new items, what it drops is gone, what it refuses or fails on stays dead.
    hook: Option<String>,
    /// Change nothing; tell what would be done.
    dry_run: Option<bool>,
}

/// What a redrive did, or would do.
#[derive(Object)]
pub(crate) struct RedriveResponse {
    /// How many items came back, or would.
    count: u64,
    /// How many stayed dead because the hook refused them or failed on them.
    kept: u64,
    /// Whether nothing was changed.
    dry_run: bool,
    /// Whether more may fit: a call works for at most 20 seconds.
    more: bool,
    /// The first few of them.
    sample: Vec<ItemDetail>,
    /// What the hook would make of them; only of dry runs with a hook.
    rehearsals: Option<Vec<DryRunItem>>,
}

/// How the node's parts are.
#[derive(Object)]
pub(crate) struct Readiness {
    /// Whether the node accepts new items.
    ready: bool,
    /// Each part.
    parts: Vec<Part>,
}

/// How one part is.
#[derive(Object)]
pub(crate) struct Part {
    /// Its name.
    part: String,
    /// Whether it works.
    ok: bool,
    /// In words.
    detail: String,
}

/// What a token may see at one moment.
#[derive(Object)]
pub(crate) struct Snapshot {
    /// When.
    at: Instant,
    /// Who the token speaks for.
    subject: String,
    /// The namespaces the token lists; absent when it opens every one.
    namespaces: Option<Vec<String>>,
    /// The token's scopes.
    scopes: Vec<String>,
    /// Whether the node accepts new items.
    ready: bool,
    /// How each part of the node is.
    parts: Vec<Part>,
    /// The node's own numbers; only for tokens that open every namespace.
    node: Option<NodeEvent>,
    /// The topics of the token's namespaces, at most 1000, by namespace and name.
    topics: Vec<TopicEvent>,
    /// How many topics are left out.
    topics_left_out: u64,
}

/// The node's own numbers; those of the log count from its opening.
#[derive(Object)]
pub(crate) struct NodeEvent {
    /// Segments of the log.
    log_segments: u64,
    /// Bytes of the log.
    log_bytes: u64,
    /// Bytes that wait to be written to the log.
    log_pending_bytes: u64,
    /// Bytes written to the log.
    log_written_bytes: u64,
    /// Times the log was synced.
    log_syncs: u64,
    /// Time spent syncing the log, in microseconds.
    log_sync_us: u64,
    /// Records of the log that the shard furthest behind has not stored.
    flush_lag_records: u64,
    /// How reloads of the configuration went.
    config: Reloads,
    /// How long answers took, by group of routes.
    latencies: Vec<RouteLatency>,
    /// The shards.
    shards: Vec<ShardEvent>,
}

/// A shard as this node sees it; counts of calls are since the node started.
#[derive(Object)]
pub(crate) struct ShardEvent {
    /// Its place in `DATABASE_URLS`, from 0.
    shard: u16,
    /// Whether calls of it are made.
    state: ShardState,
    /// Why the last call that failed did, while calls do not go well.
    failure: Option<String>,
    /// How many times it was left alone.
    openings: u64,
    /// How many calls failed at once.
    refused: u64,
    /// How many of the 4096 slots it holds.
    slots: u32,
    /// How many topics.
    topics: u64,
    /// How many items of these topics there are, in memory or stored.
    items: u64,
}

/// How long the answers to a group of routes took since the node started.
#[derive(Object)]
pub(crate) struct RouteLatency {
    /// The group, as in `/metrics`.
    route: String,
    /// How many answers took at most so many microseconds, cumulative: pairs of bound and count.
    within_us: Vec<Vec<u64>>,
    /// How many answers there were.
    count: u64,
}

/// One topic of an event.
#[derive(Object)]
pub(crate) struct TopicEvent {
    /// Its namespace.
    namespace: String,
    /// Its name.
    topic: String,
    /// Whether deliveries are stopped.
    paused: bool,
    /// Its numbers.
    stats: TopicStats,
}

/// An item as the first version takes it.
#[derive(Object)]
pub(crate) struct ClassicItem {
    /// The namespace.
    namespace: String,
    /// The topic.
    topic: String,
    /// Smaller goes first; 0 when absent.
    priority: Option<i32>,
    /// The payload as standard base64; empty when absent.
    payload: Option<Bytes>,
    /// Earliest delivery; instants before 1970, Go's zero time among them, stand for "now".
    deliver_after: Option<Instant>,
}

/// What became of an item of the first version.
#[derive(Object)]
pub(crate) struct ClassicResult {
    /// The namespace.
    namespace: String,
    /// The topic.
    topic: String,
    /// The item's id, decimal; absent when it was rejected.
    id: Option<String>,
    /// What became of it.
    status: EnqueueStatus,
    /// Why it was rejected: a problem code.
    reason: Option<String>,
    /// What to change.
    detail: Option<String>,
}

/// An item as the first version hands it out.
#[derive(Object)]
pub(crate) struct ClassicDelivery {
    /// The item's id, decimal.
    id: String,
    /// The namespace.
    namespace: String,
    /// The topic.
    topic: String,
    /// Smaller goes first.
    priority: i32,
    /// The payload as base64, however it was enqueued.
    payload: Bytes,
    /// When it was due.
    deliver_after: Instant,
    /// Which delivery this is, from 1.
    attempt: u32,
    /// The handle that settles the item; absent from at-most-once topics.
    lease_id: Option<String>,
    /// When the lease ends.
    lease_expires_at: Option<Instant>,
}

/// An item to settle by its id. `delay_ms` and `error` are for nack.
#[derive(Object)]
pub(crate) struct ClassicSettle {
    /// The item's id, as a decimal string or a number.
    id: Json,
    /// The namespace.
    namespace: String,
    /// The topic.
    topic: String,
    /// The lease; the item's current one, whoever holds it, when absent.
    lease_id: Option<String>,
    /// Time until the next delivery, in milliseconds; the topic's backoff when absent.
    delay_ms: Option<i64>,
    /// What went wrong.
    error: Option<String>,
}

/// An item that was settled by its id.
#[derive(Object)]
pub(crate) struct ClassicSettled {
    /// The item's id, decimal.
    id: String,
    /// `ok`, or `already_done` when this very lease had settled it before.
    status: SettleStatus,
}
