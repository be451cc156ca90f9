//! The [`HotTier`] over Redis: each method is one call of the library, told in its terms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use hashbrown::HashMap;
use parking_lot::RwLock;
use redis::{Cmd, cmd};
use tokio::sync::Notify;

use super::cell::Cell;
use super::library::LIBRARY;
use super::link::Link;
use super::open::{self, RedisError, RedisOptions};
use super::reply::{Numbers, Reply, unreadable};
use super::slots::{SlotState, SlotStates};
use super::state::{
    id_bytes, key_bytes, order_bytes, order_key, read_entry, read_key, standing_bytes, state_bytes,
    stored_item,
};
use super::wakes;
use crate::clock::Timestamp;
use crate::hot::{
    Counts, DueCursor, DueSpan, Finish, FlushPlan, Held, HoldRequest, HotError, HotTier, HotView, KeyProbe,
    KeyState, Landing, More, Overdue, OverdueWhy, RefillPage, Taken, TakenItem,
};
use crate::model::{ItemId, ItemState, OrderKey, QueuedItem, Slot, TopicKey};
use crate::shard::{DedupRow, StoredCounts};
use crate::wal::Lsn;

/// How long what must be done rests between two attempts.
const RETRY: Duration = Duration::from_millis(100);
/// How often somebody asks for a topic that another node reads cold items of.
const READER_RETRY: Duration = Duration::from_millis(5);
/// How many times: longer than a reader that died keeps the topic.
const READER_RETRIES: usize = 8_000;

/// The hot tier in Redis.
#[derive(Debug)]
pub struct RedisTier {
    options: RedisOptions,
    links: Vec<Link>,
    slots: SlotStates,
    /// Tells this process's messages and locks from others'.
    instance: [u8; 8],
    channel: String,
    topics: RwLock<Topics>,
    /// Raised when an incarnation turned out to be gone.
    lost: Notify,
    /// This node's log is read back into every slot.
    is_whole: AtomicBool,
    has_run: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Topics {
    by_key: HashMap<TopicKey, Arc<Cell>>,
    by_base: HashMap<Vec<u8>, Arc<Cell>>,
}

impl RedisTier {
    /// Connects to every server, and refuses those that would lose items.
    ///
    /// # Errors
    /// [`RedisError::Setting`] names what to change.
    pub async fn open(options: RedisOptions) -> Result<Arc<Self>, RedisError> {
        let (links, clients) = open::links(&options).await?;
        let channel = format!("{}:wake", options.prefix);
        let timeout = options.timeout;
        let tier = Arc::new(Self {
            options,
            links,
            slots: SlotStates::new(),
            instance: rand::random(),
            channel: channel.clone(),
            topics: RwLock::default(),
            lost: Notify::new(),
            is_whole: AtomicBool::new(false),
            has_run: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        if tier.links.iter().any(Link::is_cluster) {
            // A message reaches every node of a cluster.
            tokio::spawn(wakes::listen(Arc::downgrade(&tier), clients, channel, timeout));
        } else {
            for client in clients {
                let weak = Arc::downgrade(&tier);
                tokio::spawn(wakes::listen(weak, vec![client], channel.clone(), timeout));
            }
        }
        tokio::spawn(wakes::keep_looking(Arc::downgrade(&tier)));
        Ok(tier)
    }

    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }

    pub(super) fn link_number(&self, slot: Slot) -> usize {
        usize::from(slot.0) % self.links.len()
    }

    pub(super) fn link(&self, slot: Slot) -> &Link {
        &self.links[self.link_number(slot)]
    }

    pub(super) fn slots(&self) -> &SlotStates {
        &self.slots
    }

    pub(super) fn instance(&self) -> &[u8] {
        &self.instance
    }

    pub(super) fn node(&self) -> u16 {
        self.options.node.number()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn has_run(&self) -> bool {
        self.has_run.load(Ordering::Acquire)
    }

    pub(super) fn topics_key(&self) -> String {
        format!("{}:topics", self.options.prefix)
    }

    pub(super) fn incarnation_key(&self, slot: Slot) -> String {
        if self.link(slot).is_cluster() {
            format!("{}{{{}}}:inc", self.options.prefix, slot.0)
        } else {
            format!("{}:inc", self.options.prefix)
        }
    }

    pub(super) fn cell(&self, key: &TopicKey) -> Arc<Cell> {
        if let Some(cell) = self.topics.read().by_key.get(key) {
            return cell.clone();
        }
        let mut topics = self.topics.write();
        if let Some(cell) = topics.by_key.get(key) {
            return cell.clone();
        }
        // No name has a slash or a colon: bases of two topics never meet.
        let base = format!("{}{{{}}}:{key}:", self.options.prefix, key.slot().0).into_bytes();
        let cell = Arc::new(Cell::new(key.clone(), base.clone()));
        topics.by_key.insert(key.clone(), cell.clone());
        topics.by_base.insert(base, cell.clone());
        cell
    }

    pub(super) fn cell_of_base(&self, base: &[u8]) -> Option<Arc<Cell>> {
        self.topics.read().by_base.get(base).cloned()
    }

    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.topics.read().by_key.values().cloned().collect()
    }

    /// The topics of a shard of which it may lack something that this node's log says.
    pub(super) fn needed_cells(&self, shard: u16) -> Vec<Arc<Cell>> {
        let topics = self.topics.read();
        let needed = topics
            .by_key
            .values()
            .filter(|cell| (self.options.shard_of)(cell.slot) == shard && cell.may_be_needed());
        needed.cloned().collect()
    }

    /// Calls `operation` for a topic; `fill` adds what it takes.
    pub(super) async fn call_with(
        &self,
        cell: &Cell,
        operation: &str,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Reply, HotError> {
        let brings_in = matches!(operation, "admit" | "adopt" | "refill_due" | "refill_end");
        let name = if brings_in {
            &LIBRARY.name_in
        } else {
            &LIBRARY.name
        };
        let Some(incarnation) = self.slots.incarnation(cell.slot, operation == "set_stored") else {
            self.lost.notify_one();
            return Err(HotError::Unavailable(
                "what Redis lost is being brought back".into(),
            ));
        };
        let mut call = cmd("FCALL");
        call.arg(name)
            .arg(2)
            .arg(self.incarnation_key(cell.slot))
            .arg(&cell.base);
        call.arg(&incarnation).arg(&self.instance).arg(self.node());
        call.arg(self.options.clock.now().ms())
            .arg(&self.channel)
            .arg(operation);
        fill(&mut call);
        let mut reply = Reply::of(self.link(cell.slot).send(&call).await?)?;
        if reply.letter()? == b'L' {
            self.slots.lose(&incarnation);
            self.is_whole.store(false, Ordering::Release);
            self.lost.notify_one();
            return Err(HotError::Unavailable(
                "Redis lost its memory; it is being brought back".into(),
            ));
        }
        cell.set_numbers(Numbers::read(&reply.bytes()?)?);
        reply.list()
    }

    pub(super) async fn call(&self, cell: &Cell, operation: &str, args: &[&[u8]]) -> Result<Reply, HotError> {
        self.call_with(cell, operation, |call| {
            for arg in args {
                call.arg(*arg);
            }
        })
        .await
    }

    /// Calls until it worked: for what a durable record says. Nothing when the tier is closed before.
    pub(super) async fn surely(
        &self,
        cell: &Cell,
        operation: &str,
        fill: impl Fn(&mut Cmd),
    ) -> Option<Reply> {
        while !self.is_closed() {
            if let Ok(reply) = self.call_with(cell, operation, &fill).await {
                return Some(reply);
            }
            tokio::time::sleep(RETRY).await;
        }
        None
    }

    /// The same for a change of which the shard lacks something afterwards.
    async fn surely_changed(&self, cell: &Cell, operation: &str, fill: impl Fn(&mut Cmd)) -> Option<Reply> {
        cell.note_change();
        let reply = self.surely(cell, operation, fill).await;
        cell.note_change();
        reply
    }

    async fn admit_to(&self, topic: &TopicKey, lsn: Lsn, items: &[QueuedItem], kept: bool) {
        let cell = self.cell(topic);
        while !self.is_closed() && self.list(&cell).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        let entries: Vec<_> = items
            .iter()
            .map(|queued| {
                (
                    id_bytes(queued.item.id),
                    state_bytes(queued),
                    stored_item(&queued.item),
                )
            })
            .collect();
        self.surely_changed(&cell, "admit", |call| {
            call.arg(lsn.0).arg(self.whole()).arg(u8::from(kept));
            put_entries(call, &entries);
        })
        .await;
        cell.wake();
    }

    /// Up to where every frame of this node's log was applied to what Redis remembers now.
    fn whole(&self) -> i64 {
        // Read in this order: an incarnation that is lost in between makes the call fail.
        let applied = (self.options.applied)().0.cast_signed();
        if self.is_whole.load(Ordering::Acquire) {
            applied
        } else {
            -1
        }
    }

    async fn settle_in(&self, topic: &TopicKey, lsn: Lsn, finishes: Vec<Finish>, again: bool) {
        let cell = self.cell(topic);
        let comes_back = finishes
            .iter()
            .any(|finish| matches!(finish.to, Landing::Standing(_)));
        let landings: Vec<_> = finishes
            .iter()
            .map(|finish| {
                let to = match &finish.to {
                    Landing::Gone(_) => Vec::new(),
                    Landing::Standing(standing) => standing_bytes(standing),
                };
                (id_bytes(finish.id), to)
            })
            .collect();
        self.surely_changed(&cell, "finish", |call| {
            call.arg(lsn.0).arg(u8::from(again));
            for (id, to) in &landings {
                call.arg(id).arg(to);
            }
        })
        .await;
        cell.let_go.notify_waiters();
        if comes_back {
            cell.wake();
        }
    }
}

type Entry = ([u8; 8], Vec<u8>, Vec<u8>);

fn put_entries(call: &mut Cmd, entries: &[Entry]) {
    for (id, state, item) in entries {
        call.arg(id).arg(state).arg(item);
    }
}

fn entries_of(items: &[QueuedItem]) -> Vec<Entry> {
    let entry = |queued: &QueuedItem| {
        (
            id_bytes(queued.item.id),
            state_bytes(queued),
            stored_item(&queued.item),
        )
    };
    items.iter().map(entry).collect()
}

fn put_all(call: &mut Cmd, args: impl IntoIterator<Item = impl AsRef<[u8]>>) {
    for arg in args {
        call.arg(arg.as_ref());
    }
}

fn read_overdue(list: &mut Reply) -> Result<Vec<Overdue>, HotError> {
    let mut overdue = Vec::with_capacity(list.len() / 4);
    while !list.is_empty() {
        let _id = list.bytes()?;
        let (queued, _) = read_entry(&list.bytes()?, &list.bytes()?)?;
        let why = match list.letter()? {
            b'a' => OverdueWhy::AttemptsExhausted,
            _ => OverdueWhy::Expired,
        };
        overdue.push(Overdue { queued, why });
    }
    Ok(overdue)
}

fn read_views(mut list: Reply) -> Result<Vec<HotView>, HotError> {
    let mut views = Vec::with_capacity(list.len() / 3);
    while !list.is_empty() {
        let _id = list.bytes()?;
        let (queued, state) = read_entry(&list.bytes()?, &list.bytes()?)?;
        views.push(HotView { queued, state });
    }
    Ok(views)
}

fn milliseconds(at: Option<Timestamp>) -> i64 {
    at.map_or(-1, Timestamp::ms)
}

#[async_trait]
impl HotTier for RedisTier {
    async fn admit(&self, topic: &TopicKey, lsn: Lsn, items: Vec<QueuedItem>) {
        // Before the log is read back, the shard may hold some of it: it was stored before Redis forgot.
        let kept = !self.slots.get(topic.slot()).is_known;
        self.admit_to(topic, lsn, &items, kept).await;
    }

    async fn adopt(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let token = cell.reader.lock().clone().unwrap_or_default();
        let entries = entries_of(&items);
        self.call_with(&cell, "adopt", |call| {
            call.arg(&token);
            put_entries(call, &entries);
        })
        .await?;
        cell.wake();
        Ok(())
    }

    async fn take(&self, topic: &TopicKey, max: usize, lease_ms: Option<u32>) -> Result<Taken, HotError> {
        let cell = self.cell(topic);
        let lease_ms = lease_ms.map_or(-1, i64::from);
        let mut overdue = Vec::new();
        loop {
            let fill = |call: &mut Cmd| {
                call.arg(max).arg(lease_ms);
            };
            let mut reply = self.call_with(&cell, "take", fill).await?;
            overdue.extend(read_overdue(&mut reply.list()?)?);
            let mut list = reply.list()?;
            let mut items = Vec::with_capacity(list.len() / 4);
            while !list.is_empty() {
                let _id = list.bytes()?;
                let (queued, _) = read_entry(&list.bytes()?, &list.bytes()?)?;
                let mark = list.number()? == 1;
                items.push(TakenItem { queued, mark });
            }
            let more = match reply.letter()? {
                // More became due than one call moves.
                b'A' => continue,
                b'R' => More::Ready,
                b'C' => More::Cold,
                _ => More::Nothing(reply.instant()?),
            };
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

    async fn untake(&self, topic: &TopicKey, ids: &[ItemId]) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| put_all(call, ids.iter().map(|id| id_bytes(*id)));
        self.surely_changed(&cell, "untake", fill).await;
        cell.wake();
    }

    async fn hold(&self, topic: &TopicKey, requests: &[HoldRequest]) -> Result<Vec<Held>, HotError> {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            for request in requests {
                call.arg(&id_bytes(request.id))
                    .arg(request.generation.map_or(-1, i64::from));
            }
        };
        let mut list = self.call_with(&cell, "hold", fill).await?.list()?;
        let mut all = Vec::with_capacity(requests.len());
        while !list.is_empty() {
            let answer = list.letter()?;
            let (state, item) = (list.bytes()?, list.bytes()?);
            all.push(match answer {
                b'Y' => Held::Yes(read_entry(&state, &item)?.0),
                b'D' => Held::AlreadyDone,
                b'B' => Held::Busy(cell.let_go.clone()),
                b'L' => Held::Lost,
                _ => Held::Unknown,
            });
        }
        if all.len() == requests.len() {
            Ok(all)
        } else {
            Err(unreadable())
        }
    }

    async fn unhold(&self, topic: &TopicKey, ids: &[ItemId]) {
        let cell = self.cell(topic);
        if !ids.is_empty() {
            let fill = |call: &mut Cmd| put_all(call, ids.iter().map(|id| id_bytes(*id)));
            // Not for ever: a hold ends by itself.
            let _ = self.call_with(&cell, "unhold", fill).await;
        }
        cell.let_go.notify_waiters();
        cell.wake();
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
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| put_all(call, probes.iter().map(|probe| probe.key_hash.to_be_bytes()));
        let mut list = self.call_with(&cell, "reserve_keys", fill).await?.list()?;
        let mut states = Vec::with_capacity(probes.len());
        for probe in probes {
            let row = list.bytes()?;
            states.push(match row.as_slice() {
                b"R" => KeyState::Reserved,
                b"B" => KeyState::InFlight(cell.decided.clone()),
                row => {
                    let (body_hash, id, _) = read_key(row).ok_or_else(unreadable)?;
                    let same_body = body_hash == probe.body_hash;
                    KeyState::Used { id, same_body }
                }
            });
        }
        Ok(states)
    }

    async fn confirm_keys(&self, topic: &TopicKey, lsn: Lsn, rows: Vec<DedupRow>) {
        let cell = self.cell(topic);
        let fill = |call: &mut Cmd| {
            call.arg(lsn.0);
            put_keys(call, &rows);
        };
        self.surely_changed(&cell, "confirm_keys", fill).await;
        cell.decided.notify_waiters();
    }

    async fn recall_keys(&self, topic: &TopicKey, rows: Vec<DedupRow>) -> Result<(), HotError> {
        let cell = self.cell(topic);
        self.call_with(&cell, "recall_keys", |call| put_keys(call, &rows))
            .await?;
        Ok(())
    }

    async fn release_keys(&self, topic: &TopicKey, key_hashes: &[u128]) {
        let cell = self.cell(topic);
        if !key_hashes.is_empty() {
            let fill = |call: &mut Cmd| put_all(call, key_hashes.iter().map(|hash| hash.to_be_bytes()));
            // Not for ever: a reservation ends by itself.
            let _ = self.call_with(&cell, "release_keys", fill).await;
        }
        cell.decided.notify_waiters();
    }

    async fn has_cold_keys(&self, topic: &TopicKey) -> Result<bool, HotError> {
        let mut reply = self.call(&self.cell(topic), "cold_keys", &[]).await?;
        let until = reply.instant()?;
        Ok(until.is_some_and(|until| until > self.options.clock.now()))
    }

    async fn set_cold_keys(&self, topic: &TopicKey, until: Timestamp) -> Result<(), HotError> {
        let fill = |call: &mut Cmd| {
            call.arg(until.ms());
        };
        self.call_with(&self.cell(topic), "set_cold_keys", fill).await?;
        Ok(())
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

    async fn set_stored(&self, counts: &[StoredCounts], _now: Timestamp) -> Result<(), HotError> {
        let unknown = |count: &&StoredCounts| !self.slots.get(count.topic.slot()).is_known;
        let calls = counts.iter().filter(unknown).map(async |count| {
            let fresh = u8::from(self.slots.get(count.topic.slot()).is_fresh());
            let fill = |call: &mut Cmd| {
                call.arg(count.due).arg(count.later).arg(count.dead).arg(fresh);
            };
            self.call_with(&self.cell(&count.topic), "set_stored", fill).await
        });
        join_all(calls)
            .await
            .into_iter()
            .try_for_each(|result| result.map(drop))
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
        let cell = self.cell(topic);
        let mut token = self.node().to_be_bytes().to_vec();
        token.extend(rand::random::<[u8; 16]>());
        for _ in 0..READER_RETRIES {
            let mut reply = self.call(&cell, "refill_begin", &[&token]).await?;
            let answer = reply.letter()?;
            if answer == b'B' {
                tokio::time::sleep(READER_RETRY).await;
                continue;
            }
            *cell.reader.lock() = Some(token);
            if answer == b'N' {
                return Ok(None);
            }
            let due = reply.instant()?.unwrap_or_default();
            let after = (due, reply.id()?);
            let until = reply.instant()?.unwrap_or_default();
            return Ok(Some(DueSpan { after, until }));
        }
        Err(HotError::Unavailable(
            "another node reads the topic's stored items for too long".into(),
        ))
    }

    async fn refill_due(
        &self,
        topic: &TopicKey,
        items: Vec<QueuedItem>,
        passed: DueCursor,
        next_due: Option<Timestamp>,
    ) -> Result<(), HotError> {
        let cell = self.cell(topic);
        let token = cell.reader.lock().clone().unwrap_or_default();
        let entries = entries_of(&items);
        let fill = |call: &mut Cmd| {
            call.arg(&token)
                .arg(passed.0.ms())
                .arg(&id_bytes(passed.1))
                .arg(milliseconds(next_due));
            put_entries(call, &entries);
        };
        self.call_with(&cell, "refill_due", fill).await?;
        Ok(())
    }

    async fn refill_page(&self, topic: &TopicKey) -> Result<Option<RefillPage>, HotError> {
        let mut reply = self.call(&self.cell(topic), "refill_page", &[]).await?;
        let floor = reply.bytes()?;
        if floor.is_empty() {
            return Ok(None);
        }
        Ok(Some(RefillPage {
            from: order_key(&floor).ok_or_else(unreadable)?,
            due_by: reply.instant()?.unwrap_or_default(),
        }))
    }

    async fn refill_end(&self, topic: &TopicKey, page: Option<(Vec<QueuedItem>, bool)>) {
        let cell = self.cell(topic);
        let token = cell.reader.lock().take().unwrap_or_default();
        let page = page.map(|(items, whole)| {
            let next = items
                .last()
                .map(|last| order_bytes(last.key().successor()).to_vec());
            (entries_of(&items), whole, next.unwrap_or_default())
        });
        let fill = |call: &mut Cmd| {
            call.arg(&token);
            match &page {
                None => {
                    call.arg("");
                }
                Some((entries, whole, next)) => {
                    call.arg(u8::from(*whole)).arg(next);
                    put_entries(call, entries);
                }
            }
        };
        // Not for ever: a reader that does not end loses its place, and the page is read again.
        if self.call_with(&cell, "refill_end", fill).await.is_err() {
            let _ = self.call(&cell, "refill_end", &[&token, b""]).await;
        }
        cell.wake();
    }

    async fn purge(&self, topic: &TopicKey, lsn: Lsn, dead: bool, up_to: ItemId) -> u64 {
        let cell = self.cell(topic);
        let (mut cursor, mut removed) = (Vec::new(), 0);
        loop {
            let fill = |call: &mut Cmd| {
                call.arg(&cursor)
                    .arg(lsn.0)
                    .arg(u8::from(dead))
                    .arg(&id_bytes(up_to));
            };
            let Some(mut reply) = self.surely_changed(&cell, "purge", fill).await else {
                return removed;
            };
            match (reply.bytes(), reply.number()) {
                (Ok(next), Ok(count)) => {
                    removed += count.cast_unsigned();
                    cursor = next;
                }
                _ => return removed,
            }
            if cursor == b"0" {
                return removed;
            }
        }
    }

    async fn browse(
        &self,
        topic: &TopicKey,
        state: ItemState,
        from: OrderKey,
        limit: usize,
    ) -> Result<Vec<HotView>, HotError> {
        let cell = self.cell(topic);
        let from = order_bytes(from);
        let set = match state {
            ItemState::Ready => "r",
            ItemState::Scheduled => "dk",
            ItemState::Dead => "D",
            ItemState::Leased => {
                let fill = |call: &mut Cmd| {
                    call.arg(&from).arg(limit);
                };
                return read_views(self.call_with(&cell, "browse_leased", fill).await?.list()?);
            }
        };
        let fill = |call: &mut Cmd| {
            call.arg(set).arg(&from).arg(limit);
        };
        read_views(self.call_with(&cell, "browse", fill).await?.list()?)
    }

    async fn only_cold(&self, topic: &TopicKey, items: Vec<QueuedItem>) -> Result<Vec<QueuedItem>, HotError> {
        if items.is_empty() {
            return Ok(items);
        }
        let fill = |call: &mut Cmd| {
            for queued in &items {
                call.arg(&id_bytes(queued.item.id))
                    .arg(u8::from(queued.standing.dead.is_some()));
            }
        };
        let mut list = self
            .call_with(&self.cell(topic), "only_cold", fill)
            .await?
            .list()?;
        let mut cold = Vec::new();
        for item in items {
            if list.number()? == 1 {
                cold.push(item);
            }
        }
        Ok(cold)
    }

    async fn find(&self, topic: &TopicKey, id: ItemId) -> Result<Option<HotView>, HotError> {
        let reply = self.call(&self.cell(topic), "find", &[&id_bytes(id)]).await;
        Ok(read_views(reply?.list()?)?.pop())
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

    fn check(&self) -> Result<(), HotError> {
        let failure = self
            .links
            .iter()
            .filter(|link| link.is_resting())
            .find_map(Link::failure);
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
        self.learn_topics().await?;
        let operation = if self.has_run() { "look" } else { "begin" };
        self.each_topic(operation).await?;
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

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn put_keys(call: &mut Cmd, rows: &[DedupRow]) {
    for row in rows {
        call.arg(&row.key_hash.to_be_bytes()).arg(&key_bytes(row));
    }
}
