//! The tier: servers, topics, and how the library is called.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use redis::{Cmd, cmd};
use tokio::sync::Notify;

use super::cell::Cell;
use super::library::LIBRARY;
use super::link::Link;
use super::open::{self, RedisError, RedisOptions};
use super::reply::{Numbers, Reply};
use super::slots::SlotStates;
use super::stand_in::{Orphan, Presence, StandIn};
use super::terms::{entries_of, put_entries};
use super::wakes;
use crate::clock::Clock;
use crate::hot::HotError;
use crate::model::{QueuedItem, Slot, TopicKey};
use crate::wal::Lsn;

/// How long what must be done rests between two attempts.
const RETRY: Duration = Duration::from_millis(100);

/// The hot tier in Redis.
#[derive(Debug)]
pub struct RedisTier {
    /// Itself, for what goes on after its caller.
    pub(super) me: Weak<Self>,
    pub(super) options: RedisOptions,
    pub(super) links: Vec<Link>,
    pub(super) slots: SlotStates,
    /// Tells this process's messages and locks from others'.
    pub(super) instance: [u8; 8],
    pub(super) channel: String,
    pub(super) topics: RwLock<Topics>,
    /// Raised when an incarnation turned out to be gone.
    pub(super) lost: Notify,
    /// How often.
    pub(super) losses: AtomicU64,
    /// This node's log is read back into every slot.
    pub(super) is_whole: AtomicBool,
    pub(super) has_run: AtomicBool,
    pub(super) closed: AtomicBool,
    pub(super) presence: Mutex<Presence>,
    /// What nodes that went away left unstored, when it was last looked.
    pub(super) orphans: Mutex<Vec<Orphan>>,
    /// What of it is being stored.
    pub(super) stand_ins: Mutex<Vec<StandIn>>,
    /// Counts this process's takes.
    pub(super) takes: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Topics {
    pub(super) by_key: HashMap<TopicKey, Arc<Cell>>,
    pub(super) by_base: HashMap<Vec<u8>, Arc<Cell>>,
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
        let tier = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            options,
            links,
            slots: SlotStates::new(),
            instance: rand::random(),
            channel: channel.clone(),
            topics: RwLock::default(),
            lost: Notify::new(),
            losses: AtomicU64::new(0),
            is_whole: AtomicBool::new(false),
            has_run: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            presence: Mutex::default(),
            orphans: Mutex::default(),
            stand_ins: Mutex::default(),
            takes: AtomicU64::new(0),
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

    /// A call of `operation` for a topic, without what it takes.
    fn command(&self, cell: &Cell, incarnation: &[u8], operation: &str, connection: u64) -> Cmd {
        let brings_in = matches!(operation, "admit" | "adopt" | "refill_due" | "refill_end");
        let name = if brings_in {
            &LIBRARY.name_in
        } else {
            &LIBRARY.name
        };
        let mut call = cmd("FCALL");
        call.arg(name)
            .arg(2)
            .arg(self.incarnation_key(cell.slot))
            .arg(&cell.base);
        call.arg(incarnation).arg(&self.instance).arg(self.node());
        call.arg(told(&self.options.clock))
            .arg(&self.channel)
            .arg(operation)
            .arg(connection);
        call
    }

    /// Calls `operation` for a topic; `fill` adds what it takes.
    pub(super) async fn call_with(
        &self,
        cell: &Cell,
        operation: &str,
        fill: impl Fn(&mut Cmd),
    ) -> Result<Reply, HotError> {
        let Some(incarnation) = self.slots.incarnation(cell.slot, operation == "set_stored") else {
            return Err(HotError::Unavailable(
                "what Redis lost is being brought back".into(),
            ));
        };
        let link = self.link(cell.slot);
        let losses = self.losses.load(Ordering::Acquire);
        let (mut reply, letter) = loop {
            let connection = link.connection_number();
            let mut call = self.command(cell, &incarnation, operation, connection);
            fill(&mut call);
            let mut reply = Reply::of(link.send(&call).await?)?;
            match reply.letter()? {
                // Calls of a newer connection overtook it, and it did nothing.
                b'O' if link.connection_number() != connection => {}
                letter => break (reply, letter),
            }
        };
        if letter == b'O' {
            return Err(HotError::Unavailable(
                "another connection goes before this one".into(),
            ));
        }
        if letter == b'L' {
            if self.slots.lose(&incarnation) {
                self.is_whole.store(false, Ordering::Release);
                self.losses.fetch_add(1, Ordering::AcqRel);
                self.lost.notify_one();
            }
            return Err(HotError::Unavailable(
                "Redis lost its memory; it is being brought back".into(),
            ));
        }
        cell.set_numbers(losses, Numbers::read(&reply.bytes()?)?);
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
    pub(super) async fn surely_changed(
        &self,
        cell: &Cell,
        operation: &str,
        fill: impl Fn(&mut Cmd),
    ) -> Option<Reply> {
        cell.note_change();
        let reply = self.surely(cell, operation, fill).await;
        cell.note_change();
        reply
    }

    /// Adds items; `kept` when the shard may hold them.
    pub(super) async fn admit_to(&self, topic: &TopicKey, lsn: Lsn, items: &[QueuedItem], kept: bool) {
        let cell = self.cell(topic);
        while !self.is_closed() && self.list(&cell).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        let entries = entries_of(items);
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
}

/// The time as the library takes it: of a clock that somebody else moves, it is what Redis goes by, too.
fn told(clock: &Clock) -> String {
    let now = clock.now().ms();
    if clock.is_manual() {
        format!("={now}")
    } else {
        now.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::hot::{HotTier, Term, Want};
    use crate::model::{Item, ItemId, PayloadKind, QueuedItem};

    const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);

    /// A node's tier that has begun.
    async fn begun(node: u16, prefix: &str, clock: Clock) -> Arc<RedisTier> {
        let options = RedisOptions::of_test(node, prefix, clock);
        let tier = RedisTier::open(options).await.unwrap();
        tier.claim().await.unwrap();
        tier.ready().await.unwrap();
        tier.known().await.unwrap();
        tier
    }

    fn own_prefix() -> String {
        format!("test-{:016x}", rand::random::<u64>())
    }

    fn item(id: u64) -> QueuedItem {
        QueuedItem::accepted(Item {
            id: ItemId(id),
            priority: 5,
            lease_ms: 30_000,
            max_attempts: 3,
            kind: PayloadKind::Bytes,
            enqueued_at: START,
            deliver_after: START,
            expires_at: None,
            payload: vec![7].into(),
            extra: None,
        })
    }

    /// A call whose connection was given up may arrive after what was called on the next one.
    #[tokio::test]
    async fn a_late_call_of_a_connection_that_was_given_up_changes_nothing() {
        let tier = begun(1, &own_prefix(), Clock::manual(START)).await;
        let topic = TopicKey::parse("ns", "late").unwrap();
        let (cell, link) = (tier.cell(&topic), tier.link(topic.slot()));
        let incarnation = tier.slots.incarnation(topic.slot(), false).unwrap();
        let before = link.connection_number();
        let pause = async |connection| {
            let mut call = tier.command(&cell, &incarnation, "pause", connection);
            call.arg(1);
            let mut reply = Reply::of(link.send(&call).await.unwrap()).unwrap();
            reply.letter().unwrap()
        };
        assert_eq!(pause(before).await, b'T');
        link.give_up(before);
        tier.set_paused(&topic, false).await.unwrap();
        assert_eq!(pause(before).await, b'O');
        tier.admit(&topic, Lsn(1), vec![item(1)]).await;
        let taken = tier.take(&topic, Want::items(1), Term::Own, "ada").await.unwrap();
        assert_eq!(taken.items.len(), 1, "it was paused once more");
    }

    /// Nodes' clocks need not agree, and may be set while items are leased.
    #[tokio::test]
    async fn leases_run_on_the_clock_of_redis() {
        let (prefix, topic) = (own_prefix(), TopicKey::parse("ns", "clocks").unwrap());
        let (clock, hour_ms) = (Clock::system(), 3_600_000);
        let right = begun(1, &prefix, clock.clone()).await;
        let fast = begun(2, &prefix, Clock::set_back_from(clock.now().plus_ms(hour_ms))).await;
        right.admit(&topic, Lsn(1), vec![item(1), item(2)]).await;
        let take_one = async |tier: &RedisTier| {
            let taken = tier
                .take(&topic, Want::items(1), Term::Ms(60_000), "ada")
                .await
                .unwrap();
            taken.items.into_iter().next().map(|taken| taken.queued)
        };
        let minute_of = |end: Timestamp| (50_000..70_000).contains(&end.since_ms(clock.now()));
        for tier in [&right, &fast] {
            let taken = take_one(tier).await.unwrap();
            assert!(minute_of(taken.standing.lease_expires_at.unwrap()), "{taken:?}");
            assert!(minute_of(tier.lease_now(&topic).plus_ms(60_000)));
        }
        for tier in [&fast, &right, &fast] {
            assert_eq!(take_one(tier).await, None, "two have it");
            assert_eq!(tier.advance().await.len(), 0);
        }
        // An hour ahead, its node waits no hour for what ends in a minute.
        let next = fast.cell(&topic).numbers().next_advance.unwrap();
        assert!(minute_of(next.plus_ms(-hour_ms)), "{next}");
    }
}
