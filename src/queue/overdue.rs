//! Items that can go out no more: the last attempt's lease ended, or the time to live passed.

use std::sync::Arc;

use super::core::Core;
use super::error::QueueError;
use super::topics::{TopicHandle, count};
use super::transition::died;
use super::uncancelled::uncancelled;
use crate::hot::{Finish, Overdue, OverdueWhy};
use crate::model::limits::BATCH_ITEMS_MAX;
use crate::model::{DeadReason, ExpiryAction, SettleCause, Standing};
use crate::wal::{FrameBuilder, PatchEntry};

impl Core {
    /// Logs and applies the end of overdue items: dead letters, or dropped as the topic says. Those that cannot be
    /// logged are overdue again.
    pub(super) async fn bury(
        self: Arc<Self>,
        handle: Arc<TopicHandle>,
        overdue: Vec<Overdue>,
    ) -> Result<(), QueueError> {
        uncancelled(async move {
            let (mut overdue, mut buried) = (overdue, Ok(()));
            while !overdue.is_empty() {
                // A frame has a largest size, and a flush stores one frame whole.
                let rest = overdue.split_off(overdue.len().min(BATCH_ITEMS_MAX));
                let batch = std::mem::replace(&mut overdue, rest);
                buried = buried.and(self.bury_batch(&handle, batch).await);
            }
            buried
        })
        .await
    }

    async fn bury_batch(&self, handle: &TopicHandle, overdue: Vec<Overdue>) -> Result<(), QueueError> {
        let now = self.clock.now();
        let keep_expired = handle.settings().on_expiry == ExpiryAction::Dead;
        let mut patches = Vec::new();
        let mut dropped = Vec::new();
        let mut leases_ms = Vec::new();
        for Overdue { queued, why } in overdue {
            leases_ms.extend(queued.standing.leased_ms(now));
            let (reason, error): (_, &str) = match why {
                OverdueWhy::AttemptsExhausted => (
                    DeadReason::AttemptsExhausted,
                    "the lease of the last attempt ended without an ack",
                ),
                OverdueWhy::Expired if keep_expired => (DeadReason::Expired, "the time to live passed"),
                OverdueWhy::Expired => {
                    dropped.push(queued.item.id);
                    continue;
                }
            };
            let standing: Standing = died(&queued.standing, reason, now, Some(error.into()));
            patches.push(PatchEntry {
                id: queued.item.id,
                standing,
            });
        }
        let mut frame = FrameBuilder::new();
        if !patches.is_empty() {
            frame.patch(&handle.key, &patches);
        }
        if !dropped.is_empty() {
            frame.settle(&handle.key, SettleCause::Expired, &dropped);
        }
        let ids: Vec<_> = patches
            .iter()
            .map(|patch| patch.id)
            .chain(dropped.iter().copied())
            .collect();
        match self.log(frame).await {
            Ok((lsn, applying)) => {
                self.counted.note_leases(leases_ms);
                count(&handle.counters.dead, patches.len());
                count(&handle.counters.expired, dropped.len());
                let dead = patches.into_iter().map(Finish::from);
                let gone = dropped
                    .into_iter()
                    .map(|id| Finish::gone(id, SettleCause::Expired));
                let finishes = dead.chain(gone).collect();
                let (hot, topic) = (self.hot.clone(), handle.key.clone());
                self.applied(async move {
                    hot.finish(&topic, lsn, finishes).await;
                    drop(applying);
                })
                .await;
                Ok(())
            }
            Err(error) => {
                tracing::error!(topic = %handle.key, %error, "overdue items could not be logged");
                self.hot.unhold(&handle.key, &ids).await;
                Err(error)
            }
        }
    }
}
