//! The contract of a shard: the database that holds the backlog and everything that must survive the
//! node.
//!
//! A shard is told in bulk and in log order what to store, and asked in bulk and in delivery order what it
//! holds. It decides nothing: no leases, no clocks, no retries.

mod breaker;
mod catalog;
mod checkpoint;
mod connection;
mod dialect;
mod entity;
mod error;
mod page;
mod relocate;
mod row;
mod slots;
mod store;

#[cfg(test)]
mod conformance;

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::model::{ItemId, NamespaceSettings, NodeId, OrderKey, QueuedItem, SettingsPatch, TopicKey};
use crate::wal::Lsn;

pub use breaker::{Breaker, BreakerOptions};
pub use catalog::{
    AuditQuery, AuditRecord, AuditRow, Catalog, CatalogChanges, Claim, Claimed, Ending, Generations,
    HookChange, HookContents, HookVersionRow, MoveState, NodeRow, OperationOrder, OperationRow, Replaced,
    SlotContents, SlotMove, Told,
};
pub use connection::ShardOptions;
pub use slots::{SlotError, SlotMap};
pub use store::SeaShard;

/// Why a shard could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardError {
    /// The database cannot be reached, refused, or took too long: trying again later may succeed.
    #[error("the shard is unavailable: {0}")]
    Unavailable(String),
    /// The database answered something that this version does not understand.
    #[error("the shard's data is not readable: {0}")]
    Corrupt(String),
    /// Another process has taken the node's number: what this one says is not stored any more.
    #[error("another process has taken the node's number")]
    Fenced,
    /// The address does not lead to a database this version can use: nothing changes that but another
    /// address.
    #[error("the shard's address is not usable: {0}")]
    Address(String),
}

/// What one checkpoint makes true in a shard, in one transaction.
///
/// The parts apply in this order: purges, then upserts, then deletes. Purges speak of what was stored by
/// earlier checkpoints; an upsert says what is live or dead at this one's position, so a purge beside it
/// never takes it away. Of upserts with the same id the last one counts.
#[derive(Debug)]
pub struct Checkpoint {
    /// Items to store whole; one that is already stored (a crash came between the parts of an earlier
    /// checkpoint) is overwritten.
    pub upserts: Vec<(TopicKey, QueuedItem)>,
    /// Items that are gone. Ids that are not stored are passed over.
    pub deletes: Vec<ItemId>,
    /// Topics of which everything up to and including an id goes, dead letters or live items.
    pub purges: Vec<Purge>,
    /// Idempotency keys to remember.
    pub dedup: Vec<DedupRow>,
    /// The node whose log this checkpoint follows, and the position up to which the shard now holds
    /// everything that log says.
    pub progress: (NodeId, Lsn),
}

impl Checkpoint {
    /// A checkpoint that only moves `node`'s progress to `lsn`.
    pub fn at(node: NodeId, lsn: Lsn) -> Self {
        Self {
            upserts: vec![],
            deletes: vec![],
            purges: vec![],
            dedup: vec![],
            progress: (node, lsn),
        }
    }
}

/// Everything of a topic up to an id goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The topic.
    pub topic: TopicKey,
    /// Dead letters when true, live items when false.
    pub dead: bool,
    /// The last id that goes.
    pub up_to: ItemId,
}

/// One remembered idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DedupRow {
    /// The topic the key was used in.
    pub topic: TopicKey,
    /// The first 128 bits of the key's BLAKE3 hash.
    pub key_hash: u128,
    /// The first 64 bits of the BLAKE3 hash of the item's body.
    pub body_hash: u64,
    /// The item accepted under the key.
    pub id: ItemId,
    /// When the key is forgotten.
    pub expires_at: Timestamp,
}

/// How many items of one topic a shard holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCounts {
    /// The topic.
    pub topic: TopicKey,
    /// Live items due at or before the instant asked about.
    pub due: u64,
    /// Live items due later.
    pub later: u64,
    /// Dead letters.
    pub dead: u64,
}

/// Which stored items a page is of, in delivery order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOf {
    /// Live items due at or before the instant.
    Due(Timestamp),
    /// Live items due after the instant.
    Later(Timestamp),
    /// Dead letters.
    Dead,
}

/// Whether calls of a shard are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// They are.
    #[default]
    Closed,
    /// They fail at once.
    Open,
    /// They fail at once but for one that tries whether the shard is back.
    HalfOpen,
}

/// How a shard's calls go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Whether calls are made.
    pub circuit: Circuit,
    /// How many times they stopped being made since the start.
    pub openings: u64,
    /// How many calls were not made since the start.
    pub refused: u64,
    /// Why the last call that failed did, until calls go well again.
    pub failure: Option<String>,
}

impl Condition {
    /// Whether calls fail at once.
    pub fn is_open(&self) -> bool {
        self.circuit != Circuit::Closed
    }
}

/// One shard. Every call is one statement or one transaction, bounded by the shard's statement time-out.
#[async_trait]
pub trait Shard: Send + Sync + 'static {
    /// Makes `checkpoint` true, whole or not at all.
    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ShardError>;

    /// The position up to which this shard holds everything `node`'s log says; zero for an unknown node.
    async fn progress(&self, node: NodeId) -> Result<Lsn, ShardError>;

    /// The highest id of any item stored, dead or live.
    async fn highest_id(&self) -> Result<ItemId, ShardError>;

    /// Counts per topic, for every topic that has stored items.
    async fn counts(&self, now: Timestamp) -> Result<Vec<StoredCounts>, ShardError>;

    /// What an item of `topic` counts as stored on average (see [`crate::model::Item::stored_bytes`]), by a look at
    /// some thousand of them; headers count as the text they are stored as. 0 when it has none.
    async fn item_bytes(&self, topic: &TopicKey) -> Result<u64, ShardError>;

    /// Up to `limit` items of `topic` with a key at or after `from`, in key order, all of one instant. Dead
    /// letters are in key order, too. What the page costs does not depend on how many items of the other
    /// kind lie between, only on in how many bands they do.
    async fn page(
        &self,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError>;

    /// Up to `limit` items of `topic` with an id below `before`, the highest first. Takes a pass over the topic's
    /// index, not its rows.
    async fn newest(
        &self,
        topic: &TopicKey,
        of: PageOf,
        before: ItemId,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError>;

    /// Up to `limit` live items of `topic` that come after `after` in the order of due time and id, and are
    /// due at or before `until`; in that order.
    async fn newly_due(
        &self,
        topic: &TopicKey,
        after: (Timestamp, ItemId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError>;

    /// When the first live item of `topic` after `after` is due.
    async fn next_due(&self, topic: &TopicKey, after: Timestamp) -> Result<Option<Timestamp>, ShardError>;

    /// Live items whose lease ends after `now`, with their topics.
    async fn leased(&self, now: Timestamp) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError>;

    /// The stored items among `ids`, in no order, with their topics.
    async fn fetch(&self, ids: &[ItemId]) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError>;

    /// Up to `limit` live items whose time to live passed at or before `now`, and their topics.
    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<(TopicKey, ItemId)>, ShardError>;

    /// Forgets idempotency keys that expired at or before `now`; returns how many.
    async fn forget_keys(&self, now: Timestamp) -> Result<u64, ShardError>;

    /// The remembered, unexpired keys among `key_hashes` in `topic`.
    async fn find_keys(
        &self,
        topic: &TopicKey,
        key_hashes: &[u128],
        now: Timestamp,
    ) -> Result<Vec<DedupRow>, ShardError>;

    /// Ids of up to `limit` dead letters of `topic` that died at or before `before`.
    async fn dead_before(
        &self,
        topic: &TopicKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ItemId>, ShardError>;

    /// Proves that the shard answers and takes writes.
    async fn ping(&self) -> Result<(), ShardError>;

    /// Up to `limit` remembered keys of `topic` after `after`, by their hash.
    async fn keys_after(
        &self,
        topic: &TopicKey,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<DedupRow>, ShardError>;

    /// Stores items and keys as they stand in another shard, whatever is here under their names; no node's
    /// progress moves.
    async fn store_copies(
        &self,
        items: &[(TopicKey, QueuedItem)],
        keys: &[DedupRow],
    ) -> Result<(), ShardError>;

    /// Removes all items and keys of `topic`; not in one transaction.
    async fn remove_topic(&self, topic: &TopicKey) -> Result<(), ShardError>;

    /// From now on checkpoints of `node` are stored if they come from here, and refused as
    /// [`ShardError::Fenced`] if they come from whoever was `node` before; returns the node's progress.
    async fn take_over(&self, node: NodeId, incarnation: u64) -> Result<Lsn, ShardError>;

    /// Whether calls are made at all; a shard without a breaker always makes them.
    fn condition(&self) -> Condition {
        Condition::default()
    }

    /// Lets go of the database once the calls under way are through; later calls fail.
    async fn close(&self) -> Result<(), ShardError>;
}

/// A namespace's or topic's own row in the catalog.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TopicRow {
    /// The topic's own settings.
    pub settings: SettingsPatch,
    /// No deliveries while true.
    pub paused: bool,
}

/// What the catalog holds: small, read whole at start-up, kept in the first shard's database.
#[derive(Debug, Clone, Default)]
pub struct CatalogContents {
    /// The number of the last change.
    pub generation: u64,
    /// Every topic that was ever used and not deleted.
    pub topics: Vec<(TopicKey, TopicRow)>,
    /// Every namespace with settings of its own.
    pub namespaces: Vec<(crate::model::Namespace, NamespaceSettings)>,
    /// Which shard each slot is assigned to, by shard number; empty before the first start.
    pub slots: Vec<u16>,
}

/// The shards of this process, in the order of `DATABASE_URLS`.
pub type Shards = Vec<Arc<dyn Shard>>;
