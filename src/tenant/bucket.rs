//! One namespace's rate: governor's cells, and what is left of them.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use super::Ticks;
use super::quota::{Grant, Usage};
use crate::model::{Rate, SharedGrant};

/// What a namespace spent of its rate.
pub(super) struct Bucket {
    pub(super) rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>,
    /// What the last decision left, and when it fell: governor tells it only while deciding.
    left: AtomicU64,
    decided_ms: AtomicU64,
    /// What was left of the rate that all nodes share when it was last asked, and when that was, in milliseconds.
    shared: Mutex<Option<(u32, u64)>>,
}

impl Bucket {
    /// A bucket of which nothing is spent.
    pub(super) fn new(rate: Rate, clock: &Ticks) -> Self {
        // An interval below a nanosecond cannot be asked for: 60 s / u32::MAX is 13 ns.
        let quota = Quota::with_period(rate.interval())
            .unwrap_or(Quota::per_second(rate.per_minute))
            .allow_burst(rate.burst);
        Self {
            rate,
            limiter: RateLimiter::new(quota, InMemoryState::default(), clock.clone()),
            left: AtomicU64::new(u64::from(rate.burst.get())),
            decided_ms: AtomicU64::new(ms(clock.now())),
            shared: Mutex::default(),
        }
    }

    /// Takes up to `wanted` items, as many as there are.
    pub(super) fn take(&self, wanted: u32, clock: &Ticks) -> Grant {
        let interval = self.rate.interval();
        let mut ask = wanted.min(self.rate.burst.get());
        let mut refused = None;
        while let Some(cells) = NonZeroU32::new(ask) {
            match self.limiter.check_n(cells) {
                Ok(Ok(snapshot)) => {
                    self.note(snapshot.remaining_burst_capacity(), clock);
                    break;
                }
                Ok(Err(until)) => {
                    let wait = until.wait_time_from(clock.now()).max(Duration::from_nanos(1));
                    refused = Some((ask, wait));
                    // The whole batch must wait this long, so as many items as that time makes must go.
                    let excess = wait.as_nanos().div_ceil(interval.as_nanos().max(1));
                    ask = ask.saturating_sub(u32::try_from(excess).unwrap_or(u32::MAX));
                }
                Err(capacity) => ask = capacity.0.min(ask - 1),
            }
        }
        if ask == 0 {
            self.note(0, clock);
        }
        // The batch's wait less what its other items need: the time until the first missing one may come.
        let wait = refused.map_or(interval, |(asked, wait)| {
            wait.saturating_sub(interval.saturating_mul(asked - ask - 1))
        });
        Grant {
            granted: ask as usize,
            retry_after: (wanted > ask).then_some(wait),
            usage: Some(self.usage(clock)),
        }
    }

    /// A bucket for another rate of which as much is spent as of this one: a change of its quota gives a
    /// namespace nothing back.
    pub(super) fn succeeded_by(&self, rate: Rate, clock: &Ticks) -> Self {
        let next = Self::new(rate, clock);
        let burst = rate.burst.get();
        let spent = (self.rate.burst.get() - self.own_usage(clock).remaining).min(burst);
        if let Some(cells) = NonZeroU32::new(spent)
            && matches!(next.limiter.check_n(cells), Ok(Ok(_)))
        {
            next.note(burst - spent, clock);
        }
        next
    }

    fn note(&self, left: u32, clock: &Ticks) {
        self.left.store(u64::from(left), Ordering::Relaxed);
        self.decided_ms.store(ms(clock.now()), Ordering::Relaxed);
    }

    /// Notes what the rate that all nodes share said; nothing when it did not answer, and this one decided alone.
    pub(super) fn note_shared(&self, answer: Option<SharedGrant>, clock: &Ticks) {
        *self.shared.lock() = answer.map(|grant| (grant.remaining, ms(clock.now())));
    }

    /// What is left: of this node's share, or of what all nodes have where that is less.
    pub(super) fn usage(&self, clock: &Ticks) -> Usage {
        let own = self.own_usage(clock);
        match *self.shared.lock() {
            Some((left, at_ms)) => {
                let shared = self.refilled(u64::from(left), at_ms, clock);
                if shared.remaining < own.remaining {
                    shared
                } else {
                    own
                }
            }
            None => own,
        }
    }

    /// What is left of this node's own cells.
    fn own_usage(&self, clock: &Ticks) -> Usage {
        let (left, at_ms) = (&self.left, &self.decided_ms);
        self.refilled(left.load(Ordering::Relaxed), at_ms.load(Ordering::Relaxed), clock)
    }

    /// What there is now of `left` at `at_ms`, when nothing was spent since.
    fn refilled(&self, left: u64, at_ms: u64, clock: &Ticks) -> Usage {
        let burst = u64::from(self.rate.burst.get());
        let since_ms = ms(clock.now()).saturating_sub(at_ms);
        let back = since_ms.saturating_mul(u64::from(self.rate.per_minute.get())) / 60_000;
        let remaining = left.saturating_add(back).min(burst);
        Usage {
            rate: self.rate,
            remaining: remaining as u32,
            reset: self.rate.interval().saturating_mul((burst - remaining) as u32),
        }
    }
}

fn ms(instant: Nanos) -> u64 {
    instant.as_u64() / 1_000_000
}
