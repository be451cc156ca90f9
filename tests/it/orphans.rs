//! A node that never comes back: what of it the others can recover.

use serde_json::json;

use crate::postgres::Postgres;
use crate::redis::RedisServer;
use crate::server::Server;
use crate::shards::until;

/// The texts of the items from `from` on, up to `to`.
fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn what_a_node_that_is_gone_left_in_redis_is_handed_out_and_stored_by_another() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let start = async |number: &str| {
        Server::setup()
            .set("node.id", number)
            .set("node.claim", "1s")
            .set("storage.database_urls", &postgres.urls())
            .set("storage.pool_connections_max", "4")
            .set("redis.addrs", &redis.addr())
            // Neither stores anything of its own accord.
            .set("hot.buffer_ttl", "1h")
            .start()
            .await
    };
    let (mut gone, mut other) = (start("1").await, start("2").await);
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
