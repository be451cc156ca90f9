//! Who has an item, and who sent it back: for people who ask why it is not delivered.
//!
//! Nothing is decided by this. It lives in memory, is bounded by what is leased and deferred, and a restart
//! forgets it.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::clock::Timestamp;
use crate::hot::{Finish, Landing};
use crate::model::{HookRef, IdHashing, ItemId};

/// Below this many traces none is looked through for those that have ended.
const SWEPT_MIN: usize = 1_024;

/// What is known of the items of a topic that are leased or deferred.
#[derive(Debug, Default)]
pub(super) struct Traces(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    traces: HashMap<ItemId, Noted, IdHashing>,
    /// How many there may be before those that have ended go.
    most: usize,
}

#[derive(Debug)]
struct Noted {
    /// When it stops to mean something.
    until: Timestamp,
    trace: Trace,
}

/// What is known of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trace {
    /// The consumer of this subject got it.
    Held(Arc<str>),
    /// A hook sent it back until later.
    Deferred(HookRef),
}

impl Traces {
    /// Notes traces that mean something until the instant beside them.
    pub(super) fn note(&self, now: Timestamp, traces: impl Iterator<Item = (ItemId, Timestamp, Trace)>) {
        let mut kept = self.0.lock();
        for (id, until, trace) in traces {
            kept.traces.insert(id, Noted { until, trace });
        }
        if kept.traces.len() > kept.most.max(SWEPT_MIN) {
            kept.traces.retain(|_, noted| noted.until > now);
            kept.most = 2 * kept.traces.len();
        }
    }

    /// Takes in how leases ended or were extended.
    pub(super) fn settle(&self, finishes: &[Finish]) {
        let mut kept = self.0.lock();
        if kept.traces.is_empty() {
            return;
        }
        for finish in finishes {
            let until = match &finish.to {
                Landing::Standing(standing) => standing.lease_expires_at,
                Landing::Gone(_) => None,
            };
            match until {
                Some(until) => {
                    if let Some(noted) = kept.traces.get_mut(&finish.id) {
                        noted.until = until;
                    }
                }
                None => {
                    kept.traces.remove(&finish.id);
                }
            }
        }
    }

    /// What is known of an item that is leased, or waits, until `until`. A trace that says another instant is
    /// of an earlier time: another node handed the item out since.
    pub(super) fn of(&self, id: ItemId, until: Timestamp) -> Option<Trace> {
        let kept = self.0.lock();
        let noted = kept.traces.get(&id).filter(|noted| noted.until == until)?;
        Some(noted.trace.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{SettleCause, Standing};

    fn held(id: u64, until: i64) -> (ItemId, Timestamp, Trace) {
        (ItemId(id), Timestamp::from_ms(until), Trace::Held("ada".into()))
    }

    #[test]
    fn a_settled_item_leaves_no_trace_and_an_extended_one_keeps_it() {
        let traces = Traces::default();
        traces.note(Timestamp::ZERO, [held(1, 5), held(2, 5)].into_iter());
        let extended = Standing {
            lease_expires_at: Some(Timestamp::from_ms(50)),
            ..Standing::new(Timestamp::ZERO)
        };
        traces.settle(&[
            Finish::gone(ItemId(1), SettleCause::Acked),
            Finish {
                id: ItemId(2),
                to: Landing::Standing(extended),
            },
        ]);
        assert_eq!(traces.of(ItemId(1), Timestamp::from_ms(5)), None);
        assert_eq!(traces.of(ItemId(2), Timestamp::from_ms(5)), None);
        let later = (10..10 + SWEPT_MIN as u64).map(|id| held(id, 20));
        traces.note(Timestamp::from_ms(10), later);
        let found = traces.of(ItemId(2), Timestamp::from_ms(50));
        assert!(found.is_some(), "it was extended past the sweep");
    }

    #[test]
    fn traces_of_ended_leases_do_not_pile_up() {
        let traces = Traces::default();
        for round in 0..20 {
            let now = Timestamp::from_ms(round * 10);
            let ids = (0..500).map(|n| held(1_000 * round as u64 + n, round * 10 + 5));
            traces.note(now, ids);
        }
        assert!(traces.0.lock().traces.len() <= 2 * SWEPT_MIN);
    }
}
