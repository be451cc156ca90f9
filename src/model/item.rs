//! Items: what a producer handed in, and where each stands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ItemId, OrderKey};
use crate::clock::Timestamp;

/// What was accepted and never changes: the item as the log and the shard hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Unique in the cluster.
    pub id: ItemId,
    /// Smaller goes first.
    pub priority: i32,
    /// How long a delivery is leased for unless the consumer asks otherwise, in milliseconds.
    pub lease_ms: u32,
    /// Deliveries after which the item is dead.
    pub max_attempts: u32,
    /// How the payload was given, and so how it is shown.
    pub kind: PayloadKind,
    /// When the item was accepted.
    pub enqueued_at: Timestamp,
    /// The earliest delivery the producer asked for; the acceptance when it asked for none.
    pub deliver_after: Timestamp,
    /// When the item stops being worth delivering.
    pub expires_at: Option<Timestamp>,
    /// The payload's bytes; JSON payloads are their compact text.
    pub payload: Box<[u8]>,
    /// What few items have.
    pub extra: Option<Box<Extra>>,
}

/// What every item counts as stored beside what it carries: its row and its places in indexes.
pub const ITEM_BYTES: u64 = 256;

impl Item {
    /// The bytes the item counts towards what its namespace may hold: its payload, the names and values of its
    /// headers, and [`ITEM_BYTES`].
    pub fn stored_bytes(&self) -> u64 {
        let headers = self
            .extra
            .as_deref()
            .map_or(0, |extra| header_bytes(&extra.headers));
        ITEM_BYTES + self.payload.len() as u64 + headers
    }
}

/// The bytes of header names and values.
pub fn header_bytes(headers: &[(Box<str>, Box<str>)]) -> u64 {
    headers
        .iter()
        .map(|(name, value)| (name.len() + value.len()) as u64)
        .sum()
}

/// What few items carry, kept apart so that the many stay small.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extra {
    /// The payload's media type.
    pub content_type: Option<Box<str>>,
    /// Header names and values in the producer's order; `traceparent` travels here.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The producer's idempotency key.
    pub idempotency_key: Option<Box<str>>,
    /// The hook and version that last shaped the item, as `name@version`.
    pub hook_version: Option<Box<str>>,
}

/// How a payload was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PayloadKind {
    /// `payload`: bytes, as base64 in JSON.
    Bytes = 0,
    /// `json`: any JSON value.
    Json = 1,
    /// `text`: a Unicode string.
    Text = 2,
}

impl PayloadKind {
    /// The kind numbered `code` in logs and rows.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bytes),
            1 => Some(Self::Json),
            2 => Some(Self::Text),
            _ => None,
        }
    }
}

/// Where an item stands: everything about it that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// When the item may next be delivered.
    pub due: Timestamp,
    /// Counts hand-outs, releases included: the fencing number of leases. Never goes down.
    pub generation: u32,
    /// Counts deliveries that were not released: what `max_attempts` limits.
    pub attempt: u32,
    /// When the lease of the latest hand-out ends; in the past once it ended by itself.
    pub lease_expires_at: Option<Timestamp>,
    /// When that hand-out was; not known once the item came back from a log or a shard, which do not keep it.
    pub leased_at: Option<Timestamp>,
    /// The last failure a consumer or the queue reported.
    pub last_error: Option<Box<str>>,
    /// Set when the item is a dead letter.
    pub dead: Option<Death>,
}

impl Standing {
    /// The standing of an item just accepted.
    pub fn new(due: Timestamp) -> Self {
        Self {
            due,
            generation: 0,
            attempt: 0,
            lease_expires_at: None,
            leased_at: None,
            last_error: None,
            dead: None,
        }
    }

    /// Begins a lease of `lease_ms` milliseconds at `now`, as one more delivery.
    pub fn hand_out(&mut self, now: Timestamp, lease_ms: i64) {
        self.generation += 1;
        self.attempt += 1;
        self.lease(now, lease_ms);
    }

    /// Begins the lease of the latest hand-out, of `lease_ms` milliseconds, at `now`.
    pub fn lease(&mut self, now: Timestamp, lease_ms: i64) {
        self.lease_expires_at = Some(now.plus_ms(lease_ms));
        self.leased_at = Some(now);
    }

    /// Ends the lease, if there is one.
    pub fn end_lease(&mut self) {
        self.lease_expires_at = None;
        self.leased_at = None;
    }

    /// The same without a lease.
    pub fn unleased(&self) -> Self {
        let mut standing = self.clone();
        standing.end_lease();
        standing
    }

    /// How long the lease lasted if it is over at `end`, in milliseconds; nothing without a lease, or when its
    /// hand-out is not known.
    pub fn leased_ms(&self, end: Timestamp) -> Option<u64> {
        let (since, until) = (self.leased_at?, self.lease_expires_at?);
        Some(end.min(until).since_ms(since).max(0).unsigned_abs())
    }
}

/// Why and when an item became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// Why.
    pub reason: DeadReason,
    /// When.
    pub at: Timestamp,
}

/// Why an item is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DeadReason {
    /// It was delivered `max_attempts` times and never acked.
    AttemptsExhausted = 0,
    /// A consumer rejected it.
    Rejected = 1,
    /// Its time to live passed and its topic keeps such items.
    Expired = 2,
    /// A hook sent it here.
    Hook = 3,
}

impl DeadReason {
    /// The reason numbered `code` in logs and rows.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::AttemptsExhausted),
            1 => Some(Self::Rejected),
            2 => Some(Self::Expired),
            3 => Some(Self::Hook),
            _ => None,
        }
    }
}

/// Why an item left the queue for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SettleCause {
    /// A consumer acked it, or the topic is at-most-once and it was delivered.
    Acked = 0,
    /// An administrator or producer cancelled it.
    Cancelled = 1,
    /// Its time to live passed.
    Expired = 2,
    /// Its dead letter was discarded, or moved to another topic.
    Discarded = 3,
    /// A hook filtered it when it was about to be handed out.
    Filtered = 4,
}

impl SettleCause {
    /// The cause numbered `code` in logs.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Acked),
            1 => Some(Self::Cancelled),
            2 => Some(Self::Expired),
            3 => Some(Self::Discarded),
            4 => Some(Self::Filtered),
            _ => None,
        }
    }
}

/// An item and where it stands: what tiers hand to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedItem {
    /// What was accepted.
    pub item: Arc<Item>,
    /// Where it stands.
    pub standing: Standing,
}

impl QueuedItem {
    /// An item just accepted.
    pub fn accepted(item: Item) -> Self {
        let due = item.deliver_after;
        Self {
            item: Arc::new(item),
            standing: Standing::new(due),
        }
    }

    /// The item's place in its topic's delivery order.
    pub fn key(&self) -> OrderKey {
        OrderKey::strict(self.item.priority, self.standing.due, self.item.id)
    }
}

/// An item's state as users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Not due yet.
    Scheduled,
    /// Due and waiting.
    Ready,
    /// Handed to a consumer.
    Leased,
    /// A dead letter.
    Dead,
}
