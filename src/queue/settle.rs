//! Settle: ack, nack, extend, release, reject. Hold the item by its lease, log, and only then apply.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::activity::since_due_us;
use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::{LeaseAction, SettleResult, SettleStatus, Verb};
use super::topics::{TopicHandle, count};
use super::transition::{died, extended, nacked, released};
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::hot::{Finish, Held, HeldLease, HoldRequest};
use crate::model::{DeadReason, ItemId, ItemState, LeaseRef, SettleCause, TopicKey, limits};
use crate::wal::{FrameBuilder, Lsn, PatchEntry};

/// How often an item that another settlement holds is asked for again, at least.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How many times.
const ASK_MAX: usize = 250;

/// The actions of one request on one topic, with their places in the request.
struct Group {
    handle: Arc<TopicHandle>,
    actions: Vec<(usize, LeaseAction)>,
}

/// What a group leads to once it is logged.
struct Outcome {
    handle: Arc<TopicHandle>,
    finishes: Vec<Finish>,
    acked: usize,
    nacked: usize,
    rejected: usize,
    dead: usize,
    /// How long it took from when the acked items were due, in microseconds.
    turnarounds_us: Vec<u64>,
    /// How long the leases lasted that are over, in milliseconds.
    leases_ms: Vec<u64>,
}

impl Queue {
    /// Settles leases; results are in the order of `actions`. A stale lease changes nothing.
    ///
    /// # Errors
    /// No lease was settled; after [`QueueError::LogFailed`] and [`QueueError::HotUnavailable`] the outcome is unknown.
    pub async fn settle(&self, actions: Vec<LeaseAction>) -> Result<Vec<SettleResult>, QueueError> {
        for (index, action) in actions.iter().enumerate() {
            check(&action.verb)
                .map_err(|(field, detail)| QueueError::invalid(format!("leases[{index}].{field}"), detail))?;
        }
        self.core.check_tenure().await?;
        let core = self.core.clone();
        uncancelled(async move { core.settle(actions).await }).await
    }

    /// The current leases of `ids`, for consumers that settle by id.
    ///
    /// # Errors
    /// [`QueueError::HotUnavailable`].
    pub async fn current_leases(
        &self,
        topic: &TopicKey,
        ids: &[ItemId],
    ) -> Result<Vec<Option<LeaseRef>>, QueueError> {
        let mut leases = Vec::with_capacity(ids.len());
        for &id in ids {
            let view = self.core.hot.find(topic, id).await?;
            let leased = view.filter(|view| view.state == ItemState::Leased);
            leases.push(leased.map(|view| LeaseRef {
                topic: topic.clone(),
                id,
                generation: view.queued.standing.generation,
            }));
        }
        Ok(leases)
    }
}

fn check(verb: &Verb) -> Result<(), (&'static str, String)> {
    match verb {
        Verb::Nack {
            delay_ms: Some(ms), ..
        }
        | Verb::Release { delay_ms: Some(ms) }
            if !(0..=limits::DURATION_MS_MAX).contains(ms) =>
        {
            Err((
                "delay_ms",
                format!("must be between 0 and {}", limits::DURATION_MS_MAX),
            ))
        }
        Verb::Extend { lease_ms: Some(ms) }
            if !(limits::LEASE_MS_MIN..=limits::LEASE_MS_MAX).contains(ms) =>
        {
            let (min, max) = (limits::LEASE_MS_MIN, limits::LEASE_MS_MAX);
            Err(("lease_ms", format!("must be between {min} and {max}")))
        }
        _ => Ok(()),
    }
}

impl Core {
    async fn settle(self: Arc<Self>, actions: Vec<LeaseAction>) -> Result<Vec<SettleResult>, QueueError> {
        let lost = |action: &LeaseAction| SettleResult {
            status: SettleStatus::LeaseLost,
            lease_expires_at: None,
            id: action.lease.id,
        };
        let mut results: Vec<_> = actions.iter().map(lost).collect();
        let mut frame = FrameBuilder::new();
        let mut outcomes = Vec::new();
        let groups = self.group(actions);
        let held = self.hold_all(&groups).await?;
        for (group, held) in groups.into_iter().zip(held) {
            outcomes.push(self.decide(group, held, &mut frame, &mut results));
        }
        if frame.is_empty() {
            return Ok(results);
        }
        match self.log(frame).await {
            Ok((lsn, applying)) => {
                let work = self.clone();
                let applied = self.applied(async move {
                    for outcome in outcomes {
                        count(&outcome.handle.counters.acked, outcome.acked);
                        count(&outcome.handle.counters.nacked, outcome.nacked);
                        count(&outcome.handle.counters.turned_down, outcome.rejected);
                        count(&outcome.handle.counters.dead, outcome.dead);
                        outcome.handle.traces.settle(&outcome.finishes);
                        work.note_turnarounds(outcome.turnarounds_us);
                        work.counted.note_leases(outcome.leases_ms);
                        work.hot.finish(&outcome.handle.key, lsn, outcome.finishes).await;
                    }
                    drop(applying);
                });
                match applied.await {
                    Some(()) => Ok(results),
                    // The lease may end before the tier hears of it: then the item goes out again.
                    None => Err(not_applied()),
                }
            }
            Err(error) => {
                self.let_go(&outcomes).await;
                Err(error)
            }
        }
    }

    /// Appends a frame and waits until it is durable.
    pub(super) async fn log(&self, frame: FrameBuilder) -> Result<(Lsn, crate::wal::Applying), QueueError> {
        let pending = self.wal.append(frame)?;
        let lsn = pending.lsn();
        Ok((lsn, pending.durable().await?))
    }

    fn group(&self, actions: Vec<LeaseAction>) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut places: HashMap<TopicKey, Option<usize>> = HashMap::new();
        let count = actions.len();
        for (index, action) in actions.into_iter().enumerate() {
            // Most requests settle what one dequeue of one topic brought.
            if let Some(group) = groups.last_mut()
                && group.handle.key == action.lease.topic
            {
                group.actions.push((index, action));
                continue;
            }
            let place = *places.entry(action.lease.topic.clone()).or_insert_with(|| {
                let handle = self.topics.get(&action.lease.topic)?;
                groups.push(Group {
                    handle,
                    actions: Vec::with_capacity(count - index),
                });
                Some(groups.len() - 1)
            });
            if let Some(place) = place {
                groups[place].actions.push((index, action));
            }
        }
        groups
    }

    /// Holds the items of all groups at one moment. While another settlement has one of them, none is kept:
    /// two requests must not wait for each other.
    async fn hold_all(self: &Arc<Self>, groups: &[Group]) -> Result<Vec<Vec<Held>>, QueueError> {
        for _ in 0..ASK_MAX {
            let mut all = Vec::with_capacity(groups.len());
            let mut failed = None;
            for group in groups {
                match self.hold_group(group).await {
                    Ok(held) => all.push(held),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            let busy = all.iter().flatten().find_map(|held| match held {
                Held::Busy(decided) => Some(decided.clone()),
                _ => None,
            });
            if failed.is_none() && busy.is_none() {
                return Ok(all);
            }
            for (group, held) in groups.iter().zip(&all) {
                self.hot.unhold(&group.handle.key, &held_ids(held)).await;
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if let Some(decided) = busy {
                // The time-out covers a decision that came between asking and listening.
                let _ = tokio::time::timeout(ASK_AGAIN, decided.notified()).await;
            }
        }
        Err(QueueError::Overloaded)
    }

    /// Holds a group's items. One that is not in memory may be in the shard, leased before a restart.
    async fn hold_group(self: &Arc<Self>, group: &Group) -> Result<Vec<Held>, QueueError> {
        let topic = &group.handle.key;
        let request = |(_, action): &(usize, LeaseAction)| HoldRequest {
            id: action.lease.id,
            generation: Some(action.lease.generation),
        };
        let requests: Vec<_> = group.actions.iter().map(request).collect();
        let mut held = self.hot.hold(topic, &requests).await?;
        mark_repeats(&requests, &mut held);
        let unknown: Vec<_> = (0..held.len())
            .filter(|index| matches!(held[*index], Held::Unknown))
            .collect();
        if unknown.is_empty() {
            return Ok(held);
        }
        let again: Vec<_> = unknown.iter().map(|index| requests[*index]).collect();
        match self.hold_cold(&group.handle, &again).await {
            Ok(found) => {
                for (index, found) in unknown.into_iter().zip(found) {
                    held[index] = found;
                }
            }
            Err(error) => {
                self.hot.unhold(topic, &held_ids(&held)).await;
                return Err(error);
            }
        }
        mark_repeats(&requests, &mut held);
        Ok(held)
    }

    /// Decides what becomes of each held item, and writes it to `frame`.
    fn decide(
        &self,
        group: Group,
        held: Vec<Held>,
        frame: &mut FrameBuilder,
        results: &mut [SettleResult],
    ) -> Outcome {
        let Group { handle, actions } = group;
        let (now, lease_now) = (self.clock.now(), self.hot.lease_now(&handle.key));
        let mut acked = Vec::new();
        let mut turnarounds_us = Vec::new();
        let mut leases_ms = Vec::new();
        let mut patches = Vec::new();
        let (mut nacked, mut rejected) = (0, 0);
        for ((index, action), held) in actions.into_iter().zip(held) {
            let held = match held {
                Held::Leased(held) => held,
                Held::AlreadyDone => {
                    results[index].status = SettleStatus::AlreadyDone;
                    continue;
                }
                Held::Lost | Held::Busy(_) | Held::Unknown | Held::Yes(_) => continue,
            };
            results[index].status = SettleStatus::Ok;
            match action.verb {
                Verb::Nack { .. } => nacked += 1,
                Verb::Reject { .. } => rejected += 1,
                _ => {}
            }
            if !matches!(action.verb, Verb::Extend { .. }) {
                leases_ms.extend(held.standing.leased_ms(lease_now));
            }
            match apply(&action.verb, &held, &handle, (now, lease_now)) {
                None => {
                    acked.push(held.id);
                    turnarounds_us.push(since_due_us(&held.standing, now));
                }
                Some(standing) => {
                    results[index].lease_expires_at = standing.lease_expires_at;
                    patches.push(PatchEntry {
                        id: held.id,
                        standing,
                    });
                }
            }
        }
        if !acked.is_empty() {
            frame.settle(&handle.key, SettleCause::Acked, &acked);
        }
        if !patches.is_empty() {
            frame.patch(&handle.key, &patches);
        }
        let dead = patches
            .iter()
            .filter(|patch| patch.standing.dead.is_some())
            .count();
        let count = acked.len();
        let gone = acked.into_iter().map(|id| Finish::gone(id, SettleCause::Acked));
        let stays = patches.into_iter().map(Finish::from);
        Outcome {
            handle,
            finishes: gone.chain(stays).collect(),
            acked: count,
            nacked,
            rejected,
            dead,
            turnarounds_us,
            leases_ms,
        }
    }

    async fn let_go(&self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let ids: Vec<_> = outcome.finishes.iter().map(|finish| finish.id).collect();
            self.hot.unhold(&outcome.handle.key, &ids).await;
        }
    }
}

fn not_applied() -> QueueError {
    QueueError::HotUnavailable("it was not told in time what is settled; the outcome is unknown".into())
}

/// The standing a verb leads to; none when the item is done. Due times are by the node's clock, leases by their own.
fn apply(
    verb: &Verb,
    held: &HeldLease,
    handle: &TopicHandle,
    (now, lease_now): (Timestamp, Timestamp),
) -> Option<crate::model::Standing> {
    let standing = &held.standing;
    match verb {
        Verb::Ack => None,
        Verb::Nack { delay_ms, error } => {
            let settings = handle.settings();
            let delay = (*delay_ms, &settings.backoff, rand::random::<f64>());
            Some(nacked(standing, held.max_attempts, now, delay, error.clone()))
        }
        Verb::Extend { lease_ms } => Some(extended(standing, lease_now, lease_ms.unwrap_or(held.lease_ms))),
        Verb::Release { delay_ms } => Some(released(standing, now, *delay_ms)),
        Verb::Reject { error } => Some(died(standing, DeadReason::Rejected, now, error.clone())),
    }
}

/// A lease named twice in one request is held once; the second time it is done already.
fn mark_repeats(requests: &[HoldRequest], held: &mut [Held]) {
    for index in 0..held.len() {
        let first = || {
            requests[..index]
                .iter()
                .position(|request| *request == requests[index])
        };
        if matches!(held[index], Held::Busy(_))
            && first().is_some_and(|first| matches!(held[first], Held::Leased(_)))
        {
            held[index] = Held::AlreadyDone;
        }
    }
}

/// The ids of the items that are held.
pub(super) fn held_ids(held: &[Held]) -> Vec<ItemId> {
    let id = |held: &Held| match held {
        Held::Yes(queued) => Some(queued.item.id),
        Held::Leased(held) => Some(held.id),
        _ => None,
    };
    held.iter().filter_map(id).collect()
}
