//! Dead letters: bringing them back, in place or into another topic.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::{ItemView, Redrive, Redriven};
use super::topics::{TopicHandle, count};
use super::transition::redriven;
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hot::{Finish, Held, HoldRequest, item_bytes};
use crate::model::{Item, ItemId, ItemState, OrderKey, QueuedItem, SettleCause, TopicKey};
use crate::wal::{FrameBuilder, PatchEntry};

/// Dead letters looked at in one step.
const STEP: usize = 500;
/// Most bytes that come back in one frame of the log.
const GROUP_BYTES: usize = 512 << 10;
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
            for chunk in groups(&wanted, step) {
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
    /// Brings a few dead letters back, in place or as new items of `target`; returns how many. One whose time
    /// to live passed would die again at once: it comes back as a new item of its own topic.
    async fn revive(
        self: Arc<Self>,
        handle: &Arc<TopicHandle>,
        target: Option<&Arc<TopicHandle>>,
        items: &[ItemView],
    ) -> Result<usize, QueueError> {
        let ids: Vec<_> = items.iter().map(|item| item.item.id).collect();
        let (handle, target) = (handle.clone(), target.cloned());
        uncancelled(async move {
            let dead = self.hold_dead(&handle, &ids).await?;
            let held: Vec<_> = dead.iter().map(|queued| queued.item.id).collect();
            if held.is_empty() {
                return Ok(0);
            }
            let now = self.clock.now();
            let has_lapsed = |queued: &QueuedItem| queued.item.expires_at.is_some_and(|end| end <= now);
            let result = match target {
                Some(target) => self.bring_back(&handle, &[], &target, &dead).await,
                None => {
                    let (lapsed, lasting): (Vec<_>, Vec<_>) = dead.into_iter().partition(has_lapsed);
                    self.bring_back(&handle, &lasting, &handle, &lapsed).await
                }
            };
            if result.is_err() {
                self.hot.unhold(&handle.key, &held).await;
            }
            result.map(|()| held.len())
        })
        .await
    }

    /// Holds those of `ids` that are dead.
    async fn hold_dead(&self, handle: &TopicHandle, ids: &[ItemId]) -> Result<Vec<QueuedItem>, QueueError> {
        let requests: Vec<_> = ids
            .iter()
            .map(|&id| HoldRequest { id, generation: None })
            .collect();
        let mut dead = Vec::new();
        let mut alive = Vec::new();
        for held in self.hold_cold(handle, &requests).await? {
            match held {
                Held::Yes(queued) if queued.standing.dead.is_some() => dead.push(queued),
                Held::Yes(queued) => alive.push(queued.item.id),
                _ => {}
            }
        }
        self.hot.unhold(&handle.key, &alive).await;
        Ok(dead)
    }

    /// Revives items in place, and makes new ones in `target` of others. One frame says all of it: that the
    /// new ones are there and that the old ones are gone.
    async fn bring_back(
        self: &Arc<Self>,
        handle: &Arc<TopicHandle>,
        lasting: &[QueuedItem],
        target: &Arc<TopicHandle>,
        moved: &[QueuedItem],
    ) -> Result<(), QueueError> {
        let now = self.clock.now();
        let patch = |queued: &QueuedItem| PatchEntry {
            id: queued.item.id,
            standing: redriven(&queued.standing, now),
        };
        let patches: Vec<_> = lasting.iter().map(patch).collect();
        let ids = self.ids.next(moved.len());
        let renewed: Vec<_> = moved
            .iter()
            .zip(ids)
            .map(|(old, id)| renew(old, id, now))
            .collect();
        let old: Vec<_> = moved.iter().map(|queued| queued.item.id).collect();
        let mut frame = FrameBuilder::new();
        if !patches.is_empty() {
            frame.patch(&handle.key, &patches);
        }
        if !renewed.is_empty() {
            frame.enqueue(&target.key, renewed.iter().map(|queued| &*queued.item));
            frame.settle(&handle.key, SettleCause::Discarded, &old);
        }
        let (lsn, applying) = self.log(frame).await?;
        let (work, handle, target) = (self.clone(), handle.clone(), target.clone());
        self.applied(async move {
            if !renewed.is_empty() {
                count(&target.counters.enqueued, renewed.len());
                work.admit(&target, lsn, renewed).await;
            }
            let stays = patches.into_iter().map(Finish::from);
            let gone = old.into_iter().map(|id| Finish::gone(id, SettleCause::Discarded));
            work.hot
                .finish(&handle.key, lsn, stays.chain(gone).collect())
                .await;
            drop(applying);
        })
        .await;
        Ok(())
    }
}

/// A new item of what a dead one was: its time to live begins anew, and its idempotency key, which named the
/// old one, stays behind.
fn renew(dead: &QueuedItem, id: ItemId, now: Timestamp) -> QueuedItem {
    let ttl_ms = dead
        .item
        .expires_at
        .map(|end| end.since_ms(dead.item.enqueued_at));
    let mut extra = dead.item.extra.clone();
    if let Some(extra) = &mut extra {
        extra.idempotency_key = None;
    }
    QueuedItem::accepted(Item {
        id,
        enqueued_at: now,
        deliver_after: now,
        expires_at: ttl_ms.map(|ttl_ms| now.plus_ms(ttl_ms)),
        extra,
        ..(*dead.item).clone()
    })
}

/// The items in groups of at most `count` each, and of few enough bytes for a frame of the log.
fn groups(items: &[ItemView], count: usize) -> impl Iterator<Item = &[ItemView]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |view: &&ItemView| {
            bytes += item_bytes(&view.item);
            bytes <= GROUP_BYTES
        };
        let fitting = rest.iter().take(count).take_while(fits).count().max(1);
        let (group, others) = rest.split_at_checked(fitting)?;
        rest = others;
        Some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded_in_items_and_in_bytes() {
        let view = |payload: usize| ItemView {
            item: std::sync::Arc::new(Item {
                id: ItemId(1),
                priority: 0,
                lease_ms: 1,
                max_attempts: 1,
                kind: crate::model::PayloadKind::Bytes,
                enqueued_at: Timestamp::ZERO,
                deliver_after: Timestamp::ZERO,
                expires_at: None,
                payload: vec![0; payload].into(),
                extra: None,
            }),
            state: ItemState::Dead,
            due: Timestamp::ZERO,
            attempt: 1,
            lease_expires_at: None,
            last_error: None,
            dead: None,
        };
        let sizes = |payloads: &[usize]| {
            let views: Vec<_> = payloads.iter().map(|payload| view(*payload)).collect();
            groups(&views, 3).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0; 0]);
        assert_eq!(sizes(&[1; 7]), [3, 3, 1]);
        let large = GROUP_BYTES / 2;
        assert_eq!(sizes(&[large, large, 1, 1, 2 * GROUP_BYTES, 1]), [1, 3, 1, 1]);
    }
}
