//! A node that never comes back: what of it the others can recover.

use serde_json::json;

use crate::postgres::Postgres;
use crate::proxy::{Link, Proxy};
use crate::redis::RedisServer;
use crate::server::Server;
use crate::shards::until;

/// The texts of the items from `from` on, up to `to`.
fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

/// A node that stores nothing of its own accord.
async fn node(number: &str, postgres: &Postgres, redis: &str) -> Server {
    Server::setup()
        .set("node.id", number)
        .set("node.claim", "1s")
        .set("storage.database_urls", &postgres.urls())
        .set("storage.pool_connections_max", "4")
        .set("redis.addrs", redis)
        .set("hot.buffer_ttl", "1h")
        .start()
        .await
}

#[tokio::test]
async fn what_a_node_that_is_gone_left_in_redis_is_handed_out_and_stored_by_another() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let mut gone = node("1", &postgres, &redis.addr()).await;
    let mut other = node("2", &postgres, &redis.addr()).await;
    let topic = gone.client().topic("left");
    let items: Vec<_> = texts(0, 20).iter().map(|text| json!({ "text": text })).collect();
    topic.enqueue(json!(items)).await;
    let held = topic.dequeue_as(json!({ "max": 5, "lease_ms": 600_000 })).await;
    assert_eq!(topic.ack(&held[..2]).await, ["ok", "ok"]);
    let rows = "SELECT COUNT(*) FROM items";
    assert_eq!(postgres.number(0, rows).await, 0);
    gone.kill().await;

    // At once: what is due goes out in order, and leases that it gave are settled anywhere. A node hears of a topic
    // in less than two seconds.
    let topic = other.client().topic("left");
    let more = topic.dequeue_as(json!({ "max": 3, "wait_ms": 20_000 })).await;
    assert_eq!(
        more.iter().map(crate::client::text).collect::<Vec<_>>(),
        texts(5, 8)
    );
    assert_eq!(topic.ack(&more).await, ["ok"; 3]);
    assert_eq!(topic.ack(&held[2..3]).await, ["ok"]);

    // After three claims: the other one stores what only Redis and the log of the first one had.
    until(async || (postgres.number(0, rows).await == 14).then_some(())).await;
    // It left nothing any more, and nobody looks for more of it.
    let alone = redis::Value::Int(1);
    until(async || (redis.command(&["HLEN", "mqueue:alive"]).await == alone).then_some(())).await;
    redis.command(&["FLUSHALL"]).await;
    let taken = until(async || {
        let body = json!({ "max": 99, "wait_ms": 0 });
        let reply = topic.client.post(&topic.at("dequeue"), body).await;
        (reply.status == 200 && reply.text.contains("lease_id")).then(|| reply.json())
    })
    .await;
    let taken: Vec<_> = crate::client::list(&taken["items"])
        .iter()
        .map(crate::client::text)
        .collect();
    assert_eq!(taken, texts(8, 20));
    // The leases were stored, too.
    assert_eq!(topic.ack(&held[3..]).await, ["ok", "ok"]);

    // Who stops in order leaves nothing, and is missed by nobody.
    assert!(other.terminate().await.success());
    let missed = redis.command(&["HLEN", "mqueue:alive"]).await;
    assert_eq!(missed, redis::Value::Int(0));
}

#[tokio::test]
async fn what_a_node_answered_while_redis_was_away_comes_back_only_with_it() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let proxy = Proxy::start(&redis.addr()).await;
    let mut gone = node("1", &postgres, &proxy.address()).await;
    let other = node("2", &postgres, &redis.addr()).await;
    let topic = gone.client().topic("left");
    let body = json!({ "items": [{ "text": "0" }], "durability": "stored" });
    topic.client.post(&topic.at("enqueue"), body).await.ok();
    topic.enqueue(json!([{ "text": "1" }])).await;
    // It is in the log, which is what the answer says, and nowhere else.
    proxy.set(Link::UpTo("admit"));
    topic.enqueue(json!([{ "text": "2" }, { "text": "3" }])).await;
    gone.kill().await;

    let topic = other.client().topic("left");
    let asked = json!({ "max": 9, "wait_ms": 20_000, "lease_ms": 600_000 });
    let found = topic.dequeue_as(asked).await;
    assert_eq!(
        found.iter().map(crate::client::text).collect::<Vec<_>>(),
        texts(0, 2)
    );
    assert!(topic.dequeue(9).await.is_empty());
    proxy.set(Link::Up);
    gone.start_again().await;
    let mut back = Vec::new();
    until(async || {
        back.extend(topic.take(9).await);
        (back.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(back, texts(2, 4));
}

#[tokio::test]
async fn what_is_handed_out_at_most_once_is_so_although_redis_has_not_heard_of_it() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let proxy = Proxy::start(&redis.addr()).await;
    let mut gone = node("1", &postgres, &proxy.address()).await;
    let topic = gone.client().topic("once");
    let settings = json!({ "delivery": "at_most_once" });
    topic.client.put(&topic.path, settings).await.ok();
    let other = node("2", &postgres, &redis.addr()).await;
    topic.enqueue(json!([{ "text": "x" }])).await;
    proxy.set(Link::UpTo("finish"));
    assert_eq!(topic.take(1).await, ["x"]);
    gone.kill().await;

    // To others it is handed out until its node has told them that it is done.
    let topic = other.client().topic("once");
    until(async || (topic.counts().await == [0, 0, 1, 0]).then_some(())).await;
    assert!(topic.take(9).await.is_empty());
    proxy.set(Link::Up);
    gone.start_again().await;
    until(async || (topic.counts().await == [0; 4]).then_some(())).await;
    assert!(topic.take(9).await.is_empty());
}
