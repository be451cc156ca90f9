//! One namespace's rate: what is spent of it on this node, and what was last heard of all nodes.

use std::time::Duration;

use governor::clock::Clock as _;
use governor::nanos::Nanos;
use parking_lot::Mutex;

use super::Ticks;
use super::cells::{Cells, refilled};
use super::quota::{Grant, Receipt, Usage};
use super::window::Window;
use crate::model::{Rate, SharedGrant};

/// The longest that a node does not ask for a rate which it heard is used up: somebody may have given some back.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a namespace spent of its rate.
pub(super) struct Bucket {
    pub(super) rate: Rate,
    own: Own,
    /// What all nodes had left when that was last asked.
    shared: Mutex<Option<Heard>>,
}

/// What is spent on this node.
enum Own {
    /// Of a burst.
    Burst(Cells),
    /// Of the minute, where the rate has no burst of its own.
    Minute(Mutex<Window>),
}

/// What all nodes had left of a rate.
#[derive(Debug, Clone, Copy)]
struct Heard {
    left: u32,
    at_ms: u64,
    /// When nothing of it is spent any more.
    reset_ms: u64,
    /// When there is more, where there was too little.
    more_ms: u64,
    /// Until when nobody needs to ask again.
    empty_until_ms: u64,
}

impl Bucket {
    /// A bucket of which nothing is spent.
    pub(super) fn new(rate: Rate, clock: &Ticks) -> Self {
        Self {
            rate,
            own: match rate.burst {
                Some(burst) => Own::Burst(Cells::new(rate, burst, clock)),
                None => Own::Minute(Mutex::default()),
            },
            shared: Mutex::default(),
        }
    }

    /// Takes up to `wanted` items, as many as there are.
    pub(super) fn take(&self, wanted: u32, clock: &Ticks) -> Grant {
        let now_ms = ms(clock.now());
        let (granted, wait) = match &self.own {
            Own::Burst(cells) => cells.take(wanted, clock),
            Own::Minute(window) => {
                let (mut window, most) = (window.lock(), self.rate.per_minute.get());
                let granted = window.take(wanted, most, now_ms);
                (granted, window.wait(most, now_ms))
            }
        };
        let grant = self.grant(wanted, granted, wait, clock);
        Grant {
            receipt: Receipt {
                own_ms: now_ms,
                shared: None,
            },
            ..grant
        }
    }

    /// The answer to somebody who may come again after `wait`.
    fn grant(&self, wanted: u32, granted: u32, wait: Duration, clock: &Ticks) -> Grant {
        Grant {
            granted: granted as usize,
            retry_after: (wanted > granted).then_some(wait),
            usage: Some(self.usage(clock)),
            receipt: Receipt::default(),
        }
    }

    /// The answer to a request for `wanted` items while the rate that all nodes share is known to be used up.
    pub(super) fn refusal(&self, wanted: u32, clock: &Ticks) -> Option<Grant> {
        let (heard, now_ms) = ((*self.shared.lock())?, ms(clock.now()));
        let wait = Duration::from_millis(heard.more_ms.saturating_sub(now_ms));
        (now_ms < heard.empty_until_ms).then(|| self.grant(wanted, 0, wait, clock))
    }

    /// Gives back `count` items that were taken at `at_ms`.
    pub(super) fn give_back(&self, count: u32, at_ms: u64) {
        match &self.own {
            Own::Burst(cells) => cells.give_back(count),
            Own::Minute(window) => window.lock().give_back(count, at_ms),
        }
    }

    /// A bucket for another rate of which as much is spent as of this one: a change of its quota gives a
    /// namespace nothing back.
    pub(super) fn succeeded_by(&self, rate: Rate, clock: &Ticks) -> Self {
        let next = Self::new(rate, clock);
        match (&self.own, &next.own) {
            (Own::Minute(old), Own::Minute(new)) => *new.lock() = old.lock().clone(),
            _ => {
                let spent = self.rate.at_once().get() - self.own_usage(clock).remaining;
                next.take(spent, clock);
            }
        }
        next
    }

    /// Notes what the rate that all nodes share said; nothing when it did not answer, and this one decided alone.
    pub(super) fn note_shared(&self, answer: Option<SharedGrant>, clock: &Ticks) {
        let at_ms = ms(clock.now());
        let ends = |time: Duration| at_ms + u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2);
        *self.shared.lock() = answer.map(|grant| Heard {
            left: grant.remaining,
            at_ms,
            reset_ms: ends(grant.reset),
            more_ms: grant.retry_after.map_or(at_ms, ends),
            empty_until_ms: grant.retry_after.map_or(at_ms, |wait| ends(wait.min(ASK_AGAIN))),
        });
    }

    /// Notes that `count` items were given back to the rate that all nodes share.
    pub(super) fn note_given_back(&self, count: u32) {
        if let Some(heard) = &mut *self.shared.lock() {
            heard.left = heard.left.saturating_add(count).min(self.rate.at_once().get());
            heard.empty_until_ms = heard.at_ms;
        }
    }

    /// What is left: of this node's share, or of what all nodes have where that is less.
    pub(super) fn usage(&self, clock: &Ticks) -> Usage {
        let own = self.own_usage(clock);
        let heard = *self.shared.lock();
        let shared = heard.map(|heard| self.shared_usage(heard, clock));
        shared
            .filter(|shared| shared.remaining < own.remaining)
            .unwrap_or(own)
    }

    /// What is left on this node.
    fn own_usage(&self, clock: &Ticks) -> Usage {
        match &self.own {
            Own::Burst(cells) => self.usage_of_burst(cells.left(clock)),
            Own::Minute(window) => {
                let (mut window, now_ms) = (window.lock(), ms(clock.now()));
                let left = u64::from(self.rate.per_minute.get()).saturating_sub(window.taken(now_ms));
                Usage {
                    rate: self.rate,
                    remaining: u32::try_from(left).unwrap_or(0),
                    reset: window.reset(now_ms),
                }
            }
        }
    }

    /// What is left of what all nodes had when that was heard.
    fn shared_usage(&self, heard: Heard, clock: &Ticks) -> Usage {
        let now_ms = ms(clock.now());
        if let Some(burst) = self.rate.burst {
            let since_ms = now_ms.saturating_sub(heard.at_ms);
            let amounts = (self.rate.per_minute, burst);
            return self.usage_of_burst(refilled(heard.left.into(), since_ms, amounts));
        }
        let reset_ms = heard.reset_ms.saturating_sub(now_ms);
        Usage {
            rate: self.rate,
            remaining: match reset_ms {
                0 => self.rate.per_minute.get(),
                _ => heard.left,
            },
            reset: Duration::from_millis(reset_ms),
        }
    }

    fn usage_of_burst(&self, remaining: u32) -> Usage {
        let spent = self.rate.at_once().get().saturating_sub(remaining);
        Usage {
            rate: self.rate,
            remaining,
            reset: self.rate.interval().saturating_mul(spent),
        }
    }
}

pub(super) fn ms(instant: Nanos) -> u64 {
    instant.as_u64() / 1_000_000
}
