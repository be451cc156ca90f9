//! What each namespace has, summed over its topics as they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::topic::Topic;
use crate::hot::Holdings;
use crate::model::Namespace;

impl Topic {
    /// What the topic's namespace has of it.
    pub(super) fn holdings(&self) -> Holdings {
        Holdings {
            bytes: self.stored_bytes + self.cold.bytes(),
            leased: self.tally.leased,
        }
    }
}

/// The sums of every namespace with a topic in memory.
#[derive(Debug, Default)]
pub(super) struct AllHoldings(RwLock<HashMap<Namespace, Arc<Sums>>>);

/// The sums of one namespace. Signed: topics that change at the same time may be summed in any order.
#[derive(Debug, Default)]
pub(super) struct Sums {
    bytes: AtomicI64,
    leased: AtomicI64,
}

impl Sums {
    /// A topic had `before` and has `after`.
    pub(super) fn change(&self, before: Holdings, after: Holdings) {
        let add = |sum: &AtomicI64, before: u64, after: u64| {
            if before != after {
                sum.fetch_add(after as i64 - before as i64, Ordering::Relaxed);
            }
        };
        add(&self.bytes, before.bytes, after.bytes);
        add(&self.leased, before.leased, after.leased);
    }
}

impl AllHoldings {
    /// The sums of `namespace`, for a topic to change.
    pub(super) fn of(&self, namespace: &Namespace) -> Arc<Sums> {
        if let Some(sums) = self.0.read().get(namespace) {
            return sums.clone();
        }
        self.0.write().entry(namespace.clone()).or_default().clone()
    }

    /// What `namespace` has.
    pub(super) fn read(&self, namespace: &Namespace) -> Holdings {
        let sums = self.0.read().get(namespace).cloned().unwrap_or_default();
        let read = |sum: &AtomicI64| u64::try_from(sum.load(Ordering::Relaxed)).unwrap_or(0);
        Holdings {
            bytes: read(&sums.bytes),
            leased: read(&sums.leased),
        }
    }

    /// Forgets a namespace without topics.
    pub(super) fn forget(&self, namespace: &Namespace) {
        self.0.write().remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::{Clock, Timestamp};
    use crate::hot::{Finish, HoldRequest, Holdings, HotTier, MemoryOptions, MemoryTier, Term, Want};
    use crate::model::{Item, ItemId, PayloadKind, QueuedItem, SettleCause, TopicKey};
    use crate::shard::StoredCounts;
    use crate::wal::Lsn;

    fn tier() -> MemoryTier {
        MemoryTier::new(MemoryOptions {
            clock: Clock::manual(Timestamp::from_ms(1_000)),
            shard_of: Box::new(|_| 0),
            prefetch_items: 100,
        })
    }

    /// An item that counts 300 bytes.
    fn item(id: u64) -> QueuedItem {
        QueuedItem::accepted(Item {
            id: ItemId(id),
            priority: 0,
            lease_ms: 30_000,
            max_attempts: 10,
            kind: PayloadKind::Bytes,
            enqueued_at: Timestamp::ZERO,
            deliver_after: Timestamp::ZERO,
            expires_at: None,
            payload: vec![0; 44].into(),
            extra: None,
        })
    }

    #[tokio::test]
    async fn what_was_stored_before_the_start_is_measured_once() {
        let tier = tier();
        let topic = TopicKey::parse("ns", "t").unwrap();
        let held = || tier.holdings(topic.namespace()).unwrap().bytes;
        let count = StoredCounts {
            topic: topic.clone(),
            due: 3,
            later: 0,
            dead: 1,
        };
        tier.set_stored(&[count], Timestamp::from_ms(1_000))
            .await
            .unwrap();
        tier.refill_begin(&topic).await.unwrap();
        tier.refill_end(&topic, Some((vec![item(1)], false))).await;
        assert_eq!(held(), 300);
        tier.measure_cold(&topic, 400);
        assert_eq!(held(), 300 + 3 * 400);
        tier.measure_cold(&topic, 9_999);
        assert_eq!(held(), 300 + 3 * 400);
        // When nothing is left, nothing is left of the estimate.
        tier.purge(&topic, Lsn(1), true, ItemId(9)).await;
        tier.purge(&topic, Lsn(2), false, ItemId(9)).await;
        assert_eq!(held(), 0);
    }

    async fn flush(tier: &MemoryTier) {
        let plan = tier.flush_plan(0, Lsn(u64::MAX), 1_000).await.unwrap();
        tier.flushed(plan, true).await;
    }

    #[tokio::test]
    async fn what_a_namespace_has_is_the_same_wherever_it_is() {
        let tier = tier();
        let topics = ["a", "b"].map(|name| TopicKey::parse("ns", name).unwrap());
        let namespace = topics[0].namespace().clone();
        let held = || {
            let Holdings { bytes, leased } = tier.holdings(&namespace).unwrap();
            (bytes, leased)
        };
        tier.admit(&topics[0], Lsn(1), (1..=4).map(item).collect()).await;
        tier.admit(&topics[1], Lsn(2), vec![item(5)]).await;
        assert_eq!(held(), (1_500, 0));
        let taken = tier
            .take(&topics[0], Want::items(1), Term::Own, "tester")
            .await
            .unwrap()
            .items;
        assert_eq!((held(), taken.len()), ((1_500, 1), 1));
        // Cold and back: a refill brings up what was evicted.
        flush(&tier).await;
        assert!(tier.evict(usize::MAX).await > 0);
        assert_eq!(held(), (1_500, 1));
        tier.refill_begin(&topics[0]).await.unwrap();
        tier.refill_end(&topics[0], Some((vec![item(2), item(3)], false)))
            .await;
        assert_eq!(held(), (1_500, 1));
        // Settled, and purged, hot and cold.
        let request = HoldRequest {
            id: taken[0].queued.item.id,
            generation: Some(taken[0].queued.standing.generation),
        };
        tier.hold(&topics[0], &[request]).await.unwrap();
        let gone = Finish::gone(request.id, SettleCause::Acked);
        tier.finish(&topics[0], Lsn(3), vec![gone]).await;
        assert_eq!(held(), (1_200, 0));
        assert_eq!(tier.purge(&topics[0], Lsn(4), false, ItemId(9)).await, 3);
        assert_eq!(held(), (300, 0));
        tier.purge(&topics[1], Lsn(5), false, ItemId(9)).await;
        assert_eq!(held(), (0, 0));
        flush(&tier).await;
        for topic in &topics {
            assert!(tier.forget(topic).await.unwrap());
        }
    }
}
