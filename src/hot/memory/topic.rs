//! One topic in memory: its items, where each stands, and the transitions between.
//!
//! Every queue in here holds keys that may have become stale; an entry's [`Place`] is the truth.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::cold::Cold;
use super::evict::Evictable;
use super::flush::Unstored;
use super::ordered::OrderedQueue;
use super::settled::SettledRing;
use crate::clock::{Monotonic, Timestamp};
use crate::hot::{HotView, More, Overdue, OverdueWhy, Taken, TakenItem, Term, Want, item_bytes};
use crate::model::{IdHashing, ItemId, ItemState, OrderKey, QueuedItem, TopicKey};
use crate::wal::Lsn;

/// Both readings of the clock at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    pub(super) monotonic: Monotonic,
}

/// Where a hot item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    Scheduled,
    Leased {
        deadline: Monotonic,
    },
    Dead,
    /// Held for a settlement; `deadline` is that of the lease it had.
    Held {
        deadline: Option<Monotonic>,
    },
}

impl Place {
    pub(super) fn state(self) -> ItemState {
        match self {
            Self::Ready => ItemState::Ready,
            Self::Scheduled => ItemState::Scheduled,
            Self::Leased { .. } | Self::Held { .. } => ItemState::Leased,
            Self::Dead => ItemState::Dead,
        }
    }
}

/// A hot item.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) queued: QueuedItem,
    pub(super) place: Place,
    /// The first log position the shard does not have of this item; zero when it has everything.
    pub(super) need: Lsn,
    /// The same, counted from the snapshot that a flush under way is storing.
    pub(super) need_after: Lsn,
    pub(super) flushing: bool,
    /// The shard may hold it: a flush of it was stored, or failed and nobody knows how far it came.
    pub(super) maybe_stored: bool,
    /// Its time to live is in the queue of those.
    pub(super) expiry_queued: bool,
}

impl Entry {
    /// Whether the shard holds the item exactly as it stands.
    pub(super) fn is_clean(&self) -> bool {
        self.maybe_stored && self.need == Lsn(0) && !self.flushing
    }

    /// Whether the shard may hold the item in some state, now or when the flush under way ends.
    pub(super) fn may_be_stored(&self) -> bool {
        self.maybe_stored || self.flushing
    }
}

/// The hot items of a topic. Boxed, so that growing the table moves little.
pub(super) type Entries = HashMap<ItemId, Box<Entry>, IdHashing>;

/// How many hot items stand where.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) ready: u64,
    pub(super) scheduled: u64,
    pub(super) leased: u64,
    pub(super) dead: u64,
    pub(super) leases_expired: u64,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) key: TopicKey,
    pub(super) entries: Entries,
    pub(super) ready: OrderedQueue<OrderKey>,
    pub(super) scheduled: OrderedQueue<(Timestamp, ItemId)>,
    pub(super) leases: OrderedQueue<(Monotonic, ItemId, u32)>,
    pub(super) expiries: OrderedQueue<(Timestamp, ItemId)>,
    pub(super) dead: BTreeSet<OrderKey>,
    pub(super) unstored: Unstored,
    pub(super) evictable: Evictable,
    pub(super) cold: Cold,
    pub(super) settled: SettledRing,
    /// Raised when held items are let go, one way or the other.
    pub(super) let_go: Arc<Notify>,
    /// The last purge of live items.
    pub(super) last_purge: (Lsn, ItemId),
    pub(super) tally: Tally,
    pub(super) paused: bool,
    pub(super) bytes: usize,
    /// What the hot items count as stored.
    pub(super) stored_bytes: u64,
    /// Out of the tier: whoever still finds it looks for the topic anew.
    pub(super) forgotten: bool,
}

impl Topic {
    pub(super) fn new(key: TopicKey) -> Self {
        Self {
            key,
            entries: HashMap::default(),
            ready: OrderedQueue::new(),
            scheduled: OrderedQueue::new(),
            leases: OrderedQueue::new(),
            expiries: OrderedQueue::new(),
            dead: BTreeSet::new(),
            unstored: Unstored::new(),
            evictable: Evictable::new(),
            cold: Cold::default(),
            settled: SettledRing::default(),
            let_go: Arc::default(),
            last_purge: (Lsn(0), ItemId(0)),
            tally: Tally::default(),
            paused: false,
            bytes: 0,
            stored_bytes: 0,
            forgotten: false,
        }
    }

    /// Adds accepted items. Those that a purge behind them in the log took away come too late: their caller
    /// was overtaken between the log and here.
    pub(super) fn admit(&mut self, lsn: Lsn, items: Vec<QueuedItem>, at: Moment) {
        let (purge, up_to) = self.last_purge;
        for item in items {
            if lsn > purge || item.item.id > up_to {
                self.add(item, lsn, false, at);
            }
        }
    }

    /// Adds an item; `need` is the log position the shard lacks, zero when it lacks nothing.
    fn add(&mut self, queued: QueuedItem, need: Lsn, maybe_stored: bool, at: Moment) {
        let id = queued.item.id;
        if let Some(expires_at) = queued.item.expires_at {
            self.expiries.push((expires_at, id));
        }
        let expiry_queued = queued.item.expires_at.is_some();
        self.bytes += item_bytes(&queued.item);
        self.stored_bytes += queued.item.stored_bytes();
        let place = Self::place_of(&queued, at);
        let entry = Entry {
            queued,
            place,
            need,
            need_after: Lsn(0),
            flushing: false,
            maybe_stored,
            expiry_queued,
        };
        if need > Lsn(0) {
            self.unstored.push(need, id);
        }
        self.put(entry);
    }

    pub(super) fn place_of(queued: &QueuedItem, at: Moment) -> Place {
        let standing = &queued.standing;
        if standing.dead.is_some() {
            return Place::Dead;
        }
        match standing.lease_expires_at {
            Some(end) if end > at.now => Place::Leased {
                deadline: at.monotonic.plus_ms(end.since_ms(at.now)),
            },
            // The last lease ended unseen, or its end could not be logged: it is still to be seen.
            Some(_) if standing.attempt >= queued.item.max_attempts => Place::Leased {
                deadline: at.monotonic,
            },
            _ if standing.due > at.now => Place::Scheduled,
            _ => Place::Ready,
        }
    }

    /// Files an entry under its place.
    pub(super) fn put(&mut self, entry: Entry) {
        let (id, key) = (entry.queued.item.id, entry.queued.key());
        match entry.place {
            Place::Ready => {
                self.ready.push(key);
                self.tally.ready += 1;
            }
            Place::Scheduled => {
                self.scheduled.push((entry.queued.standing.due, id));
                self.tally.scheduled += 1;
            }
            Place::Leased { deadline } => {
                self.leases.push((deadline, id, entry.queued.standing.generation));
                self.tally.leased += 1;
            }
            Place::Dead => {
                self.dead.insert(key);
                self.tally.dead += 1;
            }
            Place::Held { .. } => self.tally.leased += 1,
        }
        let is_clean = entry.is_clean();
        self.entries.insert(id, Box::new(entry));
        // Found again only where there is something to offer: what was just accepted never is.
        if is_clean {
            self.offer(id);
        }
    }

    /// Moves an entry to another place, counting both; its old key, if it is still queued, is left stale.
    pub(super) fn move_to(&mut self, id: ItemId, to: Place) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let from = std::mem::replace(&mut entry.place, to);
        let was_offered = entry.is_clean();
        let key = entry.queued.key();
        let (due, generation) = (entry.queued.standing.due, entry.queued.standing.generation);
        // The time to live of a leased item may have passed unheeded: it is looked at again from here on.
        if let Some(expires_at) = entry.queued.item.expires_at
            && matches!(to, Place::Ready | Place::Scheduled)
            && !std::mem::replace(&mut entry.expiry_queued, true)
        {
            self.expiries.push((expires_at, id));
        }
        self.uncount(from);
        match to {
            Place::Ready => {
                self.ready.push(key);
                self.tally.ready += 1;
            }
            Place::Scheduled => {
                self.scheduled.push((due, id));
                self.tally.scheduled += 1;
            }
            Place::Leased { deadline } => {
                self.leases.push((deadline, id, generation));
                self.tally.leased += 1;
            }
            Place::Dead => {
                self.dead.insert(key);
                self.tally.dead += 1;
            }
            Place::Held { .. } => self.tally.leased += 1,
        }
        if was_offered {
            self.evictable.note_stale(from, &self.entries);
            self.offer(id);
        }
    }

    pub(super) fn uncount(&mut self, place: Place) {
        let count = match place {
            Place::Ready => &mut self.tally.ready,
            Place::Scheduled => &mut self.tally.scheduled,
            Place::Leased { .. } | Place::Held { .. } => &mut self.tally.leased,
            Place::Dead => &mut self.tally.dead,
        };
        *count -= 1;
    }

    /// Says that the key an entry at `place` had in its queue is stale, and cleans up when due.
    pub(super) fn leave(&mut self, place: Place, key: OrderKey) {
        let entries = &self.entries;
        let standing_at = |id: &ItemId, place: Place| {
            entries
                .get(id)
                .is_some_and(|e| std::mem::discriminant(&e.place) == std::mem::discriminant(&place))
        };
        match place {
            Place::Ready if self.ready.note_stale() => {
                self.ready.compact(|key| standing_at(&key.id, Place::Ready));
            }
            Place::Scheduled if self.scheduled.note_stale() => {
                self.scheduled
                    .compact(|(_, id)| standing_at(id, Place::Scheduled));
            }
            Place::Leased { .. } if self.leases.note_stale() => {
                self.leases.compact(|(deadline, id, _)| {
                    entries
                        .get(id)
                        .is_some_and(|e| e.place == Place::Leased { deadline: *deadline })
                });
            }
            Place::Dead => {
                self.dead.remove(&key);
            }
            _ => {}
        }
    }

    /// Removes an entry for good (or out of memory) and returns it.
    pub(super) fn remove(&mut self, id: ItemId) -> Option<Entry> {
        let entry = *self.entries.remove(&id)?;
        self.bytes -= item_bytes(&entry.queued.item);
        self.stored_bytes -= entry.queued.item.stored_bytes();
        self.uncount(entry.place);
        if entry.is_clean() {
            self.evictable.note_stale(entry.place, &self.entries);
        }
        self.leave(entry.place, entry.queued.key());
        if entry.queued.item.expires_at.is_some() && self.expiries.note_stale() {
            let entries = &self.entries;
            self.expiries.compact(|(_, id)| entries.contains_key(id));
        }
        if entry.need > Lsn(0) && !entry.flushing {
            self.unstored.note_stale(&self.entries);
        }
        Some(entry)
    }

    /// Adds what the shard showed, unless memory knows better.
    pub(super) fn adopt(&mut self, items: Vec<QueuedItem>, at: Moment) {
        for item in self.only_cold(items) {
            // A row that was read twice is one item.
            if !self.entries.contains_key(&item.item.id) {
                self.cold.left(&item);
                self.add(item, Lsn(0), true, at);
            }
        }
    }

    /// Drops from what the shard showed the items that are hot or gone.
    pub(super) fn only_cold(&self, mut items: Vec<QueuedItem>) -> Vec<QueuedItem> {
        items.retain(|item| {
            let id = item.item.id;
            !self.entries.contains_key(&id) && !self.unstored.is_deleting(id) && !self.cold.is_gone(item)
        });
        items
    }

    /// Takes eligible items in delivery order under new leases, as many as are wanted.
    pub(super) fn take(&mut self, want: Want, term: Term, at: Moment) -> Taken {
        let mut overdue = self.advance(at);
        let mut items = Vec::with_capacity(want.items.min(self.tally.ready as usize));
        let mut bytes = 0;
        if self.paused {
            return Taken {
                items,
                overdue,
                more: More::Nothing(None),
            };
        }
        let more = loop {
            let head = self.ready.first();
            if self.cold.comes_before(head, at.now) {
                break More::Cold;
            }
            let Some(key) = head else {
                break More::Nothing(self.next_event(at));
            };
            if items.len() == want.items || bytes >= want.bytes {
                break More::Ready;
            }
            self.ready.pop_first();
            let Some(entry) = self.entries.get_mut(&key.id) else {
                continue;
            };
            if entry.place != Place::Ready || entry.queued.key() != key {
                continue;
            }
            if entry.queued.item.expires_at.is_some_and(|end| end <= at.now) {
                let queued = entry.queued.clone();
                self.move_to(key.id, Place::Held { deadline: None });
                overdue.push(Overdue {
                    queued,
                    why: OverdueWhy::Expired,
                });
                continue;
            }
            let taken = self.hand_out(key.id, term, at);
            bytes += taken.as_ref().map_or(0, |taken| item_bytes(&taken.queued.item));
            items.extend(taken);
        };
        Taken { items, overdue, more }
    }

    pub(super) fn hand_out(&mut self, id: ItemId, term: Term, at: Moment) -> Option<TakenItem> {
        let entry = self.entries.get_mut(&id)?;
        let lease_ms = i64::from(term.lease_ms(entry.queued.item.lease_ms));
        let standing = &mut entry.queued.standing;
        let lapsed_ms = standing.leased_ms(at.now);
        standing.hand_out(at.now, lease_ms);
        let taken = TakenItem {
            queued: entry.queued.clone(),
            mark: entry.may_be_stored(),
            lapsed_ms,
        };
        self.move_to(
            id,
            Place::Leased {
                deadline: at.monotonic.plus_ms(lease_ms),
            },
        );
        Some(taken)
    }

    /// Puts an item that was taken under `generation` back; its lease key is stale now.
    pub(super) fn untake(&mut self, id: ItemId, generation: u32, at: Moment) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let place = entry.place;
        if !matches!(place, Place::Leased { .. }) || entry.queued.standing.generation != generation {
            return;
        }
        entry.queued.standing.attempt = entry.queued.standing.attempt.saturating_sub(1);
        entry.queued.standing.end_lease();
        let may_be_stored = entry.may_be_stored();
        let (to, key) = (Self::place_of(&entry.queued, at), entry.queued.key());
        self.move_to(id, to);
        self.leave(place, key);
        if may_be_stored {
            // A flush in between may have stored the lease, and no record says that it was taken back.
            self.mark(id, Lsn(1));
        }
    }

    /// Notes that the log knows something about `id` since `lsn` that the shard may not.
    pub(super) fn mark(&mut self, id: ItemId, lsn: Lsn) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        if entry.flushing {
            if entry.need_after == Lsn(0) {
                entry.need_after = lsn;
            }
        } else if entry.need == Lsn(0) {
            entry.need = lsn;
            self.unstored.push(lsn, id);
        }
    }

    /// One item as it stands.
    pub(super) fn find(&self, id: ItemId) -> Option<HotView> {
        let entry = self.entries.get(&id)?;
        Some(HotView {
            queued: entry.queued.clone(),
            state: entry.place.state(),
            by: None,
        })
    }

    /// When the first ready item was due. Stale keys before it are dropped: they are looked at once.
    pub(super) fn oldest_ready_due(&mut self) -> Option<Timestamp> {
        loop {
            let key = self.ready.first()?;
            let entry = self.entries.get(&key.id);
            if entry.is_some_and(|entry| entry.place == Place::Ready && entry.queued.key() == key) {
                return Some(Timestamp::from_ms(key.rank));
            }
            self.ready.pop_first();
        }
    }
}
