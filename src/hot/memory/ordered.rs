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
        let run = &mut self.runs[self.latest];
        if run.back() != Some(&key) {
            run.push_back(key);
        }
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

    /// All keys in ascending order, each once, stale ones included.
    pub(super) fn iter(&self) -> impl Iterator<Item = K> + '_ {
        let runs = self.runs.iter().map(|run| run.iter());
        merged(runs.collect(), self.early.iter())
    }

    /// The keys at and after `from`, as [`OrderedQueue::iter`] has them.
    pub(super) fn iter_from(&self, from: K) -> impl Iterator<Item = K> + '_ {
        let rest = |run: &VecDeque<K>| run.partition_point(|key| *key < from);
        let runs = self.runs.iter().map(|run| run.range(rest(run)..));
        merged(runs.collect(), self.early.range(from..))
    }

    /// Says that one key still held here means nothing any more; true when it is time to compact.
    pub(super) fn note_stale(&mut self) -> bool {
        self.stale += 1;
        self.stale > COMPACT_MIN && self.stale * 2 > self.len()
    }

    /// How many keys there are, stale and repeated ones included.
    pub(super) fn len(&self) -> usize {
        self.runs.iter().map(VecDeque::len).sum::<usize>() + self.early.len()
    }

    /// Drops every key that is not `live`, and repeats of those that are: a key that became stale and was
    /// pushed again is here twice.
    pub(super) fn compact(&mut self, mut live: impl FnMut(&K) -> bool) {
        for n in 0..self.runs.len() {
            let (before, rest) = self.runs.split_at_mut(n);
            let Some(run) = rest.first_mut() else { break };
            let mut last = None;
            run.retain(|key| {
                let repeated = last.replace(*key) == Some(*key)
                    || before.iter().any(|run| run.binary_search(key).is_ok());
                !repeated && live(key)
            });
            if run.capacity() > 4 * run.len() + COMPACT_MIN {
                run.shrink_to(2 * run.len());
            }
        }
        self.runs.retain(|run| !run.is_empty());
        if self.runs.is_empty() {
            self.runs.push(VecDeque::new());
        }
        let runs = &self.runs;
        self.early
            .retain(|key| live(key) && runs.iter().all(|run| run.binary_search(key).is_err()));
        (self.latest, self.stale) = (0, 0);
    }
}

/// Several ascending sequences as one, every key once.
fn merged<'a, K: Ord + Copy + 'a>(
    runs: Vec<impl Iterator<Item = &'a K>>,
    early: impl Iterator<Item = &'a K>,
) -> impl Iterator<Item = K> {
    let mut runs: Vec<_> = runs.into_iter().map(|run| run.copied().peekable()).collect();
    let mut early = early.copied().peekable();
    let mut next = move || {
        let firsts = runs
            .iter_mut()
            .enumerate()
            .filter_map(|(n, run)| Some((n, *run.peek()?)));
        match (firsts.min_by(|(_, a), (_, b)| a.cmp(b)), early.peek()) {
            (Some((_, a)), Some(b)) if *b < a => early.next(),
            (Some((run, _)), _) => runs[run].next(),
            (None, _) => early.next(),
        }
    };
    let mut last = None;
    std::iter::from_fn(move || {
        loop {
            let key = next()?;
            if last.replace(key) != Some(key) {
                return Some(key);
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
        for round in 0..100_000 {
            queue.push([9, 3, 7, 5, 1][round % 5]);
            if queue.note_stale() {
                queue.compact(|_| true);
            }
        }
        assert!(queue.len() < 3_000, "{} keys", queue.len());
        queue.compact(|_| true);
        assert_eq!(queue.len(), 10);
        queue.push(4);
        assert!(queue.iter().eq(0..10));
        assert!(queue.iter_from(4).eq(4..10));
    }
}
