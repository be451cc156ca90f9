//! A topic's idempotency keys: which were used within the window, and for what.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::ordered::OrderedQueue;
use crate::clock::Timestamp;
use crate::hot::{KeyProbe, KeyState};
use crate::model::TopicKey;
use crate::shard::DedupRow;
use crate::wal::Lsn;

/// How many stored keys one topic keeps in memory; older ones are asked from the shard.
const KEPT: usize = 100_000;

#[derive(Debug)]
enum Key {
    /// A request is using it; the signal is raised when it is decided.
    Reserved(Arc<Notify>),
    Used {
        row: DedupRow,
        /// The log position the shard lacks; zero when it remembers the key.
        need: Lsn,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    keys: HashMap<u128, Key, foldhash::fast::RandomState>,
    by_expiry: OrderedQueue<(Timestamp, u128)>,
    unstored: OrderedQueue<(Lsn, u128)>,
    /// The shard may know keys that are not here; the last of them expires then.
    pub(super) cold_until: Timestamp,
}

impl Keys {
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::default(),
            by_expiry: OrderedQueue::new(),
            unstored: OrderedQueue::new(),
            cold_until: Timestamp::ZERO,
        }
    }

    /// Looks `probe` up and reserves it when nobody used it.
    pub(super) fn reserve(&mut self, probe: KeyProbe, now: Timestamp) -> KeyState {
        self.forget(now);
        match self.keys.get(&probe.key_hash) {
            Some(Key::Reserved(decided)) => KeyState::InFlight(decided.clone()),
            Some(Key::Used { row, .. }) => KeyState::Used {
                id: row.id,
                same_body: row.body_hash == probe.body_hash,
            },
            None => {
                self.keys.insert(probe.key_hash, Key::Reserved(Arc::default()));
                KeyState::Reserved
            }
        }
    }

    /// Records what was accepted under a key at `lsn`.
    pub(super) fn confirm(&mut self, lsn: Lsn, row: DedupRow) {
        let key_hash = row.key_hash;
        self.by_expiry.push((row.expires_at, key_hash));
        self.unstored.push((lsn, key_hash));
        if let Some(Key::Reserved(decided)) = self.keys.insert(key_hash, Key::Used { row, need: lsn }) {
            decided.notify_waiters();
        }
    }

    /// Brings back what the shard remembered, unless memory knows the key.
    pub(super) fn recall(&mut self, row: DedupRow) {
        if !self.keys.contains_key(&row.key_hash) {
            self.by_expiry.push((row.expires_at, row.key_hash));
            self.keys.insert(row.key_hash, Key::Used { row, need: Lsn(0) });
        }
    }

    /// Gives a reserved key back.
    pub(super) fn release(&mut self, key_hash: u128) {
        if matches!(self.keys.get(&key_hash), Some(Key::Reserved(_)))
            && let Some(Key::Reserved(decided)) = self.keys.remove(&key_hash)
        {
            decided.notify_waiters();
        }
    }

    /// Forgets keys whose window has passed.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some((expires_at, key_hash)) = self.by_expiry.first() {
            if expires_at > now {
                break;
            }
            self.by_expiry.pop_first();
            let over = |key: &Key| matches!(key, Key::Used { row, .. } if row.expires_at <= now);
            if self.keys.get(&key_hash).is_some_and(over) {
                self.keys.remove(&key_hash);
            }
        }
    }

    /// The first log position whose key the shard lacks.
    pub(super) fn first_need(&mut self) -> Option<Lsn> {
        while let Some((lsn, key_hash)) = self.unstored.first() {
            if matches!(self.keys.get(&key_hash), Some(Key::Used { need, .. }) if *need == lsn) {
                return Some(lsn);
            }
            self.unstored.pop_first();
        }
        None
    }

    /// The rows the shard lacks up to `up_to`.
    pub(super) fn unstored_up_to(&self, up_to: Lsn, topic: &TopicKey) -> Vec<DedupRow> {
        let wanted = self.unstored.iter().take_while(|(lsn, _)| *lsn <= up_to);
        wanted
            .filter_map(|(lsn, key_hash)| match self.keys.get(&key_hash) {
                Some(Key::Used { row, need }) if *need == lsn => Some(DedupRow {
                    topic: topic.clone(),
                    ..row.clone()
                }),
                _ => None,
            })
            .collect()
    }

    /// Notes that the shard remembers `row` now, and keeps memory within its bound.
    pub(super) fn stored(&mut self, row: &DedupRow) {
        // Meanwhile the key's window may have passed and another item may have been accepted under it.
        if let Some(Key::Used { row: current, need }) = self.keys.get_mut(&row.key_hash)
            && current.id == row.id
        {
            *need = Lsn(0);
        }
        while self.keys.len() > KEPT {
            let Some(oldest) = self.by_expiry.pop_first() else {
                break;
            };
            match self.keys.get(&oldest.1) {
                Some(Key::Used { need: Lsn(0), .. }) => {
                    self.keys.remove(&oldest.1);
                    self.cold_until = self.cold_until.max(oldest.0);
                }
                Some(_) => {
                    self.by_expiry.push(oldest);
                    break;
                }
                None => {}
            }
        }
    }
}
