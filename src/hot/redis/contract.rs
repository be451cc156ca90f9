//! The [`HotTier`] over Redis: each method is one call of the library, told in its terms.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{Cmd, cmd};
use tokio::sync::Notify;

use super::cell::Cell;
use super::link::Link;
use super::slots::SlotState;
use super::state::{by_bytes, id_bytes, order_bytes};
use super::terms::{put_all, read_overdue, read_taken, read_views, term_number};
use super::tier::RedisTier;
use crate::clock::Timestamp;
use crate::hot::{
    Counts, DueCursor, DueSpan, Finish, FlushPlan, Held, HoldRequest, Holdings, HotError, HotTier, HotView,
    KeyProbe, KeyState, More, Overdue, RefillPage, Taken, Term, Want,
};
use crate::model::{HookRef, ItemId, ItemState, Namespace, NodeId, OrderKey, QueuedItem, TopicKey, limits};
use crate::shard::{DedupRow, StoredCounts};
use crate::wal::Lsn;

/// The set that has the items in `state` by their order; none for those that wait in the order of time alone.
fn ordered_set(state: ItemState) -> Option<&'static str> {
    match state {
        ItemState::Ready => Some("r"),
        ItemState::Scheduled => Some("dk"),
        ItemState::Dead => Some("D"),
        ItemState::Leased => None,
    }
}

#[async_trait]
impl HotTier for RedisTier {
    async fn admit(&self, topic: &TopicKey, lsn: Lsn, items: Vec<QueuedItem>) {
        // Before the log is read back, the shard may hold some of it: it was stored before Redis forgot.
        let kept = !self.slots.get(topic.slot()).is_known;
        self.admit_to(topic, lsn, &items, kept).await;
    }

    async fn adopt(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<(), HotError> {
        self.adopt_into(topic, items).await
    }

    async fn take(&self, topic: &TopicKey, want: Want, term: Term, by: &str) -> Result<Taken, HotError> {
        let cell = self.cell(topic);
        loop {
            let (ticket, heard) = (self.ticket(&cell), cell.tickets.heard());
            let fill = |call: &mut Cmd| {
                call.arg(want.items)
                    .arg(want.bytes)
                    .arg(term_number(term))
                    .arg(by_bytes(by))
                    .arg(&ticket.bytes);
                put_all(call, &heard);
            };
            let mut reply = self.call_with(&cell, "take", fill).await?;
            cell.tickets.told(&heard);
            let overdue = read_overdue(&mut reply.list()?)?;
            let items = read_taken(reply.list()?)?;
            let more = match reply.letter()? {
                // Takes before this one were given back: once more.
                b'V' => {
                    ticket.heard(false);
                    continue;
                }
                b'A' => More::Again,
                b'R' => More::Ready,
                b'C' => More::Cold,
                _ => More::Nothing(reply.instant()?),
            };
            ticket.heard(!items.is_empty());
            if more == More::Ready {
                cell.wake();
            }
            return Ok(Taken { items, overdue, more });
        }
    }

    async fn delivered(&self, topic: &TopicKey, lsn: Lsn, ids: &[ItemId]) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            call.arg(lsn.0);
            put_all(call, ids.iter().map(|id| id_bytes(*id)));
        };
        self.surely_changed(&cell, "delivered", fill).await;
    }

    async fn note_deferred(&self, topic: &TopicKey, deferred: &[(ItemId, Timestamp, HookRef)]) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            for (id, due, by) in deferred {
                call.arg(&id_bytes(*id))
                    .arg(due.ms())
                    .arg(by_bytes(&by.to_string()));
            }
        };
        // Nobody waits for it: it is for people who ask.
        let _ = self.call_with(&cell, "deferred", fill).await;
    }

    async fn untake(&self, topic: &TopicKey, taken: &[(ItemId, u32)]) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            for (id, generation) in taken {
                call.arg(&id_bytes(*id)).arg(generation);
            }
        };
        self.surely_changed(&cell, "untake", fill).await;
        cell.wake();
    }

    fn lease_now(&self, topic: &TopicKey) -> Timestamp {
        let ahead_ms = self.cell(topic).numbers().ahead_ms;
        self.options.clock.now().plus_ms(ahead_ms)
    }

    async fn hold(&self, topic: &TopicKey, requests: &[HoldRequest]) -> Result<Vec<Held>, HotError> {
        self.hold_in(topic, requests).await
    }

    async fn unhold(&self, topic: &TopicKey, ids: &[ItemId]) {
        self.unhold_in(topic, ids).await
    }

    async fn finish(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>) {
        self.settle_in(topic, lsn, finishes, false).await;
    }

    async fn finish_again(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>) {
        self.settle_in(topic, lsn, finishes, true).await;
    }

    async fn advance(&self) -> Vec<(TopicKey, Vec<Overdue>)> {
        let now = self.options.clock.now();
        let is_due = |cell: &Arc<Cell>| cell.numbers().next_advance.is_some_and(|at| at <= now);
        let cells: Vec<_> = self.cells().into_iter().filter(is_due).collect();
        let calls = cells.iter().map(async |cell| {
            let mut reply = self.call(cell, "advance", &[]).await?;
            cell.wake();
            read_overdue(&mut reply.list()?)
        });
        let mut all = Vec::new();
        for (cell, overdue) in cells.iter().zip(join_all(calls).await) {
            // What is overdue in a topic that does not answer is overdue later, too.
            match overdue {
                Ok(overdue) if !overdue.is_empty() => all.push((cell.key.clone(), overdue)),
                _ => {}
            }
        }
        all
    }

    fn signal(&self, topic: &TopicKey) -> Arc<Notify> {
        self.cell(topic).arrived.clone()
    }

    async fn reserve_keys(&self, topic: &TopicKey, probes: &[KeyProbe]) -> Result<Vec<KeyState>, HotError> {
        self.reserve_in(topic, probes).await
    }

    async fn confirm_keys(&self, topic: &TopicKey, lsn: Lsn, rows: Vec<DedupRow>) {
        self.confirm_in(topic, lsn, rows).await
    }

    async fn recall_keys(&self, topic: &TopicKey, rows: Vec<DedupRow>) -> Result<(), HotError> {
        self.recall_in(topic, rows).await
    }

    async fn release_keys(&self, topic: &TopicKey, key_hashes: &[u128]) {
        self.release_in(topic, key_hashes).await
    }

    async fn has_cold_keys(&self, topic: &TopicKey) -> Result<bool, HotError> {
        self.may_have_cold_keys(topic).await
    }

    async fn set_cold_keys(&self, topic: &TopicKey, until: Timestamp) -> Result<(), HotError> {
        self.set_cold_until(topic, until).await
    }

    async fn flush_plan(&self, shard: u16, up_to: Lsn, limit: usize) -> Result<FlushPlan, HotError> {
        self.plan(shard, up_to, limit).await
    }

    async fn flushed(&self, plan: FlushPlan, stored: bool) {
        self.end_plan(plan, stored).await;
    }

    async fn first_need(&self, shard: u16) -> Result<Option<Lsn>, HotError> {
        Ok(self.needs(shard).await?.0)
    }

    fn has_orphans(&self, shard: u16) -> bool {
        !self.orphans_in(shard).is_empty()
    }

    async fn pending_deletes(&self, shard: u16) -> Result<usize, HotError> {
        Ok(self.needs(shard).await?.1)
    }

    async fn evict(&self, bytes: usize) -> usize {
        self.evict_bytes(bytes).await
    }

    fn bytes(&self) -> usize {
        if self.links.iter().any(Link::is_full) {
            return usize::MAX;
        }
        self.topics
            .read()
            .by_key
            .values()
            .map(|cell| cell.numbers().bytes)
            .sum()
    }

    async fn set_stored(&self, counts: &[StoredCounts], now: Timestamp) -> Result<(), HotError> {
        self.tell_stored(counts, now).await
    }

    async fn wanting_refill(&self) -> Vec<TopicKey> {
        let now = self.options.clock.now();
        let wants = |cell: &&Arc<Cell>| {
            let numbers = cell.numbers();
            numbers.has_cold_due(now) && numbers.ready < self.options.prefetch_items
        };
        let topics = self.topics.read();
        topics
            .by_key
            .values()
            .filter(wants)
            .map(|cell| cell.key.clone())
            .collect()
    }

    async fn refill_begin(&self, topic: &TopicKey) -> Result<Option<DueSpan>, HotError> {
        self.begin_refill(topic).await
    }

    async fn refill_due(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
        passed: DueCursor,
        next_due: Option<Timestamp>,
    ) -> Result<(), HotError> {
        self.bring_due(topic, items, passed, next_due).await
    }

    async fn refill_page(&self, topic: &TopicKey) -> Result<Option<RefillPage>, HotError> {
        self.next_page(topic).await
    }

    async fn refill_end(&self, topic: &TopicKey, page: Option<(Vec<QueuedItem>, bool)>) {
        self.end_refill(topic, page).await
    }

    async fn purge(&self, topic: &TopicKey, lsn: Lsn, dead: bool, up_to: ItemId) -> u64 {
        self.purge_in(topic, lsn, dead, up_to).await
    }

    async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError> {
        let cell = self.cell(topic);
        let set = ordered_set(state);
        let operation = set.map_or("browse_leased", |_| "browse");
        let (mut views, mut next) = (Vec::new(), from);
        loop {
            let left = limit - views.len();
            let from = order_bytes(next);
            let fill = |call: &mut Cmd| {
                put_all(call, set);
                call.arg(&from).arg(left);
            };
            let mut reply = self.call_with(&cell, operation, fill).await?;
            views.extend(read_views(reply.list()?)?);
            match views.last() {
                // Large items come in several replies.
                Some(last) if reply.number()? == 1 && views.len() < limit => {
                    next = last.queued.key().successor()
                }
                _ => return Ok(views),
            }
        }
    }

    async fn newest(
        &self,
        topic: &TopicKey,
        state: ItemState,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError> {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            call.arg(ordered_set(state).unwrap_or(""))
                .arg(limit)
                .arg(limits::ANSWER_BYTES);
        };
        read_views(self.call_with(&cell, "newest", fill).await?.list()?)
    }

    async fn only_cold(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<Vec<QueuedItem>, HotError> {
        self.drop_hot(topic, items).await
    }

    async fn find(&self, topic: &TopicKey, id: ItemId) -> Result<Option<HotView>, HotError> {
        let reply = self.call(&self.cell(topic), "find", &[&id_bytes(id)]).await;
        Ok(read_views(reply?.list()?)?.pop())
    }

    fn holdings(&self, namespace: &Namespace) -> Option<Holdings> {
        Some(self.holdings_of(namespace))
    }

    fn measure_cold(&self, topic: &TopicKey, item_bytes: u64) {
        self.cell(topic).set_cold_item_bytes(item_bytes);
    }

    fn counts(&self, topic: &TopicKey) -> Counts {
        self.cell(topic).numbers().counts
    }

    async fn set_paused(&self, topic: &TopicKey, paused: bool) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            call.arg(u8::from(paused));
        };
        self.call_with(&cell, "pause", fill).await?;
        cell.wake();
        Ok(())
    }

    async fn forget(&self, topic: &TopicKey) -> Result<bool, HotError> {
        let cell = self.cell(topic);
        if self.needs_of(&cell).await?.0.is_some() {
            return Ok(false);
        }
        let forgotten = self.call(&cell, "forget", &[]).await?.number()? == 1;
        if forgotten {
            let mut drop_name = cmd("SREM");
            drop_name.arg(self.topics_key()).arg(topic.to_string());
            self.link(cell.slot).send(&drop_name).await?;
            cell.is_listed.store(false, Ordering::Relaxed);
        }
        Ok(forgotten)
    }

    fn outlives_the_node(&self) -> bool {
        true
    }

    fn check(&self, topic: &TopicKey) -> Result<(), HotError> {
        let link = self.link(topic.slot());
        let failure = if link.is_resting() { link.failure() } else { None };
        failure.map_or(Ok(()), |why| Err(HotError::Unavailable(why)))
    }

    fn condition(&self) -> Option<(bool, String)> {
        let failures: Vec<_> = self.links.iter().filter_map(Link::failure).collect();
        let full = self.links.iter().any(Link::is_full);
        Some(match failures.as_slice() {
            [] if full => (
                false,
                "out of memory: enqueues are refused until items are evicted".into(),
            ),
            [] if self.is_whole.load(Ordering::Acquire) => (true, "answering".into()),
            [] => (false, "answering; what it lost is being brought back".into()),
            failures => (false, failures.join("; ")),
        })
    }

    async fn claim(&self) -> Result<(), HotError> {
        self.is_whole.store(false, Ordering::Release);
        self.claim_slots().await
    }

    fn knows(&self, topic: &TopicKey) -> bool {
        self.slots.get(topic.slot()).is_known
    }

    async fn ready(&self) -> Result<(), HotError> {
        self.make_ready().await
    }

    async fn known(&self) -> Result<(), HotError> {
        self.make_known().await?;
        self.list_again().await?;
        self.learn_topics().await?;
        let operation = if self.has_run() { "look" } else { "begin" };
        self.each_topic(operation).await?;
        self.say_hello().await?;
        let unknown = self.slots.which(|state: &SlotState| !state.is_known);
        if unknown.is_empty() {
            self.is_whole.store(true, Ordering::Release);
            self.has_run.store(true, Ordering::Release);
            Ok(())
        } else {
            Err(HotError::Unavailable("Redis lost its memory once more".into()))
        }
    }

    async fn lost(&self) {
        self.lost.notified().await;
    }

    fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn has_all_keys(&self, topic: &TopicKey) -> bool {
        self.slots.has_all_keys(topic.slot())
    }

    async fn learn_keys(&self, topic: &TopicKey, nodes: &[NodeId]) -> Result<bool, HotError> {
        self.have_read_back(topic.slot(), nodes).await
    }

    async fn leave(&self) {
        self.say_goodbye().await;
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
