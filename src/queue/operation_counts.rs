//! How many operations this node works on and how those ended that it did, by kind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::core::Queue;
use crate::model::{OperationState, Work};

/// How an operation may end, in the order of [`Counter::ended`].
const ENDS: [OperationState; 4] = [
    OperationState::Succeeded,
    OperationState::Failed,
    OperationState::Cancelled,
    OperationState::Stopped,
];

/// Counted as it happens, one counter for each of [`Work::KINDS`].
#[derive(Debug, Default)]
pub(super) struct OperationCounts([Counter; Work::KINDS.len()]);

#[derive(Debug, Default)]
struct Counter {
    running: AtomicU64,
    ended: [AtomicU64; ENDS.len()],
}

/// Operations of one kind on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationNumbers {
    /// The word for the kind.
    pub kind: &'static str,
    /// How many it works on now.
    pub running: u64,
    /// How many ended here since the node started, by how.
    pub ended: Vec<(&'static str, u64)>,
}

impl OperationCounts {
    /// Counts an operation of `kind` as running for as long as the answer is kept.
    pub(super) fn begin(&self, kind: &str) -> Running<'_> {
        let counter = self.of(kind);
        if let Some(counter) = counter {
            counter.running.fetch_add(1, Ordering::Relaxed);
        }
        Running(counter)
    }

    /// Counts an operation of `kind` that ended in `state`.
    pub(super) fn ended(&self, kind: &str, state: OperationState) {
        let place = ENDS.iter().position(|end| *end == state);
        if let (Some(counter), Some(place)) = (self.of(kind), place) {
            counter.ended[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, kind: &str) -> Option<&Counter> {
        Work::KINDS
            .iter()
            .zip(&self.0)
            .find_map(|(known, counter)| (*known == kind).then_some(counter))
    }

    fn read(&self) -> Vec<OperationNumbers> {
        let numbers = |(&kind, counter): (&&'static str, &Counter)| OperationNumbers {
            kind,
            running: counter.running.load(Ordering::Relaxed),
            ended: ENDS
                .iter()
                .zip(&counter.ended)
                .map(|(end, count)| (end.as_str(), count.load(Ordering::Relaxed)))
                .collect(),
        };
        Work::KINDS.iter().zip(&self.0).map(numbers).collect()
    }
}

/// An operation that is being worked on.
pub(super) struct Running<'a>(Option<&'a Counter>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            counter.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Queue {
    /// How many operations of each kind run and ended on this node.
    pub fn operation_numbers(&self) -> Vec<OperationNumbers> {
        self.core.operations.counts.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_runs_and_then_ended_one_way() {
        let counts = OperationCounts::default();
        let running = counts.begin(Work::DeleteNamespace.kind());
        let of = |counts: &OperationCounts| counts.read().into_iter().next_back().unwrap();
        assert_eq!((of(&counts).kind, of(&counts).running), ("delete_namespace", 1));
        drop(running);
        counts.ended("delete_namespace", OperationState::Stopped);
        let read = of(&counts);
        assert_eq!(read.running, 0);
        assert_eq!(
            read.ended,
            [("succeeded", 0), ("failed", 0), ("cancelled", 0), ("stopped", 1)]
        );
    }

    #[test]
    fn every_end_and_every_kind_has_a_counter() {
        for state in OperationState::ALL {
            assert_eq!(state.is_end(), ENDS.contains(&state), "{state}");
        }
        let topic: crate::model::TopicName = "t".parse().unwrap();
        let works = [
            Work::Purge { topic: topic.clone() },
            Work::DiscardDead { topic: topic.clone() },
            Work::Cancel {
                topic: topic.clone(),
                states: Vec::new(),
                filter: Default::default(),
                limit: None,
                rate_per_s: None,
            },
            Work::Redrive {
                topic: topic.clone(),
                filter: Default::default(),
                to_topic: None,
                limit: None,
                rate_per_s: None,
                hook: None,
            },
            Work::DeleteTopic { topic },
            Work::DeleteNamespace,
        ];
        assert_eq!(works.map(|work| work.kind()), Work::KINDS);
    }
}
