//! What of a topic the shard lacks, in log order, and what becomes of entries when it was stored.

use hashbrown::HashMap;

use super::ordered::OrderedQueue;
use super::topic::{Entries, Place, Topic};
use crate::model::{ItemId, QueuedItem};
use crate::shard::Purge;
use crate::wal::Lsn;

/// What the shard lacks.
#[derive(Debug)]
pub(super) struct Unstored {
    needs: OrderedQueue<(Lsn, ItemId)>,
    /// Deletes that no flush has taken up. Settlements are applied in about the order of the log, not in it.
    deletes: OrderedQueue<(Lsn, ItemId)>,
    /// These and the ones being flushed.
    deleting: HashMap<ItemId, Lsn, foldhash::fast::RandomState>,
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
            deletes: OrderedQueue::new(),
            deleting: HashMap::default(),
            purges: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, need: Lsn, id: ItemId) {
        self.needs.push((need, id));
    }

    /// Forgets which entries the shard lacks, for a topic that files its entries anew.
    pub(super) fn forget_needs(&mut self) {
        self.needs = OrderedQueue::new();
    }

    pub(super) fn note_stale(&mut self, entries: &Entries) {
        if self.needs.note_stale() {
            self.needs.compact(|need| needs(entries, need));
        }
    }

    pub(super) fn delete(&mut self, lsn: Lsn, id: ItemId) {
        if self.deleting.insert(id, lsn).is_none() {
            self.deletes.push((lsn, id));
        }
    }

    pub(super) fn is_deleting(&self, id: ItemId) -> bool {
        self.deleting.contains_key(&id)
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
        let delete = self.next_delete();
        let purge = self.unstored.purges.iter().map(|(lsn, _)| *lsn).min();
        [item, delete, purge].into_iter().flatten().min()
    }

    /// The needs at or before `up_to`, in log order.
    pub(super) fn needs_up_to(&self, up_to: Lsn) -> impl Iterator<Item = (Lsn, ItemId)> + '_ {
        let wanted = self
            .unstored
            .needs
            .iter()
            .take_while(move |(lsn, _)| *lsn <= up_to);
        wanted.filter(|need| needs(&self.entries, need))
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

    /// Settles an entry whose snapshot was stored, or was not: of a commit that failed nobody knows. Stored
    /// dead letters leave memory.
    pub(super) fn end_flush(&mut self, id: ItemId, stored: bool) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if !entry.flushing {
            return;
        }
        entry.flushing = false;
        let later = std::mem::take(&mut entry.need_after);
        entry.maybe_stored = true;
        if stored {
            entry.need = later;
        }
        if entry.need > Lsn(0) {
            self.unstored.push(entry.need, id);
        } else if matches!(entry.place, Place::Ready | Place::Scheduled) {
            self.offer(id);
        } else if entry.place == Place::Dead
            && !self.cold.is_unsettled()
            && let Some(entry) = self.remove(id)
        {
            self.cold.buried(&entry.queued);
        }
    }

    /// Takes up to `limit` pending deletes out, in log order; they stay known as going until
    /// [`Topic::end_delete`].
    pub(super) fn begin_deletes(&mut self, limit: usize) -> Vec<ItemId> {
        let taken = std::iter::from_fn(|| self.unstored.deletes.pop_first());
        taken.take(limit).map(|(_, id)| id).collect()
    }

    /// The first delete that no flush has taken up.
    pub(super) fn next_delete(&self) -> Option<Lsn> {
        self.unstored.deletes.first().map(|(lsn, _)| lsn)
    }

    pub(super) fn end_delete(&mut self, id: ItemId, stored: bool) {
        if stored {
            self.unstored.deleting.remove(&id);
            self.cold.deleted(id);
        } else if let Some(&lsn) = self.unstored.deleting.get(&id) {
            self.unstored.deletes.push((lsn, id));
        }
    }

    pub(super) fn begin_purges(&mut self) -> Vec<(Lsn, Purge)> {
        std::mem::take(&mut self.unstored.purges)
    }

    pub(super) fn end_purge(&mut self, (lsn, purge): (Lsn, Purge), stored: bool) {
        if stored {
            self.cold.purge_stored(lsn, purge.dead);
        } else {
            self.unstored.purges.push((lsn, purge));
        }
    }

    /// Whether nothing is left of the topic: nothing in memory, nothing in the shard, nothing to tell it.
    pub(super) fn is_empty(&mut self) -> bool {
        self.entries.is_empty()
            && self.first_need().is_none()
            && self.unstored.deleting.is_empty()
            && self.cold.is_empty()
    }
}
