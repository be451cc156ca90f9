//! A circuit breaker around a shard: one that fails or hangs is left alone for a while, and asked once a
//! second whether it is back. Until then every call fails at once, so that nobody waits for it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::error::unavailable;
use super::{Checkpoint, Circuit, Condition, DedupRow, PageOf, Shard, ShardError, StoredCounts};
use crate::clock::{Clock, Timestamp};
use crate::model::{ItemId, NodeId, OrderKey, QueuedItem, TopicKey};
use crate::wal::Lsn;

/// Time between two probes of a shard that is left alone, in milliseconds.
const PROBE_EVERY_MS: i64 = 1_000;

/// When a breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Fewest failed calls within the window; half of all calls must have failed as well.
    pub failures: u32,
    /// How long a failure counts.
    pub window: Duration,
    /// A question with a bounded answer that takes longer than this has failed, whatever becomes of it.
    pub slow: Duration,
}

/// A shard that is left alone while it does not work.
pub struct Breaker {
    shard: Arc<dyn Shard>,
    clock: Clock,
    options: BreakerOptions,
    calls: Mutex<Calls>,
    /// Raised when the circuit opens: whoever waits for an answer stops waiting.
    opened: Notify,
}

impl std::fmt::Debug for Breaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Breaker({:?})", self.condition())
    }
}

impl Breaker {
    /// `shard` behind a breaker.
    pub fn new(shard: Arc<dyn Shard>, options: BreakerOptions, clock: Clock) -> Self {
        Self {
            shard,
            clock,
            calls: Mutex::new(Calls::new(options)),
            options,
            opened: Notify::new(),
        }
    }

    /// Makes a call whose work is bounded: one that takes too long has failed, and is given up when the
    /// circuit opens.
    async fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>> + Send,
    ) -> Result<T, ShardError> {
        let mut opened = pin!(self.opened.notified());
        opened.as_mut().enable();
        let mut call = self.admit()?;
        let (mut work, mut slow) = (pin!(work), pin!(tokio::time::sleep(self.options.slow)));
        loop {
            tokio::select! {
                biased;
                answer = &mut work => return call.ended(answer),
                () = &mut opened, if !call.is_probe => return Err(self.refusal()),
                () = &mut slow, if !call.is_noted => call.is_slow(),
            }
        }
    }

    /// Makes a call that may take its time.
    async fn tell<T>(
        &self,
        work: impl Future<Output = Result<T, ShardError>> + Send,
    ) -> Result<T, ShardError> {
        let call = self.admit()?;
        call.ended(work.await)
    }

    fn admit(&self) -> Result<Call<'_>, ShardError> {
        let admitted = self.calls.lock().admit(self.clock.monotonic().0);
        match admitted {
            Some(is_probe) => Ok(Call {
                breaker: self,
                is_probe,
                is_noted: false,
            }),
            None => Err(self.refusal()),
        }
    }

    fn refusal(&self) -> ShardError {
        let failure = self.calls.lock().failure.clone();
        unavailable(failure.map_or_else(
            || "it is left alone for a moment".to_owned(),
            |failure| format!("it is left alone for a moment: {failure}"),
        ))
    }

    fn note(&self, is_probe: bool, failure: Option<&str>) {
        let opens = self
            .calls
            .lock()
            .note(self.clock.monotonic().0, is_probe, failure);
        if opens {
            self.opened.notify_waiters();
        }
    }
}

/// A call under way. A probe that is dropped without an answer leaves the circuit open.
struct Call<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    is_noted: bool,
}

impl Call<'_> {
    fn is_slow(&mut self) {
        self.is_noted = true;
        self.breaker
            .note(self.is_probe, Some("the database is slow to answer"));
    }

    fn ended<T>(mut self, answer: Result<T, ShardError>) -> Result<T, ShardError> {
        if !self.is_noted {
            self.is_noted = true;
            let failure = match &answer {
                Err(ShardError::Unavailable(why)) => Some(why.as_str()),
                _ => None,
            };
            self.breaker.note(self.is_probe, failure);
        }
        answer
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.is_noted {
            self.breaker.note(true, Some("a probe was given up"));
        }
    }
}

/// What is remembered of a shard's calls.
#[derive(Debug)]
struct Calls {
    options: BreakerOptions,
    seconds: VecDeque<Second>,
    phase: Phase,
    failure: Option<String>,
    openings: u64,
    refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Closed,
    /// No call is let through until a probe is due.
    Open {
        since_ms: i64,
    },
    /// One call is trying whether it works again.
    Probing,
}

#[derive(Debug, Clone, Copy)]
struct Second {
    at_s: i64,
    calls: u32,
    failures: u32,
}

impl Calls {
    fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            seconds: VecDeque::new(),
            phase: Phase::Closed,
            failure: None,
            openings: 0,
            refused: 0,
        }
    }

    /// Whether a call may be made now, and if so whether as a probe.
    fn admit(&mut self, now_ms: i64) -> Option<bool> {
        match self.phase {
            Phase::Closed => Some(false),
            Phase::Open { since_ms } if now_ms - since_ms >= PROBE_EVERY_MS => {
                self.phase = Phase::Probing;
                Some(true)
            }
            Phase::Open { .. } | Phase::Probing => {
                self.refused += 1;
                None
            }
        }
    }

    /// Notes how a call went; true when the circuit opens over it.
    fn note(&mut self, now_ms: i64, is_probe: bool, failure: Option<&str>) -> bool {
        if let Some(failure) = failure {
            self.failure = Some(failure.to_owned());
        }
        if is_probe {
            self.phase = match failure {
                Some(_) => Phase::Open { since_ms: now_ms },
                None => Phase::Closed,
            };
            self.seconds.clear();
            if failure.is_none() {
                self.failure = None;
            }
            return false;
        }
        // What was under way when the circuit opened says nothing new.
        if self.phase != Phase::Closed {
            return false;
        }
        self.count(now_ms / 1_000, failure.is_some());
        let (calls, failures) = self.sum();
        let opens = failures >= self.options.failures && 2 * failures >= calls;
        if opens {
            self.phase = Phase::Open { since_ms: now_ms };
            self.openings += 1;
        } else if failures == 0 {
            self.failure = None;
        }
        opens
    }

    fn count(&mut self, now_s: i64, failed: bool) {
        let window_s = self.options.window.as_secs().cast_signed();
        self.seconds.retain(|second| second.at_s > now_s - window_s);
        if self.seconds.back().is_none_or(|second| second.at_s != now_s) {
            self.seconds.push_back(Second {
                at_s: now_s,
                calls: 0,
                failures: 0,
            });
        }
        if let Some(second) = self.seconds.back_mut() {
            second.calls += 1;
            second.failures += u32::from(failed);
        }
    }

    fn sum(&self) -> (u32, u32) {
        self.seconds.iter().fold((0, 0), |(calls, failures), second| {
            (calls + second.calls, failures + second.failures)
        })
    }
}

#[async_trait]
impl Shard for Breaker {
    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ShardError> {
        self.tell(self.shard.checkpoint(checkpoint)).await
    }

    async fn progress(&self, node: NodeId) -> Result<Lsn, ShardError> {
        self.ask(self.shard.progress(node)).await
    }

    async fn highest_id(&self) -> Result<ItemId, ShardError> {
        self.tell(self.shard.highest_id()).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<StoredCounts>, ShardError> {
        self.tell(self.shard.counts(now)).await
    }

    async fn item_bytes(&self, topic: &TopicKey) -> Result<u64, ShardError> {
        self.tell(self.shard.item_bytes(topic)).await
    }

    async fn page(
        &self,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.ask(self.shard.page(topic, of, from, limit)).await
    }

    async fn newest(
        &self,
        topic: &TopicKey,
        of: PageOf,
        before: ItemId,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.ask(self.shard.newest(topic, of, before, limit)).await
    }

    async fn newly_due(
        &self,
        topic: &TopicKey,
        after: (Timestamp, ItemId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.ask(self.shard.newly_due(topic, after, until, limit)).await
    }

    async fn next_due(&self, topic: &TopicKey, after: Timestamp) -> Result<Option<Timestamp>, ShardError> {
        self.ask(self.shard.next_due(topic, after)).await
    }

    async fn leased(&self, now: Timestamp) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        self.tell(self.shard.leased(now)).await
    }

    async fn fetch(&self, ids: &[ItemId]) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        self.ask(self.shard.fetch(ids)).await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<(TopicKey, ItemId)>, ShardError> {
        self.tell(self.shard.expired(now, limit)).await
    }

    async fn forget_keys(&self, now: Timestamp) -> Result<u64, ShardError> {
        self.tell(self.shard.forget_keys(now)).await
    }

    async fn find_keys(
        &self,
        topic: &TopicKey,
        key_hashes: &[u128],
        now: Timestamp,
    ) -> Result<Vec<DedupRow>, ShardError> {
        self.ask(self.shard.find_keys(topic, key_hashes, now)).await
    }

    async fn dead_before(
        &self,
        topic: &TopicKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ItemId>, ShardError> {
        self.tell(self.shard.dead_before(topic, before, limit)).await
    }

    async fn keys_after(
        &self,
        topic: &TopicKey,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<DedupRow>, ShardError> {
        self.ask(self.shard.keys_after(topic, after, limit)).await
    }

    async fn store_copies(
        &self,
        items: &[(TopicKey, QueuedItem)],
        keys: &[DedupRow],
    ) -> Result<(), ShardError> {
        self.tell(self.shard.store_copies(items, keys)).await
    }

    async fn remove_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        self.tell(self.shard.remove_topic(topic)).await
    }

    async fn take_over(&self, node: NodeId, incarnation: u64) -> Result<Lsn, ShardError> {
        self.tell(self.shard.take_over(node, incarnation)).await
    }

    async fn ping(&self) -> Result<(), ShardError> {
        // Next to nothing is asked, and whoever pings asks again soon.
        let limit = self.options.slow / 2;
        let ping = async {
            match tokio::time::timeout(limit, self.shard.ping()).await {
                Ok(answer) => answer,
                Err(_) => Err(unavailable("the database did not answer in time")),
            }
        };
        self.ask(ping).await
    }

    fn condition(&self) -> Condition {
        let calls = self.calls.lock();
        Condition {
            circuit: match calls.phase {
                Phase::Closed => Circuit::Closed,
                Phase::Open { .. } => Circuit::Open,
                Phase::Probing => Circuit::HalfOpen,
            },
            openings: calls.openings,
            refused: calls.refused,
            failure: calls.failure.clone(),
        }
    }

    async fn close(&self) -> Result<(), ShardError> {
        self.shard.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: BreakerOptions = BreakerOptions {
        failures: 3,
        window: Duration::from_secs(10),
        slow: Duration::from_secs(1),
    };

    fn failing(calls: &mut Calls, now_ms: i64) -> bool {
        assert_eq!(calls.admit(now_ms), Some(false));
        calls.note(now_ms, false, Some("no"))
    }

    #[test]
    fn three_failures_open_it_unless_most_calls_go_well() {
        let mut calls = Calls::new(OPTIONS);
        assert!(!failing(&mut calls, 0) && !failing(&mut calls, 1_000) && failing(&mut calls, 2_000));
        assert_eq!((calls.admit(2_100), calls.refused, calls.openings), (None, 1, 1));
        let mut busy = Calls::new(OPTIONS);
        for _ in 0..100 {
            assert!(!busy.note(0, false, None));
        }
        assert!((0..50).all(|_| !failing(&mut busy, 500)));
        assert!(!busy.note(600, false, None));
    }

    #[test]
    fn old_failures_do_not_count() {
        let mut calls = Calls::new(OPTIONS);
        assert!(!failing(&mut calls, 0) && !failing(&mut calls, 0) && !failing(&mut calls, 10_000));
        assert!(calls.failure.is_some());
        assert!(!calls.note(30_000, false, None));
        assert_eq!(calls.failure, None);
    }

    #[test]
    fn one_probe_a_second_closes_it_or_does_not() {
        let mut calls = Calls::new(OPTIONS);
        assert!(!failing(&mut calls, 0) && !failing(&mut calls, 0) && failing(&mut calls, 0));
        assert_eq!(calls.admit(999), None);
        assert_eq!((calls.admit(1_000), calls.admit(1_000)), (Some(true), None));
        // What was under way when it opened closes nothing.
        assert!(!calls.note(1_000, false, None));
        assert_eq!(calls.phase, Phase::Probing);
        calls.note(1_500, true, Some("still no"));
        assert_eq!((calls.admit(2_400), calls.admit(2_500)), (None, Some(true)));
        calls.note(2_600, true, None);
        assert_eq!((calls.admit(2_600), calls.failure.take()), (Some(false), None));
        // And it starts afresh.
        assert!(!failing(&mut calls, 2_700));
    }
}
