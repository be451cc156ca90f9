//! What this node remembers of a topic: who waits for it here, and how it was when Redis last told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::keys::Unheard;
use super::reply::Numbers;
use super::tickets::Tickets;
use crate::model::{Slot, TopicKey};

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: TopicKey,
    pub(super) slot: Slot,
    /// What every one of the topic's keys in Redis begins with.
    pub(super) base: Vec<u8>,
    pub(super) arrived: Arc<Notify>,
    /// Raised when held items are let go by this node.
    pub(super) let_go: Arc<Notify>,
    /// Raised when a reserved key is decided by this node.
    pub(super) decided: Arc<Notify>,
    /// With how often Redis had lost its memory before it was asked for them.
    numbers: Mutex<(u64, Numbers)>,
    /// What an item that was in the shard at the start counts on average.
    cold_item_bytes: AtomicU64,
    /// Counts this node's changes, begun and ended; those that the shard may lack.
    changes: AtomicU64,
    /// How many there were when the shard lacked nothing.
    clean_at: AtomicU64,
    /// Who reads the topic's cold items for this node.
    pub(super) reader: Mutex<Option<Vec<u8>>>,
    /// This node's takes.
    pub(super) tickets: Tickets,
    /// This node's reservations of keys that nobody heard of.
    pub(super) unheard: Unheard,
    /// Whether the topic is in the list of topics in Redis.
    pub(super) is_listed: std::sync::atomic::AtomicBool,
}

impl Cell {
    pub(super) fn new(key: TopicKey, base: Vec<u8>) -> Self {
        Self {
            slot: key.slot(),
            key,
            base,
            arrived: Arc::default(),
            let_go: Arc::default(),
            decided: Arc::default(),
            numbers: Mutex::default(),
            cold_item_bytes: AtomicU64::new(0),
            changes: AtomicU64::new(1),
            clean_at: AtomicU64::new(0),
            reader: Mutex::default(),
            tickets: Tickets::default(),
            unheard: Unheard::default(),
            is_listed: std::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.numbers.lock().1
    }

    /// Notes what a call told that was made after so many losses of Redis' memory, unless one that ran later told more:
    /// calls neither run nor are their replies read in the order in which they are made.
    pub(super) fn set_numbers(&self, losses: u64, numbers: Numbers) {
        let mut known = self.numbers.lock();
        if (known.0, known.1.run) < (losses, numbers.run) {
            *known = (losses, numbers);
        }
    }

    pub(super) fn cold_item_bytes(&self) -> u64 {
        self.cold_item_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_cold_item_bytes(&self, bytes: u64) {
        self.cold_item_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Says that a change begins or ends of which the shard will lack something.
    pub(super) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// How many changes were noted.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether the shard may lack something of this node's log.
    pub(super) fn may_be_needed(&self) -> bool {
        self.changes() != self.clean_at.load(Ordering::Acquire)
    }

    /// The shard lacked nothing after `changes`.
    pub(super) fn set_clean(&self, changes: u64) {
        self.clean_at.store(changes, Ordering::Release);
    }

    /// Wakes one who waits for items.
    pub(super) fn wake(&self) {
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_reply_does_not_overwrite_a_later_one() {
        let cell = Cell::new(TopicKey::parse("ns", "t").unwrap(), Vec::new());
        let told = |run, ready| {
            let mut numbers = Numbers::default();
            (numbers.run, numbers.ready) = (run, ready);
            numbers
        };
        cell.set_numbers(0, told(8, 2));
        cell.set_numbers(0, told(7, 1));
        assert_eq!(cell.numbers().ready, 2);
        cell.set_numbers(0, told(9, 3));
        assert_eq!(cell.numbers().ready, 3);
        // Another Redis counts anew.
        cell.set_numbers(1, told(1, 4));
        cell.set_numbers(0, told(10, 5));
        assert_eq!(cell.numbers().ready, 4);
    }
}
