//! The flusher: makes live items stored, in log order, so that log segments can be freed, and drops stored
//! bodies from memory when it is short.
//!
//! Flushing is a checkpoint, evicting is a cache decision; they meet only in that what is not stored cannot
//! be evicted.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard, watch};

use super::core::Core;
use super::error::QueueError;
use crate::clock::{Monotonic, Stopwatch};
use crate::hot::FlushPlan;
use crate::shard::{Checkpoint, ShardError};
use crate::wal::Lsn;

/// How often a flusher looks when nobody calls it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How far apart the moments are at which the log's position is noted, in milliseconds.
const SAMPLE_EVERY_MS: i64 = 50;
/// How long a flusher rests after its shard failed.
const REST: Duration = Duration::from_millis(500);
/// How many gone items make a checkpoint of their own worth while.
const DELETES_WORTH: usize = 2_000;
/// How soon a flusher looks again while somebody waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long [`FlushControl::store_up_to`] waits for the shard.
const STORE_WAIT: Duration = Duration::from_secs(10);

/// How others steer one shard's flusher.
#[derive(Debug)]
pub(super) struct FlushControl {
    kick: Notify,
    /// Everything up to here is wanted stored at once.
    wanted: AtomicU64,
    stored: watch::Sender<Lsn>,
    /// How far checkpoints reached that may have been stored.
    attempted: AtomicU64,
    /// What the log's applied position was when; newest last.
    history: Mutex<VecDeque<(Monotonic, Lsn)>>,
    failing: Mutex<Option<String>>,
    last_deletes: AtomicU64,
    everything: AtomicBool,
    /// Held by whoever stores, and by whoever wants nobody to.
    storing: Arc<tokio::sync::Mutex<()>>,
}

impl FlushControl {
    pub(super) fn new() -> Self {
        Self {
            kick: Notify::new(),
            wanted: AtomicU64::new(0),
            stored: watch::Sender::new(Lsn(0)),
            attempted: AtomicU64::new(0),
            history: Mutex::default(),
            failing: Mutex::default(),
            last_deletes: AtomicU64::new(0),
            everything: AtomicBool::new(false),
            storing: Arc::default(),
        }
    }

    /// Says what the shard holds at the start: its progress never goes back behind that.
    pub(super) fn begin_at(&self, stored: Lsn) {
        self.stored.send_replace(stored);
    }

    /// Lets nobody store until the guard is dropped.
    pub(super) async fn storing(&self) -> OwnedMutexGuard<()> {
        self.storing.clone().lock_owned().await
    }

    /// Makes the flusher look now.
    pub(super) fn kick(&self) {
        self.kick.notify_one();
    }

    /// Asks for everything up to `lsn` to be stored and waits for it.
    pub(super) async fn store_up_to(&self, lsn: Lsn) -> Result<(), QueueError> {
        let mut stored = self.stored.subscribe();
        self.wanted.fetch_max(lsn.0, Ordering::Relaxed);
        self.kick();
        let reached = stored.wait_for(|stored| *stored >= lsn);
        match tokio::time::timeout(STORE_WAIT, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(QueueError::ShardUnavailable(self.failure().unwrap_or_else(
                || "it did not commit in time; the items are logged".into(),
            ))),
        }
    }

    /// Up to where the shard holds everything.
    pub(super) fn stored(&self) -> Lsn {
        *self.stored.borrow()
    }

    /// Why the last checkpoint failed, while it does.
    pub(super) fn failure(&self) -> Option<String> {
        self.failing.lock().clone()
    }

    fn note(&self, now: Monotonic, applied: Lsn) {
        let mut history = self.history.lock();
        match history.back_mut() {
            // A little early is not wrong, and the samples of a time to live stay few.
            Some((at, lsn)) if now.0 - at.0 < SAMPLE_EVERY_MS => *lsn = applied.max(*lsn),
            Some((_, lsn)) if *lsn >= applied => {}
            _ => history.push_back((now, applied)),
        }
    }

    /// The applied position as it was at `then`, forgetting what came before.
    fn applied_at(&self, then: Monotonic) -> Lsn {
        let mut history = self.history.lock();
        let mut found = Lsn(0);
        while let Some((at, lsn)) = history.front().copied() {
            if at > then {
                break;
            }
            found = lsn;
            // The newest of the old samples stays: it is still the answer next time.
            if history.get(1).is_some_and(|(at, _)| *at <= then) {
                history.pop_front();
            } else {
                break;
            }
        }
        found
    }
}

impl Core {
    /// One turn of a shard's flusher: wait for a reason, then store what there is reason to store.
    pub(super) async fn flush_tick(self: Arc<Self>, shard: u16) {
        let control = &self.flush[usize::from(shard)];
        let awaited = control.wanted.load(Ordering::Relaxed) > control.stored.borrow().0;
        let look_in = if awaited { LOOK_AGAIN } else { LOOK_EVERY };
        let _ = tokio::time::timeout(look_in, control.kick.notified()).await;
        control.note(self.clock.monotonic(), self.wal.applied_lsn());
        if self.is_left_alone(shard) {
            tokio::time::sleep(REST).await;
            return;
        }
        let _storing = control.storing().await;
        // What the hot tier lacks after it lost its memory must be in the log until it is back. In this order: who
        // keeps others from storing, as while slots move, keeps nobody from bringing it back.
        let _whole = self.restoring.read().await;
        loop {
            let up_to = self.flush_target(shard);
            match self.flush_once(shard, up_to).await {
                Ok(more) => {
                    self.make_room().await;
                    self.free_log().await;
                    if !more {
                        break;
                    }
                }
                Err(QueueError::Fenced) => {
                    self.lose_tenure();
                    tokio::time::sleep(REST).await;
                    break;
                }
                Err(error) => {
                    tracing::warn!(shard, %error, "a checkpoint failed and is tried again");
                    *control.failing.lock() = Some(error.to_string());
                    tokio::time::sleep(REST).await;
                    break;
                }
            }
        }
    }

    /// The log position up to which items should be stored now.
    fn flush_target(&self, shard: u16) -> Lsn {
        let control = &self.flush[usize::from(shard)];
        let applied = self.wal.applied_lsn();
        let then = Monotonic(self.clock.monotonic().0 - self.limits.buffer_ttl_ms);
        let old = control.applied_at(then);
        // What is stored before memory is short can be dropped when it is, and the least urgent of it first.
        let short_of_memory = self.hot.bytes() >= self.limits.hot_bytes_low;
        if short_of_memory || control.everything.load(Ordering::Relaxed) {
            return applied;
        }
        let mut target = old.max(Lsn(control.wanted.load(Ordering::Relaxed)));
        if self.wal.status().bytes > self.limits.wal_bytes_soft {
            target = target.max(self.wal.oldest_segment_end().unwrap_or(applied));
        }
        target.min(applied)
    }

    /// Stores one chunk; true when there is more to store at once.
    pub(super) async fn flush_once(&self, shard: u16, up_to: Lsn) -> Result<bool, QueueError> {
        let control = &self.flush[usize::from(shard)];
        let needed = self
            .hot
            .first_need(shard)
            .await?
            .is_some_and(|need| need <= up_to);
        let deletes = self.hot.pending_deletes(shard).await?;
        let now = self.clock.monotonic().0.unsigned_abs();
        let deletes_due = deletes >= DELETES_WORTH
            || (deletes > 0 && now >= control.last_deletes.load(Ordering::Relaxed) + 1_000);
        if !needed && !deletes_due && !self.hot.has_orphans(shard) {
            // Nothing at or before `up_to` is missing from the shard: it is as good as stored.
            control.stored.send_if_modified(|stored| raise(stored, up_to));
            *control.failing.lock() = None;
            return Ok(false);
        }
        control.last_deletes.store(now, Ordering::Relaxed);
        // A checkpoint whose answer was lost may have been stored. The next one says no less, or else the
        // shard would hold more than its progress tells, and a replay would bring that again.
        let attempted = Lsn(control.attempted.load(Ordering::Relaxed));
        let (target, items) = if attempted > *control.stored.borrow() {
            (attempted, usize::from(u16::MAX))
        } else {
            (up_to, self.limits.flush_items)
        };
        let plan = self.hot.flush_plan(shard, target, items).await?;
        control.attempted.fetch_max(plan.reached.0, Ordering::Relaxed);
        let (reached, size) = (plan.reached, plan.upserts.len() + plan.deletes.len());
        // What has to wait for another node's checkpoint is not there any sooner for being asked for at once.
        let is_stuck = plan.is_empty();
        // A panic, too, must give back what the plan took out.
        let store = AssertUnwindSafe(self.store(shard, &plan)).catch_unwind();
        let stored = store
            .await
            .unwrap_or_else(|_| Err(ShardError::Unavailable("storing panicked".into())));
        self.hot.flushed(plan, stored.is_ok()).await;
        stored?;
        *control.failing.lock() = None;
        control.stored.send_if_modified(|stored| raise(stored, reached));
        Ok(!is_stuck && (reached < up_to || size >= self.limits.flush_items))
    }

    async fn store(&self, shard: u16, plan: &FlushPlan) -> Result<(), ShardError> {
        let reached = plan.reached.max(*self.flush[usize::from(shard)].stored.borrow());
        let mut checkpoint = Checkpoint::at(self.node, reached);
        checkpoint.upserts.clone_from(&plan.upserts);
        checkpoint.deletes = plan.deletes.iter().map(|(_, id)| *id).collect();
        checkpoint.purges = plan.purges.iter().map(|(_, purge)| purge.clone()).collect();
        checkpoint.dedup.clone_from(&plan.dedup);
        let rows = checkpoint.upserts.len() + checkpoint.deletes.len();
        let began = Stopwatch::start();
        let stored = self.shards[usize::from(shard)].checkpoint(&checkpoint).await;
        self.counted.flushes.note(began, stored.is_ok().then_some(rows));
        stored
    }

    /// Drops stored items from memory while it is short, and wakes who waits for room.
    async fn make_room(&self) {
        let bytes = self.hot.bytes();
        let (low, high) = (self.limits.hot_bytes_low, self.limits.hot_bytes_high);
        if bytes > high {
            self.hot.evict(bytes - high + (high - low) / 4).await;
        }
        if self.hot.bytes() < self.limits.hot_bytes_max {
            self.room.notify_waiters();
        }
    }

    /// Frees the log segments that no shard needs any more.
    pub(super) async fn free_log(&self) {
        // A hot tier that is being brought back does not know what is needed.
        let Ok(_whole) = self.restoring.try_read() else {
            return;
        };
        let mut free = self.wal.applied_lsn();
        for shard in 0..self.shards.len() as u16 {
            match self.hot.first_need(shard).await {
                Ok(Some(need)) => free = free.min(Lsn(need.0.saturating_sub(1))),
                Ok(None) => {}
                // Nobody knows what is needed.
                Err(_) => return,
            }
        }
        self.wal.free_up_to(free);
    }

    /// Stores everything there is, however long it takes, and says so in every shard.
    pub(super) async fn store_everything(&self) -> Result<(), QueueError> {
        let applied = self.wal.applied_lsn();
        for control in &self.flush {
            control.everything.store(true, Ordering::Relaxed);
        }
        for control in &self.flush {
            while control.store_up_to(applied).await.is_err() {}
        }
        let mut guards = Vec::with_capacity(self.flush.len());
        for control in &self.flush {
            guards.push(control.storing().await);
        }
        let shards = (0..self.shards.len() as u16).collect();
        self.even_out(&shards).await?;
        self.free_log().await;
        Ok(())
    }
}

fn raise(stored: &mut Lsn, to: Lsn) -> bool {
    let raised = to > *stored;
    *stored = to.max(*stored);
    raised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applied_position_of_a_past_moment_is_remembered() {
        let control = FlushControl::new();
        for (at, lsn) in [(0, 5), (100, 9), (200, 9), (300, 20)] {
            control.note(Monotonic(at), Lsn(lsn));
        }
        assert_eq!(control.applied_at(Monotonic(-1)), Lsn(0));
        assert_eq!(control.applied_at(Monotonic(150)), Lsn(9));
        assert_eq!(control.applied_at(Monotonic(299)), Lsn(9));
        assert_eq!(control.applied_at(Monotonic(1_000)), Lsn(20));
        assert_eq!(control.applied_at(Monotonic(2_000)), Lsn(20));
    }
}
