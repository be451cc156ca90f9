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
    /// With the number of the call that told them.
    numbers: Mutex<(u64, Numbers)>,
    /// Counts calls.
    calls: AtomicU64,
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
            calls: AtomicU64::new(0),
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

    /// The number of a call that is made now.
    pub(super) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what `call` told, unless a later one told more: replies are not read in the order of the calls.
    pub(super) fn set_numbers(&self, call: u64, numbers: Numbers) {
        let mut known = self.numbers.lock();
        if known.0 < call {
            *known = (call, numbers);
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
        let told = |ready| {
            let mut numbers = Numbers::default();
            numbers.ready = ready;
            numbers
        };
        let (first, second) = (cell.next_call(), cell.next_call());
        cell.set_numbers(second, told(2));
        cell.set_numbers(first, told(1));
        assert_eq!(cell.numbers().ready, 2);
        cell.set_numbers(cell.next_call(), told(3));
        assert_eq!(cell.numbers().ready, 3);
    }
}
