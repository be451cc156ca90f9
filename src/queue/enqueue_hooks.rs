//! Enqueue through hooks: run them, follow routes into other topics, and log all that is left in one frame.
//!
//! The log holds items as hooks left them, so replay never runs a hook. Items whose key is a repeat never
//! reach one. A key stays with an item only when something of it is stored: what was filtered, refused or
//! failed gives its key back, and a retry runs the hooks again.

mod plan;
mod record;

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::core::Core;
use super::enqueue::Batch;
use super::error::QueueError;
use super::idempotency::KeyedBatch;
use super::request::{EnqueueResult, HookReason, Requester};
use super::topics::{TopicHandle, count};
use crate::clock::{Monotonic, Timestamp};
use crate::hooks::{Chain, Decided, EnqueueOutcome, HookContext, HookItem, Reason, Room, Shaped};
use crate::model::{HookRef, Item, Namespace, QueuedItem, Side, TopicKey, TopicName, limits};
use crate::tenant::{Grant, Receipt};
use crate::wal::{FRAME_BYTES_MAX, Lsn};
use plan::{Plan, TopicPlace};
use record::{Group, frame, groups, key_entries, key_rows, results};

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

/// What is the same wherever the items of a request go.
struct Trip<'a> {
    by: &'a Requester,
    now: Timestamp,
    began: Monotonic,
    room: Room,
}

/// An item of the request, or a part of one.
struct Piece {
    /// Which item of the request.
    index: usize,
    item: Arc<Item>,
    hops: u32,
}

/// Where what is left of a request is.
pub(super) struct Logged {
    /// The topics that hold something of it.
    pub(super) topics: SmallVec<[TopicKey; 1]>,
    /// The position of the log that says all of it.
    pub(super) lsn: Lsn,
}

/// What was taken of a namespace's rate for items that hooks made.
pub(super) struct Charge {
    items: usize,
    receipt: Receipt,
}

impl Core {
    /// Runs `batch` through `chain` and stores what is left of it; returns the results, which are `unhooked` without
    /// hooks. Must not be cancelled: it holds reserved keys.
    pub(super) async fn enqueue_hooked(
        self: Arc<Self>,
        handle: Arc<TopicHandle>,
        keyed: KeyedBatch,
        unhooked: Vec<EnqueueResult>,
        batch: Batch,
        chain: Chain,
        by: &Requester,
    ) -> Result<(Vec<EnqueueResult>, Logged), QueueError> {
        let trip = Trip {
            by,
            now: self.clock.now(),
            began: self.clock.monotonic(),
            room: room(batch.items.iter().map(|queued| &*queued.item)),
        };
        let asked = batch.items.iter().map(|queued| HookItem {
            item: queued.item.clone(),
            attempt: 0,
            hops: 0,
        });
        let said = self.show(&chain, &handle.key, asked.collect(), &trip).await;
        let is_purged = |queued: &QueuedItem| handle.is_purged(queued.item.id);
        if matches!(said, Decided::Kept) && !batch.items.iter().any(is_purged) {
            let topic = handle.key.clone();
            let lsn = match self.append(handle, &keyed, batch).await? {
                Some(appended) => self.admit_appended(appended).await?,
                None => self.wal.durable_lsn(),
            };
            return Ok((
                unhooked,
                Logged {
                    topics: smallvec![topic],
                    lsn,
                },
            ));
        }
        let mut plans: Vec<Plan> = unhooked.iter().map(|_| Plan::default()).collect();
        let pieces = pieces(&keyed, batch, &mut plans);
        // Most requests are kept as they are: their futures should not be as large as what the others need.
        Box::pin(self.store_as_said(handle, keyed, pieces, said, plans, trip)).await
    }

    /// Puts what the first hooks said of `pieces` in force, runs what is routed through the hooks it comes to, and logs
    /// all that is left.
    async fn store_as_said(
        self: Arc<Self>,
        handle: Arc<TopicHandle>,
        keyed: KeyedBatch,
        pieces: Vec<Piece>,
        said: Decided<EnqueueOutcome>,
        mut plans: Vec<Plan>,
        trip: Trip<'_>,
    ) -> Result<(Vec<EnqueueResult>, Logged), QueueError> {
        let mut topics = vec![handle.clone()];
        self.follow(pieces, said, &mut topics, &mut plans, &trip).await;
        let charged = self.charge(&handle, &mut plans).await;
        self.renew_purged(&topics, &mut plans);

        let rows = key_rows(&handle, &keyed, &plans, trip.now);
        let mut unused = keyed.key_hashes();
        unused.retain(|hash| rows.iter().all(|row| row.key_hash != *hash));
        let results = results(&keyed, &plans);
        let entries = key_entries(&rows, &plans);
        let groups = groups(topics, plans);
        if groups.is_empty() {
            self.hot.release_keys(&handle.key, &unused).await;
            let (topics, lsn) = (smallvec![handle.key.clone()], self.wal.durable_lsn());
            return Ok((results, Logged { topics, lsn }));
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
        Ok((results, Logged { topics, lsn }))
    }

    /// What `chain` says of `items`, which are on their way into `topic`.
    async fn show(
        &self,
        chain: &Chain,
        topic: &TopicKey,
        items: Arc<[HookItem]>,
        trip: &Trip<'_>,
    ) -> Decided<EnqueueOutcome> {
        let context = HookContext {
            topic: topic.clone(),
            now: trip.now,
            principal: trip.by.subject.clone(),
            scopes: trip.by.scopes.clone(),
        };
        self.hooks.on_enqueue(chain, context, items, &trip.room).await
    }

    /// Puts what the hooks of the first topic said of `pieces` in force, and runs hooks until no piece is left that some
    /// hook has yet to see.
    async fn follow(
        &self,
        pieces: Vec<Piece>,
        said: Decided<EnqueueOutcome>,
        topics: &mut Vec<Arc<TopicHandle>>,
        plans: &mut [Plan],
        trip: &Trip<'_>,
    ) {
        let mut stops = VecDeque::new();
        let routed = self.turn_all(TopicPlace(0), pieces, said, plans);
        self.send_on(routed, topics, plans, &mut stops).await;
        let mut runs = 1;
        while let Some(mut stop) = stops.pop_front() {
            stop.pieces.retain(|piece| plans[piece.index].is_open());
            let Some(chain) = stop.chain.take() else {
                self.turn_all(stop.topic, stop.pieces, Decided::Kept, plans);
                continue;
            };
            runs += 1;
            if runs > RUNS_MAX || self.clock.monotonic().0 - trip.began.0 > RUN_MS {
                for piece in stop.pieces {
                    plans[piece.index].refuse("hook_overloaded", "its hooks send it on for too long");
                }
                continue;
            }
            let asked = stop.pieces.iter().map(|piece| HookItem {
                item: piece.item.clone(),
                attempt: 0,
                hops: piece.hops,
            });
            let here = topics[stop.topic.0].key.clone();
            let said = self.show(&chain, &here, asked.collect(), trip).await;
            let routed = self.turn_all(stop.topic, stop.pieces, said, plans);
            self.send_on(routed, topics, plans, &mut stops).await;
        }
    }

    /// Puts what hooks said of `pieces` into the plans of their items; returns what goes to other topics.
    fn turn_all(
        &self,
        here: TopicPlace,
        pieces: Vec<Piece>,
        said: Decided<EnqueueOutcome>,
        plans: &mut [Plan],
    ) -> Vec<(TopicName, Vec<Piece>)> {
        let mut routed: Vec<(TopicName, Vec<Piece>)> = Vec::new();
        let outcomes = match said {
            Decided::Each(outcomes) => outcomes,
            Decided::Kept => {
                for piece in pieces {
                    plans[piece.index].store(here, piece.item);
                }
                return routed;
            }
        };
        for (piece, outcome) in pieces.into_iter().zip(outcomes) {
            for (topic, piece) in self.turn(here, &mut plans[piece.index], piece, outcome) {
                match routed.iter_mut().find(|(known, _)| *known == topic) {
                    Some((_, pieces)) => pieces.push(piece),
                    None => routed.push((topic, vec![piece])),
                }
            }
        }
        routed
    }

    /// Adds the topics to which pieces are routed to `stops`.
    async fn send_on(
        &self,
        routed: Vec<(TopicName, Vec<Piece>)>,
        topics: &mut Vec<Arc<TopicHandle>>,
        plans: &mut [Plan],
        stops: &mut VecDeque<Stop>,
    ) {
        for (topic, pieces) in routed {
            let key = TopicKey::new(topics[0].key.namespace().clone(), topic);
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

/// The items of `batch`, each with its place in the request.
fn pieces(keyed: &KeyedBatch, batch: Batch, plans: &mut [Plan]) -> Vec<Piece> {
    let fresh = (0..plans.len()).filter(|index| keyed.is_new(*index));
    let piece = |(index, queued): (usize, QueuedItem)| Piece {
        index,
        item: queued.item,
        hops: 0,
    };
    let pieces: Vec<_> = fresh.zip(batch.items).map(piece).collect();
    for piece in &pieces {
        plans[piece.index].id = piece.item.id;
    }
    pieces
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

/// The place of `handle` among `topics`, where it goes when it is not there.
fn place_of(topics: &mut Vec<Arc<TopicHandle>>, handle: Arc<TopicHandle>) -> TopicPlace {
    let known = topics.iter().position(|known| known.key == handle.key);
    TopicPlace(known.unwrap_or_else(|| {
        topics.push(handle);
        topics.len() - 1
    }))
}
