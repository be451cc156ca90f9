//! Recovery: what the log says since the shards last heard of it.
//!
//! An item is live if it has an Enqueue and no Settle. Live and past its shard's number, it goes to the hot
//! tier; at or before that number it is in the shard, and whatever the log says of it since is brought to
//! the shard before anything is served.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::core::{Core, Queue};
use super::error::QueueError;
use super::idempotency::key_probe;
use crate::clock::Timestamp;
use crate::hot::Finish;
use crate::model::{Item, ItemId, QueuedItem, Standing, TopicKey};
use crate::shard::{Checkpoint, DedupRow, Purge, SlotMap, TopicRow};
use crate::wal::{DeliverEntry, KeyEntry, Lsn, Record, WalOpenError};

/// How long the next attempt to bring the hot tier back waits.
const REST: Duration = Duration::from_millis(200);
/// Ids asked from, or rows brought to, a shard in one go.
const STEP: usize = 4_000;

/// Takes the log in, record by record.
#[derive(Debug)]
pub struct Replay {
    /// What each shard holds already.
    progress: Vec<Lsn>,
    slots: SlotMap,
    /// The tier may remember what the log says, all but its last changes.
    tier_remembers: bool,
    recovered: Recovered,
}

/// What the log said.
#[derive(Debug, Default)]
pub struct Recovered {
    live: HashMap<ItemId, Live>,
    /// Changes to stored items, in log order.
    touched: HashMap<ItemId, (TopicKey, Vec<Change>)>,
    deletes: Vec<(TopicKey, ItemId)>,
    purges: Vec<(Lsn, Purge)>,
    /// Every change in log order, for a tier that may remember all but the last of them.
    changes: Vec<(Lsn, TopicKey, Vec<Finish>)>,
    keys: Vec<(Lsn, TopicKey, Arc<Item>)>,
    /// Keys of hooked items.
    key_entries: Vec<(Lsn, TopicKey, KeyEntry)>,
    topics: HashSet<TopicKey>,
    records: u64,
}

#[derive(Debug)]
struct Live {
    topic: TopicKey,
    lsn: Lsn,
    queued: QueuedItem,
}

#[derive(Debug)]
enum Change {
    Delivered(DeliverEntry),
    Patched(Standing),
}

impl Change {
    fn apply(self, standing: &mut Standing) {
        match self {
            Self::Delivered(entry) => {
                standing.generation = entry.generation;
                standing.attempt = entry.attempt;
                standing.lease_expires_at = Some(entry.lease_expires_at);
            }
            Self::Patched(patched) => *standing = patched,
        }
    }

    fn generation(&self) -> u32 {
        match self {
            Self::Delivered(entry) => entry.generation,
            Self::Patched(standing) => standing.generation,
        }
    }

    fn is_death(&self) -> bool {
        matches!(self, Self::Patched(standing) if standing.dead.is_some())
    }
}

impl Replay {
    /// A replay for shards that hold everything up to `progress`, by shard number.
    pub fn new(progress: Vec<Lsn>, slots: SlotMap) -> Self {
        Self {
            progress,
            slots,
            tier_remembers: false,
            recovered: Recovered::default(),
        }
    }

    /// The same for a tier that outlives the node.
    pub fn into_shared_tier(self) -> Self {
        Self {
            tier_remembers: true,
            ..self
        }
    }

    /// Takes one record in.
    pub fn visit(&mut self, lsn: Lsn, record: Record) {
        let topic = match &record {
            Record::Enqueue { topic, .. }
            | Record::Deliver { topic, .. }
            | Record::Patch { topic, .. }
            | Record::Settle { topic, .. }
            | Record::Keys { topic, .. }
            | Record::Purge { topic, .. } => topic.clone(),
        };
        let shard = self.slots.shard_of(topic.slot());
        if self.progress.get(shard).is_some_and(|stored| lsn <= *stored) {
            return;
        }
        let into = &mut self.recovered;
        into.records += 1;
        if !into.topics.contains(&topic) {
            into.topics.insert(topic.clone());
        }
        if self.tier_remembers {
            into.changes
                .extend(changes_of(&record).map(|changes| (lsn, topic.clone(), changes)));
        }
        match record {
            Record::Enqueue { items, .. } => into.enqueued(&topic, lsn, items),
            Record::Deliver { deliveries, .. } => {
                for entry in deliveries {
                    into.changed(&topic, entry.id, Change::Delivered(entry));
                }
            }
            Record::Patch { patches, .. } => {
                for patch in patches {
                    into.changed(&topic, patch.id, Change::Patched(patch.standing));
                }
            }
            Record::Settle { ids, .. } => ids.into_iter().for_each(|id| into.settled(&topic, id)),
            Record::Keys { keys, .. } => {
                let entry = |key| (lsn, topic.clone(), key);
                into.key_entries.extend(keys.into_iter().map(entry));
            }
            Record::Purge { dead, up_to, .. } => into.purged(lsn, Purge { topic, dead, up_to }),
        }
    }

    /// Everything the log said.
    pub fn finish(self) -> Recovered {
        self.recovered
    }
}

impl Recovered {
    /// How many records were taken in.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many items are live and not stored.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    fn enqueued(&mut self, topic: &TopicKey, lsn: Lsn, items: Vec<Item>) {
        for item in items {
            let queued = QueuedItem::accepted(item);
            if queued
                .item
                .extra
                .as_ref()
                .is_some_and(|extra| extra.idempotency_key.is_some() && extra.hook_version.is_none())
            {
                self.keys.push((lsn, topic.clone(), queued.item.clone()));
            }
            self.live.insert(
                queued.item.id,
                Live {
                    topic: topic.clone(),
                    lsn,
                    queued,
                },
            );
        }
    }

    fn changed(&mut self, topic: &TopicKey, id: ItemId, change: Change) {
        match self.live.get_mut(&id) {
            Some(live) => change.apply(&mut live.queued.standing),
            None => self
                .touched
                .entry(id)
                .or_insert_with(|| (topic.clone(), Vec::new()))
                .1
                .push(change),
        }
    }

    fn settled(&mut self, topic: &TopicKey, id: ItemId) {
        if self.live.remove(&id).is_none() {
            self.touched.remove(&id);
            self.deletes.push((topic.clone(), id));
        }
    }

    fn purged(&mut self, lsn: Lsn, purge: Purge) {
        let goes = |topic: &TopicKey, id: ItemId, dead: bool| {
            *topic == purge.topic && id <= purge.up_to && dead == purge.dead
        };
        self.live
            .retain(|id, live| !goes(&live.topic, *id, live.queued.standing.dead.is_some()));
        let deletes = &mut self.deletes;
        self.touched.retain(|id, (topic, changes)| {
            let kept = !goes(topic, *id, changes.last().is_some_and(Change::is_death));
            if !kept {
                deletes.push((topic.clone(), *id));
            }
            kept
        });
        self.purges.push((lsn, purge));
    }
}

/// Where a record sends items.
fn changes_of(record: &Record) -> Option<Vec<Finish>> {
    match record {
        Record::Patch { patches, .. } => Some(patches.iter().cloned().map(Finish::from).collect()),
        Record::Settle { cause, ids, .. } => {
            let gone = |&id: &ItemId| Finish::gone(id, *cause);
            Some(ids.iter().map(gone).collect())
        }
        _ => None,
    }
}

impl Queue {
    /// Makes the shards and the hot tier true to the log.
    pub(super) async fn recover(&self, recovered: Recovered) -> Result<(), QueueError> {
        let core = &self.core;
        core.start_over_with_lost_logs().await?;
        tokio::select! {
            told = core.make_true(recovered) => told,
            () = core.hot.lost() => Err(lost_again()),
        }
    }
}

impl Core {
    /// One turn: wait until the hot tier has lost its memory, then bring this node's part back.
    pub(super) async fn restore_tick(self: Arc<Self>) {
        self.hot.lost().await;
        // Also between two attempts: the tier may have been told half of it, and what a checkpoint does not find there
        // it takes for stored.
        let _alone = self.restoring.write().await;
        loop {
            let restored = tokio::select! {
                restored = self.restore() => restored,
                // What was told of it is gone, too.
                () = self.hot.lost() => Err(lost_again()),
            };
            let Err(error) = restored else { return };
            tracing::warn!(%error, "what the hot tier lost is not back yet");
            tokio::time::sleep(REST).await;
        }
    }

    /// Reads the log back into the hot tier. What is logged meanwhile is applied as always; what settles items
    /// that were not back yet is applied once more.
    async fn restore(self: &Arc<Self>) -> Result<(), QueueError> {
        // Keys that were reserved before the loss are in the log from here on, or refused.
        drop(self.logging_keys.write().await);
        let (recovered, end) = self.read_log(Lsn(0)).await?;
        tracing::info!(
            records = recovered.records(),
            live_items = recovered.live(),
            "the hot tier lost its memory; the log is read back into it"
        );
        self.make_true(recovered).await?;
        let (later, _) = self.read_log(end).await?;
        self.change_again(later.changes).await;
        Ok(())
    }

    /// What the log says after `from` that shards may lack, and up to where it was read.
    async fn read_log(self: &Arc<Self>, from: Lsn) -> Result<(Recovered, Lsn), QueueError> {
        let mut progress = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            progress.push(shard.progress(self.node).await?.max(from));
        }
        let mut replay = Replay::new(progress, (*self.slots.now()).clone()).into_shared_tier();
        let wal = self.wal.clone();
        let read = move || -> Result<_, WalOpenError> {
            let end = wal.read_back(&mut |lsn, record| replay.visit(lsn, record))?;
            Ok((replay.finish(), end))
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(error)) => Err(unreadable(error)),
            Err(error) => Err(QueueError::HotUnavailable(error.to_string())),
        }
    }

    /// Makes shards and hot tier true to what was read. A tier that remembers is told again only what may have been
    /// on its way.
    async fn make_true(&self, recovered: Recovered) -> Result<(), QueueError> {
        let now = self.clock.now();
        for topic in &recovered.topics {
            self.topics.insert(topic, &TopicRow::default());
            // The tier looks after topics that somebody waits for or that it was told of.
            let _known = self.hot.signal(topic);
        }
        self.hot.claim().await?;
        let (remembered, purges): (Vec<_>, Vec<_>) = recovered
            .purges
            .into_iter()
            .partition(|(_, purge)| self.hot.knows(&purge.topic));
        let purges: Vec<_> = purges.into_iter().map(|(_, purge)| purge).collect();
        let mut touched = recovered.touched;
        touched.retain(|_, (topic, _)| !self.hot.knows(topic));
        self.bring_shards_up_to_date(&recovered.deletes, &purges, touched)
            .await?;
        self.tell_what_is_stored(now).await?;
        for (lsn, purge) in remembered {
            self.hot.purge(&purge.topic, lsn, purge.dead, purge.up_to).await;
        }
        self.admit_live(recovered.live).await;
        for (lsn, topic, item) in recovered.keys {
            if let Some(row) = self.key_row(&topic, &item, now) {
                self.hot.confirm_keys(&topic, lsn, vec![row]).await;
            }
        }
        for (lsn, topic, key) in recovered.key_entries {
            if key.expires_at > now {
                self.hot
                    .confirm_keys(&topic, lsn, vec![key_row(&topic, &key)])
                    .await;
            }
        }
        self.change_again(recovered.changes).await;
        Ok(self.hot.known().await?)
    }

    async fn change_again(&self, changes: Vec<(Lsn, TopicKey, Vec<Finish>)>) {
        for (lsn, topic, finishes) in changes {
            self.hot.finish_again(&topic, lsn, finishes).await;
        }
    }

    /// Tells the hot tier what the shards hold of topics it does not remember.
    async fn tell_what_is_stored(&self, now: Timestamp) -> Result<(), QueueError> {
        let mut leased = Vec::new();
        for (shard, control) in self.shards.iter().zip(&self.flush) {
            control.begin_at(shard.progress(self.node).await?);
            self.ids.raise_floor(shard.highest_id().await?);
            let counts = shard.counts(now).await?;
            for count in &counts {
                self.topics.insert(&count.topic, &TopicRow::default());
            }
            self.hot.set_stored(&counts, now).await?;
            leased.extend(shard.leased(now).await?);
        }
        let handles = self.topics.all();
        let unknown: Vec<_> = handles
            .iter()
            .filter(|handle| !self.hot.knows(&handle.key))
            .collect();
        self.hot.ready().await?;
        for (topic, item) in leased {
            if !self.hot.knows(&topic) {
                self.hot.adopt(&topic, vec![item]).await?;
            }
        }
        for handle in unknown {
            if handle.is_paused() {
                self.hot.set_paused(&handle.key, true).await?;
            }
            let until = now.plus_ms(handle.settings().dedup_window_ms);
            self.hot.set_cold_keys(&handle.key, until).await?;
        }
        Ok(())
    }

    /// A shard that heard more of the log than the log says has outlived it: this one is new and counts from
    /// the start. Left alone, the shard would seem to hold what was never brought to it.
    async fn start_over_with_lost_logs(&self) -> Result<(), QueueError> {
        let core = self;
        let end = core.wal.durable_lsn();
        for (number, shard) in core.shards.iter().enumerate() {
            let progress = shard.progress(core.node).await?;
            if progress > end {
                tracing::warn!(
                    shard = number,
                    stored = progress.0,
                    log = end.0,
                    "the log that this shard knew is gone; what only it held is lost"
                );
                shard.checkpoint(&Checkpoint::at(core.node, end)).await?;
            }
        }
        Ok(())
    }

    async fn bring_shards_up_to_date(
        &self,
        deletes: &[(TopicKey, ItemId)],
        purges: &[Purge],
        mut touched: HashMap<ItemId, (TopicKey, Vec<Change>)>,
    ) -> Result<(), QueueError> {
        let core = self;
        // A hand-out may be logged after the item's end when hooks looked at it meanwhile: it changes nothing.
        let gone: HashSet<ItemId> = deletes.iter().map(|(_, id)| *id).collect();
        touched.retain(|id, _| !gone.contains(id));
        for (number, shard) in core.shards.iter().enumerate() {
            let here = |topic: &TopicKey| usize::from(core.shard_number(topic)) == number;
            let progress = shard.progress(core.node).await?;
            let ids: Vec<_> = touched
                .iter()
                .filter(|(_, (topic, _))| here(topic))
                .map(|(id, _)| *id)
                .collect();
            let mut rows = Vec::new();
            for ids in ids.chunks(STEP) {
                rows.extend(shard.fetch(ids).await?);
            }
            let mut removal = Checkpoint::at(core.node, progress);
            removal.deletes = deletes
                .iter()
                .filter(|(topic, _)| here(topic))
                .map(|(_, id)| *id)
                .collect();
            removal.purges = purges
                .iter()
                .filter(|purge| here(&purge.topic))
                .cloned()
                .collect();
            if !removal.deletes.is_empty() || !removal.purges.is_empty() {
                shard.checkpoint(&removal).await?;
            }
            for (_, item) in &mut rows {
                for change in touched
                    .remove(&item.item.id)
                    .map(|(_, changes)| changes)
                    .unwrap_or_default()
                {
                    // Another node's log may have brought the row further.
                    if change.generation() >= item.standing.generation {
                        change.apply(&mut item.standing);
                    }
                }
            }
            for chunk in rows.chunks(STEP) {
                let mut update = Checkpoint::at(core.node, progress);
                update.upserts = chunk.to_vec();
                shard.checkpoint(&update).await?;
            }
        }
        Ok(())
    }

    async fn admit_live(&self, live: HashMap<ItemId, Live>) {
        let mut live: Vec<_> = live.into_values().collect();
        // A frame's items of one topic go in together.
        live.sort_unstable_by(|a, b| {
            (a.lsn, &a.topic, a.queued.item.id).cmp(&(b.lsn, &b.topic, b.queued.item.id))
        });
        let mut live = live.into_iter().peekable();
        while let Some(Live { topic, lsn, queued }) = live.next() {
            let mut batch = vec![queued];
            while let Some(next) = live.next_if(|next| next.lsn == lsn && next.topic == topic) {
                batch.push(next.queued);
            }
            self.hot.admit(&topic, lsn, batch).await;
        }
    }

    fn key_row(&self, topic: &TopicKey, item: &Item, now: Timestamp) -> Option<DedupRow> {
        let extra = item.extra.as_deref()?;
        let key = extra.idempotency_key.as_deref()?;
        let window_ms = self.topics.get(topic)?.settings().dedup_window_ms;
        let expires_at = item.enqueued_at.plus_ms(window_ms);
        let probe = key_probe(
            key,
            item.kind,
            &item.payload,
            extra.content_type.as_deref(),
            &extra.headers,
        );
        (expires_at > now).then(|| DedupRow {
            topic: topic.clone(),
            key_hash: probe.key_hash,
            body_hash: probe.body_hash,
            id: item.id,
            expires_at,
        })
    }
}

fn key_row(topic: &TopicKey, key: &KeyEntry) -> DedupRow {
    DedupRow {
        topic: topic.clone(),
        key_hash: key.key_hash,
        body_hash: key.body_hash,
        id: key.id,
        expires_at: key.expires_at,
    }
}

fn lost_again() -> QueueError {
    QueueError::HotUnavailable("it lost its memory while it was being filled".into())
}

fn unreadable(error: WalOpenError) -> QueueError {
    QueueError::HotUnavailable(format!("the log cannot be read back now: {error}"))
}
