//! The contract of the hot tier: buffer, ready order, leases and timers, all that needs microseconds.
//!
//! The tier knows where each hot item stands and hands items out in order. It keeps every transition
//! atomic, and it decides nothing that a log record must tell: whoever calls it logs first and applies
//! afterwards, or takes first, logs, and then answers.
//!
//! Not everything of a topic is hot. What is only in the shard is *cold*, and the tier keeps a floor under
//! the keys of the cold items that are due: it hands out nothing at or above the floor, because something
//! more urgent may be cold. [`HotTier::refill_begin`] and its companions move the floor.

mod memory;
mod redis;
mod settlement;
mod size;
mod term;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::clock::Timestamp;
use crate::model::{HookRef, ItemId, ItemState, Namespace, NodeId, OrderKey, QueuedItem, TopicKey, limits};
use crate::shard::{DedupRow, Purge, StoredCounts};
use crate::wal::Lsn;

pub use self::redis::{RedisError, RedisOptions, RedisTier};
pub use memory::{MemoryOptions, MemoryTier};
pub use settlement::{Finish, Held, HeldLease, HoldRequest, Landing};
pub use size::{FIXED_BYTES, item_bytes};
pub use term::Term;

/// Why the tier could not do what it was asked; nothing of it was done, or nobody knows and it may be asked again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HotError {
    /// It cannot be reached, or does not answer in time.
    #[error("the hot tier is unavailable: {0}")]
    Unavailable(String),
    /// It has no memory left for more items.
    #[error("the hot tier is out of memory")]
    Full,
}

/// What [`HotTier::take`] took, and what stands in the way of more.
#[derive(Debug)]
pub struct Taken {
    /// The items, in delivery order, each with its new generation, attempt and lease.
    pub items: Vec<TakenItem>,
    /// Items met on the way that can go out no more; see [`Overdue`].
    pub overdue: Vec<Overdue>,
    /// Whether there is more.
    pub more: More,
}

/// One item taken out for delivery.
#[derive(Debug)]
pub struct TakenItem {
    /// The item and its standing under the new lease.
    pub queued: QueuedItem,
    /// The shard holds an older standing, so [`HotTier::delivered`] must be told the log position.
    pub mark: bool,
    /// How long the lease before this one lasted, in milliseconds, when it ran out and its hand-out is known.
    pub lapsed_ms: Option<u64>,
}

/// How much is wanted of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Most items.
    pub items: usize,
    /// How many bytes of them, as [`item_bytes`] counts, are enough: what fills them is the last.
    pub bytes: usize,
}

impl Want {
    /// Up to so many items, and no more than one answer holds.
    pub const fn items(items: usize) -> Self {
        Self {
            items,
            bytes: limits::ANSWER_BYTES,
        }
    }
}

/// Why [`HotTier::take`] stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// As much as was wanted was taken and more is ready.
    Ready,
    /// Time moved more than one call moves: take again.
    Again,
    /// Nothing more is eligible; the instant is when that changes by itself, if it is known.
    Nothing(Option<Timestamp>),
    /// Cold items come first: refill, then take again.
    Cold,
}

/// An item whose lease ended with its last attempt, or whose time to live passed.
///
/// It is held (nobody else gets it) until [`HotTier::finish`] says where it goes.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// The item and its standing.
    pub queued: QueuedItem,
    /// What happened.
    pub why: OverdueWhy,
}

/// Why an item can go out no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverdueWhy {
    /// Its last lease ended without a word.
    AttemptsExhausted,
    /// Its time to live passed.
    Expired,
}

/// An idempotency key at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyProbe {
    /// See [`DedupRow::key_hash`].
    pub key_hash: u128,
    /// See [`DedupRow::body_hash`].
    pub body_hash: u64,
}

/// What the tier knows of an idempotency key.
#[derive(Debug, Clone)]
pub enum KeyState {
    /// Nobody used it: it is now reserved for the caller.
    Reserved,
    /// An item was accepted under it.
    Used {
        /// The item.
        id: ItemId,
        /// Whether its body was the same.
        same_body: bool,
    },
    /// Another request is using it this moment; ask again when notified.
    InFlight(Arc<Notify>),
}

/// What a flush is to store; see [`HotTier::flush_plan`].
#[derive(Debug, Default)]
pub struct FlushPlan {
    /// The shard's number.
    pub shard: u16,
    /// Items the shard does not hold as they stand.
    pub upserts: Vec<(TopicKey, QueuedItem)>,
    /// Items the shard may hold and that are gone.
    pub deletes: Vec<(TopicKey, ItemId)>,
    /// Purges the shard has not seen.
    pub purges: Vec<(Lsn, Purge)>,
    /// Idempotency keys the shard has not seen.
    pub dedup: Vec<DedupRow>,
    /// Once the plan is stored, the shard holds all the log says up to here.
    pub reached: Lsn,
}

impl FlushPlan {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.deletes.is_empty() && self.purges.is_empty() && self.dedup.is_empty()
    }
}

/// A place in the order in which items become available: the instant, then the id.
pub type DueCursor = (Timestamp, ItemId);

/// Which cold items became due and have to be looked for; see [`HotTier::refill_begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueSpan {
    /// Only items after this place.
    pub after: DueCursor,
    /// Only items due at or before this instant.
    pub until: Timestamp,
}

/// Where a page of cold items begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefillPage {
    /// The first key to read.
    pub from: OrderKey,
    /// Only items due at or before this instant.
    pub due_by: Timestamp,
}

/// An item, its state and its standing, as the tier sees it now.
#[derive(Debug, Clone)]
pub struct HotView {
    /// The item and its standing.
    pub queued: QueuedItem,
    /// Its state.
    pub state: ItemState,
    /// Who has it when it is leased, or which hook sent it back when it is not due; none where the tier does not know.
    pub by: Option<Arc<str>>,
}

/// How many items a topic has, hot and cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Due and waiting.
    pub ready: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// Handed out, or being settled.
    pub leased: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the first ready item in memory was due.
    pub oldest_ready_due: Option<Timestamp>,
    /// Leases that ended without a word, since the start.
    pub leases_expired: u64,
}

/// What a namespace has in the queue, hot and cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Bytes of its items, as [`Item::stored_bytes`](crate::model::Item::stored_bytes) counts them, dead letters included.
    pub bytes: u64,
    /// Items that are handed out or being settled.
    pub leased: u64,
}

/// The hot tier. What follows a durable record ([`HotTier::admit`], [`HotTier::finish`] and the like) returns when it is
/// done, however long the tier is away: whoever calls it holds the record's place in the log meanwhile. Everything else fails
/// when the tier does not answer.
///
/// A tier that nodes share outlives each of them and may lose its memory while they run. Then every node brings its
/// part back: [`HotTier::claim`], what the shards hold, [`HotTier::ready`], what its own log says,
/// [`HotTier::known`]. A start is the same.
#[async_trait]
pub trait HotTier: Send + Sync + 'static {
    /// Adds accepted items whose record at `lsn` is durable, and wakes who waits for them. Items that a purge
    /// behind `lsn` in the log has taken away already are passed over.
    async fn admit(&self, topic: &TopicKey, lsn: Lsn, items: Vec<QueuedItem>);

    /// Adds items that the shard holds exactly as they stand. Items that are hot already, or whose deletion
    /// is under way, are passed over. They must have been read between [`HotTier::refill_begin`] and
    /// [`HotTier::refill_end`], or else an item that was settled and deleted meanwhile would come back.
    async fn adopt(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<(), HotError>;

    /// Takes eligible items in delivery order, as many as are wanted, each under a lease of `term`. Whoever does not get
    /// the answer took nothing. A tier that nodes share tells in [`HotView::by`] that `by` has them.
    async fn take(&self, topic: &TopicKey, want: Want, term: Term, by: &str) -> Result<Taken, HotError>;

    /// Says that the hand-out of `ids` is in the log at `lsn`.
    async fn delivered(&self, topic: &TopicKey, lsn: Lsn, ids: &[ItemId]);

    /// Says which hook sent items back, and until when: a tier that nodes share tells it in [`HotView::by`].
    async fn note_deferred(&self, _topic: &TopicKey, _deferred: &[(ItemId, Timestamp, HookRef)]) {}

    /// Puts items that were taken under these generations back where they were, as if [`HotTier::take`] had not been
    /// called; their generation stays. Those of which another lease began meanwhile are left alone.
    async fn untake(&self, topic: &TopicKey, taken: &[(ItemId, u32)]);

    /// Now by the clock that the leases of a topic run on, which nodes may share: no later than when it says that one ends
    /// does it end.
    fn lease_now(&self, topic: &TopicKey) -> Timestamp;

    /// Holds items for a settlement, each alone.
    async fn hold(&self, topic: &TopicKey, requests: &[HoldRequest]) -> Result<Vec<Held>, HotError>;

    /// Lets held items stand as they stood.
    async fn unhold(&self, topic: &TopicKey, ids: &[ItemId]);

    /// Sends held items to where the durable record at `lsn` says, and wakes who waits for them.
    async fn finish(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>);

    /// Moves what became due or lost its lease, in every topic; returns what can go out no more.
    async fn advance(&self) -> Vec<(TopicKey, Vec<Overdue>)>;

    /// A signal that is raised whenever `topic` may have something new to take.
    fn signal(&self, topic: &TopicKey) -> Arc<Notify>;

    /// Asks for idempotency keys, reserving those nobody used.
    async fn reserve_keys(&self, topic: &TopicKey, probes: &[KeyProbe]) -> Result<Vec<KeyState>, HotError>;

    /// Records under reserved keys what was accepted at `lsn`.
    async fn confirm_keys(&self, topic: &TopicKey, lsn: Lsn, rows: Vec<DedupRow>);

    /// Brings back what the shard remembered; keys that memory knows stay as they are.
    async fn recall_keys(&self, topic: &TopicKey, rows: Vec<DedupRow>) -> Result<(), HotError>;

    /// Gives reserved keys back unused.
    async fn release_keys(&self, topic: &TopicKey, key_hashes: &[u128]);

    /// Whether the shard may remember unexpired keys of `topic` that the tier does not.
    async fn has_cold_keys(&self, topic: &TopicKey) -> Result<bool, HotError>;

    /// Says that the shard may remember keys of `topic` that the tier does not and that expire by `until`.
    async fn set_cold_keys(&self, topic: &TopicKey, until: Timestamp) -> Result<(), HotError>;

    /// What shard number `shard` has to store so that it holds all the log says up to `up_to`: at most
    /// about `limit` items. Ends with [`HotTier::flushed`]; a shard has one plan at a time.
    async fn flush_plan(&self, shard: u16, up_to: Lsn, limit: usize) -> Result<FlushPlan, HotError>;

    /// Says whether `plan` was stored. When it was not, or when that is not known, all of it is planned again.
    async fn flushed(&self, plan: FlushPlan, stored: bool);

    /// The first log position that shard number `shard` still needs, if any; what a flush under way is
    /// storing is still needed.
    async fn first_need(&self, shard: u16) -> Result<Option<Lsn>, HotError>;

    /// Whether shard number `shard` lacks what a node left behind that went away, which the next plan takes up.
    fn has_orphans(&self, _shard: u16) -> bool {
        false
    }

    /// How many items shard number `shard` has yet to delete.
    async fn pending_deletes(&self, shard: u16) -> Result<usize, HotError>;

    /// Drops stored items, least urgent first, until about `bytes` are free; returns how many bytes were.
    async fn evict(&self, bytes: usize) -> usize;

    /// Bytes held in memory for items.
    fn bytes(&self) -> usize;

    /// Sets what the shards hold at start-up.
    async fn set_stored(&self, counts: &[StoredCounts], now: Timestamp) -> Result<(), HotError>;

    /// Topics that should be refilled before anybody asks.
    async fn wanting_refill(&self) -> Vec<TopicKey>;

    /// Begins to read cold items of `topic`: one reader at a time; nothing of the topic is evicted until [`HotTier::refill_end`]. Returns
    /// which cold items became due, if any may have.
    async fn refill_begin(&self, topic: &TopicKey) -> Result<Option<DueSpan>, HotError>;

    /// Hands over the cold items that became due up to `passed`; no further one is due before `next_due`.
    async fn refill_due(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
        passed: DueCursor,
        next_due: Option<Timestamp>,
    ) -> Result<(), HotError>;

    /// Where to read on in delivery order, unless nothing cold is due.
    async fn refill_page(&self, topic: &TopicKey) -> Result<Option<RefillPage>, HotError>;

    /// Ends a refill with the page read, if one was; `whole` when nothing comes after it.
    async fn refill_end(&self, topic: &TopicKey, page: Option<(Vec<QueuedItem>, bool)>);

    /// Removes every live (or every dead) item of `topic` up to `up_to`, hot and cold, by the durable record
    /// at `lsn`; returns how many.
    async fn purge(&self, topic: &TopicKey, lsn: Lsn, dead: bool, up_to: ItemId) -> u64;

    /// Up to `limit` hot items of `topic` in `state`, from `from` on, in key order.
    async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError>;

    /// Up to `limit` hot items of `topic` in `state`, the highest id first; fewer once they fill
    /// [`limits::ANSWER_BYTES`]. A tier that nodes share may pass over items behind the `limit` latest due ones of
    /// their priority.
    async fn newest(
        &self,
        topic: &TopicKey,
        state: ItemState,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError>;

    /// Drops from `items`, read from the shard, those that are hot or gone: memory knows better.
    async fn only_cold(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<Vec<QueuedItem>, HotError>;

    /// One hot item.
    async fn find(&self, topic: &TopicKey, id: ItemId) -> Result<Option<HotView>, HotError>;

    /// How many items `topic` has.
    fn counts(&self, topic: &TopicKey) -> Counts;

    /// What `namespace` has in the queue; none when the tier does not count by namespace, and then quotas of
    /// bytes and leases do not hold.
    fn holdings(&self, _namespace: &Namespace) -> Option<Holdings> {
        None
    }

    /// Says that the items of `topic` that were in the shard at the start count `item_bytes` each on average, in
    /// what [`HotTier::holdings`] tells. It counts once, for a tier that did not see them come.
    fn measure_cold(&self, _topic: &TopicKey, _item_bytes: u64) {}

    /// Stops or resumes deliveries.
    async fn set_paused(&self, topic: &TopicKey, paused: bool) -> Result<(), HotError>;

    /// Forgets a topic in which nothing is left, neither items nor anything its shard has to be told; false,
    /// and nothing is forgotten, when there is something.
    async fn forget(&self, topic: &TopicKey) -> Result<bool, HotError>;

    /// Whether the tier is there when this node is not: then it and not the log says what is live, as long as it
    /// remembers.
    fn outlives_the_node(&self) -> bool {
        false
    }

    /// Fails while the part of the tier that has `topic` is away, so that nothing is logged that could not be applied.
    fn check(&self, _topic: &TopicKey) -> Result<(), HotError> {
        Ok(())
    }

    /// Whether the tier works, and how it is, where there is something to tell.
    fn condition(&self) -> Option<(bool, String)> {
        None
    }

    /// Learns what the tier remembers, before it is told anything.
    async fn claim(&self) -> Result<(), HotError> {
        Ok(())
    }

    /// Whether the tier remembers what this node's log says about `topic`.
    fn knows(&self, _topic: &TopicKey) -> bool {
        false
    }

    /// Says that what the shards hold was told.
    async fn ready(&self) -> Result<(), HotError> {
        Ok(())
    }

    /// Says that everything this node's log says was told.
    async fn known(&self) -> Result<(), HotError> {
        Ok(())
    }

    /// As [`HotTier::finish`], for records of a log that is read back: what was applied before is passed over, and so
    /// is what later records of other logs overruled.
    async fn finish_again(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>) {
        self.finish(topic, lsn, finishes).await;
    }

    /// Returns when the tier has lost its memory.
    async fn lost(&self) {
        std::future::pending().await
    }

    /// How often it has, as far as this node has heard.
    fn losses(&self) -> u64 {
        0
    }

    /// Whether the tier has every idempotency key of `topic` that a node's log has and no shard yet. After a loss it has
    /// not, until [`HotTier::learn_keys`] finds that all nodes have read their logs back.
    fn has_all_keys(&self, _topic: &TopicKey) -> bool {
        true
    }

    /// Asks whether the logs of all `nodes` are read back into what has `topic`.
    async fn learn_keys(&self, _topic: &TopicKey, _nodes: &[NodeId]) -> Result<bool, HotError> {
        Ok(true)
    }

    /// Says that this node goes away and leaves nothing behind: nobody needs to miss it.
    async fn leave(&self) {}

    /// Gives up what cannot be done because the tier is away: the log has it, and is read back at the next start.
    fn close(&self) {}
}
