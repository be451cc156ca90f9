//! The prefetcher: brings cold items up in delivery order before anybody asks for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::topics::TopicHandle;
use super::uncancelled::uncancelled;
use crate::hot::DueSpan;
use crate::model::{ItemId, QueuedItem, TopicKey};
use crate::shard::{PageOf, ShardError};

/// How often the prefetcher looks when nobody calls it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it rests after a shard failed.
const REST: Duration = Duration::from_millis(500);
/// Items read in one statement.
const PAGE_ITEMS: usize = 2_000;

impl Core {
    /// One turn: wait for a reason, then refill every topic that runs low.
    pub(super) async fn prefetch_tick(self: Arc<Self>) {
        let _ = tokio::time::timeout(LOOK_EVERY, self.running_low.notified()).await;
        for key in self.hot.wanting_refill().await {
            let Some(handle) = self.topics.get(&key) else {
                continue;
            };
            if let Err(error) = self.refill(&handle).await {
                tracing::warn!(topic = %key, %error, "cold items could not be read");
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Brings the next page of a topic's cold items up. One caller reads, those that came meanwhile wait for
    /// it and do not read again.
    pub(super) async fn refill(self: &Arc<Self>, handle: &Arc<TopicHandle>) -> Result<(), ShardError> {
        let (core, handle) = (self.clone(), handle.clone());
        uncancelled(async move {
            // Waiting for the lock alone says nothing: the lock goes from waiter to waiter, and if none of
            // them read they would pass it round for ever.
            let before = handle.refills.load(Ordering::Acquire);
            let _reading = handle.refill.lock().await;
            if handle.refills.load(Ordering::Acquire) != before {
                return Ok(());
            }
            let read = core.read_cold(&handle.key).await;
            let (page, result) = match read {
                Ok(page) => (page, Ok(())),
                Err(error) => (None, Err(error)),
            };
            core.hot.refill_end(&handle.key, page).await;
            handle.refills.fetch_add(1, Ordering::Release);
            result
        })
        .await
    }

    /// Reads what became due, and then the next page in delivery order with whether it is the last.
    async fn read_cold(&self, topic: &TopicKey) -> Result<Option<(Vec<QueuedItem>, bool)>, ShardError> {
        if let Some(span) = self.hot.refill_begin(topic).await {
            self.refill_due(topic, span).await?;
        }
        let Some(page) = self.hot.refill_page(topic).await else {
            return Ok(None);
        };
        let of = PageOf::Due(page.due_by);
        let items = self.shard(topic).page(topic, of, page.from, PAGE_ITEMS).await?;
        let whole = items.len() < PAGE_ITEMS;
        Ok(Some((items, whole)))
    }

    /// Brings up what became due in the cold part.
    async fn refill_due(&self, topic: &TopicKey, span: DueSpan) -> Result<(), ShardError> {
        let shard = self.shard(topic);
        let items = shard.newly_due(topic, span.after, span.until, PAGE_ITEMS).await?;
        let (passed, next_due) = match items.last() {
            Some(last) if items.len() == PAGE_ITEMS => {
                let due = last.standing.due;
                ((due, last.item.id), Some(due))
            }
            _ => {
                let passed = (span.until, ItemId(i64::MAX as u64));
                (passed, shard.next_due(topic, span.until).await?)
            }
        };
        self.hot.refill_due(topic, items, passed, next_due).await;
        Ok(())
    }
}
