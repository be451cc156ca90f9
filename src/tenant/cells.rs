//! Governor's cells: a burst at once, and then as many items as come back.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Ticks;
use super::bucket::ms;
use crate::model::Rate;

/// What is left of a burst.
pub(super) struct Cells {
    interval: Duration,
    per_minute: NonZeroU32,
    burst: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>,
    /// What the last decision left, and when it fell: governor tells it only while deciding.
    left: AtomicU64,
    decided_ms: AtomicU64,
    /// What was given back, which governor cannot take: it is spent before governor is asked.
    credit: AtomicU32,
}

impl Cells {
    /// Cells of `rate`, of which `burst` may be taken at once and nothing is.
    pub(super) fn new(rate: Rate, burst: NonZeroU32, clock: &Ticks) -> Self {
        // An interval below a nanosecond cannot be asked for: 60 s / u32::MAX is 13 ns.
        let quota = Quota::with_period(rate.interval())
            .unwrap_or(Quota::per_second(rate.per_minute))
            .allow_burst(burst);
        Self {
            interval: rate.interval(),
            per_minute: rate.per_minute,
            burst,
            limiter: RateLimiter::new(quota, InMemoryState::default(), clock.clone()),
            left: AtomicU64::new(u64::from(burst.get())),
            decided_ms: AtomicU64::new(ms(clock.now())),
            credit: AtomicU32::new(0),
        }
    }

    /// Takes up to `wanted` items, as many as there are; the time until the first of the others may come.
    pub(super) fn take(&self, wanted: u32, clock: &Ticks) -> (u32, Duration) {
        let credited = self.spend_credit(wanted, clock);
        let mut ask = (wanted - credited).min(self.burst.get());
        if ask == 0 {
            return (credited, self.interval);
        }
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
                    let excess = wait.as_nanos().div_ceil(self.interval.as_nanos().max(1));
                    ask = ask.saturating_sub(u32::try_from(excess).unwrap_or(u32::MAX));
                }
                Err(capacity) => ask = capacity.0.min(ask - 1),
            }
        }
        if ask == 0 {
            self.note(0, clock);
        }
        // The batch's wait less what its other items need: the time until the first missing one may come.
        let wait = refused.map_or(self.interval, |(asked, wait)| {
            wait.saturating_sub(self.interval.saturating_mul(asked - ask - 1))
        });
        (credited + ask, wait)
    }

    /// Spends what was given back, and forgets what went over the burst meanwhile.
    fn spend_credit(&self, wanted: u32, clock: &Ticks) -> u32 {
        if self.credit.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let room = self.burst.get() - self.refilled(clock);
        let mut spent = 0;
        let spend = |credit: u32| {
            let credit = credit.min(room);
            spent = wanted.min(credit);
            Some(credit - spent)
        };
        let _ = self
            .credit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        spent
    }

    /// Gives back `count` items that were taken.
    pub(super) fn give_back(&self, count: u32) {
        let more = |credit: u32| Some(credit.saturating_add(count).min(self.burst.get()));
        let _ = self
            .credit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How many items may be taken at once now.
    pub(super) fn left(&self, clock: &Ticks) -> u32 {
        let left = self.refilled(clock);
        left.saturating_add(self.credit.load(Ordering::Relaxed))
            .min(self.burst.get())
    }

    /// What governor has.
    fn refilled(&self, clock: &Ticks) -> u32 {
        let (left, at_ms) = (&self.left, &self.decided_ms);
        refilled(
            left.load(Ordering::Relaxed),
            ms(clock.now()).saturating_sub(at_ms.load(Ordering::Relaxed)),
            (self.per_minute, self.burst),
        )
    }

    fn note(&self, left: u32, clock: &Ticks) {
        self.left.store(u64::from(left), Ordering::Relaxed);
        self.decided_ms.store(ms(clock.now()), Ordering::Relaxed);
    }
}

/// What there is of `left` after `since_ms`, when nothing is spent meanwhile, of so many a minute and at once.
pub(super) fn refilled(left: u64, since_ms: u64, (per_minute, burst): (NonZeroU32, NonZeroU32)) -> u32 {
    let back = since_ms.saturating_mul(u64::from(per_minute.get())) / 60_000;
    let left = left.saturating_add(back).min(u64::from(burst.get()));
    u32::try_from(left).unwrap_or(burst.get())
}
