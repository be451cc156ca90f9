//! Enqueue quotas: a rate and a burst per namespace, counted per item, swapped while in force.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::RwLock;

use super::Ticks;
use crate::clock::Clock;
use crate::model::Namespace;

/// Most namespaces whose use is remembered at once; idle ones are forgotten first.
const BUCKETS_MAX: usize = 100_000;

/// How many items a namespace may enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Items per minute in the long run.
    pub per_minute: NonZeroU32,
    /// Items at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// `per_minute` items a minute, all of which may come at once.
    pub fn per_minute(per_minute: NonZeroU32) -> Self {
        Self {
            per_minute,
            burst: per_minute,
        }
    }

    /// The time one item takes to come back.
    fn interval(&self) -> Duration {
        Duration::from_secs(60) / self.per_minute.get()
    }

    /// The time a spent burst takes to come back, in whole seconds: the window of `RateLimit-Policy`.
    pub fn window_s(&self) -> u64 {
        (u64::from(self.burst.get()) * 60).div_ceil(u64::from(self.per_minute.get()))
    }
}

/// The rates in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateTable {
    /// For namespaces that the map does not name; none leaves them unlimited.
    pub default: Option<Rate>,
    /// For single namespaces.
    pub per_namespace: HashMap<Namespace, Rate>,
}

impl RateTable {
    fn of(&self, namespace: &Namespace) -> Option<Rate> {
        self.per_namespace.get(namespace).copied().or(self.default)
    }
}

/// How much of a quota is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The quota.
    pub rate: Rate,
    /// Items that may be enqueued at once now.
    pub remaining: u32,
    /// Time until the whole burst is there again.
    pub reset: Duration,
}

/// The answer to a request for items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many of the items may be enqueued: the first ones.
    pub granted: usize,
    /// Time until the rest may come; none when all were granted.
    pub retry_after: Option<Duration>,
    /// What is left; none without a quota.
    pub usage: Option<Usage>,
}

/// Enforces enqueue quotas on this node.
pub struct Quotas {
    table: ArcSwap<RateTable>,
    buckets: RwLock<HashMap<Namespace, Arc<Bucket>>>,
    clock: Ticks,
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Quotas({:?})", self.table.load())
    }
}

struct Bucket {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>,
    /// What the last decision left, and when it fell: governor tells it only while deciding.
    left: AtomicU64,
    decided_ms: AtomicU64,
}

impl Bucket {
    fn new(rate: Rate, clock: &Ticks) -> Self {
        // An interval below a nanosecond cannot be asked for: 60 s / u32::MAX is 13 ns.
        let quota = Quota::with_period(rate.interval())
            .unwrap_or(Quota::per_second(rate.per_minute))
            .allow_burst(rate.burst);
        Self {
            rate,
            limiter: RateLimiter::new(quota, InMemoryState::default(), clock.clone()),
            left: AtomicU64::new(u64::from(rate.burst.get())),
            decided_ms: AtomicU64::new(ms(clock.now())),
        }
    }

    fn take(&self, wanted: u32, clock: &Ticks) -> Grant {
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

    fn note(&self, left: u32, clock: &Ticks) {
        self.left.store(u64::from(left), Ordering::Relaxed);
        self.decided_ms.store(ms(clock.now()), Ordering::Relaxed);
    }

    fn usage(&self, clock: &Ticks) -> Usage {
        let burst = u64::from(self.rate.burst.get());
        let since_ms = ms(clock.now()).saturating_sub(self.decided_ms.load(Ordering::Relaxed));
        let back = since_ms.saturating_mul(u64::from(self.rate.per_minute.get())) / 60_000;
        let remaining = (self.left.load(Ordering::Relaxed).saturating_add(back)).min(burst);
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

impl Quotas {
    /// Quotas as `table` says, none of them spent.
    pub fn new(table: RateTable, clock: Clock) -> Self {
        Self {
            table: ArcSwap::from_pointee(table),
            buckets: RwLock::new(HashMap::new()),
            clock: Ticks(clock),
        }
    }

    /// Puts `table` in force; what was spent of a quota whose rate is unchanged stays spent.
    pub fn swap(&self, table: RateTable) {
        let mut buckets = self.buckets.write();
        buckets.retain(|namespace, bucket| table.of(namespace) == Some(bucket.rate));
        self.table.store(Arc::new(table));
    }

    /// Takes up to `wanted` items from the quota of `namespace`, as many as it has.
    pub fn take(&self, namespace: &Namespace, wanted: usize) -> Grant {
        match self.bucket(namespace) {
            None => Grant {
                granted: wanted,
                retry_after: None,
                usage: None,
            },
            Some(bucket) => bucket.take(u32::try_from(wanted).unwrap_or(u32::MAX), &self.clock),
        }
    }

    /// What is left to `namespace`; nothing when it has no quota.
    pub fn usage(&self, namespace: &Namespace) -> Option<Usage> {
        let rate = self.table.load().of(namespace)?;
        let bucket = self.buckets.read().get(namespace).cloned();
        Some(match bucket {
            Some(bucket) if bucket.rate == rate => bucket.usage(&self.clock),
            _ => Usage {
                rate,
                remaining: rate.burst.get(),
                reset: Duration::ZERO,
            },
        })
    }

    /// Forgets namespaces that have their whole burst again; call it now and then.
    pub fn evict_idle(&self) {
        let clock = &self.clock;
        self.buckets
            .write()
            .retain(|_, bucket| bucket.usage(clock).remaining < bucket.rate.burst.get());
    }

    /// How many namespaces' use is remembered.
    pub fn tracked(&self) -> usize {
        self.buckets.read().len()
    }

    fn bucket(&self, namespace: &Namespace) -> Option<Arc<Bucket>> {
        let rate = self.table.load().of(namespace)?;
        if let Some(bucket) = self.buckets.read().get(namespace)
            && bucket.rate == rate
        {
            return Some(bucket.clone());
        }
        if self.tracked() >= BUCKETS_MAX {
            self.evict_idle();
        }
        let mut buckets = self.buckets.write();
        // A swap may have come between: the table is read again under the lock that swaps hold.
        let rate = self.table.load().of(namespace)?;
        let bucket = buckets
            .entry(namespace.clone())
            .or_insert_with(|| Arc::new(Bucket::new(rate, &self.clock)));
        Some(bucket.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn rate(per_minute: u32, burst: u32) -> Rate {
        Rate {
            per_minute: NonZeroU32::new(per_minute).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    fn quotas(rates: &[(&str, Rate)]) -> (Quotas, Clock) {
        let clock = Clock::manual(Timestamp::ZERO);
        (Quotas::new(table(rates), clock.clone()), clock)
    }

    fn table(rates: &[(&str, Rate)]) -> RateTable {
        RateTable {
            default: None,
            per_namespace: rates.iter().map(|(n, r)| (n.parse().unwrap(), *r)).collect(),
        }
    }

    fn ns(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    #[test]
    fn a_batch_over_quota_is_granted_its_first_items() {
        let (quotas, clock) = quotas(&[("a", rate(60, 10))]);
        assert_eq!(quotas.take(&ns("a"), 4).granted, 4);
        let grant = quotas.take(&ns("a"), 9);
        assert_eq!(grant.granted, 6);
        assert_eq!(grant.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(grant.usage.unwrap().remaining, 0);
        assert_eq!(quotas.take(&ns("a"), 1).granted, 0);
        clock.advance(2_000);
        assert_eq!(quotas.take(&ns("a"), 5).granted, 2);
        assert_eq!(quotas.take(&ns("b"), 1_000).granted, 1_000);
    }

    #[test]
    fn more_than_the_burst_is_never_granted_at_once() {
        let (quotas, _) = quotas(&[("a", rate(6_000, 10))]);
        assert_eq!(quotas.take(&ns("a"), 1_000).granted, 10);
    }

    #[test]
    fn a_swap_keeps_spent_quota_where_the_rate_is_unchanged() {
        let (quotas, _) = quotas(&[("a", rate(60, 10)), ("b", rate(60, 10))]);
        quotas.take(&ns("a"), 10);
        quotas.take(&ns("b"), 10);
        quotas.swap(table(&[("a", rate(60, 10)), ("b", rate(60, 20))]));
        assert_eq!(quotas.take(&ns("a"), 1).granted, 0);
        assert_eq!(quotas.take(&ns("b"), 20).granted, 20);
        quotas.swap(RateTable::default());
        assert_eq!(quotas.take(&ns("a"), 500).granted, 500);
    }

    #[test]
    fn use_is_readable_without_using_and_idle_namespaces_are_forgotten() {
        let (quotas, clock) = quotas(&[("a", rate(60, 10))]);
        assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 10);
        quotas.take(&ns("a"), 10);
        assert_eq!(quotas.usage(&ns("a")).unwrap().reset, Duration::from_secs(10));
        clock.advance(4_000);
        assert_eq!(quotas.usage(&ns("a")).unwrap().remaining, 4);
        quotas.evict_idle();
        assert_eq!(quotas.tracked(), 1);
        clock.advance(10_000);
        quotas.evict_idle();
        assert_eq!(quotas.tracked(), 0);
        assert!(quotas.usage(&ns("other")).is_none());
    }
}
