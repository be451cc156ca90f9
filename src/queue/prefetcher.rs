//! The prefetcher: brings cold items up in delivery order before anybody asks for them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::core::Core;
use super::error::QueueError;
use super::topics::TopicHandle;
use super::uncancelled::uncancelled;
use crate::clock::Stopwatch;
use crate::hot::{DueSpan, Held, HoldRequest, item_bytes};
use crate::model::{ItemId, QueuedItem};
use crate::shard::PageOf;

/// How often the prefetcher looks when nobody calls it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it rests after a shard failed.
const REST: Duration = Duration::from_millis(500);
/// Fewest items read in one statement, however large they are.
const PAGE_ITEMS_MIN: usize = 16;
/// Bytes that a statement should read: what a page takes on top of the memory budget.
const PAGE_BYTES: usize = 8 << 20;

impl Core {
    /// One turn: wait for a reason, then refill every topic of the shard that runs low.
    pub(super) async fn prefetch_tick(self: Arc<Self>, shard: u16) {
        let low = &self.running_low[usize::from(shard)];
        let _ = tokio::time::timeout(LOOK_EVERY, low.notified()).await;
        if self.prefetch(shard).await.is_err() {
            tokio::time::sleep(REST).await;
        }
    }

    /// Refills every topic of the shard that runs low by one page; the first that cannot be read ends it.
    pub(super) async fn prefetch(self: &Arc<Self>, shard: u16) -> Result<(), QueueError> {
        // Above the low mark, what is read ahead would only push out what was read before.
        if self.hot.bytes() >= self.limits.hot_bytes_low || self.is_left_alone(shard) {
            return Ok(());
        }
        for key in self.hot.wanting_refill().await {
            let Some(handle) = self.topics.get(&key).filter(|_| self.shard_number(&key) == shard) else {
                continue;
            };
            if let Err(error) = self.refill(&handle).await {
                tracing::warn!(topic = %key, %error, "cold items could not be read");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Brings the next page of a topic's cold items up. One caller reads, those that came meanwhile wait for
    /// it and do not read again.
    pub(super) async fn refill(self: &Arc<Self>, handle: &Arc<TopicHandle>) -> Result<(), QueueError> {
        let (core, handle) = (self.clone(), handle.clone());
        uncancelled(async move {
            // Waiting for the lock alone says nothing: the lock goes from waiter to waiter, and if none of
            // them read they would pass it round for ever.
            let before = handle.refills.load(Ordering::Acquire);
            let _reading = handle.refill.lock().await;
            if handle.refills.load(Ordering::Acquire) != before {
                return Ok(());
            }
            let read = core.read_cold(&handle).await;
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

    /// Brings cold items up, as far as the shard has them, and holds what `requests` ask for.
    ///
    /// Held at once, they cannot be evicted again in between. To be called in work that is not cancelled: it
    /// must end what it began to read, and its caller what it holds.
    pub(super) async fn hold_cold(
        &self,
        handle: &TopicHandle,
        requests: &[HoldRequest],
    ) -> Result<Vec<Held>, QueueError> {
        let topic = &handle.key;
        let _reading = handle.refill.lock().await;
        self.hot.refill_begin(topic).await?;
        let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
        let held = self.adopt_and_hold(handle, &ids, requests).await;
        self.hot.refill_end(topic, None).await;
        held
    }

    async fn adopt_and_hold(
        &self,
        handle: &TopicHandle,
        ids: &[ItemId],
        requests: &[HoldRequest],
    ) -> Result<Vec<Held>, QueueError> {
        let topic = &handle.key;
        let rows = self.shard(topic).fetch(ids).await?;
        let of_topic = rows.into_iter().filter(|(key, _)| key == topic);
        let items: Vec<_> = of_topic.map(|(_, item)| item).collect();
        note_size(handle, &items);
        self.hot.adopt(topic, items).await?;
        Ok(self.hot.hold(topic, requests).await?)
    }

    /// Reads what became due, and then the next page in delivery order with whether it is the last.
    async fn read_cold(&self, handle: &TopicHandle) -> Result<Option<(Vec<QueuedItem>, bool)>, QueueError> {
        let topic = &handle.key;
        if let Some(span) = self.hot.refill_begin(topic).await? {
            self.refill_due(handle, span).await?;
        }
        let Some(page) = self.hot.refill_page(topic).await? else {
            return Ok(None);
        };
        let of = PageOf::Due(page.due_by);
        let limit = self.page_items(handle);
        let began = Stopwatch::start();
        let read = self.shard(topic).page(topic, of, page.from, limit).await;
        self.counted.refills.note(began, read.as_ref().ok().map(Vec::len));
        let items = read?;
        note_size(handle, &items);
        let whole = items.len() < limit;
        Ok(Some((items, whole)))
    }

    /// How many items of a topic to read at once, by the size they had last time.
    pub(super) fn page_items(&self, handle: &TopicHandle) -> usize {
        let item_bytes = handle.cold_item_bytes.load(Ordering::Relaxed).max(1);
        let most = self.limits.refill_items;
        (PAGE_BYTES / item_bytes).clamp(PAGE_ITEMS_MIN.min(most), most)
    }

    /// Brings up what became due in the cold part.
    async fn refill_due(&self, handle: &TopicHandle, span: DueSpan) -> Result<(), QueueError> {
        let topic = &handle.key;
        let shard = self.shard(topic);
        let limit = self.page_items(handle);
        let began = Stopwatch::start();
        let read = shard.newly_due(topic, span.after, span.until, limit).await;
        self.counted.refills.note(began, read.as_ref().ok().map(Vec::len));
        let items = read?;
        note_size(handle, &items);
        let (passed, next_due) = match items.last() {
            Some(last) if items.len() == limit => {
                let due = last.standing.due;
                ((due, last.item.id), Some(due))
            }
            _ => {
                let passed = (span.until, ItemId(i64::MAX as u64));
                (passed, shard.next_due(topic, span.until).await?)
            }
        };
        Ok(self.hot.refill_due(topic, items, passed, next_due).await?)
    }
}

/// Notes how large the cold items of a topic are.
pub(super) fn note_size(handle: &TopicHandle, items: &[QueuedItem]) {
    if !items.is_empty() {
        let bytes: usize = items.iter().map(|queued| item_bytes(&queued.item)).sum();
        handle
            .cold_item_bytes
            .store(bytes / items.len(), Ordering::Relaxed);
    }
}
