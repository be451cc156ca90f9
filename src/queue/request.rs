//! What callers ask of the queue and what they get back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::QueueError;
use crate::clock::Timestamp;
use crate::hooks::Reason;
use crate::model::{
    Death, HookRef, ITEM_BYTES, Item, ItemFilter, ItemId, ItemState, LeaseId, LeaseRef, NamespaceSettings,
    OrderKey, PayloadKind, Settings, SettingsPatch, TopicKey, TopicName, header_bytes,
};

/// An item as a producer hands it in; what is absent comes from the topic's settings.
#[derive(Debug, Clone, Default)]
pub struct NewItem {
    /// Smaller goes first.
    pub priority: Option<i32>,
    /// The payload's bytes; JSON payloads are their text as given.
    pub payload: Box<[u8]>,
    /// How the payload was given.
    pub kind: Option<PayloadKind>,
    /// The payload's media type.
    pub content_type: Option<Box<str>>,
    /// Headers in the producer's order.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// Earliest delivery as an instant; excludes `delay_ms`.
    pub deliver_after: Option<Timestamp>,
    /// Earliest delivery as a delay from now, in milliseconds; excludes `deliver_after`.
    pub delay_ms: Option<i64>,
    /// Time to live from now, in milliseconds.
    pub ttl_ms: Option<i64>,
    /// Lease length, in milliseconds.
    pub lease_ms: Option<u32>,
    /// Deliveries after which the item is dead.
    pub max_attempts: Option<u32>,
    /// The same key in the same topic within the dedup window is the same item.
    pub idempotency_key: Option<Box<str>>,
}

impl NewItem {
    /// What the item will count towards what its namespace may hold; see [`Item::stored_bytes`].
    pub fn stored_bytes(&self) -> u64 {
        ITEM_BYTES + self.payload.len() as u64 + header_bytes(&self.headers)
    }
}

/// How safe an item is when the answer leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Its record is synced in this node's write-ahead log.
    #[default]
    Logged,
    /// It is also committed in its shard.
    Stored,
}

/// What became of an enqueue request.
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueued {
    /// The durability that was reached for every accepted item.
    pub durability: Durability,
    /// One result per item, in order.
    pub results: Vec<EnqueueResult>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnqueueResult {
    /// It is in the queue.
    Accepted {
        /// Its id.
        id: ItemId,
    },
    /// Its idempotency key was used within the window for the same body.
    Duplicate {
        /// The id of the first item under the key.
        id: ItemId,
    },
    /// A hook split it: these are in the queue in its place.
    Split {
        /// Their ids; the first is the one that the item had.
        ids: Vec<ItemId>,
    },
    /// A hook filtered it: nothing was stored, and nothing is wrong with it.
    Filtered {
        /// The id it had.
        id: ItemId,
        /// Who filtered it and why.
        why: Box<HookReason>,
    },
    /// A hook sent it to the dead letters.
    DeadLettered {
        /// Its id.
        id: ItemId,
        /// Who sent it there and why.
        why: Box<HookReason>,
    },
    /// A hook refused it.
    HookRejected(Box<HookReason>),
    /// A hook failed on it and lets nothing through in that case.
    HookFailed {
        /// Who failed; the code is `hook_failed` or, when the hook was not run, `hook_overloaded`.
        why: Box<HookReason>,
        /// When to come back, in milliseconds, where the hook was not run.
        retry_after_ms: Option<u64>,
    },
    /// It was refused.
    Rejected {
        /// A stable machine-readable code.
        code: &'static str,
        /// What to change.
        message: String,
    },
}

impl EnqueueResult {
    /// Whether the item counts against its namespace's rate of enqueues: something of it is stored, or the tenant's own
    /// hooks or mistakes turned it away. What is there already, and what the servers had no room or no time for, does
    /// not.
    pub fn spends_quota(&self) -> bool {
        match self {
            Self::Accepted { .. }
            | Self::Split { .. }
            | Self::Filtered { .. }
            | Self::DeadLettered { .. }
            | Self::HookRejected(_) => true,
            Self::Duplicate { .. } | Self::HookFailed { .. } => false,
            Self::Rejected { code, .. } => {
                !matches!(*code, "quota_exceeded" | "shard_unavailable" | "hook_overloaded")
            }
        }
    }

    /// Why the item was refused, by whoever it was: a problem code and a text.
    pub fn refusal(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Rejected { code, message } => Some((code, message)),
            Self::HookRejected(why) => Some(("hook_rejected", &why.reason.message)),
            Self::HookFailed { why, retry_after_ms } => {
                let code = if retry_after_ms.is_some() {
                    "hook_overloaded"
                } else {
                    "hook_failed"
                };
                Some((code, &why.reason.message))
            }
            Self::Accepted { .. }
            | Self::Duplicate { .. }
            | Self::Split { .. }
            | Self::Filtered { .. }
            | Self::DeadLettered { .. } => None,
        }
    }
}

/// A hook and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReason {
    /// The hook.
    pub by: HookRef,
    /// What it said.
    pub reason: Reason,
}

/// Who asks for something, as hooks are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requester {
    /// The token's subject.
    pub subject: Arc<str>,
    /// The words of the token's scope.
    pub scopes: Arc<[Box<str>]>,
}

/// What a consumer asks for.
#[derive(Debug, Clone)]
pub struct DequeueRequest {
    /// Topics of one namespace, each with the most items wanted from it; earlier ones are served first.
    pub topics: Vec<(TopicKey, usize)>,
    /// The most items wanted in all.
    pub max_total: usize,
    /// How long to wait for the first item, in milliseconds.
    pub wait_ms: u32,
    /// Lease length, in milliseconds; else each item's own.
    pub lease_ms: Option<u32>,
    /// Asking again with the same id returns the same batch while its leases live.
    pub request_id: Option<Box<str>>,
    /// Who asks.
    pub consumer: Requester,
}

/// One item handed to a consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivered {
    /// The topic it came from.
    pub topic: TopicKey,
    /// The item.
    pub item: Arc<Item>,
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// When it was due.
    pub due: Timestamp,
    /// The lease; none from an at-most-once topic, where the delivery was the ack.
    pub lease: Option<Lease>,
    /// The last failure reported for it.
    pub last_error: Option<Box<str>>,
}

/// A consumer's hold on an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The handle that settles the item.
    pub id: LeaseId,
    /// When the hold ends.
    pub expires_at: Timestamp,
}

/// One lease and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAction {
    /// The proven lease.
    pub lease: LeaseRef,
    /// What is to become of it.
    pub verb: Verb,
}

/// What a consumer says of an item it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Done: the item is gone.
    Ack,
    /// Failed: deliver it again after `delay_ms`, or after the topic's backoff.
    Nack {
        /// Delay in milliseconds.
        delay_ms: Option<i64>,
        /// What went wrong.
        error: Option<Box<str>>,
    },
    /// Still working: the lease lasts `lease_ms` (else the item's own) from now.
    Extend {
        /// Lease length in milliseconds.
        lease_ms: Option<u32>,
    },
    /// Not done, and nobody's fault: the delivery is not counted.
    Release {
        /// Delay in milliseconds; at once when absent.
        delay_ms: Option<i64>,
    },
    /// Will never work: dead letter at once.
    Reject {
        /// What went wrong.
        error: Option<Box<str>>,
    },
}

/// What became of one lease action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleStatus {
    /// Done as asked.
    Ok,
    /// This very lease had already settled its item; nothing changed.
    AlreadyDone,
    /// The lease ended and the item is someone else's, or gone; nothing changed.
    LeaseLost,
}

/// The answer to one lease action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleResult {
    /// What became of it.
    pub status: SettleStatus,
    /// The new end of an extended lease.
    pub lease_expires_at: Option<Timestamp>,
    /// The item.
    pub id: ItemId,
}

/// One topic in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSummary {
    /// Its name.
    pub topic: TopicName,
    /// No deliveries while true.
    pub paused: bool,
    /// Its numbers.
    pub stats: TopicStats,
}

/// A topic's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TopicStats {
    /// Due and waiting.
    pub ready: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// Handed out.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the item that would go out next has been due, in milliseconds; 0 when none waits.
    pub oldest_ready_age_ms: i64,
    /// Since the node started.
    pub totals: TopicTotals,
    /// Averages over about the last 10 seconds.
    pub rates: TopicRates,
}

/// What happened in a topic since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicTotals {
    /// Items accepted.
    pub enqueued: u64,
    /// Items handed out.
    pub delivered: u64,
    /// Items acked.
    pub acked: u64,
    /// Deliveries nacked or rejected, or whose lease ended.
    pub failed: u64,
    /// Those of them that were nacked.
    pub failed_by_nack: u64,
    /// Those of them that were rejected.
    pub failed_by_reject: u64,
    /// Those of them whose lease ended.
    pub failed_by_time: u64,
    /// Items that became dead letters.
    pub dead: u64,
    /// Items whose time to live passed.
    pub expired: u64,
    /// Items that hooks dropped, handed in or about to be handed out.
    pub filtered: u64,
    /// Items that were refused, by hooks or for an idempotency key.
    pub rejected: u64,
}

/// Events per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TopicRates {
    /// Items accepted per second.
    pub enqueued_per_s: f64,
    /// Items handed out per second.
    pub delivered_per_s: f64,
    /// Items acked per second.
    pub acked_per_s: f64,
}

/// A topic as its page shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicView {
    /// The topic's own settings.
    pub settings: SettingsPatch,
    /// The settings in force.
    pub effective: Settings,
    /// No deliveries while true.
    pub paused: bool,
    /// Its numbers.
    pub stats: TopicStats,
}

/// A namespace as its page shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamespaceView {
    /// Its own settings.
    pub settings: NamespaceSettings,
    /// The settings in force for topics without their own.
    pub effective: Settings,
    /// How many topics it has.
    pub topics: usize,
    /// How many it may have.
    pub topics_max: usize,
}

/// An item as lists and lookups show it.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemView {
    /// The item.
    pub item: Arc<Item>,
    /// Its state now.
    pub state: ItemState,
    /// When it is or was due.
    pub due: Timestamp,
    /// Deliveries counted so far.
    pub attempt: u32,
    /// When its lease ends.
    pub lease_expires_at: Option<Timestamp>,
    /// The last failure.
    pub last_error: Option<Box<str>>,
    /// Why and when it died.
    pub dead: Option<Death>,
}

impl ItemView {
    /// Its place in its topic's delivery order.
    pub fn key(&self) -> OrderKey {
        OrderKey::strict(self.item.priority, self.due, self.item.id)
    }
}

/// One page of a list and where the next begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T, C = OrderKey> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where the next page begins; none at the end.
    pub next: Option<C>,
}

/// Which dead letters to bring back, and how. One whose time to live passed comes back as a new item with a
/// new id, and its time to live begins anew.
#[derive(Debug, Clone, Default)]
pub struct Redrive {
    /// Which; all when it is empty.
    pub filter: ItemFilter,
    /// At most this many.
    pub limit: Option<u64>,
    /// Into another topic of the same namespace; each item gets a new id there.
    pub to_topic: Option<TopicKey>,
    /// At most this many per second; as fast as possible when absent.
    pub rate_per_s: Option<u32>,
    /// Through this version of a hook, as if they were enqueued again: what it refuses or fails on stays dead.
    pub hook: Option<HookRef>,
    /// Who asks, as the hook is told.
    pub by: Option<Requester>,
    /// Change nothing; tell what would be done.
    pub dry_run: bool,
}

/// What a redrive did, or would do.
#[derive(Debug, Clone)]
pub struct Redriven {
    /// How many items came back, or would.
    pub count: u64,
    /// How many stayed dead because the hook refused them or failed on them.
    pub kept: u64,
    /// The first few of them.
    pub sample: Vec<ItemView>,
    /// The call stopped at its limit or its time, and more may match.
    pub more: bool,
    /// What ended it after some items had come back.
    pub failed: Option<QueueError>,
}

/// How the node's parts are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    /// Whether the node accepts new items.
    pub ready: bool,
    /// Each part with its state in words.
    pub parts: Vec<PartHealth>,
}

/// How one part is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartHealth {
    /// `log`, `shard-0`, `memory`, `shutdown`.
    pub part: String,
    /// Whether it works.
    pub ok: bool,
    /// In words.
    pub detail: String,
}
