//! What time does to a topic: due items become ready, leases end, times to live pass.

use super::topic::{Moment, Place, Topic};
use crate::clock::Timestamp;
use crate::hot::{Overdue, OverdueWhy};
use crate::model::ItemId;

impl Topic {
    /// Moves what became due or lost its lease by `at`; returns what can go out no more.
    pub(super) fn advance(&mut self, at: Moment) -> Vec<Overdue> {
        while let Some((due, id)) = self.scheduled.first() {
            if due > at.now {
                break;
            }
            self.scheduled.pop_first();
            let live = self
                .entries
                .get(&id)
                .is_some_and(|e| e.place == Place::Scheduled && e.queued.standing.due == due);
            if live {
                self.move_to(id, Place::Ready);
            }
        }
        let mut overdue = self.expire_leases(at);
        while let Some((expires_at, id)) = self.expiries.first() {
            if expires_at > at.now {
                break;
            }
            self.expiries.pop_first();
            overdue.extend(self.expire_item(id, expires_at));
        }
        overdue
    }

    fn expire_leases(&mut self, at: Moment) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        while let Some((deadline, id, _)) = self.leases.first() {
            if deadline > at.monotonic {
                break;
            }
            self.leases.pop_first();
            let Some(entry) = self.entries.get(&id) else {
                continue;
            };
            if entry.place != (Place::Leased { deadline }) {
                continue;
            }
            self.tally.leases_expired += 1;
            let standing = &entry.queued.standing;
            if standing.attempt >= entry.queued.item.max_attempts {
                let queued = entry.queued.clone();
                self.move_to(id, Place::Held { deadline: None });
                overdue.push(Overdue {
                    queued,
                    why: OverdueWhy::AttemptsExhausted,
                });
            } else if standing.due > at.now {
                self.move_to(id, Place::Scheduled);
            } else {
                self.move_to(id, Place::Ready);
            }
        }
        overdue
    }

    /// Holds a waiting item whose time to live passed. A leased one keeps its consumer: it is looked at
    /// again when it comes back.
    fn expire_item(&mut self, id: ItemId, expires_at: Timestamp) -> Option<Overdue> {
        let entry = self.entries.get_mut(&id)?;
        entry.expiry_queued = false;
        let place = entry.place;
        if entry.queued.item.expires_at != Some(expires_at)
            || !matches!(place, Place::Ready | Place::Scheduled)
        {
            return None;
        }
        let (queued, key) = (entry.queued.clone(), entry.queued.key());
        self.move_to(id, Place::Held { deadline: None });
        self.leave(place, key);
        Some(Overdue {
            queued,
            why: OverdueWhy::Expired,
        })
    }

    /// When something changes by itself next, as far as memory and the cold part's horizon know.
    pub(super) fn next_event(&self, at: Moment) -> Option<Timestamp> {
        let due = self.scheduled.first().map(|(due, _)| due);
        let lease = self
            .leases
            .first()
            .map(|(deadline, ..)| at.now.plus_ms(deadline.0 - at.monotonic.0));
        [due, lease, self.cold.next_due()].into_iter().flatten().min()
    }

    /// The same, items' times to live included: when [`Topic::advance`] has something to do.
    pub(super) fn next_advance(&self, at: Moment) -> Option<Timestamp> {
        let expiry = self.expiries.first().map(|(expires_at, _)| expires_at);
        [self.next_event(at), expiry].into_iter().flatten().min()
    }
}
