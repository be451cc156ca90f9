//! What clients did and heard, and whether a queue that keeps its promises can have said so.
//!
//! Times are microseconds of one clock. A call lasts from `began` to `ended`; what it did on the server
//! happened in between, nobody knows when. Every check therefore reports only what no moment in between
//! can explain: no false alarms.

use std::collections::{BTreeMap, BTreeSet};

/// The queue counts in whole milliseconds, so what it calls a second may be this much shorter.
pub(crate) const ROUNDING_US: u64 = 2_000;

/// When a call began and when its answer was there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// How an enqueue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// Accepted, or a duplicate, under this id.
    As(u64),
    /// Certainly not accepted.
    Refused,
    /// Nobody knows: no answer came.
    Unknown,
}

/// One item of an enqueue. A call that is repeated is recorded again under the same key.
#[derive(Debug, Clone)]
pub(crate) struct Enqueue {
    pub(crate) span: Span,
    pub(crate) topic: &'static str,
    pub(crate) key: String,
    pub(crate) priority: i32,
    pub(crate) delay_ms: u64,
    pub(crate) outcome: Enqueued,
}

/// One item handed out.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) span: Span,
    pub(crate) id: u64,
    pub(crate) attempt: u64,
    pub(crate) lease_ms: u64,
    pub(crate) payload: String,
}

/// What was said of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Ack,
    /// Nack or release: the item may be handed out again.
    GiveBack,
}

/// How settling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Ok,
    AlreadyDone,
    LeaseLost,
    Unknown,
}

/// One delivery settled.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) span: Span,
    pub(crate) id: u64,
    pub(crate) attempt: u64,
    pub(crate) verb: Verb,
    pub(crate) outcome: Settled,
}

/// What some clients did and heard.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) enqueues: Vec<Enqueue>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Calls for items that were not answered.
    pub(crate) unheard: Vec<Span>,
    pub(crate) settles: Vec<Settle>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Acknowledged, and neither acked nor there.
    Lost { id: u64 },
    /// Delivered, and never enqueued, or enqueued and refused.
    Phantom { id: u64 },
    /// One enqueue made two items.
    TwoIds { key: String },
    /// Delivered by a call that began after its ack was answered.
    AfterAck { id: u64 },
    /// Handed to two consumers at once.
    TwoLeases { id: u64 },
    /// An ack was taken though a later delivery had been handed out.
    StaleAck { id: u64 },
    /// Handed out before it was due.
    Early { id: u64 },
    /// Not the payload that was enqueued.
    Altered { id: u64 },
    /// A later delivery does not have a larger attempt.
    Attempts { id: u64 },
}

/// The payload that belongs to `key`: tells its key, and any change of it shows.
pub(crate) fn payload(key: &str) -> String {
    let filler: String = key
        .chars()
        .rev()
        .cycle()
        .take(20 + key.len() * 17 % 300)
        .collect();
    format!("{key} {filler}")
}

fn key_of(payload: &str) -> &str {
    payload.split(' ').next().unwrap_or_default()
}

impl History {
    /// Adds what another client did and heard.
    pub(crate) fn merge(&mut self, other: Self) {
        self.enqueues.extend(other.enqueues);
        self.deliveries.extend(other.deliveries);
        self.unheard.extend(other.unheard);
        self.settles.extend(other.settles);
    }

    /// The ids that were acknowledged to producers.
    pub(crate) fn accepted(&self) -> BTreeSet<u64> {
        let id = |enqueue: &Enqueue| match enqueue.outcome {
            Enqueued::As(id) => Some(id),
            _ => None,
        };
        self.enqueues.iter().filter_map(id).collect()
    }

    /// The ids whose ack was answered.
    pub(crate) fn acked(&self) -> BTreeSet<u64> {
        let acked = self.settles.iter().filter(|settle| settle.is_acked());
        acked.map(|settle| settle.id).collect()
    }

    /// The ids of which nobody knows whether they are acked: an ack was sent, none was answered.
    pub(crate) fn perhaps_acked(&self) -> BTreeSet<u64> {
        let unknown = self
            .settles
            .iter()
            .filter(|s| s.verb == Verb::Ack && s.outcome == Settled::Unknown);
        let unknown: BTreeSet<u64> = unknown.map(|settle| settle.id).collect();
        unknown.difference(&self.acked()).copied().collect()
    }

    /// The keys of which nobody knows whether they were accepted.
    pub(crate) fn perhaps_accepted(&self) -> usize {
        let mut known = BTreeMap::new();
        for enqueue in &self.enqueues {
            let known = known.entry(&enqueue.key).or_insert(false);
            *known |= enqueue.outcome != Enqueued::Unknown;
        }
        known.values().filter(|known| !**known).count()
    }

    /// Every promise that was broken, when `left` are the ids that are still in the queue.
    pub(crate) fn violations(&self, left: &BTreeSet<u64>) -> Vec<Violation> {
        let mut found = Vec::new();
        let (acked, perhaps) = (self.acked(), self.perhaps_acked());
        let there = |id: &u64| acked.contains(id) || perhaps.contains(id) || left.contains(id);
        found.extend(
            self.accepted()
                .into_iter()
                .filter(|id| !there(id))
                .map(|id| Violation::Lost { id }),
        );
        self.check_origins(&mut found);
        let mut by_id: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            by_id.entry(delivery.id).or_default().push(delivery);
        }
        let mut settles: BTreeMap<u64, Vec<&Settle>> = BTreeMap::new();
        for settle in &self.settles {
            settles.entry(settle.id).or_default().push(settle);
        }
        for (id, deliveries) in &mut by_id {
            deliveries.sort_by_key(|delivery| delivery.span.ended);
            check_item(
                *id,
                deliveries,
                settles.get(id).map_or(&[], Vec::as_slice),
                &mut found,
            );
        }
        found
    }

    /// Payloads, ids and due times against what was enqueued.
    fn check_origins(&self, found: &mut Vec<Violation>) {
        let mut by_key: BTreeMap<&str, Vec<&Enqueue>> = BTreeMap::new();
        for enqueue in &self.enqueues {
            by_key.entry(&enqueue.key).or_default().push(enqueue);
        }
        let mut ids: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for enqueue in &self.enqueues {
            if let Enqueued::As(id) = enqueue.outcome {
                ids.entry(&enqueue.key).or_default().insert(id);
            }
        }
        for delivery in &self.deliveries {
            let (id, key) = (delivery.id, key_of(&delivery.payload));
            if delivery.payload != payload(key) {
                found.push(Violation::Altered { id });
                continue;
            }
            let enqueues = by_key.get(key).map_or(&[][..], Vec::as_slice);
            let possible = enqueues
                .iter()
                .filter(|enqueue| enqueue.outcome != Enqueued::Refused);
            let due = possible
                .map(|enqueue| enqueue.span.began + enqueue.delay_ms * 1_000)
                .min();
            match due {
                None => found.push(Violation::Phantom { id }),
                Some(due) if delivery.span.ended + ROUNDING_US < due => found.push(Violation::Early { id }),
                Some(_) => {}
            }
            ids.entry(key).or_default().insert(id);
        }
        let two = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
        found.extend(two.map(|(key, _)| Violation::TwoIds { key: key.to_owned() }));
    }
}

impl Settle {
    fn is_acked(&self) -> bool {
        self.verb == Verb::Ack && matches!(self.outcome, Settled::Ok | Settled::AlreadyDone)
    }
}

/// One item's deliveries, in the order in which they were answered, and what was said of them.
fn check_item(id: u64, deliveries: &[&Delivery], settles: &[&Settle], found: &mut Vec<Violation>) {
    let acked_by = settles
        .iter()
        .filter(|s| s.is_acked())
        .map(|s| s.span.ended)
        .min();
    for (index, one) in deliveries.iter().enumerate() {
        if acked_by.is_some_and(|acked_by| one.span.began > acked_by) {
            found.push(Violation::AfterAck { id });
        }
        for other in &deliveries[index + 1..] {
            if !possible_orders(one, other).any(|(first, second)| is_over(first, second, settles)) {
                found.push(Violation::TwoLeases { id });
            }
            // Released deliveries are not counted: their attempt number comes again.
            let returned = of(one, settles).any(|settle| settle.verb == Verb::GiveBack);
            if !returned && one.span.ended < other.span.began && other.attempt <= one.attempt {
                found.push(Violation::Attempts { id });
            }
            let (first, second) = if other.attempt < one.attempt {
                (other, one)
            } else {
                (one, other)
            };
            let stale = of(first, settles)
                .any(|s| s.verb == Verb::Ack && s.outcome == Settled::Ok && s.span.began > second.span.ended);
            if stale && second.attempt > first.attempt {
                found.push(Violation::StaleAck { id });
            }
        }
    }
}

/// What was said of a delivery.
fn of<'a>(delivery: &Delivery, settles: &[&'a Settle]) -> impl Iterator<Item = &'a Settle> {
    let attempt = delivery.attempt;
    settles
        .iter()
        .copied()
        .filter(move |settle| settle.attempt == attempt)
}

/// The orders in which an item can have been handed out twice, of which `one` was answered before `other`: a node that
/// stood still answers late. A later hand-out never has the smaller attempt.
fn possible_orders<'a>(
    one: &'a Delivery,
    other: &'a Delivery,
) -> impl Iterator<Item = (&'a Delivery, &'a Delivery)> {
    let overlap = other.span.began <= one.span.ended;
    let as_answered = (!overlap || one.attempt <= other.attempt).then_some((one, other));
    let reversed = (overlap && other.attempt <= one.attempt).then_some((other, one));
    as_answered.into_iter().chain(reversed)
}

/// Whether the first lease can have been over when the second one began.
fn is_over(first: &Delivery, second: &Delivery, settles: &[&Settle]) -> bool {
    let given_up = of(first, settles).any(|settle| settle.span.began <= second.span.ended);
    given_up || second.span.ended + ROUNDING_US >= first.span.began + first.lease_ms * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(began: u64, ended: u64) -> Span {
        Span {
            began: began * 1_000,
            ended: ended * 1_000,
        }
    }

    fn enqueue(key: &str, at: u64, outcome: Enqueued) -> Enqueue {
        Enqueue {
            span: span(at, at + 1),
            topic: "t",
            key: key.into(),
            priority: 5,
            delay_ms: 0,
            outcome,
        }
    }

    fn delivery(id: u64, key: &str, at: u64, attempt: u64) -> Delivery {
        Delivery {
            span: span(at, at + 1),
            id,
            attempt,
            lease_ms: 100,
            payload: payload(key),
        }
    }

    fn settle(id: u64, at: u64, attempt: u64, verb: Verb, outcome: Settled) -> Settle {
        Settle {
            span: span(at, at + 1),
            id,
            attempt,
            verb,
            outcome,
        }
    }

    /// An item enqueued at 0, handed out at 10, acked at 20.
    fn sound() -> History {
        History {
            enqueues: vec![enqueue("a", 0, Enqueued::As(1))],
            deliveries: vec![delivery(1, "a", 10, 1)],
            settles: vec![settle(1, 20, 1, Verb::Ack, Settled::Ok)],
            ..History::default()
        }
    }

    fn found(history: &History) -> Vec<Violation> {
        history.violations(&BTreeSet::new())
    }

    #[test]
    fn a_sound_history_passes() {
        assert_eq!(found(&sound()), []);
        let mut long = sound();
        long.enqueues.push(enqueue("b", 0, Enqueued::Unknown));
        long.enqueues.push(enqueue("b", 5, Enqueued::As(2)));
        long.enqueues.push(enqueue("c", 0, Enqueued::Unknown));
        long.enqueues.push(enqueue("d", 0, Enqueued::Refused));
        long.deliveries.extend([
            delivery(2, "b", 10, 1),
            // The lease ran out, then it was given back, then its ack was not answered.
            delivery(2, "b", 120, 2),
            delivery(2, "b", 140, 3),
            delivery(3, "c", 10, 1),
        ]);
        long.settles.extend([
            settle(2, 130, 2, Verb::GiveBack, Settled::Unknown),
            settle(2, 150, 3, Verb::Ack, Settled::Unknown),
        ]);
        assert_eq!(found(&long), []);
        assert_eq!((long.perhaps_accepted(), long.perhaps_acked()), (1, [2].into()));
        let waiting = History {
            enqueues: vec![enqueue("e", 0, Enqueued::As(9))],
            ..History::default()
        };
        assert_eq!(waiting.violations(&[9].into()), []);
    }

    #[test]
    fn an_item_that_is_nowhere_is_lost() {
        let mut history = sound();
        history.settles.clear();
        assert_eq!(found(&history), [Violation::Lost { id: 1 }]);
        history
            .settles
            .push(settle(1, 200, 1, Verb::Ack, Settled::LeaseLost));
        assert_eq!(found(&history), [Violation::Lost { id: 1 }]);
        history.settles = vec![settle(1, 20, 1, Verb::GiveBack, Settled::Ok)];
        assert_eq!(found(&history), [Violation::Lost { id: 1 }]);
    }

    #[test]
    fn a_delivery_after_its_ack_was_answered_is_seen() {
        let mut history = sound();
        history.deliveries.push(delivery(1, "a", 22, 2));
        assert_eq!(found(&history), [Violation::AfterAck { id: 1 }]);
        // Begun before the answer was there, it may have been handed out before the ack was done.
        history.deliveries[1] = delivery(1, "a", 20, 2);
        assert_eq!(found(&history), []);
        history.settles[0].outcome = Settled::AlreadyDone;
        history.deliveries[1] = delivery(1, "a", 500, 2);
        assert_eq!(found(&history), [Violation::AfterAck { id: 1 }]);
    }

    #[test]
    fn two_leases_at_once_are_seen() {
        let mut history = sound();
        history.deliveries.push(delivery(1, "a", 12, 2));
        history.settles[0].attempt = 2;
        assert_eq!(found(&history), [Violation::TwoLeases { id: 1 }]);
        history
            .settles
            .push(settle(1, 11, 1, Verb::GiveBack, Settled::Unknown));
        assert_eq!(found(&history), []);
    }

    #[test]
    fn an_answer_that_came_late_is_no_second_lease() {
        let mut history = sound();
        // Handed out at 10 and told at 130, when somebody else had it since the lease ended, at 110.
        history.deliveries[0].span = span(10, 130);
        history.deliveries.push(delivery(1, "a", 115, 2));
        history.settles[0] = settle(1, 140, 2, Verb::Ack, Settled::Ok);
        assert_eq!(found(&history), []);
        // The late one's ack was refused; taken, it would be stale.
        history
            .settles
            .push(settle(1, 135, 1, Verb::Ack, Settled::LeaseLost));
        assert_eq!(found(&history), []);
        history.settles[1].outcome = Settled::Ok;
        assert_eq!(found(&history), [Violation::StaleAck { id: 1 }]);
        history.settles.pop();
        // Handed out at 20 at the earliest, the first lease was not over at 117.
        history.deliveries[0].span = span(20, 130);
        assert_eq!(found(&history), [Violation::TwoLeases { id: 1 }]);
        // So it is whichever was the first one, when their attempts do not tell.
        history.deliveries[1].attempt = 1;
        history.settles = vec![settle(1, 200, 1, Verb::Ack, Settled::Ok)];
        assert_eq!(found(&history), [Violation::TwoLeases { id: 1 }]);
    }

    #[test]
    fn a_stale_ack_that_was_taken_is_seen() {
        let mut history = sound();
        history.deliveries.push(delivery(1, "a", 120, 2));
        history.settles = vec![settle(1, 130, 1, Verb::Ack, Settled::Ok)];
        assert_eq!(found(&history), [Violation::StaleAck { id: 1 }]);
        history.settles = vec![
            settle(1, 130, 1, Verb::Ack, Settled::LeaseLost),
            settle(1, 140, 2, Verb::Ack, Settled::Ok),
        ];
        assert_eq!(found(&history), []);
    }

    #[test]
    fn an_early_delivery_is_seen() {
        let mut history = sound();
        history.enqueues[0].delay_ms = 50;
        assert_eq!(found(&history), [Violation::Early { id: 1 }]);
        history.enqueues[0].delay_ms = 11;
        assert_eq!(found(&history), []);
    }

    #[test]
    fn phantoms_alterations_and_doubles_are_seen() {
        let mut history = sound();
        history.enqueues.push(enqueue("b", 0, Enqueued::Refused));
        history.deliveries.push(delivery(2, "b", 10, 1));
        assert_eq!(found(&history), [Violation::Phantom { id: 2 }]);
        history.deliveries[1] = delivery(2, "never", 10, 1);
        assert_eq!(found(&history), [Violation::Phantom { id: 2 }]);

        let mut history = sound();
        history.deliveries[0].payload.push('x');
        assert_eq!(found(&history), [Violation::Altered { id: 1 }]);

        let mut history = sound();
        history.deliveries.push(delivery(2, "a", 10, 1));
        assert_eq!(found(&history), [Violation::TwoIds { key: "a".into() }]);
    }

    #[test]
    fn an_attempt_that_does_not_grow_is_seen() {
        let mut history = sound();
        history.deliveries.push(delivery(1, "a", 120, 1));
        history.settles[0] = settle(1, 130, 1, Verb::Ack, Settled::Ok);
        assert_eq!(found(&history), [Violation::Attempts { id: 1 }]);
    }
}
