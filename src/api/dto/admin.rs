//! Namespaces, operations, the log of changes, and why an item waits.

use poem_openapi::{Enum, Object};

use super::{
    Backoff, DeadReason, Delivery, EffectiveSettings, ExpiryAction, Instant, ItemState, Json, Quota,
};

/// A namespace's own settings: what its topics have unless they say otherwise, and what is its own.
#[derive(Object)]
pub(crate) struct NamespaceSettings {
    /// Priority of items that name none.
    priority: Option<i32>,
    /// Lease of items that name none, in milliseconds.
    lease_ms: Option<u32>,
    /// Deliveries after which an item is dead.
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
    /// Whether a topic appears with its first item; true when absent. Else topics are made by putting their
    /// settings.
    topics_on_first_use: Option<bool>,
    /// Most topics; the configuration's limit when absent or above it.
    topics_max: Option<u32>,
}

/// A namespace with its settings.
#[derive(Object)]
pub(crate) struct NamespaceDetail {
    /// Its name.
    namespace: String,
    /// Its own settings.
    settings: NamespaceSettings,
    /// The settings in force for topics without their own.
    effective: EffectiveSettings,
    /// How many topics it has.
    topics: u64,
    /// How many it may have.
    topics_max: u64,
    /// Its quota and how much of it is used on this node.
    quota: Quota,
}

/// One page of namespaces, by name.
#[derive(Object)]
pub(crate) struct NamespaceList {
    /// The namespaces.
    namespaces: Vec<NamespaceDetail>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// Which items; every member that is given must fit.
#[derive(Object)]
pub(crate) struct ItemFilter {
    /// Only these, at most 1000.
    ids: Option<Vec<String>>,
    /// Only those whose priority is this or larger.
    priority_min: Option<i32>,
    /// Only those whose priority is this or smaller.
    priority_max: Option<i32>,
    /// Only those accepted at or after this instant.
    enqueued_after: Option<Instant>,
    /// Only those accepted at or before this instant.
    enqueued_before: Option<Instant>,
    /// Only those accepted at least so long ago, in milliseconds.
    older_than_ms: Option<i64>,
    /// Only those with this header.
    header: Option<HeaderMatch>,
    /// Only those whose last error contains this text.
    error_contains: Option<String>,
    /// Only dead letters that died for this reason.
    reason: Option<DeadReason>,
    /// Only dead letters that died at or after this instant.
    died_after: Option<Instant>,
    /// Only dead letters that died at or before this instant.
    died_before: Option<Instant>,
}

/// A header and the value it must have.
#[derive(Object)]
pub(crate) struct HeaderMatch {
    /// Its name, in any case.
    name: String,
    /// Its value.
    value: String,
}

/// What an operation does.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum OperationKind {
    /// Drop every item of a topic that waits or is leased.
    Purge,
    /// Drop every dead letter of a topic.
    DiscardDead,
    /// Drop items of a topic that nobody holds and that fit.
    Cancel,
    /// Bring dead letters of a topic back that fit.
    Redrive,
    /// Delete a topic with everything in it.
    DeleteTopic,
}

/// Work to order. Which members go with a kind is said of each.
#[derive(Object)]
pub(crate) struct OperationRequest {
    /// What to do.
    kind: OperationKind,
    /// The topic.
    topic: String,
    /// Which items, for `cancel` and `redrive`; all when absent.
    filter: Option<ItemFilter>,
    /// Where `cancel` looks: `ready`, `scheduled`, `dead`; the first two when absent.
    states: Option<Vec<ItemState>>,
    /// Into another topic of the namespace, for `redrive`; each item gets a new id there.
    to_topic: Option<String>,
    /// At most this many items, for `cancel` and `redrive`.
    limit: Option<u64>,
    /// At most this many items per second, for `cancel` and `redrive`.
    rate_per_s: Option<u32>,
    /// Through this hook, `name@version` or the newest version of `name`, for `redrive`.
    hook: Option<String>,
    /// The topic's name once more, for `delete_topic`.
    confirm: Option<String>,
    /// Change nothing; the outcome tells what would be done.
    dry_run: Option<bool>,
}

/// What an operation does, those on whole namespaces included.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum OperationWorkKind {
    /// Drop every item of a topic that waits or is leased.
    Purge,
    /// Drop every dead letter of a topic.
    DiscardDead,
    /// Drop items of a topic that nobody holds and that fit.
    Cancel,
    /// Bring dead letters of a topic back that fit.
    Redrive,
    /// Delete a topic with everything in it.
    DeleteTopic,
    /// Delete a namespace with everything in it.
    DeleteNamespace,
}

/// The work of an operation: its kind, and the members that go with it.
#[derive(Object)]
pub(crate) struct OperationWork {
    /// What it does.
    kind: OperationWorkKind,
    /// The topic; absent from `delete_namespace`.
    topic: Option<String>,
    /// Which items, of `cancel` and `redrive`.
    filter: Option<ItemFilter>,
    /// Where `cancel` looks.
    states: Option<Vec<ItemState>>,
    /// Where `redrive` brings the items, when not back into their topic.
    to_topic: Option<String>,
    /// At most this many items, of `cancel` and `redrive`.
    limit: Option<u64>,
    /// At most this many items per second, of `cancel` and `redrive`.
    rate_per_s: Option<u32>,
    /// The version of a hook that `redrive` sends the items through.
    hook: Option<OperationHook>,
}

/// A version of a hook.
#[derive(Object)]
pub(crate) struct OperationHook {
    /// The hook's name.
    hook: String,
    /// The version, from 1.
    version: u32,
}

/// How far an operation is.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum OperationState {
    /// It waits for its turn.
    Queued,
    /// A node works on it.
    Running,
    /// It did all it was asked for.
    Succeeded,
    /// It met an error; what is done is done.
    Failed,
    /// Somebody cancelled it; what was done before is done.
    Cancelled,
    /// Its node went away in the middle, and it could not go on by itself.
    Stopped,
}

/// Work that goes on after the request that ordered it.
#[derive(Object)]
pub(crate) struct Operation {
    /// Its number, decimal.
    id: String,
    /// How far it is.
    state: OperationState,
    /// What was ordered.
    work: OperationWork,
    /// Whether it changes nothing.
    dry_run: bool,
    /// Who ordered it: a token's subject.
    created_by: String,
    /// When it was ordered.
    created_at: Instant,
    /// When a node began with it.
    started_at: Option<Instant>,
    /// When it ended.
    ended_at: Option<Instant>,
    /// How many items there were to look at when it began.
    total: u64,
    /// How many it looked at.
    looked: u64,
    /// How many it changed.
    done: u64,
    /// Whether somebody cancelled it and it has yet to stop.
    cancelling: bool,
    /// What went wrong.
    error: Option<String>,
    /// What it led to, once it has ended.
    outcome: Option<OperationOutcome>,
}

/// What an operation led to.
#[derive(Object)]
pub(crate) struct OperationOutcome {
    /// How many items it changed, or would.
    count: u64,
    /// How many stayed dead because the hook refused them or failed on them.
    kept: u64,
    /// The first few of the items, as they were.
    examples: Vec<OperationExample>,
}

/// One of the items an operation is about.
#[derive(Object)]
pub(crate) struct OperationExample {
    /// Its id, decimal.
    id: String,
    /// Its state before.
    state: ItemState,
    /// Its priority.
    priority: i32,
    /// When it was accepted.
    enqueued_at: Instant,
    /// Its last error.
    last_error: Option<String>,
}

/// One page of operations, the newest first.
#[derive(Object)]
pub(crate) struct OperationList {
    /// The operations.
    operations: Vec<Operation>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

/// A part of the log of changes, in the order asked for.
#[derive(Object)]
pub(crate) struct AuditLog {
    /// The changes.
    entries: Vec<AuditEntry>,
    /// Where the next part begins; absent at the end.
    next_after: Option<u64>,
}

/// A change somebody made.
#[derive(Object)]
pub(crate) struct AuditEntry {
    /// Goes up with each change.
    id: u64,
    /// When.
    at: Instant,
    /// Whose things changed; absent for the node's own.
    namespace: Option<String>,
    /// Who did it: a token's subject, or `mqueue` for what the server did by itself.
    actor: String,
    /// What was done, such as `topic.put` or `hook.activate`.
    action: String,
    /// To what.
    target: String,
    /// What it was before.
    before: Option<Json>,
    /// What it is now.
    after: Option<Json>,
    /// The request that asked for it.
    request_id: Option<String>,
    /// The address it came from.
    peer: Option<String>,
}

/// Why an item is or is not delivered.
#[derive(Object)]
pub(crate) struct Explanation {
    /// The item's id, decimal.
    id: String,
    /// Its state.
    state: ItemState,
    /// Whether the next dequeues may hand it out.
    deliverable: bool,
    /// Deliveries counted so far.
    attempt: u32,
    /// Deliveries after which it is dead.
    max_attempts: u32,
    /// How many ready items of its topic go before it; absent when it is not ready.
    ahead: Option<u64>,
    /// Whether there are more than were counted.
    ahead_or_more: Option<bool>,
    /// Everything that stands in its way.
    reasons: Vec<ExplanationReason>,
    /// The shard that holds its topic, by its place in `DATABASE_URLS`, from 0.
    shard: u16,
    /// Whether calls of the shard are made.
    shard_state: ShardState,
}

/// Whether calls of a shard are made.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum ShardState {
    /// They are.
    Closed,
    /// They fail at once.
    Open,
    /// They fail at once but for one that tries whether the shard is back.
    HalfOpen,
}

/// One thing that stands in the way of a delivery.
#[derive(Object)]
pub(crate) struct ExplanationReason {
    /// For programs: `paused`, `scheduled`, `backing_off`, `hook_deferred`, `hook_quarantined`, `hook_breaker_open`,
    /// `leased`, `out_of_leases`, `shard_away`, `dead`, `expired` or `waiting`.
    code: String,
    /// In words.
    detail: String,
    /// Until when, where that is known.
    until: Option<Instant>,
    /// The consumer that has it: its token's subject.
    consumer: Option<String>,
    /// The hook and version that sent it back, is left alone, or is in quarantine.
    hook: Option<String>,
}
