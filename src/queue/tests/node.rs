//! A node of parts that a test can stop, fail and look into.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::script::Script;
use super::shard::MapShard;
use crate::clock::{Clock, Timestamp};
use crate::hot::{MemoryOptions, MemoryTier};
use crate::model::{Backoff, IdGenerator, ItemId, LeaseKey, NodeId, Settings, TopicKey};
use crate::queue::{
    Delivered, DequeueRequest, Durability, EnqueueResult, ItemLimits, LeaseAction, LiveLimits, NewItem,
    Parts, Queue, QueueLimits, Replay, Requester, SettleStatus, SharedSlots, Tenure, Verb,
};
use crate::shard::{Catalog, Claim, SeaShard, Shard, ShardOptions, SlotMap};
use crate::tenant::{QuotaTable, Quotas};
use crate::wal::disk::SimDisk;
use crate::wal::{Lsn, Wal, WalOptions};

/// Where every test's clock begins.
pub(super) const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// How long a claim on a node number lasts: longer than any test moves its clock.
const TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

pub(super) struct Node {
    pub(super) queue: Queue,
    pub(super) clock: Clock,
    pub(super) shards: Vec<Arc<MapShard>>,
    pub(super) disk: SimDisk,
    pub(super) flush_items: usize,
    pub(super) hooks: Arc<Script>,
    pub(super) quotas: Arc<Quotas>,
    catalog: Catalog,
    _dir: Arc<TempDir>,
}

impl Node {
    /// A node with `shards` empty shards that stores, and reads, `flush_items` items at a time.
    pub(super) async fn start(shards: usize, flush_items: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        let url = format!("sqlite://{}?mode=rwc", path.display()).into();
        let options = ShardOptions::default();
        let catalog = SeaShard::open(&url, &options).await.unwrap().catalog();
        let shards = (0..shards).map(|_| MapShard::new()).collect();
        let (disk, clock) = (SimDisk::new(1), Clock::manual(START));
        let hooks = Arc::new(Script::default());
        let quotas = Arc::new(Quotas::new(QuotaTable::default(), clock.clone()));
        let extras = (hooks.clone(), quotas.clone());
        let queue = open(&clock, &disk, &shards, &catalog, flush_items, extras).await;
        Self {
            hooks,
            quotas,
            queue,
            clock,
            shards,
            disk,
            flush_items,
            catalog,
            _dir: Arc::new(dir),
        }
    }

    /// Ends the process as it is and starts another one.
    pub(super) async fn crash(self) -> Self {
        self.crash_for(0).await
    }

    /// The same, with `away_ms` between the two.
    pub(super) async fn crash_for(self, away_ms: i64) -> Self {
        let Self {
            queue,
            clock,
            shards,
            disk,
            flush_items,
            hooks,
            quotas,
            catalog,
            _dir,
        } = self;
        queue.halt().await;
        drop(queue);
        clock.advance(away_ms);
        let extras = (hooks.clone(), quotas.clone());
        let queue = open(&clock, &disk, &shards, &catalog, flush_items, extras).await;
        Self {
            hooks,
            quotas,
            queue,
            clock,
            shards,
            disk,
            flush_items,
            catalog,
            _dir,
        }
    }

    /// Stores everything; false when a shard failed.
    pub(super) async fn flush(&self) -> bool {
        let core = &self.queue.core;
        let up_to = core.wal.applied_lsn();
        let mut well = true;
        for shard in 0..self.shards.len() as u16 {
            well &= self.flush_shard(shard, up_to).await;
        }
        core.free_log().await;
        well
    }

    pub(super) async fn flush_shard(&self, shard: u16, up_to: Lsn) -> bool {
        let core = &self.queue.core;
        loop {
            match core.flush_once(shard, up_to).await {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Moves time, and what time moves.
    pub(super) async fn advance(&self, ms: i64) {
        self.clock.advance(ms);
        self.queue.core.reap().await;
    }

    /// Removes what time has made useless.
    pub(super) async fn clean_up(&self) {
        for shard in 0..self.shards.len() as u16 {
            self.queue.core.clean_up(shard).await.unwrap();
        }
    }

    /// Refills every topic that runs low by one page, as far as its shard answers.
    pub(super) async fn prefetch(&self) {
        for shard in 0..self.shards.len() as u16 {
            let _ = self.queue.core.prefetch(shard).await;
        }
    }

    /// Everything that may leave memory does.
    pub(super) async fn evict(&self) {
        self.queue.core.hot.evict(usize::MAX).await;
    }

    pub(super) async fn enqueue(&self, topic: &TopicKey, items: Vec<NewItem>) -> Vec<ItemId> {
        let enqueued = self
            .queue
            .enqueue(topic, items, Durability::Logged, &somebody())
            .await
            .unwrap();
        let id = |result| match result {
            EnqueueResult::Accepted { id } => id,
            other => panic!("not accepted: {other:?}"),
        };
        enqueued.results.into_iter().map(id).collect()
    }

    /// Whether `item` repeats one that was accepted.
    pub(super) async fn is_duplicate(&self, topic: &TopicKey, item: NewItem) -> bool {
        let enqueued = self
            .queue
            .enqueue(topic, vec![item], Durability::Logged, &somebody())
            .await
            .unwrap();
        matches!(enqueued.results[0], EnqueueResult::Duplicate { .. })
    }

    pub(super) async fn dequeue(&self, topic: &TopicKey, max: usize) -> Vec<Delivered> {
        self.queue.dequeue(request(topic, max)).await.unwrap()
    }

    pub(super) async fn settle(&self, delivered: &Delivered, verb: Verb) -> SettleStatus {
        self.queue
            .settle(vec![self.action(delivered, verb)])
            .await
            .unwrap()[0]
            .status
    }

    pub(super) async fn ack(&self, delivered: &Delivered) -> SettleStatus {
        self.settle(delivered, Verb::Ack).await
    }

    pub(super) fn action(&self, delivered: &Delivered, verb: Verb) -> LeaseAction {
        let lease = delivered.lease.as_ref().unwrap();
        LeaseAction {
            lease: self.queue.open_lease(&lease.id).unwrap(),
            verb,
        }
    }

    /// Ready, scheduled, leased, dead.
    pub(super) fn counts(&self, topic: &TopicKey) -> [u64; 4] {
        let stats = self.queue.stats(topic).unwrap();
        [stats.ready, stats.scheduled, stats.leased, stats.dead]
    }

    /// The shard that holds `topic`.
    pub(super) fn shard(&self, topic: &TopicKey) -> &Arc<MapShard> {
        &self.shards[usize::from(self.queue.core.shard_number(topic))]
    }

    /// How many rows of `topic` its shard has.
    pub(super) fn rows(&self, topic: &TopicKey) -> usize {
        let state = self.shard(topic).state.lock();
        state.rows.values().filter(|(key, _)| key == topic).count()
    }
}

async fn open(
    clock: &Clock,
    disk: &SimDisk,
    shards: &Vec<Arc<MapShard>>,
    catalog: &Catalog,
    flush_items: usize,
    (hooks, quotas): (Arc<Script>, Arc<Quotas>),
) -> Queue {
    let node = NodeId::new(1).unwrap();
    let slots = assigned(catalog, shards.len()).await;
    let mut progress = Vec::new();
    for shard in shards {
        progress.push(shard.progress(node).await.unwrap());
    }
    let options = WalOptions {
        segment_bytes: 1 << 20,
        bytes_max: 64 << 20,
        spare_segments: 0,
        disk_free_bytes_min: 0,
        ..WalOptions::new(Path::new("/wal"), node)
    };
    let claim = Claim {
        node,
        holder: 1,
        incarnation: rand::random(),
    };
    assert_eq!(catalog.claim_node(claim, "test", TTL).await.unwrap(), None);
    let high_water = Arc::new(AtomicU64::new(0));
    let mut replay = Replay::new(progress, slots.clone());
    let mut visit = |lsn, record| replay.visit(lsn, record);
    let wal = Wal::open(options, Arc::new(disk.clone()), high_water.clone(), &mut visit).unwrap();
    let floor = ItemId(high_water.load(Ordering::Relaxed));
    let shard_of = slots.clone();
    let hot = MemoryTier::new(MemoryOptions {
        clock: clock.clone(),
        shard_of: Box::new(move |slot| shard_of.shard_of(slot) as u16),
        prefetch_items: 5,
    });
    let parts = Parts {
        clock: clock.clone(),
        tenure: Tenure::new(claim, TTL, clock.monotonic()),
        ids: Arc::new(IdGenerator::new(node, clock.clone(), floor, high_water)),
        lease_key: LeaseKey::derive(b"test"),
        wal,
        hot: Arc::new(hot),
        shards: shards
            .iter()
            .map(|shard| shard.clone() as Arc<dyn Shard>)
            .collect(),
        slots: SharedSlots::new(slots),
        catalog: catalog.clone(),
        defaults: Settings {
            backoff: Backoff {
                jitter: 0.0,
                ..Backoff::default()
            },
            ..Settings::default()
        },
        limits: limits(flush_items),
        hooks,
        quotas,
    };
    Queue::open(parts, replay.finish()).await.unwrap()
}

/// Where the slots are; evenly spread at the first start.
async fn assigned(catalog: &Catalog, shards: usize) -> SlotMap {
    let owners = catalog.slots().await.unwrap().owners;
    if owners.is_empty() {
        let map = SlotMap::initial(shards).unwrap();
        catalog.put_slots(map.owners()).await.unwrap();
        return map;
    }
    SlotMap::persisted(owners, shards).unwrap()
}

fn limits(flush_items: usize) -> QueueLimits {
    QueueLimits {
        live: LiveLimits {
            items: ItemLimits {
                payload_bytes_max: 1 << 20,
                batch_items_max: 1_000,
            },
            topics_per_namespace_max: 100,
        },
        hot_bytes_max: 1 << 30,
        hot_bytes_high: 1 << 29,
        hot_bytes_low: 1 << 28,
        buffer_ttl_ms: 5_000,
        wal_bytes_soft: 32 << 20,
        flush_items,
        refill_items: flush_items,
    }
}

pub(super) fn topic(name: &str) -> TopicKey {
    TopicKey::parse("default", name).unwrap()
}

pub(super) fn request(topic: &TopicKey, max: usize) -> DequeueRequest {
    DequeueRequest {
        topics: vec![(topic.clone(), max)],
        max_total: max,
        wait_ms: 0,
        lease_ms: None,
        request_id: None,
        consumer: somebody(),
    }
}

/// Who asks in every test.
pub(super) fn somebody() -> Requester {
    Requester {
        subject: "test".into(),
        scopes: ["enqueue".into(), "see:all".into()].into(),
    }
}

pub(super) fn item(text: &str) -> NewItem {
    NewItem {
        payload: text.as_bytes().into(),
        ..NewItem::default()
    }
}
