//! Enqueue: check, reserve keys, give ids, log, wait until the log is durable, and only then answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedRwLockReadGuard;

use super::admission::{check_batch, complete};
use super::core::{Core, Queue};
use super::error::QueueError;
use super::idempotency::{KeyedBatch, repeat_of};
use super::request::{Durability, EnqueueResult, Enqueued, NewItem, Requester};
use super::topics::{TopicHandle, count, count_untaken};
use super::uncancelled::uncancelled;
use crate::model::{QueuedItem, Side, TopicKey};
use crate::shard::{DedupRow, TopicRow};
use crate::wal::{FrameBuilder, Lsn, Pending};

/// How long an enqueue waits for memory before it is told to come back.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(1);

/// Items that are within their limits, for a topic that can take some.
#[derive(Debug)]
pub struct Checked(Vec<NewItem>);

impl Checked {
    /// The items.
    pub fn items(&self) -> &[NewItem] {
        &self.0
    }

    /// Keeps the first `count` of them.
    pub fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
    }
}

impl Queue {
    /// As [`Queue::check`] and [`Queue::enqueue_checked`], one after the other.
    ///
    /// # Errors
    /// Those of both.
    pub async fn enqueue(
        &self,
        topic: &TopicKey,
        items: Vec<NewItem>,
        durability: Durability,
        by: &Requester,
    ) -> Result<Enqueued, QueueError> {
        let items = self.check(topic, items).await?;
        self.enqueue_checked(topic, items, durability, by).await
    }

    /// Checks what can be told before anything is spent on `items`: whether `topic` takes any now, and each of
    /// them.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] refuses the batch whole.
    pub async fn check(&self, topic: &TopicKey, items: Vec<NewItem>) -> Result<Checked, QueueError> {
        let core = &self.core;
        core.check_running()?;
        core.check_tenure().await?;
        core.check_shard(topic)?;
        check_batch(&items, core.live.load().items)?;
        Ok(Checked(items))
    }

    /// Accepts `items` of `by` into `topic`; when this returns, every accepted one is as durable as the answer says:
    /// as asked for, or only logged when its shard does not commit in time.
    ///
    /// # Errors
    /// After [`QueueError::LogFailed`] the outcome is unknown. Every other error means that nothing was accepted.
    pub async fn enqueue_checked(
        &self,
        topic: &TopicKey,
        Checked(items): Checked,
        durability: Durability,
        by: &Requester,
    ) -> Result<Enqueued, QueueError> {
        let core = &self.core;
        core.wait_for_room(topic).await?;
        let handle = core.topic_or_new(topic).await?;
        let keyed = core.reserve(topic, &items).await?;
        let (results, batch) = core.assign(&handle, items, &keyed);
        if let Some(chain) = core.hooks.chain(topic, Side::Enqueue) {
            let (work, by, sent_to) = (core.clone(), by.clone(), handle.clone());
            let run = async move {
                work.enqueue_hooked(handle, keyed, results, batch, chain, &by)
                    .await
            };
            let (results, logged) = uncancelled(run).await?;
            count_untaken(&sent_to.counters, &results);
            let durability = core.reach_all(&logged.topics, logged.lsn, durability).await;
            return Ok(Enqueued { durability, results });
        }
        count_untaken(&handle.counters, &results);
        let lsn = match core.append(handle, &keyed, batch).await? {
            Some(appended) => uncancelled(core.clone().admit_appended(appended)).await?,
            // The items that these repeat are in the log already.
            None => core.wal.durable_lsn(),
        };
        let durability = core.reach(topic, lsn, durability).await;
        Ok(Enqueued { durability, results })
    }
}

/// What of a batch is stored.
pub(super) struct Batch {
    pub(super) items: Vec<QueuedItem>,
    keys: Vec<DedupRow>,
}

/// A batch that is on its way into the log.
pub(super) struct Appended {
    handle: Arc<TopicHandle>,
    batch: Batch,
    pending: Pending,
    /// The keys that are reserved for it.
    keys: Vec<u128>,
    /// Holds while a tier that may lose them does not.
    keeping: Option<OwnedRwLockReadGuard<()>>,
}

impl Core {
    /// Hands `batch` to the log; nothing when there is nothing in it.
    pub(super) async fn append(
        &self,
        handle: Arc<TopicHandle>,
        keyed: &KeyedBatch,
        batch: Batch,
    ) -> Result<Option<Appended>, QueueError> {
        if batch.items.is_empty() {
            return Ok(None);
        }
        let (topic, keys) = (&handle.key, keyed.key_hashes());
        let keeping = self.keep_keys(keyed).await?;
        let payloads: usize = batch.items.iter().map(|queued| queued.item.payload.len()).sum();
        let mut frame = FrameBuilder::with_capacity(payloads + 64 * batch.items.len() + 256);
        frame.enqueue(topic, batch.items.iter().map(|queued| &*queued.item));
        match self.wal.append(frame) {
            Ok(pending) => Ok(Some(Appended {
                handle,
                batch,
                pending,
                keys,
                keeping,
            })),
            Err(error) => {
                self.hot.release_keys(topic, &keys).await;
                Err(error.into())
            }
        }
    }

    /// Admits what was appended once that is durable; returns the position that says all of it. Must not be cancelled.
    pub(super) async fn admit_appended(self: Arc<Self>, appended: Appended) -> Result<Lsn, QueueError> {
        let Appended {
            handle,
            batch,
            pending,
            keys,
            keeping,
        } = appended;
        let lsn = pending.lsn();
        let applying = match pending.durable().await {
            Ok(applying) => applying,
            Err(error) => {
                self.hot.release_keys(&handle.key, &keys).await;
                return Err(error.into());
            }
        };
        drop(keeping);
        count(&handle.counters.enqueued, batch.items.len());
        let work = self.clone();
        self.applied(async move {
            work.admit(&handle, lsn, batch.items).await;
            if !batch.keys.is_empty() {
                work.hot.confirm_keys(&handle.key, lsn, batch.keys).await;
            }
            drop(applying);
        })
        .await;
        Ok(lsn)
    }

    /// Gives every new item its id and final form; results are in the order of the request.
    fn assign(
        &self,
        handle: &TopicHandle,
        items: Vec<NewItem>,
        keyed: &KeyedBatch,
    ) -> (Vec<EnqueueResult>, Batch) {
        let settings = handle.settings();
        let now = self.clock.now();
        let fresh = (0..items.len()).filter(|index| keyed.is_new(*index)).count();
        let mut ids = self.ids.next(fresh);
        let mut batch = Batch {
            items: Vec::with_capacity(fresh),
            keys: Vec::new(),
        };
        let mut results: Vec<EnqueueResult> = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let result = match (keyed.answer(index), keyed.repeated(index)) {
                (Some(answer), _) => answer.clone(),
                (None, Some(first)) => repeat_of(&results[first]),
                (None, None) => match ids.next() {
                    Some(id) => {
                        batch
                            .items
                            .push(QueuedItem::accepted(complete(item, id, &settings, now)));
                        if let Some(probe) = keyed.key(index) {
                            batch.keys.push(DedupRow {
                                topic: handle.key.clone(),
                                key_hash: probe.key_hash,
                                body_hash: probe.body_hash,
                                id,
                                expires_at: now.plus_ms(settings.dedup_window_ms),
                            });
                        }
                        EnqueueResult::Accepted { id }
                    }
                    None => continue,
                },
            };
            results.push(result);
        }
        (results, batch)
    }

    /// Waits a moment for memory when the budget is used up; asks the flusher to make some.
    async fn wait_for_room(&self, topic: &TopicKey) -> Result<(), QueueError> {
        self.hot.check(topic)?;
        if self.hot.bytes() < self.limits.hot_bytes_max {
            return Ok(());
        }
        let has_room = async {
            loop {
                let freed = self.room.notified();
                if self.hot.bytes() < self.limits.hot_bytes_max {
                    return;
                }
                self.flush.iter().for_each(super::flusher::FlushControl::kick);
                freed.await;
            }
        };
        match tokio::time::timeout(WAIT_FOR_ROOM, has_room).await {
            Ok(()) => Ok(()),
            Err(_) => Err(QueueError::Overloaded),
        }
    }

    /// Admits items whose record at `lsn` is durable.
    pub(super) async fn admit(&self, handle: &TopicHandle, lsn: Lsn, items: Vec<QueuedItem>) {
        self.hot.admit(&handle.key, lsn, items).await;
        if handle.is_deleted() {
            self.topics.insert(&handle.key, &TopicRow::default());
        }
    }

    /// The same for records of several topics.
    async fn reach_all(&self, topics: &[TopicKey], lsn: Lsn, wanted: Durability) -> Durability {
        let mut reached = wanted;
        for topic in topics {
            if self.reach(topic, lsn, wanted).await == Durability::Logged {
                reached = Durability::Logged;
            }
        }
        reached
    }

    /// Waits until everything up to `lsn`, which is logged, is as durable as `wanted`; returns what was
    /// reached. A shard that does not commit in time does not undo the acceptance: the items are logged.
    async fn reach(&self, topic: &TopicKey, lsn: Lsn, wanted: Durability) -> Durability {
        if wanted == Durability::Logged {
            return Durability::Logged;
        }
        let flush = &self.flush[usize::from(self.shard_number(topic))];
        match flush.store_up_to(lsn).await {
            Ok(()) => Durability::Stored,
            Err(_) => Durability::Logged,
        }
    }
}
