//! Random lives of two topics on two shards, step by step the same as in the model.
//!
//! `MQUEUE_PROPERTY_CASES` sets how many lives, `MQUEUE_PROPERTY_STEPS` how long they are at most, and
//! `MQUEUE_PROPERTY_SEED` which they are: the same numbers, the same lives.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::model::{Key, NoCancel, Out, Seen, Topic};
use super::node::{Node, somebody, topic};
use super::shard::Fault;
use crate::clock::Timestamp;
use crate::model::{Item, ItemId, ItemState, LeaseRef, OrderKey, TopicKey};
use crate::queue::{
    DequeueRequest, Durability, EnqueueResult, LeaseAction, NewItem, QueueError, Redrive, Verb,
};

/// What a new item asks for.
#[derive(Debug, Clone)]
struct Wish {
    priority: i32,
    delay_ms: Option<i64>,
    ttl_ms: Option<i64>,
    lease_ms: u32,
    max_attempts: u32,
}

#[derive(Debug, Clone)]
enum Word {
    Ack,
    Nack { delay_ms: i64, error: bool },
    Extend(u32),
    Release(Option<i64>),
    Reject,
}

/// One step; numbers that pick something wrap around.
#[derive(Debug, Clone)]
enum Step {
    Enqueue(Vec<Wish>),
    EnqueueKeyed {
        key: u8,
        body: u8,
    },
    Dequeue {
        max: usize,
        lease_ms: Option<u32>,
    },
    /// Settles several of the leases ever handed out, from the latest back.
    Settle(Vec<(u8, Word)>),
    Cancel(u8),
    Advance(i64),
    Flush,
    FlushFails(Fault),
    FlushSome(u8),
    Evict,
    Prefetch,
    Purge,
    DiscardDead,
    Redrive {
        elsewhere: bool,
    },
    Pause(bool),
    Crash {
        away_ms: i64,
    },
}

fn wish() -> impl Strategy<Value = Wish> {
    let delay =
        prop_oneof![4 => Just(None), 1 => Just(Some(500)), 1 => Just(Some(5_000)), 1 => Just(Some(60_000))];
    let ttl = prop_oneof![4 => Just(None), 1 => Just(Some(2_000)), 1 => Just(Some(30_000))];
    let lease = prop::sample::select(vec![1_000, 5_000, 30_000]);
    let attempts = prop::sample::select(vec![1, 2, 3, 10]);
    (prop::sample::select(vec![1, 5, 9]), delay, ttl, lease, attempts).prop_map(
        |(priority, delay_ms, ttl_ms, lease_ms, max_attempts)| Wish {
            priority,
            delay_ms,
            ttl_ms,
            lease_ms,
            max_attempts,
        },
    )
}

fn word() -> impl Strategy<Value = Word> {
    let delay = prop::sample::select(vec![0, 0, 700, 5_000]);
    prop_oneof![
        4 => Just(Word::Ack),
        3 => (delay, any::<bool>()).prop_map(|(delay_ms, error)| Word::Nack { delay_ms, error }),
        1 => prop::sample::select(vec![1_000, 20_000]).prop_map(Word::Extend),
        2 => prop::sample::select(vec![None, Some(0), Some(3_000)]).prop_map(Word::Release),
        1 => Just(Word::Reject),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let moments = vec![0, 1, 400, 1_000, 5_000, 30_000, 61_000, 700_000];
    let faults = vec![Fault::Refused, Fault::AnswerLost, Fault::AnswerLost, Fault::Panic];
    prop_oneof![
        12 => prop::collection::vec(wish(), 1..6).prop_map(Step::Enqueue),
        3 => (0_u8..3, 0_u8..2).prop_map(|(key, body)| Step::EnqueueKeyed { key, body }),
        12 => (1_usize..6, prop::sample::select(vec![None, None, Some(2_000)]))
            .prop_map(|(max, lease_ms)| Step::Dequeue { max, lease_ms }),
        14 => prop::collection::vec((any::<u8>(), word()), 1..4).prop_map(Step::Settle),
        2 => any::<u8>().prop_map(Step::Cancel),
        10 => prop::sample::select(moments).prop_map(Step::Advance),
        8 => Just(Step::Flush),
        3 => prop::sample::select(faults).prop_map(Step::FlushFails),
        4 => any::<u8>().prop_map(Step::FlushSome),
        8 => Just(Step::Evict),
        4 => Just(Step::Prefetch),
        1 => Just(Step::Purge),
        1 => Just(Step::DiscardDead),
        3 => any::<bool>().prop_map(|elsewhere| Step::Redrive { elsewhere }),
        2 => any::<bool>().prop_map(Step::Pause),
        3 => prop::sample::select(vec![0, 0, 2_000, 40_000]).prop_map(|away_ms| Step::Crash { away_ms }),
    ]
}

/// The node, the model, and what a consumer remembers.
struct Life {
    node: Node,
    topics: [TopicKey; 2],
    model: [Topic; 2],
    leases: Vec<(usize, ItemId, u32)>,
    payloads: u64,
}

impl Life {
    async fn begin(flush_items: usize) -> Self {
        let node = Node::start(2, flush_items).await;
        let shard_of = |key: &TopicKey| node.queue.core.shard_number(key);
        let on = |shard| {
            (0..)
                .map(|n| topic(&format!("t{n}")))
                .find(|key| shard_of(key) == shard)
        };
        let topics = [on(0).unwrap(), on(1).unwrap()];
        for topic in &topics {
            node.queue.put_topic(topic, Default::default()).await.unwrap();
        }
        Self {
            node,
            topics,
            model: Default::default(),
            leases: Vec::new(),
            payloads: 0,
        }
    }

    fn now(&self) -> Timestamp {
        self.node.clock.now()
    }

    async fn live(mut self, steps: &[(usize, Step)]) {
        for (n, (at, step)) in steps.iter().enumerate() {
            self = self.step(*at, step).await;
            self.node.queue.core.reap().await;
            let now = self.now();
            self.model.iter_mut().for_each(|topic| topic.pass_time(now));
            self.compare(n).await;
        }
        self.end().await;
    }

    async fn step(mut self, at: usize, step: &Step) -> Self {
        let topic = self.topics[at].clone();
        match step {
            Step::Enqueue(wishes) => self.enqueue(at, wishes).await,
            Step::EnqueueKeyed { key, body } => self.enqueue_keyed(at, *key, *body).await,
            Step::Dequeue { max, lease_ms } => self.dequeue(at, *max, *lease_ms).await,
            Step::Settle(words) => self.settle(words).await,
            Step::Cancel(pick) => self.cancel(at, *pick).await,
            Step::Advance(ms) => {
                self.node.advance(*ms).await;
                self.node.clean_up().await;
            }
            Step::Flush => assert!(self.node.flush().await),
            Step::FlushFails(fault) => {
                self.node.shard(&topic).state.lock().fault = Some(*fault);
                let well = self.node.flush().await;
                let untouched = self.node.shard(&topic).state.lock().fault.take().is_some();
                assert_eq!(well, untouched);
            }
            Step::FlushSome(part) => {
                let core = &self.node.queue.core;
                let up_to = core.wal.applied_lsn().0 * u64::from(*part) / 255;
                let shard = core.shard_number(&topic);
                assert!(self.node.flush_shard(shard, crate::wal::Lsn(up_to)).await);
                core.free_log().await;
            }
            Step::Evict => self.node.evict().await,
            Step::Prefetch => self.node.prefetch().await,
            Step::Purge => {
                let count = self.node.queue.purge(&topic).await.unwrap();
                assert_eq!(count, self.model[at].purge(false));
            }
            Step::DiscardDead => {
                let count = self.node.queue.discard_dead(&topic).await.unwrap();
                assert_eq!(count, self.model[at].purge(true));
            }
            Step::Redrive { elsewhere } => self.redrive(at, *elsewhere).await,
            Step::Pause(paused) => {
                self.node.queue.pause(&topic, *paused).await.unwrap();
                self.model[at].paused = *paused;
            }
            Step::Crash { away_ms } => return self.crash(*away_ms).await,
        }
        self
    }

    fn new_item(&mut self, wish: &Wish) -> NewItem {
        self.payloads += 1;
        NewItem {
            payload: self.payloads.to_string().into_bytes().into(),
            priority: Some(wish.priority),
            delay_ms: wish.delay_ms,
            ttl_ms: wish.ttl_ms,
            lease_ms: Some(wish.lease_ms),
            max_attempts: Some(wish.max_attempts),
            ..NewItem::default()
        }
    }

    /// The item as the model expects it to be stored.
    fn stored(new: &NewItem, id: ItemId, now: Timestamp) -> Item {
        Item {
            id,
            priority: new.priority.unwrap_or(100),
            lease_ms: new.lease_ms.unwrap_or(30_000),
            max_attempts: new.max_attempts.unwrap_or(10),
            kind: crate::model::PayloadKind::Bytes,
            enqueued_at: now,
            deliver_after: now.plus_ms(new.delay_ms.unwrap_or_default()),
            expires_at: new.ttl_ms.map(|ms| now.plus_ms(ms)),
            payload: new.payload.clone(),
            extra: None,
        }
    }

    async fn enqueue(&mut self, at: usize, wishes: &[Wish]) {
        let items: Vec<_> = wishes.iter().map(|wish| self.new_item(wish)).collect();
        let ids = self.node.enqueue(&self.topics[at], items.clone()).await;
        let now = self.now();
        for (item, id) in items.iter().zip(ids) {
            self.model[at].accept(Self::stored(item, id, now), None);
        }
    }

    async fn enqueue_keyed(&mut self, at: usize, key: u8, body: u8) {
        let (key, now) = (key.to_string(), self.now());
        let new = NewItem {
            payload: vec![b'x', body].into(),
            idempotency_key: Some(key.as_str().into()),
            ..NewItem::default()
        };
        let queue = &self.node.queue;
        let enqueued = queue
            .enqueue(
                &self.topics[at],
                vec![new.clone()],
                Durability::Logged,
                &somebody(),
            )
            .await;
        let result = enqueued.unwrap().results.remove(0);
        match (self.model[at].probe(&key, &new.payload, now), result) {
            (Key::New, EnqueueResult::Accepted { id }) => {
                self.model[at].accept(Self::stored(&new, id, now), Some(&key));
            }
            (Key::Repeat(first), EnqueueResult::Duplicate { id }) => assert_eq!(id, first),
            (Key::Conflict, EnqueueResult::Rejected { .. }) => {}
            (expected, got) => panic!("key {key}: {expected:?} was to come, not {got:?}"),
        }
    }

    async fn dequeue(&mut self, at: usize, max: usize, lease_ms: Option<u32>) {
        let request = DequeueRequest {
            lease_ms,
            ..super::node::request(&self.topics[at], max)
        };
        let delivered = self.node.queue.dequeue(request).await.unwrap();
        let now = self.now();
        let out = |d: &crate::queue::Delivered| Out {
            id: d.item.id,
            attempt: d.attempt,
            due: d.due,
            lease_expires_at: d.lease.as_ref().unwrap().expires_at,
            last_error: d.last_error.as_deref().map(str::to_owned),
        };
        let got: Vec<_> = delivered.iter().map(out).collect();
        let expected = self.model[at].take(max, lease_ms, now);
        // With something in hand, it does not wait for what is cold.
        let whole = got.len() == expected.len();
        assert_eq!(got[..], expected[..got.len()]);
        for delivery in &expected[..got.len()] {
            let generation = self.model[at].generation(delivery.id);
            self.leases.push((at, delivery.id, generation));
        }
        if !whole {
            assert!(!got.is_empty(), "nothing came of {expected:?}");
            self.model[at].untake(&expected[got.len()..]);
        }
    }

    async fn settle(&mut self, words: &[(u8, Word)]) {
        if self.leases.is_empty() {
            return;
        }
        let (mut actions, mut expected) = (Vec::new(), Vec::new());
        let (mut named, now) = (BTreeSet::new(), self.now());
        for (pick, word) in words {
            let back = usize::from(*pick) % self.leases.len().min(12);
            let (at, id, generation) = self.leases[self.leases.len() - 1 - back];
            if !named.insert((at, id, generation)) {
                continue;
            }
            let verb = match word {
                Word::Ack => Verb::Ack,
                Word::Nack { delay_ms, error } => Verb::Nack {
                    delay_ms: Some(*delay_ms),
                    error: error.then(|| format!("failed {}", self.payloads).into()),
                },
                Word::Extend(ms) => Verb::Extend { lease_ms: Some(*ms) },
                Word::Release(delay_ms) => Verb::Release { delay_ms: *delay_ms },
                Word::Reject => Verb::Reject {
                    error: Some("bad".into()),
                },
            };
            expected.push(self.model[at].settle(id, generation, &verb, now));
            let topic = self.topics[at].clone();
            let lease = LeaseRef {
                topic,
                id,
                generation,
            };
            actions.push(LeaseAction { lease, verb });
        }
        let named = actions.clone();
        let results = self.node.queue.settle(actions).await.unwrap();
        let got: Vec<_> = results.iter().map(|result| result.status).collect();
        assert_eq!(got, expected, "{named:?}");
    }

    async fn cancel(&mut self, at: usize, pick: u8) {
        let ids = self.model[at].ids();
        let known = ids.get(usize::from(pick) % (ids.len() + 1)).copied();
        let id = known
            .or(self.leases.last().map(|(_, id, _)| *id))
            .unwrap_or(ItemId(7));
        let result = self.node.queue.cancel(&self.topics[at], id).await;
        match (self.model[at].cancel(id), &result) {
            (Ok(()), Ok(()))
            | (Err(NoCancel::Leased), Err(QueueError::Conflict(_)))
            | (Err(NoCancel::Unknown), Err(QueueError::UnknownItem(_))) => {}
            (expected, got) => panic!("cancelling {id}: {expected:?} was to come, not {got:?}"),
        }
    }

    async fn redrive(&mut self, at: usize, elsewhere: bool) {
        let (other, now) = (if elsewhere { 1 - at } else { at }, self.now());
        let before: BTreeSet<_> = self.model[other].ids().into_iter().collect();
        let redrive = Redrive {
            to_topic: elsewhere.then(|| self.topics[other].clone()),
            ..Redrive::default()
        };
        let redriven = self.node.queue.redrive(&self.topics[at], redrive).await.unwrap();
        let mut new: Vec<_> = self.browse(other, ItemState::Ready).await;
        new.retain(|view| !before.contains(&view.item.id));
        new.sort_by_key(|view| view.item.id);
        let moved = self.model[at].take_dead(elsewhere, now);
        let revived = self.model[at].revive(now);
        assert_eq!(
            (redriven.count, new.len()),
            (revived + moved.len() as u64, moved.len())
        );
        for (entry, view) in moved.into_iter().zip(new) {
            let Item {
                expires_at,
                enqueued_at,
                ..
            } = entry.item;
            let item = Item {
                id: view.item.id,
                enqueued_at: now,
                deliver_after: now,
                expires_at: expires_at.map(|end| now.plus_ms(end.since_ms(enqueued_at))),
                ..entry.item
            };
            assert_eq!(view.item.payload, item.payload);
            self.model[other].accept(item, None);
        }
    }

    async fn crash(mut self, away_ms: i64) -> Self {
        let clock = self.node.clock.clone();
        self.node = self.node.crash_for(away_ms).await;
        assert_eq!(clock.now(), self.now());
        self.model.iter_mut().for_each(Topic::crash);
        let core = &self.node.queue.core;
        core.reap().await;
        self.node.clean_up().await;
        if away_ms > 0 {
            // Cold items whose last lease ended meanwhile are found out when they come up.
            for topic in &self.topics {
                let handle = core.topic(topic).unwrap();
                while core.hot.refill_page(topic).await.unwrap().is_some() {
                    core.refill(&handle).await.unwrap();
                }
            }
            core.reap().await;
        }
        self
    }

    async fn browse(&self, at: usize, state: ItemState) -> Vec<crate::queue::ItemView> {
        let mut all = Vec::new();
        let mut from = Some(OrderKey::MIN);
        while let Some(key) = from {
            let page = self
                .node
                .queue
                .browse(&self.topics[at], state, Some(key), 3)
                .await
                .unwrap();
            assert!(page.entries.len() <= 3);
            assert!(
                page.next.is_none_or(|next| next > key),
                "a list that goes in circles"
            );
            all.extend(page.entries);
            from = page.next;
        }
        all
    }

    async fn compare(&self, n: usize) {
        let now = self.now();
        for (at, model) in self.model.iter().enumerate() {
            let mut sizes = Vec::new();
            for state in [
                ItemState::Ready,
                ItemState::Scheduled,
                ItemState::Leased,
                ItemState::Dead,
            ] {
                let got: Vec<_> = self.browse(at, state).await.iter().map(Seen::from).collect();
                let expected = model.in_state(state, now);
                let differ = got.iter().zip(&expected).position(|(a, b)| a != b);
                let from = differ.unwrap_or(got.len().min(expected.len()));
                assert_eq!(
                    (got.len(), got.get(from)),
                    (expected.len(), expected.get(from)),
                    "after step {n}: topic {at}, {state:?}, number {from}"
                );
                sizes.push(expected.len() as u64);
            }
            let [ready, scheduled, leased, dead] = self.node.counts(&self.topics[at]);
            // What is cold and became due counts as scheduled until somebody looks for it.
            let counted = (ready + scheduled, leased, dead);
            assert_eq!(
                counted,
                (sizes[0] + sizes[1], sizes[2], sizes[3]),
                "after step {n}: topic {at}"
            );
            assert!(
                ready <= sizes[0],
                "after step {n}: topic {at} counts {ready} ready"
            );
        }
    }

    /// Everything is taken and acked; then nothing is left anywhere, now and after a crash.
    async fn end(mut self) {
        for at in [0, 1] {
            self.node.queue.pause(&self.topics[at], false).await.unwrap();
            self.node.queue.discard_dead(&self.topics[at]).await.unwrap();
        }
        self.node.advance(30_000).await;
        self.node.clean_up().await;
        self.node.advance(61_000).await;
        self = self.crash(0).await;
        for _ in 0..2 {
            for topic in &self.topics {
                loop {
                    let delivered = self.node.dequeue(topic, 10).await;
                    if delivered.is_empty() {
                        break;
                    }
                    let ack = |delivered| self.node.action(delivered, Verb::Ack);
                    self.node
                        .queue
                        .settle(delivered.iter().map(ack).collect())
                        .await
                        .unwrap();
                }
                self.node.queue.discard_dead(topic).await.unwrap();
            }
            assert!(self.node.flush().await);
            self.node.evict().await;
            for topic in &self.topics {
                assert_eq!((self.node.counts(topic), self.node.rows(topic)), ([0; 4], 0));
            }
            assert_eq!(self.node.queue.core.hot.bytes(), 0);
            self = self.crash(0).await;
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(format!("MQUEUE_PROPERTY_{name}")).ok();
    value.and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn every_life_is_as_the_model_says() {
    let config = ProptestConfig {
        cases: setting("CASES", 200) as u32,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&setting("SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let most = setting("STEPS", 60) as usize;
    let lives = (
        prop::sample::select(vec![2_usize, 3, 7, 1_000]),
        prop::collection::vec((0_usize..2, step()), 1..=most),
    );
    let result = TestRunner::new_with_rng(config, rng).run(&lives, |(flush_items, steps)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { Life::begin(flush_items).await.live(&steps).await });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
