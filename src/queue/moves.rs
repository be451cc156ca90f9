//! Slots move from shard to shard, a few at a time, while everything goes on.
//!
//! One node moves, the others follow. Before slots are copied every node stops storing in the two shards, having
//! stored in both exactly what its log says up to one position: so the shard that a slot comes to knows as much of
//! the log as the one it came from, and a replay by either number says the same. Items are accepted, delivered
//! and settled meanwhile; only storing waits. Then the slots are copied, and belong to their new shard in one
//! transaction, which fails when any node was started since and may have stored something. Every node reads the
//! new map before any stores again. Nothing is removed before that, so that a crash at any moment leaves a state
//! from which whoever moves next goes on.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::cluster::{MoveRequest, MovesView, MovingView, PlannedMove};
use super::core::{Core, Queue};
use super::error::QueueError;
use super::uncancelled::uncancelled;
use crate::clock::Timestamp;
use crate::model::{OrderKey, Slot, TopicKey};
use crate::shard::{Checkpoint, MoveState, PageOf, SlotContents, SlotMap, SlotMove};

/// How often whoever moves looks whether it can go on, and whether there is something to move.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_millis(500);
/// How long it rests after something failed.
const REST: Duration = Duration::from_secs(1);
/// How long everybody stops storing for one node that does not, and how long nobody is asked again then, in
/// milliseconds.
const WAIT_MS: i64 = 10_000;
const HOLD_OFF_MS: i64 = 30_000;
/// Slots in one step: storing waits while they are copied.
const STEP_SLOTS: usize = 64;
/// Items, and keys, copied in one statement.
const COPY_ITEMS: usize = 500;
const COPY_KEYS: usize = 4_000;

/// What this node knows of moving slots.
#[derive(Debug)]
pub(super) struct Moving {
    seen: tokio::sync::Mutex<Seen>,
    /// How many slots are on their way. Not known at first, so that it is looked up.
    pending: AtomicUsize,
    /// What the node that moves waits for.
    waits_for: Mutex<Option<String>>,
    patience: Mutex<Patience>,
}

/// How long the node that moves waits for others with everybody's hands tied, by the monotonic clock.
#[derive(Debug, Default)]
struct Patience {
    since_ms: Option<i64>,
    not_before_ms: i64,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last step that is done as it says; nothing is known at first.
    epoch: Option<u64>,
    /// The flushers that rest.
    frozen: BTreeMap<u16, OwnedMutexGuard<()>>,
    /// Those of them whose shards have what the log says up to one position.
    even: BTreeSet<u16>,
}

impl Default for Moving {
    fn default() -> Self {
        Self {
            seen: tokio::sync::Mutex::default(),
            pending: AtomicUsize::new(1),
            waits_for: Mutex::new(None),
            patience: Mutex::new(Patience::default()),
        }
    }
}

impl Queue {
    /// Plans moves of slots between shards and begins, unless it is only asked what they would be.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] names the shard that is not there or has not so many slots;
    /// [`QueueError::Conflict`] while others are under way.
    pub async fn move_slots(
        &self,
        request: MoveRequest,
        dry_run: bool,
    ) -> Result<Vec<PlannedMove>, QueueError> {
        let core = &self.core;
        let contents = core.catalog.slots().await?;
        let moves = planned(&contents.owners, core.shards.len(), request)?;
        if !dry_run && !moves.is_empty() {
            if !core.catalog.plan_moves(&moves).await? {
                let text = "slots are being moved already; wait until they are through";
                return Err(QueueError::Conflict(text.into()));
            }
            core.follow_slots().await?;
        }
        Ok(summed(&moves)
            .into_iter()
            .map(|((from, to, _), slots)| PlannedMove { from, to, slots })
            .collect())
    }

    /// The slots that are on their way.
    ///
    /// # Errors
    /// When the catalog does not answer.
    pub async fn moves(&self) -> Result<MovesView, QueueError> {
        let contents = self.core.catalog.slots().await?;
        let moves = summed(&contents.moves).into_iter();
        let moves = moves.map(|((from, to, state), slots)| MovingView {
            from,
            to,
            state: match state {
                MoveState::Planned => "planned",
                MoveState::Frozen => "copying",
                MoveState::Flipped => "changing_over",
                MoveState::Clearing => "clearing",
            },
            slots,
        });
        Ok(MovesView {
            moves: moves.collect(),
            waits_for: self.core.moving.waits_for.lock().clone(),
        })
    }

    /// Does as the last step of moving slots says, if there is a new one.
    ///
    /// # Errors
    /// When a shard or the catalog does not answer: it is done the next time.
    pub async fn follow_slots(&self) -> Result<(), QueueError> {
        self.core.follow_slots().await
    }
}

/// How many slots of `moves` go from where to where and how far they are.
fn summed(moves: &[SlotMove]) -> BTreeMap<(u16, u16, MoveState), u32> {
    let mut sums = BTreeMap::new();
    for step in moves {
        *sums.entry((step.source, step.target, step.state)).or_default() += 1;
    }
    sums
}

fn planned(owners: &[u16], shards: usize, request: MoveRequest) -> Result<Vec<SlotMove>, QueueError> {
    let map = SlotMap::persisted(owners.to_vec(), shards)
        .map_err(|error| QueueError::Conflict(error.to_string()))?;
    let step = |(slot, source, target)| SlotMove {
        slot,
        source,
        target,
        state: MoveState::Planned,
    };
    let found = match request {
        MoveRequest::Balance => map.balancing(shards),
        MoveRequest::Some { from, to, slots } => {
            for (field, shard) in [("from", from), ("to", to)] {
                if usize::from(shard) >= shards {
                    let detail = format!("must be below {shards}, the number of shards");
                    return Err(QueueError::invalid(field, detail));
                }
            }
            if from == to {
                return Err(QueueError::invalid("to", "must be another shard than `from`"));
            }
            let held = map.owned_by(from);
            if slots == 0 || held < slots as usize {
                let detail = format!("must be between 1 and {held}, the number of slots of shard {from}");
                return Err(QueueError::invalid("slots", detail));
            }
            map.moving(from, to, slots as usize)
        }
    };
    Ok(found.into_iter().map(step).collect())
}

impl Core {
    /// How many slots are on their way, as far as is known here.
    pub(super) fn moves_pending(&self) -> usize {
        self.moving.pending.load(Ordering::Relaxed)
    }

    /// Does as the last step says: stops storing in shards between which slots are copied, takes the map over,
    /// and stores again; then says so. Begun, it is carried to its end: a checkpoint is not left half made.
    pub(super) async fn follow_slots(self: &Arc<Self>) -> Result<(), QueueError> {
        let core = self.clone();
        uncancelled(async move { core.follow_step().await }).await
    }

    async fn follow_step(&self) -> Result<(), QueueError> {
        let mut seen = self.moving.seen.lock().await;
        let epoch = self.catalog.generations().await?.slots;
        if seen.epoch == Some(epoch) {
            return Ok(());
        }
        let contents = self.catalog.slots().await?;
        self.moving.pending.store(contents.moves.len(), Ordering::Relaxed);
        let resting = shards_in(&contents, &[MoveState::Frozen, MoveState::Flipped]);
        let copied = shards_in(&contents, &[MoveState::Frozen]);
        let map = SlotMap::persisted(contents.owners, self.shards.len());
        let map = map.map_err(|error| QueueError::Conflict(error.to_string()))?;
        if resting
            .iter()
            .any(|shard| usize::from(*shard) >= self.shards.len())
        {
            let text = "slots go to a shard that is not in DATABASE_URLS here; add it and start again";
            return Err(QueueError::Conflict(text.into()));
        }
        for &shard in &resting {
            if let Entry::Vacant(free) = seen.frozen.entry(shard) {
                free.insert(self.flush[usize::from(shard)].storing().await);
            }
        }
        if !copied.is_subset(&seen.even) {
            if let Err(error) = self.even_out(&copied).await {
                let Seen { frozen, even, .. } = &mut *seen;
                frozen.retain(|shard, _| even.contains(shard));
                return Err(error);
            }
            seen.even.extend(&copied);
        }
        self.slots.replace(map);
        // Whoever stores again has the new map.
        seen.frozen.retain(|shard, _| resting.contains(shard));
        seen.even.retain(|shard| resting.contains(shard));
        self.catalog.see_slots(self.tenure.claim, contents.epoch).await?;
        seen.epoch = Some(contents.epoch);
        Ok(())
    }

    /// Stores in each of `shards` what the log says up to one position, and says so in each. Their flushers rest.
    pub(super) async fn even_out(&self, shards: &BTreeSet<u16>) -> Result<(), QueueError> {
        // What the hot tier lacks after it lost its memory would seem to be stored. Nobody is waited for here: who
        // brings it back waits for those who store.
        let Ok(_whole) = self.restoring.try_read() else {
            return Err(QueueError::HotUnavailable("it is being brought back".into()));
        };
        let up_to = self.wal.applied_lsn();
        for &shard in shards {
            while self.flush_once(shard, up_to).await? {}
            let need = self.hot.first_need(shard).await?;
            if need.is_some_and(|need| need <= up_to) {
                let text = "what a shard lacks waits for another node's checkpoint";
                return Err(QueueError::HotUnavailable(text.into()));
            }
        }
        for &shard in shards {
            let checkpoint = Checkpoint::at(self.node, up_to);
            self.shards[usize::from(shard)].checkpoint(&checkpoint).await?;
        }
        Ok(())
    }

    /// One turn: move slots on, if there are any and nobody else does.
    pub(super) async fn mover_tick(self: Arc<Self>) {
        if self.moves_pending() == 0 {
            tokio::time::sleep(IDLE).await;
            return;
        }
        match self.move_on().await {
            Ok(true) => {}
            Ok(false) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) => {
                tracing::warn!(%error, "slots could not be moved on; it is tried again");
                *self.moving.waits_for.lock() = Some(error.to_string());
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Takes the next step of moving slots; false when there is none to take now.
    pub(super) async fn move_on(self: &Arc<Self>) -> Result<bool, QueueError> {
        self.follow_slots().await?;
        let contents = self.catalog.slots().await?;
        let Some(state) = contents.moves.iter().map(|step| step.state).max() else {
            *self.moving.waits_for.lock() = None;
            return Ok(false);
        };
        if !self.catalog.lead_moves(self.tenure.claim).await? {
            return Ok(false);
        }
        let mut batch = contents.moves.clone();
        batch.retain(|step| step.state == state);
        let waits_for = match state {
            MoveState::Planned => self.freeze(&contents, batch).await?,
            MoveState::Frozen => match self.copy_and_flip(&contents, &batch).await {
                Ok(waits_for) => waits_for,
                Err(error) => {
                    self.thaw_unmoved(&contents, &batch).await?;
                    return Err(error);
                }
            },
            MoveState::Flipped => self.thaw(&contents, &batch).await?,
            MoveState::Clearing => self.clear(&contents, &batch).await?,
        };
        let goes_on = waits_for.is_none();
        *self.moving.waits_for.lock() = waits_for;
        self.follow_slots().await?;
        Ok(goes_on)
    }

    /// Asks every node to stop storing in two shards, for a few slots that go from one to the other. What a node
    /// that is away has in its log alone nobody can store, so it is waited for.
    async fn freeze(
        &self,
        contents: &SlotContents,
        mut batch: Vec<SlotMove>,
    ) -> Result<Option<String>, QueueError> {
        if self.clock.monotonic().0 < self.moving.patience.lock().not_before_ms {
            return Ok(Some("a node that did not stop storing in time".to_owned()));
        }
        let away = self.catalog.nodes().await?;
        if let Some(row) = away.iter().find(|row| !row.is_held() && !row.gave_up()) {
            let node = row.claim.node.number();
            return Ok(Some(format!(
                "node {node} is away and may have items in its log: start it, or forget it"
            )));
        }
        let (source, target) = (batch[0].source, batch[0].target);
        for shard in [source, target] {
            if self.is_left_alone(shard) {
                return Ok(Some(format!("shard {shard} does not answer")));
            }
        }
        batch.retain(|step| (step.source, step.target) == (source, target));
        batch.truncate(STEP_SLOTS);
        let claim = self.tenure.claim;
        self.catalog
            .step_moves(claim, contents.epoch, &batch, MoveState::Frozen)
            .await?;
        Ok(None)
    }

    /// Copies once every node has stopped storing, and lets the slots change over.
    async fn copy_and_flip(
        &self,
        contents: &SlotContents,
        batch: &[SlotMove],
    ) -> Result<Option<String>, QueueError> {
        let claim = self.tenure.claim;
        let unaware = self.catalog.unaware_of(contents.epoch).await?;
        if let Some(row) = unaware.first() {
            if !row.is_held() || self.is_out_of_patience() {
                self.thaw_unmoved(contents, batch).await?;
            }
            return Ok(Some(format!("node {} stops storing", row.claim.node.number())));
        }
        self.moving.patience.lock().since_ms = None;
        for (topic, step) in self.topics_of(batch).await? {
            self.copy(&topic, step).await?;
        }
        let flipped = self
            .catalog
            .step_moves(claim, contents.epoch, batch, MoveState::Flipped)
            .await?;
        if flipped {
            let (from, to) = (batch[0].source, batch[0].target);
            tracing::info!(slots = batch.len(), from, to, "slots have changed over");
        }
        Ok(None)
    }

    /// Whether one node was waited for too long; then nobody is asked again for a while.
    fn is_out_of_patience(&self) -> bool {
        let now_ms = self.clock.monotonic().0;
        let mut patience = self.moving.patience.lock();
        let since_ms = *patience.since_ms.get_or_insert(now_ms);
        let is_out = now_ms - since_ms > WAIT_MS;
        if is_out {
            *patience = Patience {
                since_ms: None,
                not_before_ms: now_ms + HOLD_OFF_MS,
            };
        }
        is_out
    }

    /// Lets everybody store again, with the slots where they were: they are tried again later.
    async fn thaw_unmoved(&self, contents: &SlotContents, batch: &[SlotMove]) -> Result<(), QueueError> {
        self.catalog
            .step_moves(self.tenure.claim, contents.epoch, batch, MoveState::Planned)
            .await?;
        Ok(())
    }

    /// Lets everybody store again once every node that runs has the new map.
    async fn thaw(&self, contents: &SlotContents, batch: &[SlotMove]) -> Result<Option<String>, QueueError> {
        let unaware = self.catalog.unaware_of(contents.epoch).await?;
        if let Some(row) = unaware.iter().find(|row| row.is_held()) {
            return Ok(Some(format!("node {} changes over", row.claim.node.number())));
        }
        self.catalog
            .step_moves(self.tenure.claim, contents.epoch, batch, MoveState::Clearing)
            .await?;
        Ok(None)
    }

    /// Removes the rows that nobody reads any more.
    async fn clear(&self, contents: &SlotContents, batch: &[SlotMove]) -> Result<Option<String>, QueueError> {
        for (topic, step) in self.topics_of(batch).await? {
            self.shards[usize::from(step.source)].remove_topic(&topic).await?;
        }
        self.catalog
            .finish_moves(self.tenure.claim, contents.epoch, batch)
            .await?;
        Ok(None)
    }

    /// Every topic that may have rows in the slots of `batch`, with its move.
    async fn topics_of(&self, batch: &[SlotMove]) -> Result<BTreeMap<TopicKey, SlotMove>, QueueError> {
        let moves: BTreeMap<Slot, SlotMove> = batch.iter().map(|step| (Slot(step.slot), *step)).collect();
        let sources: BTreeSet<u16> = batch.iter().map(|step| step.source).collect();
        let mut topics: Vec<TopicKey> = Vec::new();
        topics.extend(self.topics.all().iter().map(|handle| handle.key.clone()));
        let known = self.catalog.load().await?.topics;
        topics.extend(known.into_iter().map(|(topic, _)| topic));
        for source in sources {
            let counts = self.shards[usize::from(source)].counts(self.clock.now()).await?;
            topics.extend(counts.into_iter().map(|count| count.topic));
        }
        let moving = topics.into_iter().filter_map(|topic| {
            let step = *moves.get(&topic.slot())?;
            Some((topic, step))
        });
        Ok(moving.collect())
    }

    /// Makes the rows of `topic` in the move's target those in its source.
    async fn copy(&self, topic: &TopicKey, step: SlotMove) -> Result<(), QueueError> {
        let source = &self.shards[usize::from(step.source)];
        let target = &self.shards[usize::from(step.target)];
        // An earlier try may have left something that is gone by now.
        target.remove_topic(topic).await?;
        for of in [PageOf::Due(Timestamp::MAX), PageOf::Dead] {
            let mut from = OrderKey::MIN;
            loop {
                let page = source.page(topic, of, from, COPY_ITEMS).await?;
                let Some(last) = page.last() else { break };
                from = last.key().successor();
                let items: Vec<_> = page.into_iter().map(|queued| (topic.clone(), queued)).collect();
                target.store_copies(&items, &[]).await?;
            }
        }
        let mut after = None;
        loop {
            let keys = source.keys_after(topic, after, COPY_KEYS).await?;
            let Some(last) = keys.last() else { break };
            after = Some(last.key_hash);
            target.store_copies(&[], &keys).await?;
        }
        Ok(())
    }
}

fn shards_in(contents: &SlotContents, states: &[MoveState]) -> BTreeSet<u16> {
    let moves = contents.moves.iter().filter(|step| states.contains(&step.state));
    moves.flat_map(|step| [step.source, step.target]).collect()
}
