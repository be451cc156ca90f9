//! A priority queue that is as cheap as a list while keys arrive in order.

use std::cmp::Ordering;
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
        match self.in_order.back().map(|last| last.cmp(&key)) {
            None | Some(Ordering::Less) => self.in_order.push_back(key),
            Some(Ordering::Equal) => {}
            Some(Ordering::Greater) => {
                self.early.insert(key);
            }
        }
    }

    /// How many keys there are, stale and repeated ones included.
    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.early.len()
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

    /// All keys in ascending order, each once, stale ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = K> + '_ {
        merged(self.in_order.iter().copied(), self.early.iter().copied())
    }

    /// The keys at and after `from`, as [`OrderedQueue::iter`] has them.
    pub(super) fn iter_from(&self, from: K) -> impl Iterator<Item = K> + '_ {
        let start = self.in_order.partition_point(|key| *key < from);
        merged(
            self.in_order.range(start..).copied(),
            self.early.range(from..).copied(),
        )
    }

    /// Says that one key still held here means nothing any more; true when it is time to compact.
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > COMPACT_MIN && self.stale * 2 > self.len()
    }

    /// Drops every key that is not `live`, and repeats of those that are: a key that became stale and was
    /// pushed again is here twice.
    pub(super) fn compact(&mut self, mut live: impl FnMut(&K) -> bool) {
        let mut last = None;
        self.in_order
            .retain(|key| live(key) && last.replace(*key) != Some(*key));
        let in_order = &self.in_order;
        self.early
            .retain(|key| live(key) && in_order.binary_search(key).is_err());
        self.stale = 0;
        if self.in_order.capacity() > 4 * self.in_order.len() + COMPACT_MIN {
            self.in_order.shrink_to(2 * self.in_order.len());
        }
    }
}

/// Two ascending sequences as one, every key once.
fn merged<K: Ord + Copy>(a: impl Iterator<Item = K>, b: impl Iterator<Item = K>) -> impl Iterator<Item = K> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    let mut last = None;
    std::iter::from_fn(move || {
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if y < x => b.next(),
                (Some(_), _) => a.next(),
                (None, _) => b.next(),
            }?;
            if last.replace(next) != Some(next) {
                return Some(next);
            }
        }
    })
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

    #[test]
    fn a_key_pushed_again_and_again_is_one_key() {
        let mut queue = OrderedQueue::new();
        for key in 0..10_u32 {
            queue.push(key);
        }
        for _ in 0..100_000 {
            queue.push(3);
            queue.push(9);
            if queue.note_stale() {
                queue.compact(|_| true);
            }
        }
        assert!(queue.len() < 100, "{} keys", queue.len());
        assert!(queue.iter().eq(0..10));
        assert!(queue.iter_from(4).eq(4..10));
    }
}
