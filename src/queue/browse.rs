//! Looking without taking: lists, the newest, single items, and cancelling one.

use std::cmp::Reverse;
use std::sync::Arc;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::prefetcher::note_size;
use super::request::{ItemView, Page};
use super::topics::TopicHandle;
use crate::clock::Timestamp;
use crate::hot::{HotView, item_bytes};
use crate::model::{ItemId, ItemState, OrderKey, QueuedItem, SettleCause, TopicKey, limits};
use crate::shard::PageOf;

/// Most rows of a shard that are read in one statement.
const STEP: usize = 128;
/// Statements that one page may take: what a shard shows may be hot or gone, and counts for nothing.
const STEPS_MAX: usize = 64;
/// As many as the newest items may take: each is a pass over the topic's index.
const NEWEST_STEPS_MAX: usize = 8;

impl Queue {
    /// Up to `limit` items of a topic in `state` from `from` on, in delivery order, without leasing any; fewer
    /// when they are large.
    pub async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: Option<OrderKey>,
        limit: usize,
    ) -> Result<Page<ItemView>, QueueError> {
        self.core.browse(topic, state, from, limit).await
    }

    /// Up to `limit` items of a topic in `state`, the one accepted last first, without leasing any; fewer when they
    /// are large.
    pub async fn newest(
        &self,
        topic: &TopicKey,
        state: ItemState,
        limit: usize,
    ) -> Result<Vec<ItemView>, QueueError> {
        self.core.newest(topic, state, limit).await
    }

    /// One item.
    pub async fn item(&self, topic: &TopicKey, id: ItemId) -> Result<ItemView, QueueError> {
        self.core.topic(topic)?;
        let found = self.core.find(topic, id).await?;
        found.map(view).ok_or(QueueError::UnknownItem(id))
    }

    /// Removes an item that nobody holds: waiting, or a dead letter.
    pub async fn cancel(&self, topic: &TopicKey, id: ItemId) -> Result<(), QueueError> {
        let core: &Arc<Core> = &self.core;
        let handle = core.topic(topic)?;
        match core.find(topic, id).await? {
            None => return Err(QueueError::UnknownItem(id)),
            Some(found) if found.state == ItemState::Leased => {
                let text = "the item is leased; its consumer settles it, or its lease ends";
                return Err(QueueError::Conflict(text.into()));
            }
            Some(_) => {}
        }
        match core.discard(&handle, &[id], SettleCause::Cancelled).await? {
            0 => Err(QueueError::Conflict(
                "the item changed hands meanwhile; look at it again".into(),
            )),
            _ => Ok(()),
        }
    }
}

impl Core {
    /// See [`Queue::browse`].
    pub(super) async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: Option<OrderKey>,
        limit: usize,
    ) -> Result<Page<ItemView>, QueueError> {
        let handle = self.topic(topic)?;
        let mut page = Page {
            entries: Vec::new(),
            next: Some(from.unwrap_or(OrderKey::MIN)),
        };
        let mut bytes = 0;
        for _ in 0..STEPS_MAX {
            let Some(from) = page.next else { break };
            let most = (limit - page.entries.len())
                .min(STEP)
                .min(self.page_items(&handle));
            let step = self.browse_step(&handle, state, from, most).await?;
            page.next = step.next;
            for view in step.entries {
                if bytes >= limits::ANSWER_BYTES {
                    page.next = Some(view.key());
                    return Ok(page);
                }
                bytes += item_bytes(&view.item);
                page.entries.push(view);
            }
            if page.entries.len() == limit || bytes >= limits::ANSWER_BYTES {
                break;
            }
        }
        Ok(page)
    }

    /// A part of a page, which may be short and yet not the last.
    async fn browse_step(
        &self,
        handle: &TopicHandle,
        state: ItemState,
        from: OrderKey,
        limit: usize,
    ) -> Result<Page<ItemView>, QueueError> {
        let topic = &handle.key;
        let now = self.clock.now();
        let mut views = self.hot.browse(topic, state, from, limit + 1).await?;
        let mut horizon = None;
        if let Some(of) = page_of(state, now) {
            let cold = self.shard(topic).page(topic, of, from, limit + 1).await?;
            note_size(handle, &cold);
            horizon = cold.get(limit).map(QueuedItem::key);
            views.extend(self.cold_views(topic, cold, now).await?);
            if let Some(horizon) = horizon {
                // Past the last row read there may be more cold ones: a hot item beyond it waits.
                views.retain(|view| view.queued.key() <= horizon);
            }
        }
        views.sort_unstable_by_key(|view| view.queued.key());
        // What the shard showed may be hot or gone: then the step is short and yet not the last.
        let beyond = horizon.map(OrderKey::successor);
        let next = views.get(limit).map(|view| view.queued.key()).or(beyond);
        views.truncate(limit);
        Ok(Page {
            entries: views.into_iter().map(view).collect(),
            next,
        })
    }

    /// See [`Queue::newest`].
    async fn newest(
        &self,
        topic: &TopicKey,
        state: ItemState,
        limit: usize,
    ) -> Result<Vec<ItemView>, QueueError> {
        let handle = self.topic(topic)?;
        let now = self.clock.now();
        let mut views = self.hot.newest(topic, state, limit).await?;
        if let Some(of) = page_of(state, now) {
            let step = limit.min(self.page_items(&handle));
            let mut before = ItemId(i64::MAX.cast_unsigned());
            for _ in 0..NEWEST_STEPS_MAX {
                let page = self.shard(topic).newest(topic, of, before, step).await?;
                note_size(&handle, &page);
                let oldest = page.last().map(|queued| queued.item.id);
                let whole = page.len() < step;
                views.extend(self.cold_views(topic, page, now).await?);
                views.sort_unstable_by_key(|view| Reverse(view.queued.item.id));
                views.truncate(limit);
                // What the shard showed may be hot or gone: then older ones have a place, too.
                let last = views.get(limit - 1).map(|view| view.queued.item.id);
                match oldest {
                    Some(oldest) if !whole && last < Some(oldest) => before = oldest,
                    _ => break,
                }
            }
        }
        let mut bytes = 0;
        let fits = |view: &HotView| {
            bytes += item_bytes(&view.queued.item);
            bytes <= limits::ANSWER_BYTES
        };
        Ok(views.into_iter().take_while(fits).map(view).collect())
    }

    /// Those of `rows`, read from the shard, that are cold.
    async fn cold_views(
        &self,
        topic: &TopicKey,
        rows: Vec<QueuedItem>,
        now: Timestamp,
    ) -> Result<impl Iterator<Item = HotView> + use<>, QueueError> {
        let cold = self.hot.only_cold(topic, rows).await?;
        Ok(cold.into_iter().map(move |queued| HotView {
            state: cold_state(&queued, now),
            queued,
            by: None,
        }))
    }

    /// One item, hot or cold.
    pub(super) async fn find(&self, topic: &TopicKey, id: ItemId) -> Result<Option<HotView>, QueueError> {
        if let Some(view) = self.hot.find(topic, id).await? {
            return Ok(Some(view));
        }
        let rows = self.shard(topic).fetch(&[id]).await?;
        let items = rows
            .into_iter()
            .filter(|(key, _)| key == topic)
            .map(|(_, item)| item)
            .collect();
        Ok(self.cold_views(topic, items, self.clock.now()).await?.next())
    }
}

/// What a shard has of the items in `state`, if it has any.
fn page_of(state: ItemState, now: Timestamp) -> Option<PageOf> {
    match state {
        ItemState::Ready => Some(PageOf::Due(now)),
        ItemState::Scheduled => Some(PageOf::Later(now)),
        ItemState::Dead => Some(PageOf::Dead),
        ItemState::Leased => None,
    }
}

/// The state of an item as its row tells.
pub(super) fn cold_state(queued: &QueuedItem, now: Timestamp) -> ItemState {
    let standing = &queued.standing;
    if standing.dead.is_some() {
        ItemState::Dead
    } else if standing.lease_expires_at.is_some_and(|end| end > now) {
        ItemState::Leased
    } else if standing.due > now {
        ItemState::Scheduled
    } else {
        ItemState::Ready
    }
}

/// What callers see of an item.
pub(super) fn view(found: HotView) -> ItemView {
    let standing = found.queued.standing;
    ItemView {
        item: found.queued.item,
        state: found.state,
        due: standing.due,
        attempt: standing.attempt,
        lease_expires_at: standing
            .lease_expires_at
            .filter(|_| found.state == ItemState::Leased),
        last_error: standing.last_error,
        dead: standing.dead,
    }
}
