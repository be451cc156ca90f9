//! Several nodes over one Redis and one PostgreSQL, and a Redis that forgets or goes away.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Topic, list, text};
use crate::node::{Node, item, prioritised, request, somebody, topic};
use crate::postgres::Postgres;
use crate::proxy::{Link, Proxy};
use crate::redis::{RedisServer, until_whole};
use crate::server::{Server, Setup};
use crate::stores::{redis_addr, redis_prefix};

use mqueue::queue::{DequeueRequest, Durability, QueueError, SettleStatus};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two nodes that are one queue.
pub(crate) struct Pair {
    pub(crate) one: Server,
    pub(crate) two: Server,
    /// Goes last: the nodes use it until their end.
    _postgres: Postgres,
}

fn setup(postgres: &Postgres, addr: &str, prefix: &str, node: &str) -> Setup {
    Server::setup()
        .set("storage.database_urls", &postgres.urls())
        .set("redis.addrs", addr)
        .set("redis.prefix", prefix)
        .set("node.id", node)
}

impl Pair {
    /// The second one starts when the first one knows `topics`.
    pub(crate) async fn start(addr: &str, topics: &[&str]) -> Self {
        let (postgres, prefix) = (Postgres::shards(1).await, redis_prefix());
        let one = setup(&postgres, addr, &prefix, "1").start().await;
        for name in topics {
            one.client()
                .put(&one.client().topic(name).path, json!({}))
                .await
                .ok();
        }
        let two = setup(&postgres, addr, &prefix, "2").start().await;
        Self {
            one,
            two,
            _postgres: postgres,
        }
    }

    pub(crate) fn topic(&self, name: &str) -> [Topic; 2] {
        [&self.one, &self.two].map(|server| server.client().topic(name))
    }
}

async fn numbered(topic: &Topic, numbers: std::ops::Range<u64>, priority: i32) {
    let items: Vec<_> = numbers
        .map(|n| json!({ "text": n.to_string(), "priority": priority }))
        .collect();
    topic.enqueue(json!(items)).await;
}

#[tokio::test]
async fn any_node_serves_any_topic_in_order() {
    let pair = Pair::start(&redis_addr(), &["shared"]).await;
    let [one, two] = pair.topic("shared");
    numbered(&one, 0..3, 5).await;
    numbered(&two, 3..6, 5).await;
    numbered(&two, 9..10, 1).await;
    assert_eq!(one.take(2).await, ["9", "0"]);
    let taken = two.dequeue(2).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["1", "2"]);
    // What one node handed out, the other settles.
    assert_eq!(one.ack(&taken).await, ["ok", "ok"]);
    assert_eq!(two.ack(&taken).await, ["already_done", "already_done"]);
    assert_eq!(one.counts().await, [3, 0, 2, 0]);
    assert_eq!(one.take(9).await, ["3", "4", "5"]);
}

#[tokio::test]
async fn a_consumer_that_waits_wakes_for_an_item_of_another_node() {
    let pair = Pair::start(&redis_addr(), &["wakes"]).await;
    let [one, two] = pair.topic("wakes");
    let mut took = Vec::new();
    // A consumer looks by itself every five seconds, and a machine may be so slow once.
    while took.iter().all(|took| *took >= Duration::from_secs(4)) {
        assert!(took.len() < 5, "it is not woken: {took:?}");
        let two = two.clone();
        let waiting = tokio::spawn(async move {
            let began = tokio::time::Instant::now();
            let items = two.dequeue_as(json!({ "max": 1, "wait_ms": 20_000 })).await;
            (items, began.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        numbered(&one, 0..1, 5).await;
        let (items, this) = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert_eq!(items.iter().map(text).collect::<Vec<_>>(), ["0"]);
        took.push(this);
    }
}

#[tokio::test]
async fn a_pause_holds_on_every_node() {
    let pair = Pair::start(&redis_addr(), &["paused"]).await;
    let [one, two] = pair.topic("paused");
    numbered(&one, 0..2, 5).await;
    one.client.post(&one.at("pause"), json!({})).await.ok();
    assert!(two.take(9).await.is_empty());
    one.client.post(&one.at("resume"), json!({})).await.ok();
    assert_eq!(two.take(9).await, ["0", "1"]);
}

#[tokio::test]
async fn one_key_on_two_nodes_is_one_item() {
    let pair = Pair::start(&redis_addr(), &["keyed"]).await;
    let [one, two] = pair.topic("keyed");
    let body = json!({ "items": [{ "text": "x", "idempotency_key": "k" }] });
    let first = one.client.post(&one.at("enqueue"), body.clone()).await.ok();
    let second = two.client.post(&two.at("enqueue"), body).await.ok();
    assert_eq!(second["results"][0]["id"], first["results"][0]["id"]);
    assert_eq!(one.counts().await[0], 1);
}

#[tokio::test]
async fn a_node_that_is_killed_leaves_its_items_and_brings_none_back() {
    let mut pair = Pair::start(&redis_addr(), &["killed"]).await;
    let [one, two] = pair.topic("killed");
    numbered(&one, 0..20, 5).await;
    let taken = one.dequeue(5).await;
    pair.one.kill().await;
    // Leases outlive the node that gave them.
    assert!(two.ack(&taken).await.iter().all(|status| status == "ok"));
    let more = two.dequeue(5).await;
    assert_eq!(text(&more[0]), "5");
    assert!(two.ack(&more).await.iter().all(|status| status == "ok"));
    pair.one.start_again().await;
    let [one, two] = pair.topic("killed");
    let rest = one.take(99).await;
    assert_eq!(rest, (10..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(two.take(99).await.is_empty());
}

/// Enqueues until `stop`, and returns what was accepted.
async fn produce(topic: Topic, name: u64, stop: tokio::sync::watch::Receiver<bool>) -> BTreeSet<String> {
    let mut accepted = BTreeSet::new();
    let mut number = 0;
    while !*stop.borrow() {
        let texts: Vec<_> = (0..5).map(|n| format!("{name}-{}", number + n)).collect();
        number += 5;
        let items: Vec<_> = texts.iter().map(|text| json!({ "text": text })).collect();
        let body = json!({ "items": items });
        let reply = topic.client.post(&topic.at("enqueue"), body).await;
        match reply.status {
            200 => accepted.extend(texts),
            503 => {
                assert!(!reply.header("retry-after").is_empty());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other}: {}", reply.text),
        }
    }
    accepted
}

/// Takes and acks until nothing more comes, and returns what was acked.
async fn drain(topic: &Topic) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut empty = 0;
    while empty < 4 {
        let body = json!({ "max": 100, "wait_ms": 500, "lease_ms": 1_000 });
        let reply = topic.client.post(&topic.at("dequeue"), body).await;
        if reply.status == 503 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        }
        let answer = reply.ok();
        let items = list(&answer["items"]);
        if items.is_empty() {
            empty += 1;
            continue;
        }
        empty = 0;
        seen.extend(items.iter().map(text));
        let leases: Vec<Value> = items.iter().map(crate::client::lease).collect();
        let _ = topic.client.post("/v1/ack", json!({ "leases": leases })).await;
    }
    seen
}

/// Two producers and `fault`, and then everything that was accepted comes out.
async fn survives(addr: &str, fault: impl AsyncFnOnce()) {
    let pair = Pair::start(addr, &["faulty"]).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let [one, two] = pair.topic("faulty");
    let producers = [
        tokio::spawn(produce(one.clone(), 1, stopped.clone())),
        tokio::spawn(produce(two.clone(), 2, stopped)),
    ];
    tokio::time::sleep(Duration::from_millis(500)).await;
    fault().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send_replace(true);
    let mut accepted = BTreeSet::new();
    for producer in producers {
        accepted.extend(tokio::time::timeout(PATIENCE, producer).await.unwrap().unwrap());
    }
    assert!(accepted.len() > 20, "there was no load");
    let drained = tokio::time::timeout(2 * PATIENCE, async { (drain(&two).await, drain(&one).await) });
    let (mut seen, rest) = drained.await.expect("it does not come back");
    seen.extend(rest);
    let lost: Vec<_> = accepted.difference(&seen).collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost: {lost:?}",
        lost.len(),
        accepted.len()
    );
}

#[tokio::test]
async fn a_redis_that_is_flushed_under_load_loses_nothing() {
    let redis = RedisServer::start().await;
    survives(&redis.addr(), async || {
        for _ in 0..3 {
            redis.command(&["FLUSHALL"]).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_starts_empty_under_load_loses_nothing() {
    let mut redis = RedisServer::start().await;
    let addr = redis.addr();
    survives(&addr, async || {
        redis.kill();
        tokio::time::sleep(Duration::from_secs(2)).await;
        redis.start_again().await;
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_stands_still_is_told_and_waited_for() {
    let redis = RedisServer::start().await;
    survives(&redis.addr(), async || {
        redis.signal(Signal::STOP);
        tokio::time::sleep(Duration::from_secs(4)).await;
        redis.signal(Signal::CONT);
    })
    .await;
}

/// A node of this process on a Redis of its own.
pub(crate) async fn node_on(redis: &RedisServer, set: &[(&str, &str)]) -> Node {
    let (addr, prefix) = (redis.addr(), redis_prefix());
    let mut all = vec![("redis.addrs", addr.as_str()), ("redis.prefix", prefix.as_str())];
    all.extend_from_slice(set);
    Node::start_with(&all).await
}

#[tokio::test]
async fn requests_fail_at_once_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    let node = node_on(&redis, &[]).await;
    let t = topic("away");
    node.enqueue(&t, vec![item("a"), item("b")]).await;
    let taken = node.dequeue(&t, 1).await.remove(0);
    redis.kill();
    let clock = tokio::time::Instant::now();
    let is_told = |error: QueueError| matches!(error, QueueError::HotUnavailable(_));
    let dequeued = node.queue.dequeue(request(&t, 1)).await;
    assert!(is_told(dequeued.unwrap_err()));
    let enqueued = node
        .queue
        .enqueue(&t, vec![item("c")], Durability::Logged, &somebody())
        .await;
    assert!(is_told(enqueued.unwrap_err()));
    let lease = node.queue.open_lease(&taken.lease.as_ref().unwrap().id).unwrap();
    let verb = mqueue::queue::Verb::Ack;
    let settled = node
        .queue
        .settle(vec![mqueue::queue::LeaseAction { lease, verb }])
        .await;
    assert!(is_told(settled.unwrap_err()));
    assert!(clock.elapsed() < Duration::from_secs(30));
    redis.start_again().await;
    until_whole(&node.queue).await;
    // The log tells who has the other one.
    assert_eq!(node.take(&t, 9).await, ["b"]);
    assert_eq!(node.ack(&taken).await, SettleStatus::Ok);
}

#[tokio::test]
async fn what_redis_forgot_comes_back_from_the_log_and_the_shard() {
    let redis = RedisServer::start().await;
    let node = node_on(&redis, &[]).await;
    let t = topic("forgot");
    node.enqueue_stored(&t, vec![item("stored"), prioritised("urgent", 1), item("acked")])
        .await;
    let [urgent, stored] = <[_; 2]>::try_from(node.dequeue(&t, 2).await).unwrap_or_else(|_| panic!("two"));
    assert_eq!(node.ack(&urgent).await, SettleStatus::Ok);
    node.nack(&stored, 0).await;
    node.enqueue(&t, vec![item("logged"), prioritised("first", 2)])
        .await;
    redis.command(&["FLUSHALL"]).await;
    // The node notices by itself, or by its next call.
    let _ = node
        .queue
        .dequeue(DequeueRequest {
            wait_ms: 0,
            ..request(&t, 1)
        })
        .await;
    until_whole(&node.queue).await;
    let mut all = node.take(&t, 9).await;
    assert_eq!(all.remove(0), "first");
    all.sort();
    assert_eq!(all, ["acked", "logged", "stored"]);
}

/// What a node was told and what it said since a Redis was written down for the last time.
#[tokio::test]
async fn a_redis_that_comes_back_as_it_was_once_is_believed_nothing() {
    let mut redis = RedisServer::start().await;
    let node = node_on(&redis, &[]).await;
    let t = topic("older");
    node.enqueue(&t, vec![item("leased"), item("acked"), item("waits")])
        .await;
    let before = node.dequeue(&t, 2).await;
    redis.command(&["SAVE"]).await;
    assert_eq!(node.ack(&before[1]).await, SettleStatus::Ok);
    node.nack(&before[0], 0).await;
    node.enqueue(&t, vec![item("new")]).await;
    redis.kill();
    redis.start_from_snapshot().await;
    let mut all = BTreeSet::new();
    crate::shards::until(async || {
        let taken = node.queue.dequeue(request(&t, 9)).await.unwrap_or_default();
        all.extend(taken.iter().map(crate::node::text));
        (all.len() >= 3).then_some(())
    })
    .await;
    assert_eq!(all, ["leased", "new", "waits"].map(String::from).into());
    assert_eq!(node.counts(&t), [0, 0, 3, 0]);
}

#[tokio::test]
async fn a_redis_that_comes_back_as_it_was_once_under_load_loses_nothing() {
    let mut redis = RedisServer::start().await;
    let addr = redis.addr();
    survives(&addr, async || {
        redis.command(&["SAVE"]).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        redis.kill();
        redis.start_from_snapshot().await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_is_not_said_to_be_settled_before_redis_has_heard_of_it() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::start(&redis.addr()).await;
    let node = Node::start_with(&[("redis.addrs", proxy.address().as_str())]).await;
    let t = topic("unheard");
    node.enqueue(&t, vec![item("a")]).await;
    let taken = node.dequeue(&t, 1).await.remove(0);
    let ack = async || {
        let lease = node.queue.open_lease(&taken.lease.as_ref().unwrap().id).unwrap();
        let verb = mqueue::queue::Verb::Ack;
        node.queue
            .settle(vec![mqueue::queue::LeaseAction { lease, verb }])
            .await
    };
    proxy.set(Link::UpTo("finish"));
    let told = ack().await;
    assert!(matches!(told, Err(QueueError::HotUnavailable(_))), "{told:?}");
    proxy.set(Link::Up);
    // It was logged, and Redis hears of it yet.
    let done = crate::shards::until(async || ack().await.ok()).await;
    assert_eq!(done[0].status, SettleStatus::AlreadyDone);
}
