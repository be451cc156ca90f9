//! What a topic is, as plainly as it can be said: a map of items, each waiting, leased or dead.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::model::{DeadReason, Death, Item, ItemId, ItemState, OrderKey};
use crate::queue::{ItemView, SettleStatus, Verb};

/// The length of a topic's dedup window in these tests, in milliseconds.
const WINDOW_MS: i64 = 600_000;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Waiting,
    Leased(Timestamp),
    Dead(Death),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) item: Item,
    due: Timestamp,
    attempt: u32,
    generation: u32,
    last_error: Option<String>,
    place: Place,
}

impl Entry {
    fn key(&self) -> OrderKey {
        OrderKey::strict(self.item.priority, self.due, self.item.id)
    }

    fn state(&self, now: Timestamp) -> ItemState {
        match self.place {
            Place::Leased(_) => ItemState::Leased,
            Place::Dead(_) => ItemState::Dead,
            Place::Waiting if self.due <= now => ItemState::Ready,
            Place::Waiting => ItemState::Scheduled,
        }
    }

    fn die(&mut self, reason: DeadReason, at: Timestamp, error: Option<String>) {
        self.place = Place::Dead(Death { reason, at });
        self.last_error = error.or(self.last_error.take());
    }
}

/// One item as it is seen from outside; what the queue shows is brought to this form too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    id: ItemId,
    priority: i32,
    due: Timestamp,
    attempt: u32,
    lease_expires_at: Option<Timestamp>,
    last_error: Option<String>,
    dead: Option<Death>,
}

impl From<&ItemView> for Seen {
    fn from(view: &ItemView) -> Self {
        Self {
            id: view.item.id,
            priority: view.item.priority,
            due: view.due,
            attempt: view.attempt,
            lease_expires_at: view.lease_expires_at,
            last_error: view.last_error.as_deref().map(str::to_owned),
            dead: view.dead,
        }
    }
}

/// One delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) id: ItemId,
    pub(super) attempt: u32,
    pub(super) due: Timestamp,
    pub(super) lease_expires_at: Timestamp,
    pub(super) last_error: Option<String>,
}

/// Why an item cannot be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCancel {
    Leased,
    Unknown,
}

/// What becomes of an idempotency key at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    New,
    Repeat(ItemId),
    Conflict,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Topic {
    items: BTreeMap<ItemId, Entry>,
    keys: BTreeMap<String, (ItemId, Vec<u8>, Timestamp)>,
    /// Leases that ended by a word of their consumer, as long as the node remembers.
    settled: BTreeSet<(ItemId, u32)>,
    generations: BTreeMap<ItemId, u32>,
    pub(super) paused: bool,
}

impl Topic {
    /// Lets everything happen that happens by `now` without anybody asking.
    pub(super) fn pass_time(&mut self, now: Timestamp) {
        for entry in self.items.values_mut() {
            if matches!(entry.place, Place::Leased(end) if end <= now) {
                if entry.attempt >= entry.item.max_attempts {
                    let error = "the lease of the last attempt ended without an ack";
                    entry.die(DeadReason::AttemptsExhausted, now, Some(error.into()));
                } else {
                    entry.place = Place::Waiting;
                }
            }
        }
        self.items.retain(|_, entry| {
            entry.place != Place::Waiting || entry.item.expires_at.is_none_or(|end| end > now)
        });
    }

    pub(super) fn probe(&self, key: &str, body: &[u8], now: Timestamp) -> Key {
        match self.keys.get(key) {
            Some((id, used, until)) if *until > now => match used == body {
                true => Key::Repeat(*id),
                false => Key::Conflict,
            },
            _ => Key::New,
        }
    }

    pub(super) fn accept(&mut self, item: Item, key: Option<&str>) {
        if let Some(key) = key {
            let until = item.enqueued_at.plus_ms(WINDOW_MS);
            let used = (item.id, item.payload.to_vec(), until);
            self.keys.insert(key.to_owned(), used);
        }
        let entry = Entry {
            due: item.deliver_after,
            attempt: 0,
            generation: 0,
            last_error: None,
            place: Place::Waiting,
            item,
        };
        self.items.insert(entry.item.id, entry);
    }

    pub(super) fn take(&mut self, max: usize, lease_ms: Option<u32>, now: Timestamp) -> Vec<Out> {
        let mut eligible: Vec<_> = self.items.values_mut().collect();
        eligible.retain(|entry| entry.state(now) == ItemState::Ready);
        eligible.sort_by_key(|entry| entry.key());
        eligible.truncate(if self.paused { 0 } else { max });
        let hand_out = |entry: &mut Entry| {
            let end = now.plus_ms(lease_ms.unwrap_or(entry.item.lease_ms).into());
            entry.attempt += 1;
            entry.generation += 1;
            self.generations.insert(entry.item.id, entry.generation);
            entry.place = Place::Leased(end);
            Out {
                id: entry.item.id,
                attempt: entry.attempt,
                due: entry.due,
                lease_expires_at: end,
                last_error: entry.last_error.clone(),
            }
        };
        eligible.into_iter().map(hand_out).collect()
    }

    /// Takes deliveries back that were not made.
    pub(super) fn untake(&mut self, outs: &[Out]) {
        for out in outs {
            if let Some(entry) = self.items.get_mut(&out.id) {
                entry.place = Place::Waiting;
                entry.attempt -= 1;
                entry.generation -= 1;
            }
        }
    }

    /// The generation of an item's latest delivery.
    pub(super) fn generation(&self, id: ItemId) -> u32 {
        self.generations.get(&id).copied().unwrap_or_default()
    }

    pub(super) fn settle(
        &mut self,
        id: ItemId,
        generation: u32,
        verb: &Verb,
        now: Timestamp,
    ) -> SettleStatus {
        let current = self
            .items
            .get_mut(&id)
            .filter(|entry| entry.generation == generation && matches!(entry.place, Place::Leased(_)));
        let Some(entry) = current else {
            return match self.settled.contains(&(id, generation)) {
                true => SettleStatus::AlreadyDone,
                false => SettleStatus::LeaseLost,
            };
        };
        let text = |error: &Option<Box<str>>| error.as_deref().map(str::to_owned);
        match verb {
            Verb::Ack => {
                self.items.remove(&id);
            }
            Verb::Extend { lease_ms } => {
                let ms = lease_ms.unwrap_or(entry.item.lease_ms);
                entry.place = Place::Leased(now.plus_ms(ms.into()));
                return SettleStatus::Ok;
            }
            Verb::Nack { error, .. } if entry.attempt >= entry.item.max_attempts => {
                entry.die(DeadReason::AttemptsExhausted, now, text(error));
            }
            Verb::Nack { delay_ms, error } => {
                entry.place = Place::Waiting;
                entry.due = now.plus_ms(delay_ms.expect("these tests do without backoff"));
                entry.last_error = text(error).or(entry.last_error.take());
            }
            Verb::Release { delay_ms } => {
                entry.place = Place::Waiting;
                entry.attempt -= 1;
                if let Some(ms) = delay_ms.filter(|ms| *ms > 0) {
                    entry.due = now.plus_ms(ms);
                }
            }
            Verb::Reject { error } => entry.die(DeadReason::Rejected, now, text(error)),
        }
        self.settled.insert((id, generation));
        SettleStatus::Ok
    }

    pub(super) fn cancel(&mut self, id: ItemId) -> Result<(), NoCancel> {
        match self.items.get(&id).map(|entry| &entry.place) {
            None => Err(NoCancel::Unknown),
            Some(Place::Leased(_)) => Err(NoCancel::Leased),
            Some(_) => {
                self.items.remove(&id);
                Ok(())
            }
        }
    }

    /// Removes the live, or the dead; returns how many.
    pub(super) fn purge(&mut self, dead: bool) -> u64 {
        let before = self.items.len();
        self.items
            .retain(|_, entry| matches!(entry.place, Place::Dead(_)) != dead);
        (before - self.items.len()) as u64
    }

    pub(super) fn revive(&mut self, now: Timestamp) -> u64 {
        let mut count = 0;
        for entry in self.items.values_mut() {
            if matches!(entry.place, Place::Dead(_)) {
                (entry.place, entry.due, entry.attempt) = (Place::Waiting, now, 0);
                count += 1;
            }
        }
        count
    }

    /// Takes the dead out, all or only those whose time to live passed, in key order.
    pub(super) fn take_dead(&mut self, all: bool, now: Timestamp) -> Vec<Entry> {
        let mut dead: Vec<_> = self.items.values().cloned().collect();
        dead.retain(|entry| matches!(entry.place, Place::Dead(_)));
        dead.retain(|entry| all || entry.item.expires_at.is_some_and(|end| end <= now));
        for entry in &dead {
            self.items.remove(&entry.item.id);
        }
        dead.sort_by_key(Entry::key);
        dead
    }

    /// A process ended: what only it remembered is forgotten.
    pub(super) fn crash(&mut self) {
        self.settled.clear();
    }

    pub(super) fn ids(&self) -> Vec<ItemId> {
        self.items.keys().copied().collect()
    }

    pub(super) fn in_state(&self, state: ItemState, now: Timestamp) -> Vec<Seen> {
        let mut found: Vec<_> = self
            .items
            .values()
            .filter(|entry| entry.state(now) == state)
            .collect();
        found.sort_by_key(|entry| entry.key());
        let seen = |entry: &Entry| Seen {
            id: entry.item.id,
            priority: entry.item.priority,
            due: entry.due,
            attempt: entry.attempt,
            lease_expires_at: match entry.place {
                Place::Leased(end) => Some(end),
                _ => None,
            },
            last_error: entry.last_error.clone(),
            dead: match entry.place {
                Place::Dead(death) => Some(death),
                _ => None,
            },
        };
        found.into_iter().map(seen).collect()
    }
}
