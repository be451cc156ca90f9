//! A priority queue that is as cheap as a list while keys arrive in order.

use std::collections::{BTreeSet, VecDeque};

/// Keys in ascending order, fast for the usual case: each new key is the largest yet.
///
/// Such keys go to the end of a list; the rest go to a tree. Nothing is removed from the middle: whoever
/// takes a key out checks whether it still means something, and [`OrderedQueue::note_stale`] with
/// [`OrderedQueue::compact`] bounds the garbage to as many keys as there are live ones.
#[derive(Debug)]
pub(super) struct OrderedQueue<K> {
    in_order: VecDeque<K>,
    early: BTreeSet<K>,
    stale: usize,
}

/// Garbage below this is not worth a pass.
const COMPACT_MIN: usize = 1_024;

impl<K: Ord + Copy> OrderedQueue<K> {
    pub(super) fn new() -> Self {
        Self {
            in_order: VecDeque::new(),
            early: BTreeSet::new(),
            stale: 0,
        }
    }

    pub(super) fn push(&mut self, key: K) {
        if self.in_order.back().is_none_or(|last| *last <= key) {
            self.in_order.push_back(key);
        } else {
            self.early.insert(key);
        }
    }

    pub(super) fn first(&self) -> Option<K> {
        match (self.in_order.front(), self.early.first()) {
            (Some(a), Some(b)) => Some(*a.min(b)),
            (a, b) => a.or(b).copied(),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<K> {
        match (self.in_order.front(), self.early.first()) {
            (Some(a), Some(b)) if b < a => self.early.pop_first(),
            (Some(_), _) => self.in_order.pop_front(),
            (None, _) => self.early.pop_first(),
        }
    }

    pub(super) fn pop_last(&mut self) -> Option<K> {
        match (self.in_order.back(), self.early.last()) {
            (Some(a), Some(b)) if b > a => self.early.pop_last(),
            (Some(_), _) => self.in_order.pop_back(),
            (None, _) => self.early.pop_last(),
        }
    }

    /// All keys in ascending order, stale ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = K> + '_ {
        let mut listed = self.in_order.iter().copied().peekable();
        let mut early = self.early.iter().copied().peekable();
        std::iter::from_fn(move || match (listed.peek(), early.peek()) {
            (Some(a), Some(b)) if b < a => early.next(),
            (Some(_), _) => listed.next(),
            (None, _) => early.next(),
        })
    }

    /// Says that one key still held here means nothing any more; true when it is time to compact.
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > COMPACT_MIN && self.stale * 2 > self.in_order.len() + self.early.len()
    }

    /// Drops every key that is not `live`.
    pub(super) fn compact(&mut self, mut live: impl FnMut(&K) -> bool) {
        self.in_order.retain(&mut live);
        self.early.retain(live);
        self.stale = 0;
        if self.in_order.capacity() > 4 * self.in_order.len() + COMPACT_MIN {
            self.in_order.shrink_to(2 * self.in_order.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_multiset(keys in proptest::collection::vec(0_u16..500, 0..300)) {
            let mut queue = OrderedQueue::new();
            let mut model = BTreeSet::new();
            for &key in &keys {
                if model.insert(key) {
                    queue.push(key);
                }
            }
            prop_assert_eq!(queue.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            let mut from_the_back = false;
            while let Some(expected) = if from_the_back { model.pop_last() } else { model.pop_first() } {
                let got = if from_the_back { queue.pop_last() } else { queue.pop_first() };
                prop_assert_eq!(got, Some(expected));
                from_the_back = !from_the_back;
            }
            prop_assert_eq!(queue.first(), None);
        }
    }

    #[test]
    fn garbage_is_bounded() {
        let mut queue = OrderedQueue::new();
        let mut live = BTreeSet::new();
        for key in 0..100_000_u32 {
            queue.push(key);
            live.insert(key);
            if key >= 10 {
                live.remove(&(key - 10));
                if queue.note_stale() {
                    queue.compact(|key| live.contains(key));
                }
            }
        }
        assert!(queue.iter().count() < 3_000);
    }
}
