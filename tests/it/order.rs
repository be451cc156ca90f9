//! Whether what clients heard can have gone out in order: by priority, then by when it was due.
//!
//! For what keeps items in one place all the time. What a Redis has not heard of yet, or handed to somebody who did not
//! hear of it, is overtaken rightly.

use std::collections::BTreeMap;

use crate::history::{Enqueued, History, ROUNDING_US, Span};

/// An item that was there, goes first, had never been handed out, and was overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overtaken {
    pub(crate) id: u64,
    pub(crate) by: u64,
}

/// What is known of when an item goes out.
#[derive(Clone, Copy)]
struct Place {
    topic: &'static str,
    priority: i32,
    /// When it is due: the queue heard of it at some moment of the call.
    due_at_least: u64,
    due_at_most: u64,
    /// When the first call began that it came by, and its attempt then.
    taken: Option<(u64, u64)>,
}

impl Place {
    /// Whether it goes out before `other`, for sure.
    fn goes_before(&self, other: &Self) -> bool {
        let is_due_before = self.due_at_most < other.due_at_least;
        self.priority < other.priority || (self.priority == other.priority && is_due_before)
    }

    /// When it was taken for the first time. One that comes with a later attempt first was handed out before, to
    /// somebody who never heard of it.
    fn first_taken(&self) -> Option<u64> {
        self.taken
            .filter(|(_, attempt)| *attempt == 1)
            .map(|(began, _)| began)
    }
}

impl History {
    /// Every delivery that overtook an item, with one that it did.
    pub(crate) fn out_of_order(&self) -> Vec<Overtaken> {
        let places = self.places();
        let mut found = Vec::new();
        for delivery in &self.deliveries {
            let span = delivery.span;
            let is_beside = |other: &Span| other.began <= span.ended && span.began <= other.ended;
            let Some(this) = places.get(&delivery.id) else {
                continue;
            };
            // Somebody who went away may have had the other one then, and a node that was killed has not written it down.
            if self.unheard.iter().any(is_beside) {
                continue;
            }
            let is_overtaken = |other: &Place| {
                let waited = other.first_taken().is_some_and(|began| began > span.ended);
                let was_there = other.due_at_most < span.began;
                waited && was_there && other.topic == this.topic && other.goes_before(this)
            };
            let first = places.iter().find(|(_, other)| is_overtaken(other));
            found.extend(first.map(|(&id, _)| Overtaken { id, by: delivery.id }));
        }
        found
    }

    fn places(&self) -> BTreeMap<u64, Place> {
        let mut began: BTreeMap<&str, u64> = BTreeMap::new();
        for enqueue in &self.enqueues {
            let first = began.entry(&enqueue.key).or_insert(enqueue.span.began);
            *first = enqueue.span.began.min(*first);
        }
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for enqueue in &self.enqueues {
            let Enqueued::As(id) = enqueue.outcome else {
                continue;
            };
            let delay_us = enqueue.delay_ms * 1_000;
            let place = Place {
                topic: enqueue.topic,
                priority: enqueue.priority,
                due_at_least: began[&*enqueue.key] + delay_us,
                due_at_most: enqueue.span.ended + delay_us + ROUNDING_US,
                taken: None,
            };
            let known = places.entry(id).or_insert(place);
            known.due_at_most = known.due_at_most.min(place.due_at_most);
        }
        for delivery in &self.deliveries {
            if let Some(place) = places.get_mut(&delivery.id) {
                let this = (delivery.span.began, delivery.attempt);
                place.taken = Some(place.taken.map_or(this, |first| first.min(this)));
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Delivery, Enqueue, payload};

    fn span(began: u64, ended: u64) -> Span {
        Span {
            began: began * 1_000,
            ended: ended * 1_000,
        }
    }

    /// An item that was accepted at `accepted` and handed out at `taken`.
    fn pass(history: &mut History, id: u64, accepted: u64, taken: u64) {
        let key = id.to_string();
        history.deliveries.push(Delivery {
            span: span(taken, taken + 1),
            id,
            attempt: 1,
            lease_ms: 100,
            payload: payload(&key),
        });
        history.enqueues.push(Enqueue {
            span: span(accepted, accepted + 1),
            topic: "t",
            key,
            priority: 5,
            delay_ms: 0,
            outcome: Enqueued::As(id),
        });
    }

    /// Both items are there at 50; the second one goes out at 60 and the first one at 70.
    fn changed(change: impl FnOnce(&mut History)) -> Vec<Overtaken> {
        let mut history = History::default();
        pass(&mut history, 1, 0, 70);
        pass(&mut history, 2, 20, 60);
        change(&mut history);
        history.out_of_order()
    }

    #[test]
    fn an_item_that_overtakes_another_is_seen() {
        let overtaken = [Overtaken { id: 1, by: 2 }];
        assert_eq!(changed(|_| {}), overtaken);
        // Its priority is what counts first.
        assert_eq!(changed(|history| history.enqueues[1].priority = 4), []);
        assert_eq!(changed(|history| history.enqueues[0].priority = 4), overtaken);
        assert_eq!(changed(|history| history.enqueues[1].topic = "other"), []);
        // It was not due, or nobody knows whether it was.
        assert_eq!(changed(|history| history.enqueues[0].delay_ms = 60), []);
        assert_eq!(changed(|history| history.enqueues[0].span.ended = 58_500), []);
        // It may have been taken before, or was, by somebody who did not hear of it.
        assert_eq!(changed(|history| history.deliveries[0].span.began = 60_500), []);
        assert_eq!(changed(|history| history.deliveries[0].attempt = 2), []);
        assert_eq!(changed(|history| history.unheard.push(span(55, 65))), []);
        assert_eq!(changed(|history| history.unheard.push(span(62, 65))), overtaken);
    }
}
