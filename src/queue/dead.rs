//! Dead letters: bringing them back, in place or into another topic.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::{ItemView, Redrive, Redriven};
use super::topics::{TopicHandle, count};
use super::transition::redriven;
use super::uncancelled::uncancelled;
use crate::hot::{Finish, Held, HoldRequest, Landing};
use crate::model::{Item, ItemId, ItemState, OrderKey, QueuedItem, SettleCause, TopicKey};
use crate::wal::{FrameBuilder, PatchEntry};

/// Dead letters looked at in one step.
const STEP: usize = 500;
/// How many of the affected items an answer shows.
const SAMPLE: usize = 10;
/// How long one call works before it answers that there is more.
const CALL_MS: i64 = 20_000;

impl Queue {
    /// Brings dead letters back as `redrive` says. A call works for at most 20 seconds and then says that
    /// there is more.
    pub async fn redrive(&self, topic: &TopicKey, redrive: Redrive) -> Result<Redriven, QueueError> {
        let core = &self.core;
        let handle = core.topic(topic)?;
        let target = match &redrive.to_topic {
            Some(target) if target == topic => None,
            Some(target) => Some(core.topic_or_new(target).await?),
            None => None,
        };
        let began = core.clock.monotonic();
        let mut done = Redriven {
            count: 0,
            sample: Vec::new(),
            more: false,
        };
        let mut from = Some(OrderKey::MIN);
        while let Some(key) = from {
            let page = self.browse(topic, ItemState::Dead, Some(key), STEP).await?;
            from = page.next;
            let mut wanted: Vec<_> = page
                .entries
                .into_iter()
                .filter(|item| matches(&redrive, item))
                .collect();
            let left = redrive.limit.map_or(u64::MAX, |limit| limit - done.count);
            wanted.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let step = redrive
                .rate_per_s
                .map_or(STEP, |rate| (rate as usize).clamp(1, STEP));
            for chunk in wanted.chunks(step) {
                if core.clock.monotonic() > began.plus_ms(CALL_MS) {
                    done.more = true;
                    return Ok(done);
                }
                let moved = if redrive.dry_run {
                    chunk.len()
                } else {
                    core.clone().revive(&handle, target.as_ref(), chunk).await?
                };
                done.count += moved as u64;
                done.sample
                    .extend(chunk.iter().take(SAMPLE - done.sample.len()).cloned());
                if let Some(rate) = redrive.rate_per_s.filter(|_| !redrive.dry_run) {
                    tokio::time::sleep(Duration::from_secs_f64(moved as f64 / f64::from(rate.max(1)))).await;
                }
            }
            if redrive.limit.is_some_and(|limit| done.count >= limit) {
                done.more = from.is_some();
                break;
            }
        }
        Ok(done)
    }
}

fn matches(redrive: &Redrive, item: &ItemView) -> bool {
    let Some(death) = item.dead else { return false };
    let error = item.last_error.as_deref().unwrap_or_default();
    redrive.ids.as_ref().is_none_or(|ids| ids.contains(&item.item.id))
        && redrive.reason.is_none_or(|reason| reason == death.reason)
        && redrive
            .error_contains
            .as_ref()
            .is_none_or(|text| error.contains(text.as_str()))
        && redrive.died_after.is_none_or(|after| death.at >= after)
        && redrive.died_before.is_none_or(|before| death.at <= before)
}

impl Core {
    /// Brings a few dead letters back, in place or as new items of `target`; returns how many.
    async fn revive(
        self: Arc<Self>,
        handle: &Arc<TopicHandle>,
        target: Option<&Arc<TopicHandle>>,
        items: &[ItemView],
    ) -> Result<usize, QueueError> {
        let ids: Vec<_> = items.iter().map(|item| item.item.id).collect();
        self.bring_up(&handle.key, &ids).await?;
        let (handle, target) = (handle.clone(), target.cloned());
        uncancelled(async move {
            let dead = self.hold_dead(&handle.key, &ids).await;
            let held: Vec<_> = dead.iter().map(|queued| queued.item.id).collect();
            if held.is_empty() {
                return Ok(0);
            }
            let result = match target {
                Some(target) => self.move_to(&handle, &target, &dead).await,
                None => self.revive_in_place(&handle, &dead).await,
            };
            if result.is_err() {
                self.hot.unhold(&handle.key, &held).await;
            }
            result.map(|()| held.len())
        })
        .await
    }

    /// Holds those of `ids` that are dead.
    async fn hold_dead(&self, topic: &TopicKey, ids: &[ItemId]) -> Vec<QueuedItem> {
        let requests: Vec<_> = ids
            .iter()
            .map(|&id| HoldRequest { id, generation: None })
            .collect();
        let mut dead = Vec::new();
        let mut alive = Vec::new();
        for held in self.hot.hold(topic, &requests).await {
            match held {
                Held::Yes(queued) if queued.standing.dead.is_some() => dead.push(queued),
                Held::Yes(queued) => alive.push(queued.item.id),
                _ => {}
            }
        }
        self.hot.unhold(topic, &alive).await;
        dead
    }

    async fn revive_in_place(&self, handle: &TopicHandle, dead: &[QueuedItem]) -> Result<(), QueueError> {
        let now = self.clock.now();
        let patch = |queued: &QueuedItem| PatchEntry {
            id: queued.item.id,
            standing: redriven(&queued.standing, now),
        };
        let patches: Vec<_> = dead.iter().map(patch).collect();
        let mut frame = FrameBuilder::new();
        frame.patch(&handle.key, &patches);
        let (lsn, applying) = self.log(frame).await?;
        let finishes = patches
            .into_iter()
            .map(|p| Finish {
                id: p.id,
                to: Landing::Standing(p.standing),
            })
            .collect();
        self.hot.finish(&handle.key, lsn, finishes).await;
        drop(applying);
        Ok(())
    }

    /// One frame says both that the new items are there and that the old ones are gone.
    async fn move_to(
        &self,
        handle: &TopicHandle,
        target: &TopicHandle,
        dead: &[QueuedItem],
    ) -> Result<(), QueueError> {
        let now = self.clock.now();
        let renew = |(queued, id): (&QueuedItem, ItemId)| {
            let ttl_ms = queued
                .item
                .expires_at
                .map(|end| end.since_ms(queued.item.enqueued_at));
            QueuedItem::accepted(Item {
                id,
                enqueued_at: now,
                deliver_after: now,
                expires_at: ttl_ms.map(|ttl_ms| now.plus_ms(ttl_ms)),
                ..(*queued.item).clone()
            })
        };
        let renewed: Vec<_> = dead.iter().zip(self.ids.next(dead.len())).map(renew).collect();
        let old: Vec<_> = dead.iter().map(|queued| queued.item.id).collect();
        let mut frame = FrameBuilder::new();
        frame.enqueue(&target.key, renewed.iter().map(|queued| &*queued.item));
        frame.settle(&handle.key, SettleCause::Discarded, &old);
        let (lsn, applying) = self.log(frame).await?;
        count(&target.counters.enqueued, renewed.len());
        self.hot.admit(&target.key, lsn, renewed).await;
        let gone = |id| Finish {
            id,
            to: Landing::Gone(SettleCause::Discarded),
        };
        self.hot
            .finish(&handle.key, lsn, old.into_iter().map(gone).collect())
            .await;
        drop(applying);
        Ok(())
    }
}
