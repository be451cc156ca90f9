//! Which items of a topic can leave memory because the shard holds them exactly as they stand.

use super::ordered::OrderedQueue;
use super::topic::{Entries, Place, Topic};
use crate::clock::Timestamp;
use crate::hot::item_bytes;
use crate::model::{ItemId, OrderKey};

/// Waiting items that the shard holds as they stand, the least urgent last. Keys may be stale: the entry is
/// the truth.
#[derive(Debug)]
pub(super) struct Evictable {
    ready: OrderedQueue<OrderKey>,
    later: OrderedQueue<(Timestamp, ItemId)>,
}

fn can_go(entries: &Entries, id: ItemId, place: Place) -> bool {
    entries
        .get(&id)
        .is_some_and(|entry| entry.place == place && entry.is_clean())
}

impl Evictable {
    pub(super) fn new() -> Self {
        Self {
            ready: OrderedQueue::new(),
            later: OrderedQueue::new(),
        }
    }

    /// Says that an item that was offered at `place` left it.
    pub(super) fn note_stale(&mut self, place: Place, entries: &Entries) {
        match place {
            Place::Ready if self.ready.note_stale() => {
                self.ready.compact(|key| can_go(entries, key.id, Place::Ready));
            }
            Place::Scheduled if self.later.note_stale() => {
                self.later
                    .compact(|(_, id)| can_go(entries, *id, Place::Scheduled));
            }
            _ => {}
        }
    }
}

impl Topic {
    /// Offers a waiting item for eviction if the shard holds it as it stands.
    pub(super) fn offer(&mut self, id: ItemId) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.is_clean()) else {
            return;
        };
        match entry.place {
            Place::Ready => self.evictable.ready.push(entry.queued.key()),
            Place::Scheduled => self.evictable.later.push((entry.queued.standing.due, id)),
            _ => {}
        }
    }

    /// Drops items that the shard holds as they stand until `bytes` are free: dead letters, then those due
    /// last, then the ready ones that go out last.
    pub(super) fn evict(&mut self, bytes: usize, now: Timestamp) -> usize {
        if self.cold.is_unsettled() {
            return 0;
        }
        let mut freed = self.evict_dead();
        while freed < bytes
            && let Some((_, id)) = self.evictable.later.pop_last()
        {
            freed += self.evict_one(id, Place::Scheduled, now);
        }
        while freed < bytes
            && let Some(key) = self.evictable.ready.pop_last()
        {
            freed += self.evict_one(key.id, Place::Ready, now);
        }
        freed
    }

    /// Drops dead letters that the shard holds; nobody waits for them.
    pub(super) fn evict_dead(&mut self) -> usize {
        let clean = |key: &&OrderKey| self.entries.get(&key.id).is_some_and(|entry| entry.is_clean());
        let ids: Vec<_> = self.dead.iter().filter(clean).map(|key| key.id).collect();
        let mut freed = 0;
        for id in ids {
            if let Some(entry) = self.remove(id) {
                self.cold.buried(&entry.queued);
                freed += item_bytes(&entry.queued.item);
            }
        }
        freed
    }

    fn evict_one(&mut self, id: ItemId, place: Place, now: Timestamp) -> usize {
        if !can_go(&self.entries, id, place) {
            return 0;
        }
        let Some(entry) = self.remove(id) else { return 0 };
        self.cold.evicted(&entry.queued, now);
        item_bytes(&entry.queued.item)
    }
}
