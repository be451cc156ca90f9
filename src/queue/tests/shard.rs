//! A shard that is a few maps, outlives the node, and fails when told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::Timestamp;
use crate::model::{ItemId, NodeId, OrderKey, QueuedItem, TopicKey};
use crate::shard::{Checkpoint, DedupRow, PageOf, Shard, ShardError, StoredCounts};
use crate::wal::Lsn;

/// How the next checkpoint fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing of it is stored.
    Refused,
    /// All of it is stored, and the answer is lost.
    AnswerLost,
    /// The adapter panics before it stores anything.
    Panic,
}

/// The maps.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rows: BTreeMap<ItemId, (TopicKey, QueuedItem)>,
    keys: BTreeMap<(TopicKey, u128), DedupRow>,
    pub(super) progress: BTreeMap<u16, Lsn>,
    pub(super) fault: Option<Fault>,
    /// Every call fails.
    pub(super) down: bool,
    /// The log was lost: the next checkpoint may start over.
    pub(super) log_was_lost: bool,
}

/// A gate that calls wait at when a test has closed it.
#[derive(Debug)]
pub(super) struct Gate {
    open: Semaphore,
    reached: Semaphore,
    closed: Mutex<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            open: Semaphore::new(0),
            reached: Semaphore::new(0),
            closed: Mutex::new(false),
        }
    }
}

impl Gate {
    pub(super) fn close(&self) {
        *self.closed.lock() = true;
    }

    /// Waits until a call waits at the gate.
    pub(super) async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    pub(super) fn open(&self) {
        *self.closed.lock() = false;
        self.open.add_permits(1);
    }

    async fn pass(&self) {
        if *self.closed.lock() {
            self.reached.add_permits(1);
            self.open.acquire().await.unwrap().forget();
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct MapShard {
    pub(super) state: Mutex<State>,
    /// In the middle of a checkpoint, before it is stored.
    pub(super) storing: Gate,
    /// Between reading rows by their ids and answering.
    pub(super) fetched: Gate,
}

impl MapShard {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn read<T>(&self, question: impl FnOnce(&mut State) -> T) -> Result<T, ShardError> {
        let mut state = self.state.lock();
        if state.down {
            return Err(ShardError::Unavailable("told to be down".into()));
        }
        Ok(question(&mut state))
    }
}

impl State {
    fn live<'a>(&'a self, topic: &'a TopicKey) -> impl Iterator<Item = &'a QueuedItem> {
        self.of(topic).filter(|queued| queued.standing.dead.is_none())
    }

    fn of<'a>(&'a self, topic: &'a TopicKey) -> impl Iterator<Item = &'a QueuedItem> {
        let rows = self.rows.values().filter(move |(key, _)| key == topic);
        rows.map(|(_, queued)| queued)
    }

    fn apply(&mut self, checkpoint: &Checkpoint) {
        for purge in &checkpoint.purges {
            self.rows.retain(|id, (topic, queued)| {
                *topic != purge.topic || *id > purge.up_to || queued.standing.dead.is_some() != purge.dead
            });
        }
        for (topic, queued) in &checkpoint.upserts {
            self.rows.insert(queued.item.id, (topic.clone(), queued.clone()));
        }
        for id in &checkpoint.deletes {
            self.rows.remove(id);
        }
        for row in &checkpoint.dedup {
            self.keys.insert((row.topic.clone(), row.key_hash), row.clone());
        }
        let (node, lsn) = checkpoint.progress;
        let before = self.progress.insert(node.number(), lsn);
        let goes_on = before.is_none_or(|before| before <= lsn);
        let starts_over = std::mem::take(&mut self.log_was_lost);
        assert!(goes_on || starts_over, "progress went back");
    }
}

fn sorted(mut items: Vec<QueuedItem>, limit: usize) -> Vec<QueuedItem> {
    items.sort_by_key(QueuedItem::key);
    items.truncate(limit);
    items
}

#[async_trait]
impl Shard for MapShard {
    async fn checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), ShardError> {
        self.storing.pass().await;
        let fault = self.read(|state| state.fault.take())?;
        match fault {
            Some(Fault::Panic) => panic!("told to panic"),
            Some(Fault::Refused) => return Err(ShardError::Unavailable("told to refuse".into())),
            Some(Fault::AnswerLost) | None => self.read(|state| state.apply(checkpoint))?,
        }
        match fault {
            Some(_) => Err(ShardError::Unavailable("the answer was lost".into())),
            None => Ok(()),
        }
    }

    async fn progress(&self, node: NodeId) -> Result<Lsn, ShardError> {
        self.read(|state| state.progress.get(&node.number()).copied().unwrap_or_default())
    }

    async fn highest_id(&self) -> Result<ItemId, ShardError> {
        self.read(|state| state.rows.last_key_value().map_or(ItemId(0), |(id, _)| *id))
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<StoredCounts>, ShardError> {
        self.read(|state| {
            let mut counts: BTreeMap<TopicKey, StoredCounts> = BTreeMap::new();
            for (topic, queued) in state.rows.values() {
                let count = counts.entry(topic.clone()).or_insert_with(|| StoredCounts {
                    topic: topic.clone(),
                    due: 0,
                    later: 0,
                    dead: 0,
                });
                match &queued.standing {
                    standing if standing.dead.is_some() => count.dead += 1,
                    standing if standing.due <= now => count.due += 1,
                    _ => count.later += 1,
                }
            }
            counts.into_values().collect()
        })
    }

    async fn item_bytes(&self, topic: &TopicKey) -> Result<u64, ShardError> {
        self.read(|state| {
            let of_topic = state.rows.values().filter(|(of, _)| of == topic);
            let bytes: Vec<u64> = of_topic.map(|(_, queued)| queued.item.stored_bytes()).collect();
            bytes.iter().sum::<u64>() / (bytes.len() as u64).max(1)
        })
    }

    async fn page(
        &self,
        topic: &TopicKey,
        of: PageOf,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.read(|state| {
            let belongs = |queued: &&QueuedItem| {
                let standing = &queued.standing;
                let kind = match of {
                    PageOf::Due(now) => standing.dead.is_none() && standing.due <= now,
                    PageOf::Later(now) => standing.dead.is_none() && standing.due > now,
                    PageOf::Dead => standing.dead.is_some(),
                };
                kind && queued.key() >= from
            };
            sorted(state.of(topic).filter(belongs).cloned().collect(), limit)
        })
    }

    async fn newest(
        &self,
        topic: &TopicKey,
        of: PageOf,
        before: ItemId,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        let mut items = self.page(topic, of, OrderKey::MIN, usize::MAX).await?;
        items.retain(|queued| queued.item.id < before);
        items.sort_by_key(|queued| std::cmp::Reverse(queued.item.id));
        items.truncate(limit);
        Ok(items)
    }

    async fn newly_due(
        &self,
        topic: &TopicKey,
        after: (Timestamp, ItemId),
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<QueuedItem>, ShardError> {
        self.read(|state| {
            let place = |queued: &QueuedItem| (queued.standing.due, queued.item.id);
            let new = |queued: &&QueuedItem| place(queued) > after && queued.standing.due <= until;
            let mut items: Vec<_> = state.live(topic).filter(new).cloned().collect();
            items.sort_by_key(place);
            items.truncate(limit);
            items
        })
    }

    async fn next_due(&self, topic: &TopicKey, after: Timestamp) -> Result<Option<Timestamp>, ShardError> {
        self.read(|state| {
            let due = state.live(topic).map(|queued| queued.standing.due);
            due.filter(|due| *due > after).min()
        })
    }

    async fn leased(&self, now: Timestamp) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        self.read(|state| {
            let leased = |(_, queued): &&(TopicKey, QueuedItem)| {
                let standing = &queued.standing;
                standing.dead.is_none() && standing.lease_expires_at.is_some_and(|end| end > now)
            };
            state.rows.values().filter(leased).cloned().collect()
        })
    }

    async fn fetch(&self, ids: &[ItemId]) -> Result<Vec<(TopicKey, QueuedItem)>, ShardError> {
        let rows = self.read(|state| {
            ids.iter()
                .filter_map(|id| state.rows.get(id).cloned())
                .collect::<Vec<_>>()
        });
        self.fetched.pass().await;
        rows
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Vec<(TopicKey, ItemId)>, ShardError> {
        self.read(|state| {
            let expired = |(_, queued): &&(TopicKey, QueuedItem)| {
                queued.standing.dead.is_none() && queued.item.expires_at.is_some_and(|end| end <= now)
            };
            let mut rows: Vec<_> = state.rows.values().filter(expired).collect();
            rows.sort_by_key(|(_, queued)| queued.item.expires_at);
            rows.truncate(limit);
            rows.into_iter()
                .map(|(topic, queued)| (topic.clone(), queued.item.id))
                .collect()
        })
    }

    async fn forget_keys(&self, now: Timestamp) -> Result<u64, ShardError> {
        self.read(|state| {
            let before = state.keys.len();
            state.keys.retain(|_, row| row.expires_at > now);
            (before - state.keys.len()) as u64
        })
    }

    async fn find_keys(
        &self,
        topic: &TopicKey,
        key_hashes: &[u128],
        now: Timestamp,
    ) -> Result<Vec<DedupRow>, ShardError> {
        self.read(|state| {
            let found = key_hashes
                .iter()
                .filter_map(|hash| state.keys.get(&(topic.clone(), *hash)));
            found.filter(|row| row.expires_at > now).cloned().collect()
        })
    }

    async fn dead_before(
        &self,
        topic: &TopicKey,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<ItemId>, ShardError> {
        self.read(|state| {
            let died = |queued: &QueuedItem| queued.standing.dead.map(|death| (death.at, queued.item.id));
            let mut dead: Vec<_> = state
                .of(topic)
                .filter_map(died)
                .filter(|(at, _)| *at <= before)
                .collect();
            dead.sort_unstable();
            dead.into_iter().map(|(_, id)| id).take(limit).collect()
        })
    }

    async fn keys_after(
        &self,
        topic: &TopicKey,
        after: Option<u128>,
        limit: usize,
    ) -> Result<Vec<DedupRow>, ShardError> {
        self.read(|state| {
            let keys = state
                .keys
                .iter()
                .filter(|((key, hash), _)| key == topic && Some(*hash) > after);
            keys.map(|(_, row)| row.clone()).take(limit).collect()
        })
    }

    async fn store_copies(
        &self,
        items: &[(TopicKey, QueuedItem)],
        keys: &[DedupRow],
    ) -> Result<(), ShardError> {
        self.read(|state| {
            for (topic, queued) in items {
                state.rows.insert(queued.item.id, (topic.clone(), queued.clone()));
            }
            for row in keys {
                state.keys.insert((row.topic.clone(), row.key_hash), row.clone());
            }
        })
    }

    async fn remove_topic(&self, topic: &TopicKey) -> Result<(), ShardError> {
        self.read(|state| {
            state.rows.retain(|_, (key, _)| key != topic);
            state.keys.retain(|(key, _), _| key != topic);
        })
    }

    async fn take_over(&self, node: NodeId, _: u64) -> Result<Lsn, ShardError> {
        self.progress(node).await
    }

    async fn ping(&self) -> Result<(), ShardError> {
        self.read(|_| ())
    }

    async fn close(&self) -> Result<(), ShardError> {
        Ok(())
    }
}
