//! The operator: claims operations from the catalog and works on them, step by step.
//!
//! Any node may claim any operation. It holds it by a fence and must say again and again that it is still at
//! it; a node that cannot stops working before another one may begin.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::core::Core;
use super::error::QueueError;
use super::operation_counts::OperationCounts;
use super::request::{ItemView, Redrive, Requester};
use super::sweep::{Deed, Sweep, Sweeper, Swept};
use crate::clock::Monotonic;
use crate::model::{
    ItemFilter, ItemId, ItemState, Namespace, OperationState, Outcome, OutcomeExample, Progress, SettleCause,
    TopicKey, TopicName, Work,
};
use crate::shard::{Claimed, Ending, OperationOrder, Told};

/// How often is looked for operations that another node ordered, or let go.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Operations that a node works on at once. They are of different namespaces, and mostly wait.
const AT_ONCE: usize = 8;
/// How often an operation says how far it is, in milliseconds.
const REPORT_EVERY_MS: i64 = 500;
/// How long after it was last heard of an operation is another node's for the taking, in milliseconds.
const ALIVE_MS: i64 = 30_000;
/// How long after it was last heard of an operation stops by itself: well before another node may begin.
const SILENT_MS_MAX: i64 = 15_000;
/// How long is waited before something is tried again that the catalog refused.
const REST: Duration = Duration::from_millis(500);

/// How many items an outcome shows.
const EXAMPLES: usize = 10;

/// What this node works on.
pub(super) struct Operations {
    new: Notify,
    places: Arc<Semaphore>,
    pub(super) counts: OperationCounts,
}

impl Default for Operations {
    fn default() -> Self {
        Self {
            new: Notify::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            counts: OperationCounts::default(),
        }
    }
}

impl Operations {
    /// Says that there is something new.
    pub(super) fn ordered(&self) {
        self.new.notify_one();
    }
}

/// Why work ends before its end.
enum Cut {
    /// Somebody cancelled it.
    Cancelled,
    /// Another node has it, or may have it soon: nothing more is said of it.
    Lost,
    /// It cannot go on by itself.
    Stopped(&'static str),
    /// It met an error.
    Failed(QueueError),
}

impl From<QueueError> for Cut {
    fn from(error: QueueError) -> Self {
        Self::Failed(error)
    }
}

/// An operation under way.
struct Run {
    core: Arc<Core>,
    held_by: (u64, u64),
    order: OperationOrder,
    /// What was done, before this node took it over too.
    progress: Progress,
    kept: u64,
    examples: Vec<OutcomeExample>,
    heard: Monotonic,
}

impl Core {
    /// One turn: wait for a reason, then begin with all that can be begun with.
    pub(super) async fn operate_tick(self: Arc<Self>) {
        let _ = tokio::time::timeout(LOOK_EVERY, self.operations.new.notified()).await;
        while let Ok(place) = self.operations.places.clone().try_acquire_owned() {
            let now = self.clock.now();
            let claim = self
                .catalog
                .claim_operation(self.node, now, now.plus_ms(ALIVE_MS));
            let claimed = match claim.await {
                Ok(Some(claimed)) => claimed,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "operations could not be looked for");
                    return;
                }
            };
            let core = self.clone();
            self.loops.spawn(async move {
                core.operate(claimed).await;
                drop(place);
                // Its namespace may have another one that waits.
                core.operations.ordered();
            });
        }
    }

    /// Works on an operation to its end, or lets go of it when the node goes away.
    async fn operate(self: &Arc<Self>, claimed: Claimed) {
        let (id, began_before) = (claimed.row.id, claimed.fence > 1);
        let _running = self.operations.counts.begin(claimed.row.order.work.kind());
        let mut run = Run {
            core: self.clone(),
            held_by: (id, claimed.fence),
            // What a dry run counted before is counted again.
            progress: match claimed.row.order.dry_run {
                true => Progress::default(),
                false => claimed.row.progress,
            },
            order: claimed.row.order,
            kept: 0,
            examples: Vec::new(),
            heard: self.clock.monotonic(),
        };
        let work = async {
            let result = if claimed.row.cancelling {
                Err(Cut::Cancelled)
            } else {
                run.work(began_before).await
            };
            run.end(result).await;
        };
        tokio::select! {
            () = work => {}
            () = self.stop_loops.cancelled() => {
                if let Err(error) = self.catalog.release_operations(self.node).await {
                    tracing::warn!(id, %error, "the operation waits until this node is taken for dead");
                }
            }
        }
    }
}

impl Run {
    /// Does what was ordered.
    async fn work(&mut self, began_before: bool) -> Result<(), Cut> {
        if began_before && !self.order.dry_run && !self.order.work.may_go_on() {
            return Err(Cut::Stopped(
                "its node went away in the middle, and how far it came is not known exactly; look at what is \
                 left and order it again",
            ));
        }
        match self.order.work.clone() {
            Work::Purge { topic } => self.purge(&topic, false).await,
            Work::DiscardDead { topic } => self.purge(&topic, true).await,
            Work::Cancel {
                topic,
                states,
                filter,
                limit,
                rate_per_s,
            } => self.cancel(&topic, &states, filter, (limit, rate_per_s)).await,
            Work::Redrive {
                topic,
                filter,
                to_topic,
                limit,
                rate_per_s,
                hook,
            } => {
                let key = self.key(&topic);
                let redrive = Redrive {
                    filter: self.until_order(filter, true),
                    limit,
                    to_topic: to_topic.map(|topic| self.key(&topic)),
                    rate_per_s,
                    hook,
                    by: Some(Requester {
                        subject: self.order.created_by.as_str().into(),
                        scopes: [].into(),
                    }),
                    dry_run: self.order.dry_run,
                };
                let sweep = self.core.redrive_sweep(&key, &redrive).await?;
                self.progress.total = self.progress.looked + self.core.hot.counts(&key).dead;
                self.sweep(sweep).await
            }
            Work::DeleteTopic { topic } => self.delete_topics(vec![self.key(&topic)]).await,
            Work::DeleteNamespace => self.delete_namespace().await,
        }
    }

    fn key(&self, topic: &TopicName) -> TopicKey {
        TopicKey::new(self.order.namespace.clone(), topic.clone())
    }

    /// The last id that what was there when the work was ordered may have.
    fn last_ordered(&self) -> ItemId {
        ItemId::last_made_at(self.order.created_at)
    }

    /// `filter` for nothing but what was there when the work was ordered: what comes meanwhile, or dies again,
    /// is not meant.
    fn until_order(&self, mut filter: ItemFilter, dead: bool) -> ItemFilter {
        let ordered = self.order.created_at;
        let bound = if dead {
            &mut filter.died_before
        } else {
            &mut filter.enqueued_before
        };
        *bound = Some(bound.map_or(ordered, |before| before.min(ordered)));
        filter
    }

    async fn purge(&mut self, topic: &TopicName, dead: bool) -> Result<(), Cut> {
        let key = self.key(topic);
        let counts = self.core.hot.counts(&key);
        self.progress.total = match dead {
            true => counts.dead,
            false => counts.ready + counts.scheduled + counts.leased,
        };
        if self.order.dry_run {
            let state = if dead { ItemState::Dead } else { ItemState::Ready };
            let page = self.core.browse(&key, state, None, EXAMPLES).await?;
            self.examples.extend(page.entries.iter().map(example));
            self.progress.looked = self.progress.total;
            self.progress.done = self.progress.total;
            return Ok(());
        }
        self.core.topic(&key)?;
        let (count, _) = self
            .core
            .remove_all(&key, dead, Some(self.last_ordered()))
            .await?;
        self.progress.looked = count;
        self.progress.done = count;
        Ok(())
    }

    async fn cancel(
        &mut self,
        topic: &TopicName,
        states: &[ItemState],
        filter: ItemFilter,
        (limit, rate_per_s): (Option<u64>, Option<u32>),
    ) -> Result<(), Cut> {
        let key = self.key(topic);
        let handle = self.core.topic(&key)?;
        let counts = self.core.hot.counts(&key);
        let of = |state: &ItemState| match state {
            ItemState::Ready => counts.ready,
            ItemState::Scheduled => counts.scheduled,
            ItemState::Leased => 0,
            ItemState::Dead => counts.dead,
        };
        self.progress.total = self.progress.looked + states.iter().map(of).sum::<u64>();
        let filter = self.until_order(filter, false);
        for &state in states {
            let cause = match state {
                ItemState::Dead => SettleCause::Discarded,
                _ => SettleCause::Cancelled,
            };
            let sweep = Sweep {
                handle: handle.clone(),
                state,
                filter: filter.clone(),
                limit,
                rate_per_s,
                deed: if self.order.dry_run {
                    Deed::Count
                } else {
                    Deed::Discard(cause)
                },
            };
            self.sweep(sweep).await?;
        }
        Ok(())
    }

    /// Carries a sweep out, saying how far it is in between.
    async fn sweep(&mut self, sweep: Sweep) -> Result<(), Cut> {
        let looked_before = self.progress.looked;
        let mut sweeper = Sweeper::new(sweep, self.progress.done);
        let result = loop {
            if sweeper.is_over() {
                break Ok(());
            }
            let rest = match sweeper.step(&self.core).await {
                Ok(rest) => rest,
                Err(error) => break Err(error.into()),
            };
            self.progress.done = sweeper.swept.done;
            self.progress.looked = looked_before + sweeper.swept.looked;
            if let Err(cut) = self.report().await {
                break Err(cut);
            }
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
        };
        let Swept { kept, sample, .. } = sweeper.swept;
        self.kept += kept;
        self.examples.extend(sample.iter().map(example));
        self.examples.truncate(EXAMPLES);
        result
    }

    async fn delete_topics(&mut self, topics: Vec<TopicKey>) -> Result<(), Cut> {
        let items = |key: &TopicKey| {
            let counts = self.core.hot.counts(key);
            counts.ready + counts.scheduled + counts.leased + counts.dead
        };
        let left: u64 = topics.iter().map(items).sum();
        self.progress.total = self.progress.done + left;
        if self.order.dry_run {
            self.progress.looked = left;
            self.progress.done = left;
            return Ok(());
        }
        for topic in topics {
            match self.core.delete_topic(&topic, Some(self.last_ordered())).await {
                Ok(count) => {
                    self.progress.done += count;
                    self.progress.looked += count;
                }
                // Somebody else was faster.
                Err(QueueError::UnknownTopic) => {}
                Err(error) => return Err(error.into()),
            }
            self.report().await?;
        }
        Ok(())
    }

    async fn delete_namespace(&mut self) -> Result<(), Cut> {
        let namespace: Namespace = self.order.namespace.clone();
        let all = self.core.topics.all().into_iter();
        let own = all.filter(|handle| *handle.key.namespace() == namespace);
        let topics = own.map(|handle| handle.key.clone()).collect();
        self.delete_topics(topics).await?;
        if !self.order.dry_run {
            let _editing = self.core.topics.editing.lock().await;
            let catalog = &self.core.catalog;
            catalog
                .delete_namespace(&namespace)
                .await
                .map_err(QueueError::from)?;
            self.core.topics.remove_namespace(&namespace);
        }
        Ok(())
    }

    /// How far it is, as it is told: what was only counted changed nothing.
    fn told(&self) -> Progress {
        Progress {
            done: if self.order.dry_run { 0 } else { self.progress.done },
            ..self.progress
        }
    }

    /// Says how far it is, now and then; fails when it is to stop.
    async fn report(&mut self) -> Result<(), Cut> {
        let now = self.core.clock.monotonic();
        let silent_ms = now.0 - self.heard.0;
        if silent_ms < REPORT_EVERY_MS {
            return Ok(());
        }
        let alive_until = self.core.clock.now().plus_ms(ALIVE_MS);
        let catalog = &self.core.catalog;
        match catalog
            .report_operation(self.held_by, self.told(), alive_until)
            .await
        {
            Ok(Told::GoOn) => {
                self.heard = now;
                Ok(())
            }
            Ok(Told::Cancel) => Err(Cut::Cancelled),
            Ok(Told::Lost) => Err(Cut::Lost),
            Err(error) if silent_ms < SILENT_MS_MAX => {
                tracing::warn!(%error, "an operation could not say how far it is");
                Ok(())
            }
            Err(_) => Err(Cut::Lost),
        }
    }

    /// Says how it ended, as long as it is this node's to say.
    async fn end(self, result: Result<(), Cut>) {
        let (state, error) = match result {
            Ok(()) => (OperationState::Succeeded, None),
            Err(Cut::Cancelled) => (OperationState::Cancelled, None),
            Err(Cut::Stopped(why)) => (OperationState::Stopped, Some(why.to_owned())),
            Err(Cut::Failed(error)) => (OperationState::Failed, Some(error.to_string())),
            Err(Cut::Lost) => {
                tracing::warn!(id = self.held_by.0, "an operation is another node's now");
                return;
            }
        };
        let count = self.progress.done;
        let ending = Ending {
            state,
            progress: self.told(),
            error,
            outcome: Some(Outcome {
                count,
                kept: self.kept,
                examples: self.examples,
            }),
        };
        let (core, namespace, kind) = (&self.core, &self.order.namespace, self.order.work.kind());
        while core.clock.monotonic().0 - self.heard.0 < SILENT_MS_MAX {
            match core
                .catalog
                .end_operation(self.held_by, &ending, core.clock.now())
                .await
            {
                Ok(_) => {
                    core.operations.counts.ended(kind, state);
                    tracing::info!(%namespace, kind, %state, count, id = self.held_by.0, "an operation ended");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the end of an operation could not be stored");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
}

fn example(view: &ItemView) -> OutcomeExample {
    OutcomeExample {
        id: view.item.id,
        state: view.state,
        priority: view.item.priority,
        enqueued_at: view.item.enqueued_at,
        last_error: view.last_error.clone(),
    }
}
