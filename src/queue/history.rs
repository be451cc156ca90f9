//! The last hour of each topic, on this node: what charts are drawn of.
//!
//! A moment is kept for every ten seconds in which something changed; what lies between two of them is like the one
//! before, with nothing in, out or acked. So a topic that rests takes the room of one.

use std::collections::VecDeque;

use super::core::Queue;
use super::error::QueueError;
use super::request::TopicTotals;
use crate::clock::Timestamp;
use crate::hot::Counts;
use crate::model::TopicKey;

/// From one [`Moment`] to the next, in milliseconds.
pub const EVERY_MS: i64 = 10_000;
/// Moments in an hour.
const HOUR: u32 = 360;
/// Most moments kept of all topics together, at 32 bytes each.
const MOMENTS_MAX: usize = 500_000;
/// Of each topic at least so many, however many topics there are.
const MOMENTS_MIN: usize = 6;

/// What happened in a topic within ten seconds, and what it held at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Their end.
    pub at: Timestamp,
    /// The numbers.
    pub numbers: Numbers,
}

/// The numbers of a [`Moment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Items accepted within them.
    pub enqueued: u32,
    /// Items handed out within them.
    pub delivered: u32,
    /// Items acked within them.
    pub acked: u32,
    /// Items due and waiting.
    pub ready: u32,
    /// Items not due yet.
    pub scheduled: u32,
    /// Items handed out.
    pub leased: u32,
    /// Dead letters.
    pub dead: u32,
}

impl Numbers {
    /// Nothing happens any more, and what is held stays.
    fn at_rest(self) -> Self {
        Self {
            enqueued: 0,
            delivered: 0,
            acked: 0,
            ..self
        }
    }
}

/// A topic's last hour.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By turn, ascending: the oldest may be from before the hour and says how it began.
    kept: VecDeque<(u32, Numbers)>,
    /// The last turn that is known, kept or not.
    until: u32,
    before: TopicTotals,
}

/// Which ten seconds since the epoch ended last at `now_ms`.
pub(super) fn turn(now_ms: i64) -> u32 {
    u32::try_from(now_ms / EVERY_MS).unwrap_or(0)
}

/// The most moments of one of so many topics.
pub(super) fn most(topics: usize) -> usize {
    (MOMENTS_MAX / topics.max(1)).clamp(MOMENTS_MIN, HOUR as usize)
}

impl History {
    /// Whether `turn` is not known yet.
    pub(super) fn is_due(&self, turn: u32) -> bool {
        turn != self.until
    }

    /// Notes how it is at the end of `turn`, and keeps at most `most` moments.
    pub(super) fn note(&mut self, turn: u32, totals: TopicTotals, counts: Counts, most: usize) {
        if turn < self.until {
            // The clock was set back.
            self.kept.clear();
        }
        let few = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let since = |now: u64, then: u64| few(now.saturating_sub(then));
        let numbers = Numbers {
            enqueued: since(totals.enqueued, self.before.enqueued),
            delivered: since(totals.delivered, self.before.delivered),
            acked: since(totals.acked, self.before.acked),
            ready: few(counts.ready),
            scheduled: few(counts.scheduled),
            leased: few(counts.leased),
            dead: few(counts.dead),
        };
        (self.until, self.before) = (turn, totals);
        if self.kept.back().map(|(_, last)| last.at_rest()) != Some(numbers) {
            self.kept.push_back((turn, numbers));
        }
        let begins = turn.saturating_sub(HOUR - 1);
        while self.kept.len() > most || self.kept.get(1).is_some_and(|(second, _)| *second <= begins) {
            self.kept.pop_front();
        }
    }

    /// Every moment of the hour, as far as it is known, the oldest first.
    pub(super) fn moments(&self) -> Vec<Moment> {
        let Some((first, _)) = self.kept.front() else {
            return vec![];
        };
        let begins = self.until.saturating_sub(HOUR - 1).max(*first);
        let mut kept = self.kept.iter().peekable();
        let mut now = Numbers::default();
        let moment = |turn: u32| {
            now = now.at_rest();
            while let Some((at, numbers)) = kept.next_if(|(at, _)| *at <= turn) {
                now = if *at == turn { *numbers } else { numbers.at_rest() };
            }
            Moment {
                at: Timestamp::from_ms(i64::from(turn) * EVERY_MS),
                numbers: now,
            }
        };
        (begins..=self.until).map(moment).collect()
    }
}

impl Queue {
    /// A topic's last hour on this node, the oldest moment first; shorter where the node did not run that long, or
    /// has too many topics.
    pub fn history(&self, topic: &TopicKey) -> Result<Vec<Moment>, QueueError> {
        Ok(self.core.topic(topic)?.history.lock().moments())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(enqueued: u64, acked: u64) -> TopicTotals {
        TopicTotals {
            enqueued,
            acked,
            ..TopicTotals::default()
        }
    }

    fn ready(ready: u64) -> Counts {
        Counts {
            ready,
            ..Counts::default()
        }
    }

    /// At, in, acked and ready of each moment.
    fn rows(history: &History) -> Vec<(i64, u32, u32, u32)> {
        let row = |moment: Moment| {
            let Numbers {
                enqueued,
                acked,
                ready,
                ..
            } = moment.numbers;
            (moment.at.ms() / EVERY_MS, enqueued, acked, ready)
        };
        history.moments().into_iter().map(row).collect()
    }

    #[test]
    fn what_rests_takes_no_room_and_is_told_all_the_same() {
        let mut history = History::default();
        assert_eq!(rows(&history), []);
        for (turn, enqueued, acked) in [(100, 0, 0), (101, 5, 0), (102, 5, 0), (103, 5, 0), (104, 7, 6)] {
            assert!(history.is_due(turn));
            history.note(turn, totals(enqueued, acked), ready(enqueued - acked), 360);
            assert!(!history.is_due(turn));
        }
        assert_eq!(history.kept.len(), 3);
        assert_eq!(
            rows(&history),
            [
                (100, 0, 0, 0),
                (101, 5, 0, 5),
                (102, 0, 0, 5),
                (103, 0, 0, 5),
                (104, 2, 6, 1)
            ]
        );
        // An hour later all of that is over, but what it left is there.
        history.note(104 + 360, totals(7, 6), ready(1), 360);
        let hour = rows(&history);
        assert_eq!(
            (hour.len(), hour[0], hour[359]),
            (360, (105, 0, 0, 1), (464, 0, 0, 1))
        );
        assert_eq!(history.kept.len(), 1);
    }

    #[test]
    fn a_busy_topic_keeps_an_hour_and_one_of_many_less() {
        let mut history = History::default();
        for turn in 1..=1_000 {
            history.note(turn, totals(u64::from(turn), 0), ready(u64::from(turn)), most(10));
        }
        let hour = rows(&history);
        assert_eq!(
            (hour.len(), hour[0], hour[359]),
            (360, (641, 1, 0, 641), (1_000, 1, 0, 1_000))
        );
        history.note(1_001, totals(1_001, 0), ready(1_001), most(100_000));
        assert_eq!(rows(&history).len(), MOMENTS_MIN);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let mut history = History::default();
        history.note(50, totals(1, 0), ready(1), 360);
        history.note(20, totals(2, 0), ready(2), 360);
        assert_eq!(rows(&history), [(20, 1, 0, 2)]);
    }
}
