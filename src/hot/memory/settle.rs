//! How items leave a topic's care or come back to it: held for a settlement, finished.

use super::topic::{Moment, Place, Topic};
use crate::hot::{Finish, Held, HeldLease, HoldRequest, Landing};
use crate::model::ItemId;
use crate::wal::Lsn;

impl Topic {
    /// Holds an item for a settlement.
    pub(super) fn hold(&mut self, request: HoldRequest, at: Moment) -> Held {
        let Some(entry) = self.entries.get_mut(&request.id) else {
            return match request.generation {
                Some(generation) if self.settled.contains(request.id, generation) => Held::AlreadyDone,
                _ => Held::Unknown,
            };
        };
        let place = entry.place;
        let (key, current) = (entry.queued.key(), entry.queued.standing.generation);
        let deadline = match (request.generation, place) {
            (Some(generation), Place::Leased { deadline })
                if generation == current && deadline > at.monotonic =>
            {
                Some(deadline)
            }
            (Some(generation), Place::Held { deadline: Some(_) }) if generation == current => {
                return Held::Busy(self.let_go.clone());
            }
            (Some(generation), _) => {
                let done = self.settled.contains(request.id, generation);
                return if done { Held::AlreadyDone } else { Held::Lost };
            }
            (None, Place::Ready | Place::Scheduled | Place::Dead) => None,
            (None, _) => return Held::Lost,
        };
        let held = match deadline {
            None => Held::Yes(entry.queued.clone()),
            Some(_) => Held::Leased(HeldLease {
                id: request.id,
                lease_ms: entry.queued.item.lease_ms,
                max_attempts: entry.queued.item.max_attempts,
                standing: entry.queued.standing.clone(),
            }),
        };
        self.move_to(request.id, Place::Held { deadline });
        self.leave(place, key);
        held
    }

    /// Lets a held item stand as it stood.
    pub(super) fn unhold(&mut self, id: ItemId, at: Moment) {
        let Some(entry) = self.entries.get(&id) else {
            return;
        };
        let Place::Held { deadline } = entry.place else {
            return;
        };
        let to = match deadline {
            Some(deadline) => Place::Leased { deadline },
            None => Self::place_of(&entry.queued, at),
        };
        self.move_to(id, to);
        self.let_go.notify_waiters();
    }

    /// Sends an item to where the record at `lsn` says.
    pub(super) fn finish(&mut self, finish: Finish, lsn: Lsn, at: Moment) {
        let id = finish.id;
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let (place, old_key) = (entry.place, entry.queued.key());
        let goes_on = matches!(&finish.to, Landing::Standing(standing)
            if standing.lease_expires_at.is_some_and(|end| end > at.now));
        if !goes_on && matches!(place, Place::Held { deadline: Some(_) } | Place::Leased { .. }) {
            self.settled.insert(id, entry.queued.standing.generation);
        }
        match finish.to {
            Landing::Gone(_) => {
                let may_be_stored = entry.may_be_stored();
                self.remove(id);
                if may_be_stored {
                    self.unstored.delete(lsn, id);
                }
            }
            Landing::Standing(standing) => {
                entry.queued.standing = standing;
                let to = Self::place_of(&entry.queued, at);
                self.move_to(id, to);
                self.leave(place, old_key);
                self.mark(id, lsn);
            }
        }
        self.let_go.notify_waiters();
    }
}
