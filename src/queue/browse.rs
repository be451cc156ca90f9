//! Looking without taking: lists, single items, and cancelling one.

use std::sync::Arc;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::{ItemView, Page};
use crate::clock::Timestamp;
use crate::hot::HotView;
use crate::model::{ItemId, ItemState, OrderKey, QueuedItem, SettleCause, TopicKey};
use crate::shard::PageOf;

impl Queue {
    /// Up to `limit` items of a topic in `state` from `from` on, in delivery order, without leasing any.
    pub async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: Option<OrderKey>,
        limit: usize,
    ) -> Result<Page<ItemView>, QueueError> {
        let core = &self.core;
        core.topic(topic)?;
        let from = from.unwrap_or(OrderKey::MIN);
        let now = core.clock.now();
        let mut views = core.hot.browse(topic, state, from, limit + 1).await?;
        let of = match state {
            ItemState::Ready => Some(PageOf::Due(now)),
            ItemState::Scheduled => Some(PageOf::Later(now)),
            ItemState::Dead => Some(PageOf::Dead),
            ItemState::Leased => None,
        };
        let mut horizon = None;
        if let Some(of) = of {
            let cold = core.shard(topic).page(topic, of, from, limit + 1).await?;
            horizon = cold.get(limit).map(QueuedItem::key);
            let cold = core.hot.only_cold(topic, cold).await?;
            views.extend(cold.into_iter().map(|queued| HotView {
                state: cold_state(&queued, now),
                queued,
            }));
            if let Some(horizon) = horizon {
                // Past the last row read there may be more cold ones: a hot item beyond it waits.
                views.retain(|view| view.queued.key() <= horizon);
            }
        }
        views.sort_unstable_by_key(|view| view.queued.key());
        // What the shard showed may be hot or gone: then the page is short and yet not the last.
        let beyond = horizon.map(OrderKey::successor);
        let next = views.get(limit).map(|view| view.queued.key()).or(beyond);
        views.truncate(limit);
        Ok(Page {
            entries: views.into_iter().map(view).collect(),
            next,
        })
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
        let found = self.hot.only_cold(topic, items).await?.pop();
        let now = self.clock.now();
        Ok(found.map(|queued| HotView {
            state: cold_state(&queued, now),
            queued,
        }))
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
