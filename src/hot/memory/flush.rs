//! What of a topic the shard lacks, in log order, and what becomes of entries when it was stored.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::ordered::OrderedQueue;
use super::topic::{Entry, Place, Topic};
use crate::clock::Timestamp;
use crate::hot::item_bytes;
use crate::model::{IdHashing, ItemId, OrderKey, QueuedItem};
use crate::shard::Purge;
use crate::wal::Lsn;

type Entries = HashMap<ItemId, Box<Entry>, IdHashing>;

/// What the shard lacks.
#[derive(Debug)]
pub(super) struct Unstored {
    needs: OrderedQueue<(Lsn, ItemId)>,
    deletes: VecDeque<(Lsn, ItemId)>,
    deleting: HashSet<ItemId, foldhash::fast::RandomState>,
    purges: Vec<(Lsn, Purge)>,
}

fn needs(entries: &Entries, (lsn, id): &(Lsn, ItemId)) -> bool {
    entries
        .get(id)
        .is_some_and(|entry| entry.need == *lsn && !entry.flushing)
}

impl Unstored {
    pub(super) fn new() -> Self {
        Self {
            needs: OrderedQueue::new(),
            deletes: VecDeque::new(),
            deleting: HashSet::default(),
            purges: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, need: Lsn, id: ItemId) {
        self.needs.push((need, id));
    }

    pub(super) fn note_stale(&mut self, entries: &Entries) {
        if self.needs.note_stale() {
            self.needs.compact(|need| needs(entries, need));
        }
    }

    pub(super) fn delete(&mut self, lsn: Lsn, id: ItemId) {
        if self.deleting.insert(id) {
            self.deletes.push_back((lsn, id));
        }
    }

    pub(super) fn is_deleting(&self, id: ItemId) -> bool {
        self.deleting.contains(&id)
    }

    pub(super) fn deletes(&self) -> usize {
        self.deletes.len()
    }

    pub(super) fn purge(&mut self, lsn: Lsn, purge: Purge) {
        self.purges.push((lsn, purge));
    }
}

impl Topic {
    /// The first log position the shard still needs for this topic.
    pub(super) fn first_need(&mut self) -> Option<Lsn> {
        while let Some(need) = self.unstored.needs.first() {
            if needs(&self.entries, &need) {
                break;
            }
            self.unstored.needs.pop_first();
        }
        let item = self.unstored.needs.first().map(|(lsn, _)| lsn);
        let delete = self.unstored.deletes.front().map(|(lsn, _)| *lsn);
        let purge = self.unstored.purges.first().map(|(lsn, _)| *lsn);
        [item, delete, purge].into_iter().flatten().min()
    }

    /// The first `limit` needs at or before `up_to`, in log order.
    pub(super) fn needs_up_to(&self, up_to: Lsn, limit: usize) -> Vec<(Lsn, ItemId)> {
        let wanted = self.unstored.needs.iter().take_while(|(lsn, _)| *lsn <= up_to);
        let mut found: Vec<_> = wanted
            .filter(|need| needs(&self.entries, need))
            .take(limit)
            .collect();
        found.dedup();
        found
    }

    /// Marks an entry as being stored and returns it as it stands; the change that made it needed is in it.
    pub(super) fn begin_flush(&mut self, id: ItemId) -> Option<QueuedItem> {
        let entry = self.entries.get_mut(&id)?;
        if entry.flushing {
            return None;
        }
        entry.flushing = true;
        self.unstored.note_stale(&self.entries);
        self.entries.get(&id).map(|entry| entry.queued.clone())
    }

    /// Settles an entry whose snapshot was stored, or was not. Stored dead letters leave memory.
    pub(super) fn end_flush(&mut self, id: ItemId, stored: bool) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if !entry.flushing {
            return;
        }
        entry.flushing = false;
        let later = std::mem::take(&mut entry.need_after);
        if stored {
            entry.stored = true;
            entry.need = later;
        }
        if entry.need > Lsn(0) {
            self.unstored.push(entry.need, id);
        } else if entry.place == Place::Dead && !self.cold.is_unsettled() {
            self.remove(id);
            self.cold.dead += 1;
        }
    }

    /// Takes up to `limit` pending deletes out; they stay known as going until [`Topic::end_deletes`].
    pub(super) fn begin_deletes(&mut self, limit: usize) -> Vec<(Lsn, ItemId)> {
        let count = self.unstored.deletes.len().min(limit);
        self.unstored.deletes.drain(..count).collect()
    }

    /// The first delete that is still waiting.
    pub(super) fn next_delete(&self) -> Option<Lsn> {
        self.unstored.deletes.front().map(|(lsn, _)| *lsn)
    }

    pub(super) fn end_delete(&mut self, id: ItemId, stored: bool) {
        if stored {
            self.unstored.deleting.remove(&id);
            self.cold.deleted(id);
        } else {
            // Positions of deletes that failed are lost with the plan; the lowest one is always safe.
            self.unstored.deletes.push_front((Lsn(1), id));
        }
    }

    pub(super) fn begin_purges(&mut self) -> Vec<(Lsn, Purge)> {
        std::mem::take(&mut self.unstored.purges)
    }

    pub(super) fn end_purge(&mut self, purge: (Lsn, Purge), stored: bool) {
        if stored {
            self.cold.purge_stored();
        } else {
            self.unstored.purges.insert(0, purge);
        }
    }

    /// Drops stored, unchanged waiting items, least urgent first, until `bytes` are free.
    pub(super) fn evict(&mut self, bytes: usize, now: Timestamp) -> usize {
        const LOOK_AT_MOST: usize = 16_384;
        if self.cold.is_unsettled() {
            return 0;
        }
        let mut freed = self.evict_dead();
        let mut kept = Vec::new();
        for _ in 0..LOOK_AT_MOST {
            if freed >= bytes {
                break;
            }
            let Some((due, id)) = self.scheduled.pop_last() else {
                break;
            };
            match self.evict_one(id, Place::Scheduled, now) {
                Some(bytes) => freed += bytes,
                None if self.entries.get(&id).is_some_and(|e| e.place == Place::Scheduled) => {
                    kept.push((due, id));
                }
                None => {}
            }
        }
        kept.drain(..).rev().for_each(|key| self.scheduled.push(key));
        let mut kept = Vec::new();
        for _ in 0..LOOK_AT_MOST {
            if freed >= bytes {
                break;
            }
            let Some(key) = self.ready.pop_last() else { break };
            match self.evict_one(key.id, Place::Ready, now) {
                Some(bytes) => freed += bytes,
                None if self.entries.get(&key.id).is_some_and(|e| e.place == Place::Ready) => kept.push(key),
                None => {}
            }
        }
        kept.drain(..).rev().for_each(|key| self.ready.push(key));
        freed
    }

    /// Drops dead letters that the shard holds; nobody waits for them.
    pub(super) fn evict_dead(&mut self) -> usize {
        let clean = |key: &&OrderKey| {
            self.entries
                .get(&key.id)
                .is_some_and(|e| e.stored && e.need == Lsn(0) && !e.flushing)
        };
        let ids: Vec<_> = self.dead.iter().filter(clean).map(|key| key.id).collect();
        let mut freed = 0;
        for id in ids {
            if let Some(entry) = self.remove(id) {
                self.cold.dead += 1;
                freed += item_bytes(&entry.queued.item);
            }
        }
        freed
    }

    fn evict_one(&mut self, id: ItemId, place: Place, now: Timestamp) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        let clean = entry.stored && entry.need == Lsn(0) && !entry.flushing;
        if entry.place != place || !clean {
            return None;
        }
        let entry = self.remove(id)?;
        self.cold.evicted(&entry.queued, now);
        Some(item_bytes(&entry.queued.item))
    }
}
