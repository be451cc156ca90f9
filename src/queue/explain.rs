//! Explain: why an item is not delivered now.
//!
//! Any node can be asked: what one of them knows alone is in the hot tier that they share. Breakers of hooks and shards
//! are each node's own, and what is said of them goes for the node that is asked.

use std::sync::Arc;

use super::browse::view;
use super::cluster::ShardView;
use super::core::Queue;
use super::error::QueueError;
use super::request::ItemView;
use super::topics::TopicHandle;
use super::traces::Trace;
use crate::clock::Timestamp;
use crate::model::{Death, HookRef, ItemId, ItemState, Side, TopicKey};
use crate::shard::Circuit;

/// How many items that go before are counted.
const AHEAD_MAX: usize = 1_000;

/// Why an item is or is not delivered now.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The item.
    pub item: ItemView,
    /// Everything that stands in its way.
    pub reasons: Vec<WhyNot>,
    /// How many ready items of its topic go before it; none when it is not ready, or its shard does not answer.
    pub ahead: Option<Ahead>,
    /// The shard that holds its topic.
    pub shard: ShardView,
}

impl Explanation {
    /// Whether the next dequeues may hand it out.
    pub fn is_deliverable(&self) -> bool {
        // What is hot goes out without its shard.
        self.reasons.iter().all(|why| *why == WhyNot::ShardAway)
    }
}

/// How many items go before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// How many were counted.
    pub count: u64,
    /// There are more: counting stops at a thousand items, or at some MiB of them.
    pub or_more: bool,
}

/// Something that stands in the way of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// Deliveries of its topic are stopped.
    Paused,
    /// Its producer asked for a later delivery.
    Scheduled {
        /// When it is due.
        until: Timestamp,
    },
    /// It failed, and waits before it is tried again.
    BackingOff {
        /// How often it was delivered.
        attempt: u32,
        /// When it is due.
        until: Timestamp,
    },
    /// A hook sent it back when it was about to be handed out.
    Deferred {
        /// The hook.
        by: HookRef,
        /// When it is due.
        until: Timestamp,
    },
    /// The version of a hook that it has to pass is in quarantine, and nothing passes without it.
    Quarantined {
        /// The version.
        by: HookRef,
    },
    /// A consumer has it.
    Leased {
        /// The consumer's subject; none when the tier that handed the item out has lost its memory since.
        by: Option<Arc<str>>,
        /// When the lease ends by itself.
        until: Option<Timestamp>,
    },
    /// A hook that it must pass is left alone, because it failed too often, and lets nothing through.
    HookResting {
        /// The hook.
        by: HookRef,
        /// When it is tried again.
        until: Timestamp,
    },
    /// It is a dead letter.
    Dead(Death),
    /// The namespace has as many items with consumers as its quota allows.
    OutOfLeases,
    /// Its shard does not answer: what is stored waits until it is back.
    ShardAway,
    /// Its time to live has passed; it goes with the next look at it.
    Expired {
        /// When.
        at: Timestamp,
    },
}

impl Queue {
    /// Why an item is or is not delivered now.
    pub async fn explain(&self, topic: &TopicKey, id: ItemId) -> Result<Explanation, QueueError> {
        let handle = self.core.topic(topic)?;
        let found = self.core.find(topic, id).await?;
        let found = found.ok_or(QueueError::UnknownItem(id))?;
        let by = found.by.clone();
        let item = view(found);
        let now = self.core.clock.now();
        let mut reasons = Vec::new();
        if handle.is_paused() {
            reasons.push(WhyNot::Paused);
        }
        if let Some(at) = item.item.expires_at.filter(|at| *at <= now)
            && item.state != ItemState::Dead
        {
            reasons.push(WhyNot::Expired { at });
        }
        reasons.extend(state_reason(&handle, &item, by));
        if matches!(item.state, ItemState::Ready | ItemState::Scheduled) {
            reasons.extend(self.quarantined_for(topic, id));
        }
        let is_ready = item.state == ItemState::Ready;
        if (is_ready || item.state == ItemState::Scheduled)
            && let Some((by, rest_ms)) = self.core.hooks.resting(topic, Side::Dequeue, id)
        {
            let until = now.plus_ms(rest_ms);
            reasons.push(WhyNot::HookResting { by, until });
        }
        if is_ready && self.is_out_of_leases(topic.namespace()) {
            reasons.push(WhyNot::OutOfLeases);
        }
        let shard = self.shard_of(topic);
        let is_away = shard.state != Circuit::Closed;
        if is_away {
            reasons.push(WhyNot::ShardAway);
        }
        let ahead = match is_ready && !is_away {
            true => Some(self.ahead(topic, &item).await?),
            false => None,
        };
        Ok(Explanation {
            item,
            reasons,
            ahead,
            shard,
        })
    }

    /// The first version that the item has to pass on its way out and that is in quarantine.
    fn quarantined_for(&self, topic: &TopicKey, id: ItemId) -> Option<WhyNot> {
        let chain = self.core.hooks.chain(topic, Side::Dequeue)?;
        let by = chain.0.iter().find_map(|bound| bound.withheld_by(id))?;
        Some(WhyNot::Quarantined { by: by.hook.clone() })
    }

    /// Counts the ready items that go before `item`.
    async fn ahead(&self, topic: &TopicKey, item: &ItemView) -> Result<Ahead, QueueError> {
        let own = item.key();
        let page = self.browse(topic, ItemState::Ready, None, AHEAD_MAX + 1).await?;
        let count = page.entries.iter().filter(|view| view.key() < own).count();
        // All that was read goes before it, and the next may, too.
        let is_cut = page.next.is_some_and(|next| next < own);
        Ok(Ahead {
            count: count.min(AHEAD_MAX) as u64,
            or_more: is_cut || count > AHEAD_MAX,
        })
    }
}

/// What its state alone says; `by` is who it waits for, where the tier that nodes share knows.
fn state_reason(handle: &TopicHandle, view: &ItemView, by: Option<Arc<str>>) -> Option<WhyNot> {
    let trace = |until: Timestamp| handle.traces.of(view.item.id, until);
    let until = view.due;
    let deferred_by = || match trace(until) {
        Some(Trace::Deferred(by)) => Some(by),
        _ => by.as_deref().and_then(HookRef::parse),
    };
    match view.state {
        ItemState::Ready => None,
        ItemState::Scheduled => Some(match deferred_by() {
            Some(by) => WhyNot::Deferred { by, until },
            None if view.attempt > 0 => WhyNot::BackingOff {
                attempt: view.attempt,
                until,
            },
            None => WhyNot::Scheduled { until },
        }),
        ItemState::Leased => Some(WhyNot::Leased {
            by: match view.lease_expires_at.and_then(trace) {
                Some(Trace::Held(by)) => Some(by),
                _ => by,
            },
            until: view.lease_expires_at,
        }),
        ItemState::Dead => view.dead.map(WhyNot::Dead),
    }
}
