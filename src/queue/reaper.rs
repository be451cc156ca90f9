//! The reaper moves what time moves; the housekeeper removes what time has made useless.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::topics::{TopicHandle, count};
use crate::hot::{Finish, Held, HoldRequest, Landing};
use crate::model::{ItemId, SettleCause};
use crate::shard::ShardError;
use crate::wal::FrameBuilder;

/// How often time is looked at. Waiting consumers do not depend on it: they wake themselves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often rates are sampled and useless things are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(1);
/// Items removed in one step.
const STEP_ITEMS: usize = 1_000;

impl Core {
    /// One turn: due items become ready, ended leases come back, and what can go out no more is buried.
    pub(super) async fn reap_tick(self: Arc<Self>) {
        tokio::time::sleep(LOOK_EVERY).await;
        for (key, overdue) in self.hot.advance().await {
            if let Some(handle) = self.topics.get(&key) {
                self.clone().bury(handle, overdue).await;
            }
        }
    }

    /// One turn: sample rates; drop expired cold items, forgotten keys and old dead letters.
    pub(super) async fn housekeeping_tick(self: Arc<Self>) {
        tokio::time::sleep(CLEAN_EVERY).await;
        let now_ms = self.clock.now().ms();
        for handle in self.topics.all() {
            handle.sample(now_ms);
        }
        if let Err(error) = self.clean_up().await {
            tracing::warn!(%error, "a shard could not be cleaned up");
        }
    }

    async fn clean_up(self: &Arc<Self>) -> Result<(), ShardError> {
        let now = self.clock.now();
        for shard in &self.shards {
            // Brought up, they are buried by the reaper like any other expired item.
            for (topic, item) in shard.expired(now, STEP_ITEMS).await? {
                self.hot.adopt(&topic, vec![item]).await;
            }
            shard.forget_keys(now).await?;
        }
        for handle in self.topics.all() {
            let Some(keep_ms) = handle.settings().dead_retention_ms else {
                continue;
            };
            if self.hot.counts(&handle.key).dead == 0 {
                continue;
            }
            let before = now.plus_ms(-keep_ms);
            let old = self
                .shard(&handle.key)
                .dead_before(&handle.key, before, STEP_ITEMS)
                .await?;
            if !old.is_empty() {
                self.bring_up(&handle.key, &old)
                    .await
                    .map_err(|e| ShardError::Unavailable(e.to_string()))?;
                self.discard(&handle, &old, SettleCause::Discarded).await;
            }
        }
        Ok(())
    }

    /// Removes items that nobody holds a lease on; returns how many there were.
    pub(super) async fn discard(
        self: &Arc<Self>,
        handle: &Arc<TopicHandle>,
        ids: &[ItemId],
        cause: SettleCause,
    ) -> usize {
        let topic = &handle.key;
        let requests: Vec<_> = ids
            .iter()
            .map(|&id| HoldRequest { id, generation: None })
            .collect();
        let held = self.hot.hold(topic, &requests).await;
        let held: Vec<_> = held
            .into_iter()
            .filter_map(|held| match held {
                Held::Yes(queued) => Some(queued.item.id),
                _ => None,
            })
            .collect();
        if held.is_empty() {
            return 0;
        }
        let mut frame = FrameBuilder::new();
        frame.settle(topic, cause, &held);
        match self.log(frame).await {
            Ok((lsn, applying)) => {
                let gone = |&id: &ItemId| Finish {
                    id,
                    to: Landing::Gone(cause),
                };
                self.hot.finish(topic, lsn, held.iter().map(gone).collect()).await;
                drop(applying);
                if cause == SettleCause::Expired {
                    count(&handle.counters.expired, held.len());
                }
                held.len()
            }
            Err(error) => {
                tracing::error!(%topic, %error, "a removal could not be logged");
                self.hot.unhold(topic, &held).await;
                0
            }
        }
    }
}
