//! What memory knows of a topic's items that are only in the shard.

use hashbrown::HashSet;

use crate::clock::Timestamp;
use crate::hot::{DueCursor, DueSpan, RefillPage};
use crate::model::{ItemId, OrderKey, QueuedItem};
use crate::wal::Lsn;

/// The last id there can be: a cursor with it is past everything at its instant.
const LAST_ID: ItemId = ItemId(u64::MAX);

/// A topic's cold part.
///
/// Cold live items that are due by `watermark` are counted in `due`, and none of them has a key below
/// `floor`; the others are counted in `later`, and none of them is due before `next_due`. Whatever
/// passes the watermark becomes hot, so the two parts never mix. No cold item is leased.
#[derive(Debug, Default)]
pub(super) struct Cold {
    pub(super) due: u64,
    pub(super) later: u64,
    pub(super) dead: u64,
    /// What all of them count as stored; nothing is left of it when none is left of them.
    bytes: u64,
    /// The items that were cold at the start are not in `bytes`.
    unmeasured: bool,
    floor: Option<OrderKey>,
    watermark: DueCursor,
    next_due: Option<Timestamp>,
    refilling: bool,
    /// Deleted from the shard while a refill was reading it: the page may still show them.
    tombstones: HashSet<ItemId, foldhash::fast::RandomState>,
    /// The highest id of a live item that went cold since the start.
    newest: ItemId,
    /// Live items that were purged, but the shard may still hold them.
    purged_live: Option<Purged>,
    /// The same for dead letters.
    purged_dead: Option<Purged>,
}

/// Purges that what the shard shows may not have heard of.
#[derive(Debug, Clone, Copy)]
struct Purged {
    /// The last of them.
    lsn: Lsn,
    up_to: ItemId,
    stored: bool,
}

impl Cold {
    /// Starts from what the shard counted at `now`; the floor and the horizon are as low as can be.
    pub(super) fn reset(&mut self, due: u64, later: u64, dead: u64, now: Timestamp) {
        *self = Self {
            due,
            later,
            dead,
            unmeasured: due + later + dead > 0,
            floor: (due > 0).then_some(OrderKey::MIN),
            watermark: (now, LAST_ID),
            next_due: (later > 0).then_some(now),
            ..Self::default()
        };
    }

    /// Whether a cold item may have to go out before `head`.
    pub(super) fn comes_before(&self, head: Option<OrderKey>, now: Timestamp) -> bool {
        self.next_due.is_some_and(|due| due <= now)
            || self
                .floor
                .is_some_and(|floor| head.is_none_or(|head| floor <= head))
    }

    /// When the next cold item is due, or earlier.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.next_due
    }

    /// Whether ready items can be brought up.
    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        self.floor.is_some() || self.next_due.is_some_and(|due| due <= now)
    }

    /// Nothing may be evicted while what the shard shows cannot be told apart from what it should hold.
    pub(super) fn is_unsettled(&self) -> bool {
        self.refilling || self.purged_live.is_some() || self.purged_dead.is_some()
    }

    /// How many items are cold.
    fn count(&self) -> u64 {
        self.due + self.later + self.dead
    }

    /// What the cold items count as stored.
    pub(super) fn bytes(&self) -> u64 {
        if self.count() == 0 { 0 } else { self.bytes }
    }

    /// Takes the items that were cold at the start to count `item_bytes` each, unless what they count is known.
    pub(super) fn measure(&mut self, item_bytes: u64) {
        if std::mem::take(&mut self.unmeasured) {
            self.bytes = item_bytes.saturating_mul(self.count());
        }
    }

    /// Takes in a dead letter.
    pub(super) fn buried(&mut self, item: &QueuedItem) {
        self.bytes = self.bytes() + item.item.stored_bytes();
        self.dead += 1;
    }

    /// Takes in an item evicted at `now`.
    pub(super) fn evicted(&mut self, item: &QueuedItem, now: Timestamp) {
        if self.next_due.is_none_or(|next| next > now) {
            // Nothing cold became due since the watermark was set: it may move unread.
            self.watermark = self.watermark.max((now, LAST_ID));
        }
        let (key, due) = (item.key(), item.standing.due);
        self.bytes = self.bytes() + item.item.stored_bytes();
        self.newest = self.newest.max(key.id);
        if (due, key.id) <= self.watermark {
            self.due += 1;
            self.floor = Some(self.floor.map_or(key, |floor| floor.min(key)));
        } else {
            self.later += 1;
            self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
        }
    }

    /// Takes out an item that becomes hot.
    pub(super) fn left(&mut self, item: &QueuedItem) {
        self.bytes = self.bytes().saturating_sub(item.item.stored_bytes());
        let count = if item.standing.dead.is_some() {
            &mut self.dead
        } else if (item.standing.due, item.item.id) <= self.watermark {
            &mut self.due
        } else {
            &mut self.later
        };
        *count = count.saturating_sub(1);
    }

    /// Forgets what the purge at `lsn` removed; returns how many items that were.
    pub(super) fn purge(&mut self, lsn: Lsn, dead: bool, up_to: ItemId) -> u64 {
        let before = if dead { self.purged_dead } else { self.purged_live };
        let purged = Some(Purged {
            lsn: before.map_or(lsn, |before| before.lsn.max(lsn)),
            up_to: before.map_or(up_to, |before| before.up_to.max(up_to)),
            stored: false,
        });
        let all = self.count();
        let kept = if dead { self.due + self.later } else { self.dead };
        // What each part has is not known: they are taken to be alike.
        self.bytes = (u128::from(self.bytes()) * u128::from(kept) / u128::from(all.max(1))) as u64;
        if dead {
            self.purged_dead = purged;
            return std::mem::take(&mut self.dead);
        }
        self.purged_live = purged;
        (self.floor, self.next_due) = if self.newest > up_to {
            // Something younger went cold already: the shard is looked through for it.
            (Some(OrderKey::MIN), Some(Timestamp::ZERO))
        } else {
            (None, None)
        };
        std::mem::take(&mut self.due) + std::mem::take(&mut self.later)
    }

    /// The shard heard of the purge at `lsn`.
    pub(super) fn purge_stored(&mut self, lsn: Lsn, dead: bool) {
        let purged = if dead {
            &mut self.purged_dead
        } else {
            &mut self.purged_live
        };
        if let Some(purged) = purged
            && purged.lsn <= lsn
        {
            purged.stored = true;
        }
        self.settle_purges();
    }

    /// A page that is being read may show what the shard held before the purge.
    fn settle_purges(&mut self) {
        if self.refilling {
            return;
        }
        for purged in [&mut self.purged_live, &mut self.purged_dead] {
            if purged.is_some_and(|purged| purged.stored) {
                *purged = None;
            }
        }
    }

    /// Whether the shard holds nothing of the topic, and nobody is reading it.
    pub(super) fn is_empty(&self) -> bool {
        let nothing = self.due == 0 && self.later == 0 && self.dead == 0;
        nothing && self.floor.is_none() && self.next_due.is_none() && !self.is_unsettled()
    }

    /// Begins a refill; returns what may have become due.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<DueSpan> {
        self.refilling = true;
        let look = self.next_due.is_some_and(|due| due <= now);
        look.then_some(DueSpan {
            after: self.watermark,
            until: now,
        })
    }

    /// Moves the watermark.
    pub(super) fn pass(&mut self, passed: DueCursor, next_due: Option<Timestamp>) {
        self.watermark = self.watermark.max(passed);
        self.next_due = next_due;
        if next_due.is_none() {
            self.later = 0;
        }
    }

    /// Where to read on.
    pub(super) fn page(&self) -> Option<RefillPage> {
        self.floor.map(|from| RefillPage {
            from,
            due_by: self.watermark.0,
        })
    }

    /// Notes that everything up to `last` was read, or all there is.
    pub(super) fn read_to(&mut self, last: Option<OrderKey>, whole: bool) {
        if whole {
            (self.floor, self.due) = (None, 0);
        } else if let Some(last) = last {
            self.floor = Some(last.successor());
        }
    }

    /// Ends a refill.
    pub(super) fn end(&mut self) {
        self.refilling = false;
        self.tombstones.clear();
        self.settle_purges();
    }

    /// Notes that the shard deleted `id` this moment.
    pub(super) fn deleted(&mut self, id: ItemId) {
        if self.refilling {
            self.tombstones.insert(id);
        }
    }

    /// Whether an item that the shard showed is gone all the same.
    pub(super) fn is_gone(&self, item: &QueuedItem) -> bool {
        let purged = if item.standing.dead.is_some() {
            self.purged_dead
        } else {
            self.purged_live
        };
        purged.is_some_and(|purged| item.item.id <= purged.up_to) || self.tombstones.contains(&item.item.id)
    }
}
