//! Enqueue through hooks: run them, follow routes into other topics, and log all that is left in one frame.
//!
//! The log holds items as hooks left them, so replay never runs a hook. Items whose key is a repeat never
//! reach one. A key stays with an item only when something of it is stored: what was filtered, refused or
//! failed gives its key back, and a retry runs the hooks again.

mod plan;

use std::collections::VecDeque;
use std::sync::Arc;

use super::admission::complete;
use super::core::Core;
use super::error::QueueError;
use super::idempotency::{KeyedBatch, repeat_of};
use super::request::{EnqueueResult, HookReason, NewItem, Requester};
use super::topics::{TopicHandle, count};
use crate::clock::Timestamp;
use crate::hooks::{Chain, EnqueueOutcome, HookContext, HookItem, Reason, Room, Shaped};
use crate::model::{HookRef, Item, ItemId, Namespace, QueuedItem, Side, TopicKey, TopicName, limits};
use crate::shard::DedupRow;
use crate::tenant::{Grant, Receipt};
use crate::wal::{FRAME_BYTES_MAX, FrameBuilder, KeyEntry, Lsn, PatchEntry};
use plan::{Plan, TopicPlace};

/// How long the hooks of one request may take, all routes together, in milliseconds.
const RUN_MS: i64 = 5_000;
/// Runs of chains that the routes of one request may lead to.
const RUNS_MAX: usize = 64;

/// Items of one topic that its hooks have yet to see.
struct Stop {
    topic: TopicPlace,
    chain: Option<Chain>,
    pieces: Vec<Piece>,
}

/// An item of the request, or a part of one.
struct Piece {
    /// Which item of the request.
    index: usize,
    item: Arc<Item>,
    hops: u32,
}

/// What was taken of a namespace's rate for items that hooks made.
pub(super) struct Charge {
    items: usize,
    receipt: Receipt,
}

/// What one frame brings to one topic.
struct Group {
    handle: Arc<TopicHandle>,
    items: Vec<QueuedItem>,
}

impl Core {
    /// Runs `items` through `chain` and stores what is left of them; returns the results, and which topics
    /// hold something since which position of the log. Must not be cancelled: it holds reserved keys.
    pub(super) async fn enqueue_hooked(
        self: Arc<Self>,
        handle: Arc<TopicHandle>,
        items: Vec<NewItem>,
        keyed: KeyedBatch,
        chain: Chain,
        by: &Requester,
    ) -> Result<(Vec<EnqueueResult>, Lsn, Vec<TopicKey>), QueueError> {
        let now = self.clock.now();
        let mut plans: Vec<Plan> = items.iter().map(|_| Plan::default()).collect();
        let pieces = self.pieces(&handle, items, &keyed, &mut plans, now);
        let mut topics = vec![handle.clone()];
        let first = Stop {
            topic: TopicPlace(0),
            chain: Some(chain),
            pieces,
        };
        self.follow(first, &mut topics, &mut plans, by, now).await;
        let charged = self.charge(&handle, &mut plans).await;
        self.renew_purged(&topics, &mut plans);

        let rows = key_rows(&handle, &keyed, &plans, now);
        let mut unused = keyed.key_hashes();
        unused.retain(|hash| rows.iter().all(|row| row.key_hash != *hash));
        let results = results(&keyed, &plans);
        let entries = key_entries(&rows, &plans);
        let groups = groups(topics, plans);
        if groups.is_empty() {
            self.hot.release_keys(&handle.key, &unused).await;
            return Ok((results, self.wal.durable_lsn(), vec![handle.key.clone()]));
        }
        let keeping = match self.keep_keys(&keyed).await {
            Ok(keeping) => keeping,
            Err(error) => {
                self.give_quota_back(handle.key.namespace(), charged).await;
                return Err(error);
            }
        };
        let (lsn, applying) = match self.log(frame(&groups, &handle, &entries)).await {
            Ok(logged) => logged,
            Err(error) => {
                self.hot.release_keys(&handle.key, &keyed.key_hashes()).await;
                if error.stored_nothing() {
                    self.give_quota_back(handle.key.namespace(), charged).await;
                }
                return Err(error);
            }
        };
        drop(keeping);
        self.hot.release_keys(&handle.key, &unused).await;
        let topics = groups.iter().map(|group| group.handle.key.clone()).collect();
        let work = self.clone();
        self.applied(async move {
            for Group { handle, items } in groups {
                let dead = items
                    .iter()
                    .filter(|queued| queued.standing.dead.is_some())
                    .count();
                count(&handle.counters.enqueued, items.len());
                count(&handle.counters.dead, dead);
                work.admit(&handle, lsn, items).await;
            }
            if !rows.is_empty() {
                work.hot.confirm_keys(&handle.key, lsn, rows).await;
            }
            drop(applying);
        })
        .await;
        Ok((results, lsn, topics))
    }

    /// The new items in their final form, under their ids.
    fn pieces(
        &self,
        handle: &TopicHandle,
        items: Vec<NewItem>,
        keyed: &KeyedBatch,
        plans: &mut [Plan],
        now: Timestamp,
    ) -> Vec<Piece> {
        let settings = handle.settings();
        let fresh = (0..items.len()).filter(|index| keyed.is_new(*index)).count();
        let mut ids = self.ids.next(fresh);
        let mut pieces = Vec::with_capacity(fresh);
        for (index, item) in items.into_iter().enumerate() {
            if !keyed.is_new(index) {
                continue;
            }
            let Some(id) = ids.next() else { break };
            plans[index].id = id;
            pieces.push(Piece {
                index,
                item: Arc::new(complete(item, id, &settings, now)),
                hops: 0,
            });
        }
        pieces
    }

    /// Runs hooks until no piece is left that some hook has yet to see.
    async fn follow(
        &self,
        first: Stop,
        topics: &mut Vec<Arc<TopicHandle>>,
        plans: &mut [Plan],
        by: &Requester,
        now: Timestamp,
    ) {
        let began = self.clock.monotonic();
        let room = room(first.pieces.iter().map(|piece| &*piece.item));
        let mut stops = VecDeque::from([first]);
        let mut runs = 0;
        while let Some(mut stop) = stops.pop_front() {
            stop.pieces.retain(|piece| plans[piece.index].is_open());
            let Some(chain) = stop.chain.take() else {
                for piece in stop.pieces {
                    plans[piece.index].store(stop.topic, piece.item);
                }
                continue;
            };
            runs += 1;
            if runs > RUNS_MAX || self.clock.monotonic().0 - began.0 > RUN_MS {
                for piece in stop.pieces {
                    plans[piece.index].refuse("hook_overloaded", "its hooks send it on for too long");
                }
                continue;
            }
            let here = topics[stop.topic.0].key.clone();
            let context = HookContext {
                topic: here.clone(),
                now,
                principal: by.subject.clone(),
                scopes: by.scopes.clone(),
            };
            let asked = stop.pieces.iter().map(|piece| HookItem {
                item: piece.item.clone(),
                attempt: 0,
                hops: piece.hops,
            });
            let asked = asked.collect();
            let outcomes = self.hooks.on_enqueue(&chain, context, asked, &room).await;
            let mut routed: Vec<(TopicName, Vec<Piece>)> = Vec::new();
            for (piece, outcome) in stop.pieces.into_iter().zip(outcomes) {
                for (topic, piece) in self.turn(stop.topic, &mut plans[piece.index], piece, outcome) {
                    match routed.iter_mut().find(|(known, _)| *known == topic) {
                        Some((_, pieces)) => pieces.push(piece),
                        None => routed.push((topic, vec![piece])),
                    }
                }
            }
            for (topic, pieces) in routed {
                let key = TopicKey::new(here.namespace().clone(), topic);
                match self.topic_or_new(&key).await {
                    Ok(handle) => stops.push_back(Stop {
                        topic: place_of(topics, handle),
                        chain: self.hooks.chain(&key, Side::Enqueue),
                        pieces,
                    }),
                    Err(error) => {
                        let code = match error {
                            QueueError::TooManyTopics(_) => "too_many_topics",
                            QueueError::UndeclaredTopic => "topic_not_declared",
                            _ => "shard_unavailable",
                        };
                        for piece in pieces {
                            let text = format!(
                                "a hook sends it to the topic {}, which cannot be made",
                                key.topic()
                            );
                            plans[piece.index].refuse(code, &text);
                        }
                    }
                }
            }
        }
    }

    /// Puts what a chain said of a piece into the plan of its item; returns what goes to other topics.
    fn turn(
        &self,
        here: TopicPlace,
        plan: &mut Plan,
        piece: Piece,
        outcome: EnqueueOutcome,
    ) -> Vec<(TopicName, Piece)> {
        if !plan.is_open() {
            return Vec::new();
        }
        let parts = match outcome {
            EnqueueOutcome::Store(Shaped { item, route: None }) => {
                plan.store(here, item);
                return Vec::new();
            }
            EnqueueOutcome::Store(shaped) => vec![shaped],
            EnqueueOutcome::Split(whole, mut parts) => {
                plan.whole.get_or_insert((here, whole));
                let ids = self.ids.next(parts.len().saturating_sub(1));
                for (part, id) in parts.iter_mut().skip(1).zip(ids) {
                    Arc::make_mut(&mut part.item).id = id;
                }
                parts
            }
            EnqueueOutcome::Filtered(by, reason) => {
                plan.filtered = Some(Box::new(HookReason { by, reason }));
                return Vec::new();
            }
            EnqueueOutcome::Rejected(by, reason) => {
                let why = Box::new(HookReason { by, reason });
                plan.refused = Some(Box::new(EnqueueResult::HookRejected(why)));
                return Vec::new();
            }
            EnqueueOutcome::DeadLetter(item, by, reason) => {
                // A part of what was split before takes the whole along.
                let (topic, item) = plan.whole.take().unwrap_or((here, item));
                plan.bury(topic, item, by, reason, self.clock.now());
                return Vec::new();
            }
            EnqueueOutcome::NoRoom => {
                plan.refuse_parts();
                return Vec::new();
            }
            EnqueueOutcome::Failed {
                by,
                detail,
                retry_after_ms,
            } => {
                plan.refused = Some(Box::new(failed(by, detail, retry_after_ms)));
                return Vec::new();
            }
        };
        let mut routed = Vec::new();
        for Shaped { item, route } in parts {
            match route {
                None => plan.store(here, item),
                Some(topic) => routed.push((
                    topic,
                    Piece {
                        index: piece.index,
                        item,
                        hops: piece.hops + 1,
                    },
                )),
            }
        }
        routed
    }

    /// Takes the items that splits added from the namespace's quota, and keeps the frame within the bounds
    /// that the flusher counts on. What there is no room for is refused whole. Returns what was taken.
    async fn charge(&self, handle: &TopicHandle, plans: &mut [Plan]) -> Vec<Charge> {
        let mut charged = Vec::new();
        let present = plans.iter().filter(|plan| !plan.stored.is_empty()).count();
        let mut spare = limits::BATCH_ITEMS_MAX.saturating_sub(present);
        for plan in plans {
            let added = plan.stored.len().saturating_sub(1);
            if added == 0 {
                continue;
            }
            if added > spare {
                plan.refuse_parts();
                continue;
            }
            match self.take_quota(handle.key.namespace(), added).await {
                Some(charge) => {
                    charged.push(charge);
                    spare -= added;
                }
                None => {
                    let text = "a hook splits it into more items than the namespace's quota has left";
                    plan.refuse("quota_exceeded", text);
                }
            }
        }
        charged
    }

    /// Takes `added` items from the rate of `namespace`; none where it has not so many.
    pub(super) async fn take_quota(&self, namespace: &Namespace, added: usize) -> Option<Charge> {
        let usage = self.quotas.usage(namespace);
        if usage.is_some_and(|usage| (usage.remaining as usize) < added) {
            return None;
        }
        let Grant { granted, receipt, .. } = self.quotas.take(namespace, added).await;
        let charge = Charge {
            items: granted,
            receipt,
        };
        if granted < added {
            self.give_quota_back(namespace, vec![charge]).await;
            return None;
        }
        Some(charge)
    }

    /// Gives back what was taken of the rate of `namespace` for items that are not stored.
    pub(super) async fn give_quota_back(&self, namespace: &Namespace, charged: Vec<Charge>) {
        for Charge { items, receipt } in charged {
            self.quotas.give_back(namespace, items, receipt).await;
        }
    }

    /// Gives new ids to items that would be taken for what a purge took away while their hooks ran: they are
    /// logged after it.
    fn renew_purged(&self, topics: &[Arc<TopicHandle>], plans: &mut [Plan]) {
        for plan in plans {
            for (topic, queued) in &mut plan.stored {
                if topics[topic.0].is_purged(queued.item.id)
                    && let Some(id) = self.ids.next(1).next()
                {
                    Arc::make_mut(&mut queued.item).id = id;
                }
            }
        }
    }
}

/// What hooks may make of the items of one request: what one frame holds.
pub(super) fn room<'a>(items: impl Iterator<Item = &'a Item>) -> Room {
    Room::beside(limits::BATCH_ITEMS_MAX, FRAME_BYTES_MAX, items)
}

fn failed(by: HookRef, detail: String, retry_after_ms: Option<u64>) -> EnqueueResult {
    let code = if retry_after_ms.is_some() {
        "hook_overloaded"
    } else {
        "hook_failed"
    };
    let reason = Reason {
        code: code.into(),
        message: detail.into(),
    };
    EnqueueResult::HookFailed {
        why: Box::new(HookReason { by, reason }),
        retry_after_ms,
    }
}

fn results(keyed: &KeyedBatch, plans: &[Plan]) -> Vec<EnqueueResult> {
    let mut results: Vec<EnqueueResult> = Vec::with_capacity(plans.len());
    for (index, plan) in plans.iter().enumerate() {
        results.push(match (keyed.answer(index), keyed.repeated(index)) {
            (Some(answer), _) => answer.clone(),
            (None, Some(first)) => repeat_of(&results[first]),
            (None, None) => plan.result(),
        });
    }
    results
}

/// The keys of the items of which something is stored, each for the first of what is.
fn key_rows(handle: &TopicHandle, keyed: &KeyedBatch, plans: &[Plan], now: Timestamp) -> Vec<DedupRow> {
    let expires_at = now.plus_ms(handle.settings().dedup_window_ms);
    let row = |(index, plan): (usize, &Plan)| {
        let probe = keyed.key(index)?;
        let id = plan.kept().iter().map(|(_, queued)| queued.item.id).min()?;
        Some(DedupRow {
            topic: handle.key.clone(),
            key_hash: probe.key_hash,
            body_hash: probe.body_hash,
            id,
            expires_at,
        })
    };
    plans.iter().enumerate().filter_map(row).collect()
}

/// Those of `rows` that replay cannot tell from the items themselves.
fn key_entries(rows: &[DedupRow], plans: &[Plan]) -> Vec<KeyEntry> {
    let is_shaped = |id: ItemId| {
        let mut stored = plans.iter().flat_map(Plan::kept);
        let item = stored.find(|(_, queued)| queued.item.id == id);
        let extra = item.and_then(|(_, queued)| queued.item.extra.as_deref());
        extra.is_some_and(|extra| extra.hook_version.is_some())
    };
    let entry = |row: &DedupRow| KeyEntry {
        key_hash: row.key_hash,
        body_hash: row.body_hash,
        id: row.id,
        expires_at: row.expires_at,
    };
    rows.iter().filter(|row| is_shaped(row.id)).map(entry).collect()
}

/// The place of `handle` among `topics`, where it goes when it is not there.
fn place_of(topics: &mut Vec<Arc<TopicHandle>>, handle: Arc<TopicHandle>) -> TopicPlace {
    let known = topics.iter().position(|known| known.key == handle.key);
    TopicPlace(known.unwrap_or_else(|| {
        topics.push(handle);
        topics.len() - 1
    }))
}

fn groups(topics: Vec<Arc<TopicHandle>>, plans: Vec<Plan>) -> Vec<Group> {
    let group = |handle| Group {
        handle,
        items: Vec::new(),
    };
    let mut groups: Vec<Group> = topics.into_iter().map(group).collect();
    let count = plans.len();
    for plan in plans.into_iter().filter(|plan| plan.refused.is_none()) {
        for (topic, queued) in plan.stored {
            let items = &mut groups[topic.0].items;
            if items.is_empty() {
                items.reserve(count);
            }
            items.push(queued);
        }
    }
    groups.retain(|group| !group.items.is_empty());
    groups
}

/// One frame says all of it, so that an item's parts and its key stand or fall together.
fn frame(groups: &[Group], handle: &TopicHandle, keys: &[KeyEntry]) -> FrameBuilder {
    let all = groups.iter().flat_map(|group| &group.items);
    let bytes: usize = all.map(|queued| queued.item.payload.len() + 96).sum();
    let mut frame = FrameBuilder::with_capacity(bytes + 256);
    for group in groups {
        let topic = &group.handle.key;
        frame.enqueue(topic, group.items.iter().map(|queued| &*queued.item));
        let dead = group.items.iter().filter(|queued| queued.standing.dead.is_some());
        let patches: Vec<_> = dead
            .map(|queued| PatchEntry {
                id: queued.item.id,
                standing: queued.standing.clone(),
            })
            .collect();
        if !patches.is_empty() {
            frame.patch(topic, &patches);
        }
    }
    if !keys.is_empty() {
        frame.keys(&handle.key, keys);
    }
    frame
}
