//! The reaper moves what time moves; the housekeeper removes what time has made useless.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::core::Core;
use super::error::QueueError;
use super::history;
use super::settle::held_ids;
use super::topics::TopicHandle;
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hot::{Finish, Held, HoldRequest, Overdue, OverdueWhy};
use crate::model::{ItemId, SettleCause, TopicKey};
use crate::wal::FrameBuilder;

/// How often time is looked at. Waiting consumers do not depend on it: they wake themselves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often rates are sampled and useless things are looked for, in each shard.
const CLEAN_EVERY: Duration = Duration::from_secs(1);
/// How often a topic is looked through for dead letters that were kept long enough, in milliseconds.
const RETENTION_EVERY_MS: i64 = 60_000;
/// How many topics at a time: each takes a query.
const RETENTION_TOPICS: usize = 20;
/// Items removed in one step.
const STEP_ITEMS: usize = 1_000;

impl Core {
    /// One turn: due items become ready, ended leases come back, and what can go out no more is buried.
    pub(super) async fn reap_tick(self: Arc<Self>) {
        tokio::time::sleep(LOOK_EVERY).await;
        self.reap().await;
    }

    /// Moves what time moves, once.
    pub(super) async fn reap(self: &Arc<Self>) {
        for (key, overdue) in self.hot.advance().await {
            if let Some(handle) = self.topics.get(&key) {
                // What cannot be logged is overdue again.
                let _ = self.clone().bury(handle, overdue).await;
            }
        }
    }

    /// One turn: sample every topic's rates, and now and then what it holds.
    pub(super) async fn sample_tick(self: Arc<Self>) {
        tokio::time::sleep(CLEAN_EVERY).await;
        let now_ms = self.clock.now().ms();
        let handles = self.topics.all();
        let (turn, most) = (history::turn(now_ms), history::most(handles.len()));
        for handle in handles {
            handle.sample(now_ms);
            if handle.history.lock().is_due(turn) {
                let (totals, counts) = (handle.counters.totals(), self.hot.counts(&handle.key));
                handle.history.lock().note(turn, totals, counts, most);
            }
        }
    }

    /// One turn: drop a shard's expired cold items, forgotten keys and old dead letters.
    pub(super) async fn housekeeping_tick(self: Arc<Self>, shard: u16) {
        tokio::time::sleep(CLEAN_EVERY).await;
        if self.is_left_alone(shard) {
            return;
        }
        if let Err(error) = self.clean_up(shard).await {
            tracing::warn!(shard, %error, "what time has made useless could not be removed");
        }
    }

    /// Removes what time has made useless in a shard, a step at a time.
    pub(super) async fn clean_up(self: &Arc<Self>, number: u16) -> Result<(), QueueError> {
        let now = self.clock.now();
        let shard = &self.shards[usize::from(number)];
        let mut expired: HashMap<TopicKey, Vec<ItemId>> = HashMap::new();
        for (topic, id) in shard.expired(now, STEP_ITEMS).await? {
            expired.entry(topic).or_default().push(id);
        }
        for (topic, ids) in expired {
            let Some(handle) = self.topics.get(&topic) else {
                continue;
            };
            for ids in ids.chunks(self.page_items(&handle)) {
                self.clone().bury_expired(handle.clone(), unleased(ids)).await?;
            }
        }
        shard.forget_keys(now).await?;
        let due = |handle: &Arc<TopicHandle>| {
            self.shard_number(&handle.key) == number
                && handle.settings().dead_retention_ms.is_some()
                && handle.retention_looked_at() <= now.plus_ms(-RETENTION_EVERY_MS)
                && self.hot.counts(&handle.key).dead > 0
        };
        for handle in self.topics.all().into_iter().filter(due).take(RETENTION_TOPICS) {
            self.discard_old(&handle, now).await?;
        }
        Ok(())
    }

    /// Discards dead letters that were kept for as long as their topic says.
    async fn discard_old(
        self: &Arc<Self>,
        handle: &Arc<TopicHandle>,
        now: Timestamp,
    ) -> Result<(), QueueError> {
        let Some(keep_ms) = handle.settings().dead_retention_ms else {
            return Ok(());
        };
        let before = now.plus_ms(-keep_ms);
        let shard = self.shard(&handle.key);
        let old = shard.dead_before(&handle.key, before, STEP_ITEMS).await?;
        for ids in old.chunks(self.page_items(handle)) {
            self.discard(handle, ids, SettleCause::Discarded).await?;
        }
        if old.len() < STEP_ITEMS {
            handle.set_retention_looked_at(now);
        }
        Ok(())
    }

    /// Buries cold items whose time to live passed; what is leased is left to its consumer.
    async fn bury_expired(
        self: Arc<Self>,
        handle: Arc<TopicHandle>,
        requests: Vec<HoldRequest>,
    ) -> Result<(), QueueError> {
        uncancelled(async move {
            let now = self.clock.now();
            let (mut overdue, mut others) = (Vec::new(), Vec::new());
            for held in self.hold_cold(&handle, &requests).await? {
                let Held::Yes(queued) = held else { continue };
                let expired = queued.item.expires_at.is_some_and(|end| end <= now);
                if expired && queued.standing.dead.is_none() {
                    let why = OverdueWhy::Expired;
                    overdue.push(Overdue { queued, why });
                } else {
                    others.push(queued.item.id);
                }
            }
            self.hot.unhold(&handle.key, &others).await;
            self.bury(handle, overdue).await
        })
        .await
    }

    /// Removes items that nobody holds a lease on, hot or cold; returns how many there were.
    pub(super) async fn discard(
        self: &Arc<Self>,
        handle: &Arc<TopicHandle>,
        ids: &[ItemId],
        cause: SettleCause,
    ) -> Result<usize, QueueError> {
        let requests = unleased(ids);
        let (core, handle) = (self.clone(), handle.clone());
        uncancelled(async move {
            let held = held_ids(&core.hold_cold(&handle, &requests).await?);
            if held.is_empty() {
                return Ok(0);
            }
            core.discard_held(&handle.key, &held, cause).await
        })
        .await
    }

    async fn discard_held(
        &self,
        topic: &TopicKey,
        held: &[ItemId],
        cause: SettleCause,
    ) -> Result<usize, QueueError> {
        let mut frame = FrameBuilder::new();
        frame.settle(topic, cause, held);
        match self.log(frame).await {
            Ok((lsn, applying)) => {
                let gone = |&id: &ItemId| Finish::gone(id, cause);
                let finishes = held.iter().map(gone).collect();
                let (hot, topic) = (self.hot.clone(), topic.clone());
                self.applied(async move {
                    hot.finish(&topic, lsn, finishes).await;
                    drop(applying);
                })
                .await;
                Ok(held.len())
            }
            Err(error) => {
                self.hot.unhold(topic, held).await;
                Err(error)
            }
        }
    }
}

/// Asks for items that nobody has a lease on.
pub(super) fn unleased(ids: &[ItemId]) -> Vec<HoldRequest> {
    let request = |&id: &ItemId| HoldRequest { id, generation: None };
    ids.iter().map(request).collect()
}
