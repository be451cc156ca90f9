//! Purges: everything of a topic up to an id goes at once.
//!
//! A topic may hold a million items, and taking them out one by one would keep everybody else waiting for a
//! second. So the topic is emptied in one pass and what stays is filed anew; what goes is given to the caller,
//! who frees it, which is most of the work, when nobody waits for the topic any more.

use std::collections::BTreeSet;

use super::evict::Evictable;
use super::ordered::OrderedQueue;
use super::topic::{Entry, Tally, Topic};
use crate::hot::item_bytes;
use crate::model::ItemId;
use crate::shard::Purge;
use crate::wal::Lsn;

/// How many items are freed in one go.
const FREED_AT_ONCE: usize = 10_000;

/// Boxed: while everybody waits for the topic, a pointer is moved rather than an entry.
type Gone = Vec<Box<Entry>>;

/// What a purge took out of memory.
pub(super) struct Purged {
    /// How many items went, those that were not in memory included.
    pub(super) count: u64,
    entries: Gone,
}

impl Purged {
    /// Frees some of what was taken out; false when nothing is left.
    pub(super) fn free_some(&mut self) -> bool {
        let left = self.entries.len().saturating_sub(FREED_AT_ONCE);
        self.entries.truncate(left);
        left > 0
    }
}

impl Topic {
    /// Removes every live or every dead item up to `up_to` by the record at `lsn`.
    pub(super) fn purge(&mut self, lsn: Lsn, dead: bool, up_to: ItemId) -> Purged {
        let entries = if dead {
            self.purge_dead(lsn, up_to)
        } else {
            let (purge, last) = self.last_purge;
            self.last_purge = (purge.max(lsn), last.max(up_to));
            self.purge_live(lsn, up_to)
        };
        let purge = Purge {
            topic: self.key.clone(),
            dead,
            up_to,
        };
        self.unstored.purge(lsn, purge);
        Purged {
            count: entries.len() as u64 + self.cold.purge(lsn, dead, up_to),
            entries,
        }
    }

    /// Stored dead letters leave memory by themselves: there are few here.
    fn purge_dead(&mut self, lsn: Lsn, up_to: ItemId) -> Gone {
        let goes = |entry: &Entry| entry.queued.standing.dead.is_some() && entry.queued.item.id <= up_to;
        let ids: Vec<_> = self.entries.values().filter(|entry| goes(entry)).collect();
        let ids: Vec<_> = ids.into_iter().map(|entry| entry.queued.item.id).collect();
        let mut gone = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(entry) = self.remove(id) {
                self.tell_shard(&entry, lsn);
                gone.push(Box::new(entry));
            }
        }
        gone
    }

    fn purge_live(&mut self, lsn: Lsn, up_to: ItemId) -> Gone {
        let entries = std::mem::take(&mut self.entries);
        self.forget_places();
        let mut gone = Vec::with_capacity(entries.len());
        for (id, entry) in entries {
            if id <= up_to && entry.queued.standing.dead.is_none() {
                self.tell_shard(&entry, lsn);
                gone.push(entry);
            } else {
                self.file_again(*entry);
            }
        }
        gone
    }

    /// What the shard holds as it stands goes with its part of the purge; of the rest it may hold another
    /// state, which the purge passes over.
    fn tell_shard(&mut self, entry: &Entry, lsn: Lsn) {
        if entry.may_be_stored() && !entry.is_clean() {
            self.unstored.delete(lsn, entry.queued.item.id);
        }
    }

    /// Empties everything that says where an entry stands.
    fn forget_places(&mut self) {
        self.ready = OrderedQueue::new();
        self.scheduled = OrderedQueue::new();
        self.leases = OrderedQueue::new();
        self.expiries = OrderedQueue::new();
        self.dead = BTreeSet::new();
        self.evictable = Evictable::new();
        self.unstored.forget_needs();
        self.tally = Tally {
            leases_expired: self.tally.leases_expired,
            ..Tally::default()
        };
        (self.bytes, self.stored_bytes) = (0, 0);
    }

    /// Files an entry that stays.
    fn file_again(&mut self, entry: Entry) {
        let id = entry.queued.item.id;
        self.bytes += item_bytes(&entry.queued.item);
        self.stored_bytes += entry.queued.item.stored_bytes();
        if let Some(expires_at) = entry.queued.item.expires_at.filter(|_| entry.expiry_queued) {
            self.expiries.push((expires_at, id));
        }
        if entry.need > Lsn(0) && !entry.flushing {
            self.unstored.push(entry.need, id);
        }
        self.put(entry);
    }
}
