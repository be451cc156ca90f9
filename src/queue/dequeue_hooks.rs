//! Dequeue through hooks: what was taken is shown to its topic's hooks before the hand-out is logged.
//!
//! What is stored never changes: consumers get a view of it. A delivery that a hook turned away was none, and
//! is not counted.

use std::sync::Arc;

use futures_util::future::join_all;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::core::Core;
use super::dequeue::Hand;
use super::request::{Delivered, DequeueRequest, Requester};
use super::topics::TopicHandle;
use super::transition::{died, released};
use crate::clock::Timestamp;
use crate::hooks::{Chain, DequeueOutcome, HookContext, HookItem, Reason};
use crate::hot::{Finish, Landing, TakenItem};
use crate::model::{DeadReason, Delivery, HookRef, ItemId, SettleCause, Side, Standing, TopicKey};
use crate::wal::{FrameBuilder, PatchEntry};

/// Failures in a row after which an item is a dead letter.
const STRIKES_MAX: u32 = 5;
/// Items whose failures are remembered. They live in memory: a restart forgets them, and so does a flood.
const REMEMBERED: usize = 10_000;
/// An item is deferred at least this long, in milliseconds: a hook that always defers must not keep the log busy.
const DEFER_MS_MIN: i64 = 100;
/// How long an item waits whose hook was not run for lack of resources, in milliseconds.
const OVERLOAD_MS: i64 = 1_000;

/// Failures in a row, by item.
#[derive(Debug, Default)]
pub(super) struct Strikes(Mutex<HashMap<ItemId, u32>>);

impl Strikes {
    /// Counts one more; returns how many there are.
    fn add(&self, id: ItemId) -> u32 {
        let mut strikes = self.0.lock();
        if strikes.len() >= REMEMBERED && !strikes.contains_key(&id) {
            strikes.clear();
        }
        let count = strikes.entry(id).or_default();
        *count += 1;
        *count
    }

    fn forget(&self, id: ItemId) {
        self.0.lock().remove(&id);
    }
}

/// An item that hooks turned away, and where it goes.
#[derive(Debug)]
pub(super) struct Turned {
    pub(super) id: ItemId,
    pub(super) generation: u32,
    to: Landing,
    /// The hook that sent it back for later.
    deferred_by: Option<HookRef>,
}

impl Turned {
    /// What is to be known of an item that waits because a hook sent it back: until when, and who did.
    pub(super) fn deferral(&self) -> Option<(ItemId, Timestamp, HookRef)> {
        match (&self.to, &self.deferred_by) {
            (Landing::Standing(standing), Some(by)) if standing.dead.is_none() => {
                Some((self.id, standing.due, by.clone()))
            }
            _ => None,
        }
    }
}

impl Core {
    /// Shows what is in `hands` to the hooks of its topics. What they turn away is moved aside; the rest
    /// becomes what consumers see, under leases that begin now.
    pub(super) async fn screen(&self, hands: &mut [Hand], request: &DequeueRequest) {
        let runs = hands.iter().map(|hand| async {
            let chain = hand.chain.as_ref()?;
            let asked = hand.items.iter().map(|taken| HookItem {
                item: taken.queued.item.clone(),
                attempt: taken.queued.standing.attempt,
                hops: 0,
            });
            let asked: Arc<[_]> = asked.collect();
            if asked.is_empty() {
                return None;
            }
            Some(self.view(chain, &hand.handle.key, &request.consumer, asked).await)
        });
        let outcomes = join_all(runs).await;
        let now = self.clock.now();
        for (hand, outcomes) in hands.iter_mut().zip(outcomes) {
            let Some(outcomes) = outcomes else { continue };
            let (taken, lease_now) = (
                std::mem::take(&mut hand.items),
                self.hot.lease_now(&hand.handle.key),
            );
            for (mut taken, outcome) in taken.into_iter().zip(outcomes) {
                let (id, standing) = (taken.queued.item.id, &taken.queued.standing);
                let generation = standing.generation;
                let deferred_by = match &outcome {
                    DequeueOutcome::Defer(by, _) | DequeueOutcome::Failed { by, .. } => Some(by.clone()),
                    _ => None,
                };
                match self.landing(&hand.handle, id, standing, now, outcome) {
                    Ok(view) => {
                        if hand.handle.settings().delivery != Delivery::AtMostOnce {
                            let lease_ms = request.lease_ms.unwrap_or(taken.queued.item.lease_ms);
                            taken.queued.standing.lease(lease_now, lease_ms.into());
                        }
                        taken.queued.item = view;
                        hand.items.push(taken);
                    }
                    Err(to) => hand.turned.push(Turned {
                        id,
                        generation,
                        to,
                        deferred_by,
                    }),
                }
            }
        }
    }

    async fn view(
        &self,
        chain: &Chain,
        topic: &TopicKey,
        consumer: &Requester,
        items: Arc<[HookItem]>,
    ) -> Vec<DequeueOutcome> {
        let context = HookContext {
            topic: topic.clone(),
            now: self.clock.now(),
            principal: consumer.subject.clone(),
            scopes: consumer.scopes.clone(),
        };
        let said = self.hooks.on_dequeue(chain, context, items.clone()).await;
        said.one_each(&items, DequeueOutcome::Deliver)
    }

    /// The view of an item that is delivered; else where it goes.
    fn landing(
        &self,
        handle: &TopicHandle,
        id: ItemId,
        standing: &Standing,
        now: Timestamp,
        outcome: DequeueOutcome,
    ) -> Result<Arc<crate::model::Item>, Landing> {
        let later = |delay_ms: i64| Landing::Standing(released(standing, now, Some(delay_ms.max(1))));
        let dead = |by: &HookRef, why: &Reason| {
            let error = format!("{}: {} ({by})", why.code, why.message);
            let uncounted = released(standing, now, None);
            Landing::Standing(died(&uncounted, DeadReason::Hook, now, Some(error.into())))
        };
        match outcome {
            DequeueOutcome::Failed { overloaded: true, .. } => return Err(later(OVERLOAD_MS)),
            DequeueOutcome::Failed { by, detail, .. } => {
                let strikes = self.strikes.add(id);
                if strikes < STRIKES_MAX {
                    let backoff = &handle.settings().backoff;
                    return Err(later(backoff.delay_ms(strikes, rand::random::<f64>())));
                }
                self.strikes.forget(id);
                let why = Reason {
                    code: "hook_failed".into(),
                    message: detail.into(),
                };
                return Err(dead(&by, &why));
            }
            _ => self.strikes.forget(id),
        }
        match outcome {
            DequeueOutcome::Deliver(view) => Ok(view),
            DequeueOutcome::Defer(_, ms) => Err(later(i64::from(ms).max(DEFER_MS_MIN))),
            DequeueOutcome::Filtered(..) => Err(Landing::Gone(SettleCause::Filtered)),
            DequeueOutcome::DeadLetter(by, why) => Err(dead(&by, &why)),
            DequeueOutcome::Failed { .. } => Err(later(OVERLOAD_MS)),
        }
    }

    /// What a consumer that asks again for a batch sees of it: the hooks run again, and what they turn away
    /// by now is left out until its lease ends.
    pub(super) async fn view_again(&self, held: Vec<Delivered>, consumer: &Requester) -> Vec<Delivered> {
        let mut seen = Vec::with_capacity(held.len());
        let mut rest = held;
        while let Some(first) = rest.first() {
            let topic = first.topic.clone();
            let (theirs, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|held| held.topic == topic);
            rest = others;
            let Some(chain) = self.hooks.chain(&topic, Side::Dequeue) else {
                seen.extend(theirs);
                continue;
            };
            let asked = theirs.iter().map(|held| HookItem {
                item: held.item.clone(),
                attempt: held.attempt,
                hops: 0,
            });
            let outcomes = self.view(&chain, &topic, consumer, asked.collect()).await;
            for (mut held, outcome) in theirs.into_iter().zip(outcomes) {
                if let DequeueOutcome::Deliver(view) = outcome {
                    held.item = view;
                    seen.push(held);
                }
            }
        }
        seen
    }
}

/// How many of these hooks dropped for good.
pub(super) fn filtered(turned: &[Turned]) -> usize {
    turned
        .iter()
        .filter(|turned| matches!(turned.to, Landing::Gone(_)))
        .count()
}

/// Writes where the items that hooks turned away go.
pub(super) fn log_turned(frame: &mut FrameBuilder, topic: &TopicKey, turned: &[Turned]) {
    let patch = |turned: &Turned| match &turned.to {
        Landing::Standing(standing) => Some(PatchEntry {
            id: turned.id,
            standing: standing.clone(),
        }),
        Landing::Gone(_) => None,
    };
    let patches: Vec<_> = turned.iter().filter_map(patch).collect();
    let gone = turned
        .iter()
        .filter(|turned| matches!(turned.to, Landing::Gone(_)));
    let gone: Vec<_> = gone.map(|turned| turned.id).collect();
    if !patches.is_empty() {
        frame.patch(topic, &patches);
    }
    if !gone.is_empty() {
        frame.settle(topic, SettleCause::Filtered, &gone);
    }
}

/// Where everything of a hand that hooks saw goes: what they turned away, and what is delivered, whose lease
/// began anew. The second number is how many are dead letters now.
pub(super) fn finishes(turned: Vec<Turned>, items: &[TakenItem]) -> (Vec<Finish>, usize) {
    let is_dead = |turned: &&Turned| matches!(&turned.to, Landing::Standing(s) if s.dead.is_some());
    let dead = turned.iter().filter(is_dead).count();
    let away = turned.into_iter().map(|turned| Finish {
        id: turned.id,
        to: turned.to,
    });
    let leased = items.iter().map(|taken| Finish {
        id: taken.queued.item.id,
        to: Landing::Standing(taken.queued.standing.clone()),
    });
    (away.chain(leased).collect(), dead)
}
