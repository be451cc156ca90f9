//! The [`HotTier`] over all topics.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::holdings::{AllHoldings, Sums};
use super::keys::Keys;
use super::topic::{Moment, Topic};
use crate::clock::{Clock, Timestamp};
use crate::hot::{
    Counts, DueCursor, DueSpan, Finish, FlushPlan, Held, HoldRequest, Holdings, HotError, HotTier, HotView,
    KeyProbe, KeyState, More, Overdue, RefillPage, Taken, Term, Want,
};
use crate::model::{ItemId, ItemState, Namespace, OrderKey, QueuedItem, Slot, TopicKey, limits};
use crate::shard::{DedupRow, StoredCounts};
use crate::wal::Lsn;

/// How the memory tier is set up.
pub struct MemoryOptions {
    /// The time.
    pub clock: Clock,
    /// Which shard a slot belongs to.
    pub shard_of: Box<dyn Fn(Slot) -> u16 + Send + Sync>,
    /// Ready items a topic keeps in memory before anybody asks, while more are cold.
    pub prefetch_items: u64,
}

impl std::fmt::Debug for MemoryOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryOptions")
            .field("prefetch_items", &self.prefetch_items)
            .finish_non_exhaustive()
    }
}

/// The hot tier in memory.
#[derive(Debug)]
pub struct MemoryTier {
    options: MemoryOptions,
    cells: RwLock<HashMap<TopicKey, Arc<Cell>>>,
    bytes: AtomicUsize,
    holdings: AllHoldings,
    /// What each shard needed when the flush under way for it began. A flush takes needs out before they
    /// are stored; whoever frees the log must see them all the same.
    in_flight: Mutex<HashMap<u16, Lsn>>,
}

#[derive(Debug)]
struct Cell {
    topic: Mutex<Topic>,
    keys: Mutex<Keys>,
    arrived: Arc<Notify>,
    slot: Slot,
    /// The sums of its namespace.
    sums: Arc<Sums>,
    /// When [`Topic::advance`] has something to do, in milliseconds since the epoch.
    next_advance_ms: AtomicI64,
}

impl MemoryTier {
    /// An empty tier.
    pub fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            cells: RwLock::default(),
            bytes: AtomicUsize::new(0),
            holdings: AllHoldings::default(),
            in_flight: Mutex::default(),
        }
    }

    fn cell(&self, key: &TopicKey) -> Arc<Cell> {
        if let Some(cell) = self.cells.read().get(key) {
            return cell.clone();
        }
        let new = || {
            Arc::new(Cell {
                topic: Mutex::new(Topic::new(key.clone())),
                keys: Mutex::new(Keys::new()),
                arrived: Arc::default(),
                slot: key.slot(),
                sums: self.holdings.of(key.namespace()),
                next_advance_ms: AtomicI64::new(i64::MAX),
            })
        };
        self.cells.write().entry(key.clone()).or_insert_with(new).clone()
    }

    fn known_cell(&self, key: &TopicKey) -> Option<Arc<Cell>> {
        self.cells.read().get(key).cloned()
    }

    fn cells_of(&self, shard: u16) -> Vec<Arc<Cell>> {
        self.cells
            .read()
            .values()
            // Asked each time: slots move.
            .filter(|cell| (self.options.shard_of)(cell.slot) == shard)
            .cloned()
            .collect()
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.options.clock.now(),
            monotonic: self.options.clock.monotonic(),
        }
    }

    /// Runs one transition of a topic and keeps the sums beside it true.
    fn step<R>(&self, cell: &Cell, transition: impl FnOnce(&mut Topic, Moment) -> R) -> R {
        self.step_locked(cell, &mut cell.topic.lock(), transition)
    }

    /// The same for what must not get lost in a topic that is being forgotten this moment.
    fn step_in<R>(&self, key: &TopicKey, transition: impl FnOnce(&mut Topic, Moment) -> R) -> (Arc<Cell>, R) {
        loop {
            let cell = self.cell(key);
            let mut topic = cell.topic.lock();
            if !topic.forgotten {
                let result = self.step_locked(&cell, &mut topic, transition);
                drop(topic);
                return (cell, result);
            }
        }
    }

    fn step_locked<R>(
        &self,
        cell: &Cell,
        topic: &mut Topic,
        transition: impl FnOnce(&mut Topic, Moment) -> R,
    ) -> R {
        let at = self.moment();
        let (before, held) = (topic.bytes, topic.holdings());
        let result = transition(topic, at);
        let after = topic.bytes;
        cell.sums.change(held, topic.holdings());
        let next = topic.next_advance(at).map_or(i64::MAX, Timestamp::ms);
        cell.next_advance_ms.store(next, Ordering::Relaxed);
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
        result
    }

    /// What has to be stored first, in log order: the first `limit` needs at or before `up_to`, and as many
    /// more as one frame can have.
    fn first_needs(&self, cells: &[Arc<Cell>], up_to: Lsn, limit: usize) -> Vec<(Lsn, usize, ItemId)> {
        let kept = limit + limits::BATCH_ITEMS_MAX;
        let mut first: BinaryHeap<(Lsn, usize, ItemId)> = BinaryHeap::new();
        for (index, cell) in cells.iter().enumerate() {
            let topic = cell.topic.lock();
            for (lsn, id) in topic.needs_up_to(up_to) {
                if first.len() > kept {
                    if first.peek().is_some_and(|last| *last < (lsn, index, id)) {
                        break;
                    }
                    first.pop();
                }
                first.push((lsn, index, id));
            }
        }
        first.into_sorted_vec()
    }

    /// The first log position that a shard needs, with what is being stored left out.
    fn first_waiting(&self, shard: u16) -> Option<Lsn> {
        let of_cell = |cell: Arc<Cell>| {
            let item = cell.topic.lock().first_need();
            let key = cell.keys.lock().first_need();
            [item, key].into_iter().flatten().min()
        };
        self.cells_of(shard).into_iter().filter_map(of_cell).min()
    }
}

#[async_trait]
impl HotTier for MemoryTier {
    async fn admit(&self, topic: &TopicKey, lsn: Lsn, items: Vec<QueuedItem>) {
        let (cell, ()) = self.step_in(topic, |topic, at| topic.admit(lsn, items, at));
        cell.arrived.notify_one();
    }

    async fn adopt(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<(), HotError> {
        let (cell, ()) = self.step_in(topic, |topic, at| topic.adopt(items, at));
        cell.arrived.notify_one();
        Ok(())
    }

    async fn take(&self, topic: &TopicKey, want: Want, term: Term, _by: &str) -> Result<Taken, HotError> {
        let Some(cell) = self.known_cell(topic) else {
            return Ok(Taken {
                items: Vec::new(),
                overdue: Vec::new(),
                more: More::Nothing(None),
            });
        };
        let taken = self.step(&cell, |topic, at| topic.take(want, term, at));
        if taken.more != More::Ready {
            return Ok(taken);
        }
        // One arrival wakes one waiter; as there is more than this one took, the next is woken in turn.
        cell.arrived.notify_one();
        Ok(taken)
    }

    async fn delivered(&self, topic: &TopicKey, lsn: Lsn, ids: &[ItemId]) {
        let cell = self.cell(topic);
        self.step(&cell, |topic, _| ids.iter().for_each(|id| topic.mark(*id, lsn)));
    }

    async fn untake(&self, topic: &TopicKey, taken: &[(ItemId, u32)]) {
        let cell = self.cell(topic);
        self.step(&cell, |topic, at| {
            for (id, generation) in taken {
                topic.untake(*id, *generation, at);
            }
        });
        cell.arrived.notify_one();
    }

    fn lease_now(&self, _topic: &TopicKey) -> Timestamp {
        self.options.clock.now()
    }

    async fn hold(&self, topic: &TopicKey, requests: &[HoldRequest]) -> Result<Vec<Held>, HotError> {
        let Some(cell) = self.known_cell(topic) else {
            return Ok(vec![Held::Unknown; requests.len()]);
        };
        Ok(self.step(&cell, |topic, at| {
            requests.iter().map(|request| topic.hold(*request, at)).collect()
        }))
    }

    async fn unhold(&self, topic: &TopicKey, ids: &[ItemId]) {
        let cell = self.cell(topic);
        self.step(&cell, |topic, at| ids.iter().for_each(|id| topic.unhold(*id, at)));
        cell.arrived.notify_one();
    }

    async fn finish(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>) {
        let cell = self.cell(topic);
        let comes_back = finishes
            .iter()
            .any(|finish| matches!(finish.to, crate::hot::Landing::Standing(_)));
        self.step(&cell, |topic, at| {
            finishes
                .into_iter()
                .for_each(|finish| topic.finish(finish, lsn, at));
        });
        if comes_back {
            cell.arrived.notify_one();
        }
    }

    async fn advance(&self) -> Vec<(TopicKey, Vec<Overdue>)> {
        let now_ms = self.options.clock.now().ms();
        let is_due = |cell: &&Arc<Cell>| cell.next_advance_ms.load(Ordering::Relaxed) <= now_ms;
        let cells: Vec<_> = self.cells.read().values().filter(is_due).cloned().collect();
        let mut all = Vec::new();
        for cell in cells {
            let (key, overdue) = self.step(&cell, |topic, at| (topic.key.clone(), topic.advance(at)));
            cell.arrived.notify_one();
            if !overdue.is_empty() {
                all.push((key, overdue));
            }
        }
        all
    }

    fn signal(&self, topic: &TopicKey) -> Arc<Notify> {
        self.cell(topic).arrived.clone()
    }

    async fn reserve_keys(&self, topic: &TopicKey, probes: &[KeyProbe]) -> Result<Vec<KeyState>, HotError> {
        let cell = self.cell(topic);
        let now = self.options.clock.now();
        let mut keys = cell.keys.lock();
        Ok(probes.iter().map(|probe| keys.reserve(*probe, now)).collect())
    }

    async fn confirm_keys(&self, topic: &TopicKey, lsn: Lsn, rows: Vec<DedupRow>) {
        let cell = self.cell(topic);
        let mut keys = cell.keys.lock();
        rows.into_iter().for_each(|row| keys.confirm(lsn, row));
    }

    async fn recall_keys(&self, topic: &TopicKey, rows: Vec<DedupRow>) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let mut keys = cell.keys.lock();
        rows.into_iter().for_each(|row| keys.recall(row));
        Ok(())
    }

    async fn release_keys(&self, topic: &TopicKey, key_hashes: &[u128]) {
        let cell = self.cell(topic);
        let mut keys = cell.keys.lock();
        key_hashes.iter().for_each(|key_hash| keys.release(*key_hash));
    }

    async fn has_cold_keys(&self, topic: &TopicKey) -> Result<bool, HotError> {
        let now = self.options.clock.now();
        let cell = self.known_cell(topic);
        Ok(cell.is_some_and(|cell| cell.keys.lock().cold_until > now))
    }

    async fn set_cold_keys(&self, topic: &TopicKey, until: Timestamp) -> Result<(), HotError> {
        self.cell(topic).keys.lock().cold_until = until;
        Ok(())
    }

    async fn flush_plan(&self, shard: u16, up_to: Lsn, limit: usize) -> Result<FlushPlan, HotError> {
        if let Some(need) = self.first_waiting(shard) {
            self.in_flight.lock().insert(shard, need);
        }
        let cells = self.cells_of(shard);
        let mut plan = FlushPlan {
            shard,
            reached: up_to,
            ..FlushPlan::default()
        };
        // Deletes come first: how far they reach bounds what else may be told with them.
        for cell in &cells {
            let mut topic = cell.topic.lock();
            let room = (4 * limit).saturating_sub(plan.deletes.len());
            let key = topic.key.clone();
            let deletes = topic.begin_deletes(room);
            plan.deletes
                .extend(deletes.into_iter().map(|id| (key.clone(), id)));
            if let Some(rest) = topic.next_delete() {
                plan.reached = plan.reached.min(Lsn(rest.0 - 1));
            }
            plan.purges.extend(topic.begin_purges());
        }
        let mut needs = self.first_needs(&cells, plan.reached, limit);
        // A frame is stored whole or not at all, so that one number says what the shard holds.
        if let Some(&(cut, ..)) = needs.get(limit) {
            let whole = needs.iter().take_while(|(lsn, ..)| *lsn < cut).count();
            if whole > 0 {
                needs.truncate(whole);
                plan.reached = Lsn(cut.0 - 1);
            } else {
                needs.retain(|(lsn, ..)| *lsn == cut);
                plan.reached = cut;
            }
        }
        for (_, index, id) in needs {
            let mut topic = cells[index].topic.lock();
            if let Some(item) = topic.begin_flush(id) {
                plan.upserts.push((topic.key.clone(), item));
            }
        }
        for cell in &cells {
            let key = cell.topic.lock().key.clone();
            plan.dedup
                .extend(cell.keys.lock().unstored_up_to(plan.reached, &key));
        }
        Ok(plan)
    }

    async fn flushed(&self, plan: FlushPlan, stored: bool) {
        for (topic, item) in &plan.upserts {
            let cell = self.cell(topic);
            self.step(&cell, |topic, _| topic.end_flush(item.item.id, stored));
        }
        for (topic, id) in plan.deletes {
            self.step(&self.cell(&topic), |topic, _| topic.end_delete(id, stored));
        }
        for (lsn, purge) in plan.purges {
            let cell = self.cell(&purge.topic);
            self.step(&cell, |topic, _| topic.end_purge((lsn, purge), stored));
        }
        if stored {
            for row in plan.dedup {
                self.cell(&row.topic).keys.lock().stored(&row);
            }
        }
        self.in_flight.lock().remove(&plan.shard);
    }

    async fn first_need(&self, shard: u16) -> Result<Option<Lsn>, HotError> {
        // Locked while looking: no flush begins or ends in between.
        let in_flight = self.in_flight.lock();
        let waiting = self.first_waiting(shard);
        let begun = in_flight.get(&shard).copied();
        Ok([begun, waiting].into_iter().flatten().min())
    }

    async fn pending_deletes(&self, shard: u16) -> Result<usize, HotError> {
        let cells = self.cells_of(shard);
        Ok(cells
            .iter()
            .map(|cell| cell.topic.lock().unstored.deletes())
            .sum())
    }

    async fn evict(&self, bytes: usize) -> usize {
        let mut cells: Vec<_> = self.cells.read().values().cloned().collect();
        cells.sort_by_cached_key(|cell| std::cmp::Reverse(cell.topic.lock().bytes));
        let mut freed = 0;
        for cell in cells {
            if freed >= bytes {
                break;
            }
            freed += self.step(&cell, |topic, at| topic.evict(bytes - freed, at.now));
        }
        freed
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    async fn set_stored(&self, counts: &[StoredCounts], now: Timestamp) -> Result<(), HotError> {
        for count in counts {
            let cell = self.cell(&count.topic);
            self.step(&cell, |topic, _| {
                topic.cold.reset(count.due, count.later, count.dead, now)
            });
        }
        Ok(())
    }

    async fn wanting_refill(&self) -> Vec<TopicKey> {
        let now = self.options.clock.now();
        let wants = |cell: &&Arc<Cell>| {
            let topic = cell.topic.lock();
            topic.cold.has_due(now) && topic.tally.ready < self.options.prefetch_items
        };
        self.cells
            .read()
            .values()
            .filter(wants)
            .map(|cell| cell.topic.lock().key.clone())
            .collect()
    }

    async fn refill_begin(&self, topic: &TopicKey) -> Result<Option<DueSpan>, HotError> {
        Ok(self.step(&self.cell(topic), |topic, at| topic.cold.begin(at.now)))
    }

    async fn refill_due(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
        passed: DueCursor,
        next_due: Option<Timestamp>,
    ) -> Result<(), HotError> {
        self.step(&self.cell(topic), |topic, at| {
            topic.adopt(items, at);
            topic.cold.pass(passed, next_due);
        });
        Ok(())
    }

    async fn refill_page(&self, topic: &TopicKey) -> Result<Option<RefillPage>, HotError> {
        Ok(self.cell(topic).topic.lock().cold.page())
    }

    async fn refill_end(&self, topic: &TopicKey, page: Option<(Vec<QueuedItem>, bool)>) {
        let cell = self.cell(topic);
        self.step(&cell, |topic, at| {
            let read_on = page.is_some();
            if let Some((items, whole)) = page {
                let last = items.last().map(QueuedItem::key);
                topic.adopt(items, at);
                topic.cold.read_to(last, whole);
            }
            topic.cold.end();
            if read_on {
                topic.evict_dead();
            }
        });
        cell.arrived.notify_one();
    }

    async fn purge(&self, topic: &TopicKey, lsn: Lsn, dead: bool, up_to: ItemId) -> u64 {
        let (_, mut purged) = self.step_in(topic, |topic, _| topic.purge(lsn, dead, up_to));
        while purged.free_some() {
            tokio::task::yield_now().await;
        }
        purged.count
    }

    async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError> {
        let Some(cell) = self.known_cell(topic) else {
            return Ok(Vec::new());
        };
        Ok(cell.topic.lock().browse(state, from, limit))
    }

    async fn newest(
        &self,
        topic: &TopicKey,
        state: ItemState,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError> {
        let found = self.known_cell(topic);
        Ok(found.map_or_else(Vec::new, |cell| cell.topic.lock().newest(state, limit)))
    }

    async fn only_cold(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<Vec<QueuedItem>, HotError> {
        Ok(self.cell(topic).topic.lock().only_cold(items))
    }

    async fn find(&self, topic: &TopicKey, id: ItemId) -> Result<Option<HotView>, HotError> {
        let cell = self.known_cell(topic);
        Ok(cell.and_then(|cell| cell.topic.lock().find(id)))
    }

    fn counts(&self, topic: &TopicKey) -> Counts {
        let Some(cell) = self.known_cell(topic) else {
            return Counts::default();
        };
        let mut topic = cell.topic.lock();
        Counts {
            ready: topic.tally.ready + topic.cold.due,
            scheduled: topic.tally.scheduled + topic.cold.later,
            leased: topic.tally.leased,
            dead: topic.tally.dead + topic.cold.dead,
            oldest_ready_due: topic.oldest_ready_due(),
            leases_expired: topic.tally.leases_expired,
        }
    }

    fn holdings(&self, namespace: &Namespace) -> Option<Holdings> {
        Some(self.holdings.read(namespace))
    }

    fn measure_cold(&self, topic: &TopicKey, item_bytes: u64) {
        if let Some(cell) = self.known_cell(topic) {
            self.step(&cell, |topic, _| topic.cold.measure(item_bytes));
        }
    }

    async fn set_paused(&self, topic: &TopicKey, paused: bool) -> Result<(), HotError> {
        let (cell, ()) = self.step_in(topic, |topic, _| topic.paused = paused);
        cell.arrived.notify_one();
        Ok(())
    }

    async fn forget(&self, topic: &TopicKey) -> Result<bool, HotError> {
        let mut cells = self.cells.write();
        let Some(cell) = cells.get(topic).cloned() else {
            return Ok(true);
        };
        let mut found = cell.topic.lock();
        if !found.is_empty() || cell.keys.lock().first_need().is_some() {
            return Ok(false);
        }
        found.forgotten = true;
        cells.remove(topic);
        if !cells.keys().any(|other| other.namespace() == topic.namespace()) {
            self.holdings.forget(topic.namespace());
        }
        Ok(true)
    }
}
