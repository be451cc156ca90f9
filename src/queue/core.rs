//! What every use case works with.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::activity::Counted;
use super::admission::ItemLimits;
use super::dequeue_hooks::Strikes;
use super::error::QueueError;
use super::flusher::FlushControl;
use super::moves::Moving;
use super::operate::Operations;
use super::quotas::{LeasesInHand, Measured};
use super::receipts::Receipts;
use super::shards::ShardWatch;
use super::slots::SharedSlots;
use super::tenure::Tenure;
use super::topics::{TopicHandle, Topics};
use super::uncancelled::uncancelled;
use crate::clock::Clock;
use crate::hooks::Hooks;
use crate::hot::HotTier;
use crate::model::{IdGenerator, LeaseKey, LeaseRef, NodeId, Settings, TopicKey};
use crate::shard::{Catalog, Shard, Shards, TopicRow};
use crate::tenant::Quotas;
use crate::wal::Wal;

/// How long an answer waits for a hot tier that is away, when the log has what it says.
const APPLY_WAIT: Duration = Duration::from_secs(1);

/// The queue of this node. Cheap to clone; every clone is the same queue.
#[derive(Clone)]
pub struct Queue {
    pub(super) core: Arc<Core>,
}

/// Limits of the node as a whole.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Those that may change while the node runs, as they are at the start.
    pub live: LiveLimits,
    /// Memory for hot items, in bytes.
    pub hot_bytes_max: usize,
    /// Memory use at which items that are stored begin to be evicted, in bytes.
    pub hot_bytes_high: usize,
    /// Memory use at which items begin to be stored early, in bytes.
    pub hot_bytes_low: usize,
    /// How long accepted items stay out of the shard, in milliseconds.
    pub buffer_ttl_ms: i64,
    /// Log size above which it is checkpointed into the shards, in bytes.
    pub wal_bytes_soft: u64,
    /// Items in one checkpoint transaction.
    pub flush_items: usize,
    /// Most cold items read in one statement; fewer when they are large.
    pub refill_items: usize,
}

/// Limits that may change while the node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveLimits {
    /// Limits on items and batches.
    pub items: ItemLimits,
    /// Most topics in one namespace.
    pub topics_per_namespace_max: usize,
}

/// What a queue is put together from.
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// This node's hold on its number.
    pub tenure: Tenure,
    /// Makes item ids.
    pub ids: Arc<IdGenerator>,
    /// Authenticates lease ids.
    pub lease_key: LeaseKey,
    /// The log, replayed.
    pub wal: Wal,
    /// The hot tier.
    pub hot: Arc<dyn HotTier>,
    /// The shards.
    pub shards: Shards,
    /// Which shard each slot is in.
    pub slots: SharedSlots,
    /// Topics and namespaces.
    pub catalog: Catalog,
    /// Settings under every namespace's and topic's own.
    pub defaults: Settings,
    /// Limits.
    pub limits: QueueLimits,
    /// What runs items through their topics' hooks.
    pub hooks: Arc<dyn Hooks>,
    /// What namespaces may do.
    pub quotas: Arc<Quotas>,
}

pub(super) struct Core {
    pub(super) clock: Clock,
    pub(super) node: NodeId,
    pub(super) tenure: Tenure,
    pub(super) ids: Arc<IdGenerator>,
    pub(super) lease_key: LeaseKey,
    pub(super) wal: Wal,
    pub(super) hot: Arc<dyn HotTier>,
    pub(super) shards: Shards,
    pub(super) slots: SharedSlots,
    /// What is known of slots on their way.
    pub(super) moving: Moving,
    pub(super) catalog: Catalog,
    pub(super) topics: Topics,
    pub(super) limits: QueueLimits,
    /// The limits in force of those that may change.
    pub(super) live: ArcSwap<LiveLimits>,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) quotas: Arc<Quotas>,
    pub(super) leases_in_hand: LeasesInHand,
    pub(super) measured: Measured,
    /// Items on which hooks failed when they were about to be handed out.
    pub(super) strikes: Strikes,
    pub(super) flush: Vec<FlushControl>,
    pub(super) receipts: Receipts,
    pub(super) counted: Counted,
    /// Held by flushers, and alone by whoever brings back what the hot tier lost.
    pub(super) restoring: tokio::sync::RwLock<()>,
    /// Held by who logs idempotency keys until they are durable, and alone for a moment before the log is read back.
    pub(super) logging_keys: Arc<tokio::sync::RwLock<()>>,
    pub(super) operations: Operations,
    /// Raised when memory was freed.
    pub(super) room: Notify,
    /// Raised when a topic of the shard ran low on ready items in memory.
    pub(super) running_low: Vec<Notify>,
    /// What was last said of each shard.
    pub(super) watched: Vec<ShardWatch>,
    leaving: AtomicBool,
    draining: AtomicBool,
    /// Cancelled when waiting consumers must be answered because the node goes away.
    pub(super) stop_waiting: CancellationToken,
    /// Cancelled when the loops must end.
    pub(super) stop_loops: CancellationToken,
    pub(super) loops: tokio_util::task::TaskTracker,
}

impl Queue {
    /// Puts a queue together and starts its loops.
    pub async fn start(parts: Parts, recovered: super::Recovered) -> Result<Self, QueueError> {
        let queue = Self::open(parts, recovered).await?;
        // What this node worked on when it went away is free for the next who asks, itself included.
        queue.core.catalog.release_operations(queue.core.node).await?;
        queue.start_loops();
        Ok(queue)
    }

    /// Puts a queue together without its loops: whoever has it decides when each does a turn.
    pub(super) async fn open(parts: Parts, recovered: super::Recovered) -> Result<Self, QueueError> {
        let contents = parts.catalog.load().await?;
        let core = Core {
            flush: parts.shards.iter().map(|_| FlushControl::new()).collect(),
            running_low: parts.shards.iter().map(|_| Notify::new()).collect(),
            watched: parts.shards.iter().map(|_| ShardWatch::default()).collect(),
            topics: Topics::new(&contents, parts.defaults),
            clock: parts.clock,
            node: parts.tenure.node(),
            tenure: parts.tenure,
            ids: parts.ids,
            lease_key: parts.lease_key,
            wal: parts.wal,
            hot: parts.hot,
            shards: parts.shards,
            slots: parts.slots,
            moving: Moving::default(),
            catalog: parts.catalog,
            limits: parts.limits,
            live: ArcSwap::from_pointee(parts.limits.live),
            hooks: parts.hooks,
            quotas: parts.quotas,
            leases_in_hand: LeasesInHand::default(),
            measured: Measured::default(),
            strikes: Strikes::default(),
            receipts: Receipts::default(),
            counted: Counted::default(),
            restoring: tokio::sync::RwLock::default(),
            logging_keys: Arc::default(),
            operations: Operations::default(),
            room: Notify::new(),

            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            stop_waiting: CancellationToken::new(),
            stop_loops: CancellationToken::new(),
            loops: tokio_util::task::TaskTracker::new(),
        };
        let queue = Self { core: Arc::new(core) };
        queue.recover(recovered).await?;
        queue.refresh_quotas().await?;
        Ok(queue)
    }

    /// Replaces the configuration's topic settings while running.
    pub fn set_defaults(&self, defaults: Settings) {
        self.core.topics.set_defaults(defaults);
    }

    /// Replaces the limits that may change while running. Topics and items that are there already stay.
    pub fn set_limits(&self, limits: LiveLimits) {
        self.core.live.store(Arc::new(limits));
    }

    /// What the text of a lease id says, or nothing when this cluster did not make it.
    pub fn open_lease(&self, text: &str) -> Option<LeaseRef> {
        self.core.lease_key.open(text)
    }

    /// As [`Queue::open_lease`]; `near` is the topic of the lease opened before, which most batches share.
    pub fn open_lease_like(&self, text: &str, near: Option<&TopicKey>) -> Option<LeaseRef> {
        self.core.lease_key.open_like(text, near)
    }

    /// Says that the node will stop soon: it is not ready any more, and goes on as before.
    pub fn announce_shutdown(&self) {
        self.core.leaving.store(true, Ordering::Relaxed);
    }

    /// Stops accepting work and answers every waiting consumer; what is under way goes on.
    pub fn begin_shutdown(&self) {
        self.announce_shutdown();
        self.core.draining.store(true, Ordering::Relaxed);
        self.core.stop_waiting.cancel();
    }

    /// Whether the node is stopping, or said that it will.
    pub(super) fn is_leaving(&self) -> bool {
        self.core.leaving.load(Ordering::Relaxed)
    }

    /// Whether the node takes no more work.
    pub fn is_draining(&self) -> bool {
        self.core.draining.load(Ordering::Relaxed)
    }

    /// Stores everything that is only in the log, and closes it. What does not get stored in time stays in
    /// the log and is there at the next start.
    pub async fn drain(&self, deadline: Duration) {
        self.begin_shutdown();
        let mut has_left = false;
        match tokio::time::timeout(deadline, self.core.store_everything()).await {
            // Only who has stored everything gives the number back: nobody waits for what such a node has.
            Ok(Ok(())) => {
                has_left = true;
                if let Err(error) = self.core.catalog.release_node(self.core.tenure.claim).await {
                    tracing::warn!(%error, "the node's number was not given back");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the shards are not told how far the log is stored"),
            Err(_) => tracing::warn!("the shards took too long; the rest stays in the log"),
        }
        self.halt().await;
        if has_left {
            self.core.hot.leave().await;
        }
    }

    /// Stops the loops and closes log and shards at once, storing nothing more: everything accepted is in the log
    /// and is there at the next start.
    pub async fn halt(&self) {
        self.begin_shutdown();
        self.core.stop_loops.cancel();
        self.core.loops.close();
        self.core.loops.wait().await;
        self.core.hot.close();
        let wal = self.core.wal.clone();
        // Closing waits for the log's threads.
        let _ = tokio::task::spawn_blocking(move || wal.close()).await;
        for (number, shard) in self.core.shards.iter().enumerate() {
            if let Err(error) = shard.close().await {
                tracing::warn!(shard = number, %error, "a shard was not closed in order");
            }
        }
    }
}

impl Core {
    /// The topic, which must have been used before.
    pub(super) fn topic(&self, key: &TopicKey) -> Result<Arc<TopicHandle>, QueueError> {
        self.topics.get(key).ok_or(QueueError::UnknownTopic)
    }

    /// The topic; it appears on its first use unless its namespace forbids that.
    pub(super) async fn topic_or_new(&self, key: &TopicKey) -> Result<Arc<TopicHandle>, QueueError> {
        if let Some(handle) = self.topics.get(key) {
            return Ok(handle);
        }
        if !self.topics.namespace(key.namespace()).makes_topics() {
            return Err(QueueError::UndeclaredTopic);
        }
        // Boxed: what the catalog needs is some twenty kilobytes, and would be moved with every request.
        Box::pin(self.topic_declared(key)).await
    }

    /// The topic, which appears because somebody asked for it.
    pub(super) async fn topic_declared(&self, key: &TopicKey) -> Result<Arc<TopicHandle>, QueueError> {
        if let Some(handle) = self.topics.get(key) {
            return Ok(handle);
        }
        self.check_catalog()?;
        let _creating = self.topics.creating(key.namespace()).lock().await;
        // Somebody else may have made it meanwhile, or the last one that there may be.
        if let Some(handle) = self.topics.get(key) {
            return Ok(handle);
        }
        let most = self.topics_max(key.namespace());
        // What this node knows of keeps a flood from the catalog, which knows what other nodes made since.
        if self.topics.count_in(key.namespace()) >= most || !self.catalog.make_topic(key, most).await? {
            return Err(QueueError::TooManyTopics(most));
        }
        Ok(self.topics.insert(key, &TopicRow::default()))
    }

    /// The number of the shard that holds `key`.
    pub(super) fn shard_number(&self, key: &TopicKey) -> u16 {
        self.slots.shard_of(key.slot()) as u16
    }

    /// The shard that holds `key`.
    pub(super) fn shard(&self, key: &TopicKey) -> &Arc<dyn Shard> {
        &self.shards[usize::from(self.shard_number(key))]
    }

    /// Applies to the hot tier what a durable record says. A tier that is away does not keep the caller waiting,
    /// because the log has it: the work goes on by itself, and there is no result.
    pub(super) async fn applied<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.hot.outlives_the_node() {
            tokio::time::timeout(APPLY_WAIT, uncancelled(work)).await.ok()
        } else {
            Some(work.await)
        }
    }

    /// Refuses work once the node is going away.
    pub(super) fn check_running(&self) -> Result<(), QueueError> {
        if self.draining.load(Ordering::Relaxed) {
            Err(QueueError::ShuttingDown)
        } else {
            Ok(())
        }
    }
}
