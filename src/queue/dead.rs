//! Dead letters: bringing them back, in place or into another topic, as they are or as a hook makes them.

use std::sync::Arc;

use super::core::{Core, Queue};
use super::enqueue_hooks::{Charge, room};
use super::error::QueueError;
use super::reaper::unleased;
use super::request::{ItemView, Redrive, Redriven, Requester};
use super::sweep::{Deed, Sweep, Sweeper};
use super::topics::{TopicHandle, count};
use super::transition::redriven;
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hooks::{Chain, EnqueueOutcome, HookContext, HookItem, Shaped};
use crate::hot::{Finish, Held};
use crate::model::{HookRef, Item, ItemId, ItemState, Namespace, QueuedItem, SettleCause, TopicKey, limits};
use crate::wal::{FrameBuilder, PatchEntry};

/// How long one call works before it answers that there is more.
const CALL_MS: i64 = 20_000;

/// What becomes of dead letters that are held.
#[derive(Default)]
struct Return {
    /// They come back as they are, where they are.
    lasting: Vec<QueuedItem>,
    /// New items in their place, by topic.
    renewed: Vec<(Arc<TopicHandle>, Vec<Renewed>)>,
    /// They are gone: new ones are in their place, or none.
    gone: Vec<ItemId>,
    /// They stay dead.
    kept: Vec<ItemId>,
    /// What the new ones took of the rate beside those in whose place they are.
    charged: Vec<Charge>,
}

/// A new item in the place of a dead one.
struct Renewed {
    item: Arc<Item>,
    /// When the dead one was to be delivered first: another instant is a hook's wish.
    was_due: Timestamp,
}

impl Return {
    fn renew(&mut self, target: &Arc<TopicHandle>, item: Arc<Item>, dead: &QueuedItem) {
        let renewed = Renewed {
            item,
            was_due: dead.item.deliver_after,
        };
        match self.renewed.iter_mut().find(|(known, _)| known.key == target.key) {
            Some((_, items)) => items.push(renewed),
            None => self.renewed.push((target.clone(), vec![renewed])),
        }
    }
}

impl Queue {
    /// Brings dead letters back as `redrive` says. A call works for at most 20 seconds and then says that
    /// there is more.
    pub async fn redrive(&self, topic: &TopicKey, redrive: Redrive) -> Result<Redriven, QueueError> {
        let core = &self.core;
        let sweep = core.redrive_sweep(topic, &redrive).await?;
        let mut sweeper = Sweeper::new(sweep, 0);
        let until = core.clock.monotonic().plus_ms(CALL_MS);
        let mut failed = None;
        while !sweeper.is_over() && core.clock.monotonic() <= until {
            match sweeper.step(core).await {
                Ok(rest) if rest.is_zero() => {}
                Ok(rest) => tokio::time::sleep(rest).await,
                Err(error) if sweeper.swept.done == 0 => return Err(error),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let more = sweeper.has_more();
        let swept = sweeper.swept;
        Ok(Redriven {
            count: swept.done,
            kept: swept.kept,
            sample: swept.sample,
            more,
            failed,
        })
    }
}

impl Core {
    /// The sweep that `redrive` asks for.
    pub(super) async fn redrive_sweep(
        &self,
        topic: &TopicKey,
        redrive: &Redrive,
    ) -> Result<Sweep, QueueError> {
        let handle = self.topic(topic)?;
        let target = match &redrive.to_topic {
            Some(target) if target == topic => None,
            Some(target) if redrive.dry_run => self.topics.get(target),
            Some(target) => Some(self.topic_or_new(target).await?),
            None => None,
        };
        let deed = if redrive.dry_run {
            Deed::Count
        } else {
            let through = match &redrive.hook {
                Some(hook) => {
                    let chain = self.named_chain(topic.namespace(), hook)?;
                    let nobody = || Requester {
                        subject: "mqueue".into(),
                        scopes: [].into(),
                    };
                    Some((chain, redrive.by.clone().unwrap_or_else(nobody)))
                }
                None => None,
            };
            Deed::Revive { target, through }
        };
        Ok(Sweep {
            handle,
            state: ItemState::Dead,
            filter: redrive.filter.clone(),
            limit: redrive.limit,
            rate_per_s: redrive.rate_per_s,
            deed,
        })
    }

    /// A chain of one version of a hook, whether it is bound to anything or not.
    fn named_chain(&self, namespace: &Namespace, hook: &HookRef) -> Result<Chain, QueueError> {
        self.hooks.named(namespace, hook).ok_or_else(|| {
            let detail = format!("there is no {hook}; list the hook's versions");
            QueueError::invalid("hook", detail)
        })
    }

    /// Brings a few dead letters back, in place or as new items of `target`; returns how many, and how many
    /// hooks kept. One whose time to live passed would die again at once: it comes back as a new item.
    pub(super) async fn revive(
        self: Arc<Self>,
        handle: &Arc<TopicHandle>,
        target: Option<&Arc<TopicHandle>>,
        through: Option<&(Chain, Requester)>,
        items: &[ItemView],
    ) -> Result<(usize, usize), QueueError> {
        let ids: Vec<_> = items.iter().map(|item| item.item.id).collect();
        let (handle, target, through) = (handle.clone(), target.cloned(), through.cloned());
        uncancelled(async move {
            let dead = self.hold_dead(&handle, &ids).await?;
            if dead.is_empty() {
                return Ok((0, 0));
            }
            let held: Vec<_> = dead.iter().map(|queued| queued.item.id).collect();
            let mut back = match through {
                None => self.as_they_are(&handle, target.as_ref(), dead),
                Some((chain, by)) => {
                    self.as_hooks_say(&handle, target.as_ref(), &chain, by, dead)
                        .await
                }
            };
            let (kept, all) = (back.kept.clone(), held.len());
            let charged = std::mem::take(&mut back.charged);
            let result = match back.lasting.is_empty() && back.gone.is_empty() {
                true => Ok(()),
                false => self.bring_back(&handle, back).await,
            };
            let left = if result.is_err() { &held } else { &kept };
            self.hot.unhold(&handle.key, left).await;
            if result.as_ref().is_err_and(QueueError::stored_nothing) {
                self.give_quota_back(handle.key.namespace(), charged).await;
            }
            result.map(|()| (all - kept.len(), kept.len()))
        })
        .await
    }

    /// Holds those of `ids` that are dead.
    async fn hold_dead(&self, handle: &TopicHandle, ids: &[ItemId]) -> Result<Vec<QueuedItem>, QueueError> {
        let mut dead = Vec::new();
        let mut alive = Vec::new();
        for held in self.hold_cold(handle, &unleased(ids)).await? {
            match held {
                Held::Yes(queued) if queued.standing.dead.is_some() => dead.push(queued),
                Held::Yes(queued) => alive.push(queued.item.id),
                _ => {}
            }
        }
        self.hot.unhold(&handle.key, &alive).await;
        Ok(dead)
    }

    fn as_they_are(
        &self,
        handle: &Arc<TopicHandle>,
        target: Option<&Arc<TopicHandle>>,
        dead: Vec<QueuedItem>,
    ) -> Return {
        let now = self.clock.now();
        let mut back = Return::default();
        for queued in dead {
            if target.is_none() && !has_lapsed(&queued, now) {
                back.lasting.push(queued);
            } else {
                back.renew(target.unwrap_or(handle), queued.item.clone(), &queued);
                back.gone.push(queued.item.id);
            }
        }
        back
    }

    /// Shows dead letters to hooks as if they were enqueued again. What a hook changes comes back as new
    /// items; what it drops is gone; what it refuses, buries or fails on stays dead, and so does what it splits
    /// into more than there is quota or room for.
    async fn as_hooks_say(
        &self,
        handle: &Arc<TopicHandle>,
        target: Option<&Arc<TopicHandle>>,
        chain: &Chain,
        by: Requester,
        dead: Vec<QueuedItem>,
    ) -> Return {
        let now = self.clock.now();
        let home = target.unwrap_or(handle);
        let context = HookContext {
            topic: home.key.clone(),
            now,
            principal: by.subject,
            scopes: by.scopes,
        };
        let asked = dead.iter().map(|queued| HookItem {
            item: queued.item.clone(),
            attempt: 0,
            hops: 0,
        });
        let room = room(dead.iter().map(|queued| &*queued.item));
        let asked: Arc<[HookItem]> = asked.collect();
        let said = self.hooks.on_enqueue(chain, context, asked.clone(), &room).await;
        let outcomes = said.one_each(&asked, EnqueueOutcome::kept);
        let mut back = Return::default();
        let mut spare = limits::BATCH_ITEMS_MAX.saturating_sub(dead.len());
        for (queued, outcome) in dead.into_iter().zip(outcomes) {
            let id = queued.item.id;
            let parts = match outcome {
                EnqueueOutcome::Store(shaped) if self.is_untouched(&shaped, &queued, target, now) => {
                    back.lasting.push(queued);
                    continue;
                }
                EnqueueOutcome::Store(shaped) => vec![shaped],
                EnqueueOutcome::Split(_, parts) => parts,
                EnqueueOutcome::Filtered(..) => vec![],
                EnqueueOutcome::Rejected(..)
                | EnqueueOutcome::DeadLetter(..)
                | EnqueueOutcome::NoRoom
                | EnqueueOutcome::Failed { .. } => {
                    back.kept.push(id);
                    continue;
                }
            };
            let added = parts.len().saturating_sub(1);
            match self.homes(home, &parts).await {
                Ok(homes) => {
                    let charge = match added > spare {
                        true => None,
                        false => self.take_quota(home.key.namespace(), added).await,
                    };
                    let Some(charge) = charge else {
                        back.kept.push(id);
                        continue;
                    };
                    back.charged.push(charge);
                    spare -= added;
                    for (home, part) in homes.iter().zip(parts) {
                        back.renew(home, part.item, &queued);
                    }
                    back.gone.push(id);
                }
                Err(error) => {
                    tracing::debug!(%id, %error, "a dead letter stays: its hook sends it where it cannot go");
                    back.kept.push(id);
                }
            }
        }
        back
    }

    fn is_untouched(
        &self,
        shaped: &Shaped,
        dead: &QueuedItem,
        target: Option<&Arc<TopicHandle>>,
        now: Timestamp,
    ) -> bool {
        let is_same = Arc::ptr_eq(&shaped.item, &dead.item) && shaped.route.is_none();
        is_same && target.is_none() && !has_lapsed(dead, now)
    }

    /// Where each of `parts` goes.
    async fn homes(
        &self,
        home: &Arc<TopicHandle>,
        parts: &[Shaped],
    ) -> Result<Vec<Arc<TopicHandle>>, QueueError> {
        let mut homes = Vec::with_capacity(parts.len());
        for part in parts {
            homes.push(match &part.route {
                None => home.clone(),
                Some(route) => {
                    let key = TopicKey::new(home.key.namespace().clone(), route.clone());
                    self.topic_or_new(&key).await?
                }
            });
        }
        Ok(homes)
    }

    /// Makes `back` true. One frame says all of it: that the new ones are there and that the old ones are
    /// gone.
    async fn bring_back(self: &Arc<Self>, handle: &Arc<TopicHandle>, back: Return) -> Result<(), QueueError> {
        let now = self.clock.now();
        let patch = |queued: &QueuedItem| PatchEntry {
            id: queued.item.id,
            standing: redriven(&queued.standing, now),
        };
        let patches: Vec<_> = back.lasting.iter().map(patch).collect();
        let mut frame = FrameBuilder::new();
        if !patches.is_empty() {
            frame.patch(&handle.key, &patches);
        }
        let mut admitted = Vec::new();
        for (target, items) in back.renewed {
            let ids = self.ids.next(items.len());
            let items: Vec<_> = items
                .into_iter()
                .zip(ids)
                .map(|(renewed, id)| renew(&renewed, id, now))
                .collect();
            frame.enqueue(&target.key, items.iter().map(|queued| &*queued.item));
            admitted.push((target, items));
        }
        if !back.gone.is_empty() {
            frame.settle(&handle.key, SettleCause::Discarded, &back.gone);
        }
        let (lsn, applying) = self.log(frame).await?;
        let (work, handle) = (self.clone(), handle.clone());
        self.applied(async move {
            for (target, items) in admitted {
                count(&target.counters.enqueued, items.len());
                work.admit(&target, lsn, items).await;
            }
            let stays = patches.into_iter().map(Finish::from);
            let gone = back
                .gone
                .into_iter()
                .map(|id| Finish::gone(id, SettleCause::Discarded));
            work.hot
                .finish(&handle.key, lsn, stays.chain(gone).collect())
                .await;
            drop(applying);
        })
        .await;
        Ok(())
    }
}

fn has_lapsed(queued: &QueuedItem, now: Timestamp) -> bool {
    queued.item.expires_at.is_some_and(|end| end <= now)
}

/// A new item of what a dead one was, or of what a hook made of it: its time to live begins anew, and its
/// idempotency key, which named the old one, stays behind.
fn renew(Renewed { item, was_due }: &Renewed, id: ItemId, now: Timestamp) -> QueuedItem {
    let ttl_ms = item.expires_at.map(|end| end.since_ms(item.enqueued_at));
    let mut extra = item.extra.clone();
    if let Some(extra) = &mut extra {
        extra.idempotency_key = None;
    }
    let deliver_after = if item.deliver_after == *was_due {
        now
    } else {
        item.deliver_after
    };
    QueuedItem::accepted(Item {
        id,
        enqueued_at: now,
        deliver_after,
        expires_at: ttl_ms.map(|ttl_ms| now.plus_ms(ttl_ms)),
        extra,
        ..(**item).clone()
    })
}
