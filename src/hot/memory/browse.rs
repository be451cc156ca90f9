//! Lists of a topic's hot items: nothing is taken, nothing moves.

use std::cmp::Reverse;

use super::topic::Topic;
use crate::hot::HotView;
use crate::model::{ItemId, ItemState, OrderKey};

impl Topic {
    /// Up to `limit` items in `state` from `from` on, in key order.
    pub(super) fn browse(&self, state: ItemState, from: OrderKey, limit: usize) -> Vec<HotView> {
        let in_state = |id: &ItemId| self.find(*id).filter(|view| view.state == state);
        match state {
            ItemState::Ready => {
                let keys = self.ready.iter_from(from);
                keys.filter_map(|key| in_state(&key.id)).take(limit).collect()
            }
            ItemState::Dead => self
                .dead
                .range(from..)
                .filter_map(|key| in_state(&key.id))
                .take(limit)
                .collect(),
            // These wait in the order of time; a page in key order takes a pass over all, without a copy.
            ItemState::Scheduled | ItemState::Leased => {
                let keys = self.keys_in(state).filter(|key| *key >= from).collect();
                let keys = first(keys, limit);
                keys.iter().filter_map(|key| self.find(key.id)).collect()
            }
        }
    }

    /// Up to `limit` items in `state`, the highest id first. Takes a pass over all, without a copy.
    pub(super) fn newest(&self, state: ItemState, limit: usize) -> Vec<HotView> {
        let ids = self.keys_in(state).map(|key| Reverse(key.id)).collect();
        let ids = first(ids, limit);
        ids.iter().filter_map(|id| self.find(id.0)).collect()
    }

    fn keys_in(&self, state: ItemState) -> impl Iterator<Item = OrderKey> + '_ {
        let wanted = self
            .entries
            .values()
            .filter(move |entry| entry.place.state() == state);
        wanted.map(|entry| entry.queued.key())
    }
}

/// The `limit` smallest of `keys`, in order.
fn first<K: Ord>(mut keys: Vec<K>, limit: usize) -> Vec<K> {
    if keys.len() > limit {
        keys.select_nth_unstable(limit);
        keys.truncate(limit);
    }
    keys.sort_unstable();
    keys
}
