//! A fresh tier for one test, and the items to put into it.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::hot::{
    Counts, Finish, Held, HoldRequest, HotTier, Landing, MemoryOptions, MemoryTier, More, RedisOptions,
    RedisTier, Taken, TakenItem, Term, Want,
};
use crate::model::{Item, ItemId, PayloadKind, QueuedItem, SettleCause, Standing, TopicKey};
use crate::shard::StoredCounts;
use crate::wal::Lsn;

/// Where every test's clock begins.
const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

pub(super) struct Fixture {
    pub(super) tier: Arc<dyn HotTier>,
    pub(super) clock: Clock,
    pub(super) topic: TopicKey,
    /// What the keys in Redis begin with.
    prefix: String,
}

const ATTEMPTS_MAX: u32 = 3;

/// An item that is due at once; smaller ids go first.
pub(super) fn item(id: u64) -> QueuedItem {
    urgent(id, 5)
}

pub(super) fn urgent(id: u64, priority: i32) -> QueuedItem {
    QueuedItem::accepted(Item {
        id: ItemId(id),
        priority,
        lease_ms: 30_000,
        max_attempts: ATTEMPTS_MAX,
        kind: PayloadKind::Bytes,
        enqueued_at: START,
        deliver_after: START,
        expires_at: None,
        payload: vec![7; 100].into(),
        extra: None,
    })
}

/// The item with a time to live.
pub(super) fn lasting(id: u64, ttl_ms: i64) -> QueuedItem {
    let item = Item {
        expires_at: Some(START.plus_ms(ttl_ms)),
        ..(*item(id).item).clone()
    };
    QueuedItem::accepted(item)
}

/// The item with a payload of so many bytes.
pub(super) fn sized(mut queued: QueuedItem, bytes: usize) -> QueuedItem {
    Arc::make_mut(&mut queued.item).payload = vec![7; bytes].into();
    queued
}

/// The item with its standing changed.
pub(super) fn patched(mut queued: QueuedItem, change: impl FnOnce(&mut Standing)) -> QueuedItem {
    change(&mut queued.standing);
    queued
}

impl Fixture {
    /// In memory, with one shard for all topics.
    pub(super) fn memory() -> Self {
        let clock = Clock::manual(START);
        let options = MemoryOptions {
            clock: clock.clone(),
            shard_of: Box::new(|_| 0),
            prefetch_items: 10,
        };
        Self {
            tier: Arc::new(MemoryTier::new(options)),
            clock,
            topic: TopicKey::parse("ns", "t").unwrap(),
            prefix: String::new(),
        }
    }

    /// In the Redis of `MQUEUE_TEST_REDIS`, else of this machine, under a prefix of its own.
    pub(super) async fn redis() -> Self {
        let fixture = Self::unbegun().await;
        fixture.begin(&[]).await;
        fixture
    }

    async fn unbegun() -> Self {
        let prefix = format!("test-{:016x}", rand::random::<u64>());
        Self::over(prefix, Clock::manual(START)).await
    }

    /// The node's next process over the same Redis, which has not begun.
    pub(super) async fn again(&self) -> Self {
        Self::over(self.prefix.clone(), self.clock.clone()).await
    }

    async fn over(prefix: String, clock: Clock) -> Self {
        let options = RedisOptions::of_test(1, &prefix, clock.clone());
        Self {
            tier: RedisTier::open(options).await.unwrap(),
            clock,
            topic: TopicKey::parse("ns", "t").unwrap(),
            prefix,
        }
    }

    /// Begins as a node does whose shard holds so much.
    pub(super) async fn begin(&self, counts: &[StoredCounts]) {
        self.tier.claim().await.unwrap();
        self.tier.set_stored(counts, self.clock.now()).await.unwrap();
        self.tier.ready().await.unwrap();
        self.tier.known().await.unwrap();
    }

    /// The same tier with nothing in it, to which nobody has said anything yet.
    pub(super) async fn anew(&self) -> Self {
        if self.tier.outlives_the_node() {
            Self::unbegun().await
        } else {
            Self::memory()
        }
    }

    pub(super) async fn admit(&self, lsn: u64, items: Vec<QueuedItem>) {
        self.tier.admit(&self.topic, Lsn(lsn), items).await;
    }

    /// Takes one item, which must be there.
    pub(super) async fn take_one(&self) -> TakenItem {
        let taken = self
            .tier
            .take(&self.topic, Want::items(1), Term::Own, "tester")
            .await;
        taken.unwrap().items.remove(0)
    }

    /// Takes up to `max`; nothing must be overdue.
    pub(super) async fn take(&self, max: usize) -> (Vec<u64>, More) {
        let Taken { items, overdue, more } = self
            .tier
            .take(&self.topic, Want::items(max), Term::Own, "tester")
            .await
            .unwrap();
        assert!(overdue.is_empty());
        (items.iter().map(|taken| taken.queued.item.id.0).collect(), more)
    }

    pub(super) async fn hold(&self, id: u64, generation: Option<u32>) -> Held {
        let id = ItemId(id);
        let request = HoldRequest { id, generation };
        self.tier.hold(&self.topic, &[request]).await.unwrap().remove(0)
    }

    /// Holds an item that must be there and leased to nobody.
    pub(super) async fn held(&self, id: u64) -> QueuedItem {
        match self.hold(id, None).await {
            Held::Yes(queued) => queued,
            other => panic!("item {id} is not held but {other:?}"),
        }
    }

    /// Holds an item by a lease that must be its current one.
    pub(super) async fn held_by_lease(&self, id: u64, generation: u32) -> Standing {
        match self.hold(id, Some(generation)).await {
            Held::Leased(lease) => {
                assert_eq!((lease.id, lease.max_attempts), (ItemId(id), ATTEMPTS_MAX));
                lease.standing
            }
            other => panic!("item {id} is not held but {other:?}"),
        }
    }

    pub(super) async fn finish(&self, lsn: u64, id: u64, to: Landing) {
        let id = ItemId(id);
        let finish = Finish { id, to };
        self.tier.finish(&self.topic, Lsn(lsn), vec![finish]).await;
    }

    /// Settles the item's lease of `generation` for good.
    pub(super) async fn ack(&self, lsn: u64, id: u64, generation: u32) {
        self.held_by_lease(id, generation).await;
        self.finish(lsn, id, Landing::Gone(SettleCause::Acked)).await;
    }

    /// Lets the item stand otherwise.
    pub(super) async fn patch(&self, lsn: u64, id: u64, generation: u32, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.held_by_lease(id, generation).await;
        change(&mut standing);
        self.finish(lsn, id, Landing::Standing(standing)).await;
    }

    /// Stores everything up to `up_to`, at most `limit` items; returns the ids and how far that reached.
    pub(super) async fn flush(&self, up_to: u64, limit: usize, stored: bool) -> (Vec<u64>, Vec<u64>, u64) {
        let plan = self.tier.flush_plan(0, Lsn(up_to), limit).await.unwrap();
        let upserts = plan.upserts.iter().map(|(_, queued)| queued.item.id.0).collect();
        let deletes = plan.deletes.iter().map(|(_, id)| id.0).collect();
        let reached = plan.reached.0;
        self.tier.flushed(plan, stored).await;
        (upserts, deletes, reached)
    }

    /// Admits items at `lsn`, stores them, and drops them from memory.
    pub(super) async fn cool(&self, lsn: u64, items: Vec<QueuedItem>) {
        self.admit(lsn, items).await;
        self.flush(lsn, 1_000, true).await;
        self.tier.evict(usize::MAX).await;
    }

    pub(super) async fn first_need(&self) -> Option<u64> {
        self.tier.first_need(0).await.unwrap().map(|lsn| lsn.0)
    }

    pub(super) fn counts(&self) -> Counts {
        self.tier.counts(&self.topic)
    }

    /// Ready, scheduled, leased, dead.
    pub(super) fn numbers(&self) -> [u64; 4] {
        let counts = self.counts();
        [counts.ready, counts.scheduled, counts.leased, counts.dead]
    }
}
