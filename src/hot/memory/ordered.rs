//! A priority queue that is as cheap as a few lists while keys arrive nearly in order.

use std::collections::{BTreeSet, VecDeque};

/// Keys in ascending order, fast for the usual case: keys arrive in a few interleaved ascending runs, as
/// they do from requests that overlap.
///
/// A key goes to the end of a run that it does not go before; when there is none, to a tree. Nothing is
/// removed from the middle: whoever takes a key out checks whether it still means something, and
/// [`OrderedQueue::note_stale`] with [`OrderedQueue::compact`] bounds the garbage to as many keys as there
/// are live ones.
#[derive(Debug)]
pub(super) struct OrderedQueue<K> {
    /// Ascending each. Only the first may be empty, and only when it is the only one.
    runs: Vec<VecDeque<K>>,
    early: BTreeSet<K>,
    /// The run that took the last key: the next one often follows it.
    latest: usize,
    stale: usize,
}

/// Garbage below this is not worth a pass.
const COMPACT_MIN: usize = 1_024;
/// More runs than this cost more to look through than the tree.
const RUNS_MAX: usize = 8;

impl<K: Ord + Copy> OrderedQueue<K> {
    pub(super) fn new() -> Self {
        Self {
            runs: vec![VecDeque::new()],
            early: BTreeSet::new(),
            latest: 0,
            stale: 0,
        }
    }

    pub(super) fn push(&mut self, key: K) {
        let follows = |run: &VecDeque<K>| run.back().is_none_or(|last| *last <= key);
        if !self.runs.get(self.latest).is_some_and(follows) {
            match self.runs.iter().position(follows) {
                Some(run) => self.latest = run,
                None if self.runs.len() < RUNS_MAX => {
                    self.latest = self.runs.len();
                    self.runs.push(VecDeque::new());
                }
                None => {
                    self.early.insert(key);
                    return;
                }
            }
        }
        self.runs[self.latest].push_back(key);
    }

    /// The run with the smallest first key, and that key.
    fn first_run(&self) -> Option<(usize, K)> {
        let firsts = self
            .runs
            .iter()
            .enumerate()
            .filter_map(|(n, run)| Some((n, *run.front()?)));
        firsts.min_by(|(_, a), (_, b)| a.cmp(b))
    }

    fn last_run(&self) -> Option<(usize, K)> {
        let lasts = self
            .runs
            .iter()
            .enumerate()
            .filter_map(|(n, run)| Some((n, *run.back()?)));
        lasts.max_by(|(_, a), (_, b)| a.cmp(b))
    }

    pub(super) fn first(&self) -> Option<K> {
        match (self.first_run(), self.early.first()) {
            (Some((_, a)), Some(b)) => Some(a.min(*b)),
            (Some((_, a)), None) => Some(a),
            (None, b) => b.copied(),
        }
    }

    pub(super) fn pop_first(&mut self) -> Option<K> {
        match (self.first_run(), self.early.first()) {
            (Some((_, a)), Some(b)) if *b < a => self.early.pop_first(),
            (Some((run, _)), _) => {
                let key = self.runs[run].pop_front();
                self.drop_if_empty(run);
                key
            }
            (None, _) => self.early.pop_first(),
        }
    }

    pub(super) fn pop_last(&mut self) -> Option<K> {
        match (self.last_run(), self.early.last()) {
            (Some((_, a)), Some(b)) if *b > a => self.early.pop_last(),
            (Some((run, _)), _) => {
                let key = self.runs[run].pop_back();
                self.drop_if_empty(run);
                key
            }
            (None, _) => self.early.pop_last(),
        }
    }

    fn drop_if_empty(&mut self, run: usize) {
        if self.runs[run].is_empty() && self.runs.len() > 1 {
            self.runs.swap_remove(run);
            self.latest = 0;
        }
    }

    /// All keys in ascending order, stale ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = K> + '_ {
        let mut runs: Vec<_> = self
            .runs
            .iter()
            .map(|run| run.iter().copied().peekable())
            .collect();
        let mut early = self.early.iter().copied().peekable();
        std::iter::from_fn(move || {
            let firsts = runs
                .iter_mut()
                .enumerate()
                .filter_map(|(n, run)| Some((n, *run.peek()?)));
            match (firsts.min_by(|(_, a), (_, b)| a.cmp(b)), early.peek()) {
                (Some((_, a)), Some(b)) if *b < a => early.next(),
                (Some((run, _)), _) => runs[run].next(),
                (None, _) => early.next(),
            }
        })
    }

    /// Says that one key still held here means nothing any more; true when it is time to compact.
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > COMPACT_MIN && self.stale * 2 > self.len()
    }

    fn len(&self) -> usize {
        self.runs.iter().map(VecDeque::len).sum::<usize>() + self.early.len()
    }

    /// Drops every key that is not `live`.
    pub(super) fn compact(&mut self, mut live: impl FnMut(&K) -> bool) {
        for run in &mut self.runs {
            run.retain(&mut live);
            if run.capacity() > 4 * run.len() + COMPACT_MIN {
                run.shrink_to(2 * run.len());
            }
        }
        self.runs.retain(|run| !run.is_empty());
        if self.runs.is_empty() {
            self.runs.push(VecDeque::new());
        }
        self.early.retain(live);
        (self.latest, self.stale) = (0, 0);
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
