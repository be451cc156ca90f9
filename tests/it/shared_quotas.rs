//! Quotas of two nodes over one Redis: what one node spends, the other does not have.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, list};
use crate::postgres::Postgres;
use crate::quotas::topics_made;
use crate::redis::RedisServer;
use crate::server::Server;

async fn nodes(postgres: &Postgres, redis: &RedisServer, quota: &str) -> [Server; 2] {
    nodes_with(postgres, redis, ("quotas.namespaces", quota)).await
}

async fn nodes_with(postgres: &Postgres, redis: &RedisServer, set: (&str, &str)) -> [Server; 2] {
    let start = async |number: &str| {
        Server::setup()
            .set("node.id", number)
            .set("storage.database_urls", &postgres.urls())
            .set("storage.pool_connections_max", "4")
            .set("redis.addrs", &redis.addr())
            // Never each node's own bucket, however slow the machine is.
            .set("redis.rate_timeout", "5s")
            .set(set.0, set.1)
            .start()
            .await
    };
    [start("1").await, start("2").await]
}

/// Enqueues so many items; how many were accepted.
async fn accepted(client: &Client, count: usize) -> usize {
    let items: Vec<_> = (0..count)
        .map(|n| json!({ "text": format!("item {n}") }))
        .collect();
    let topic = client.topic("t");
    let reply = client.post(&topic.at("enqueue"), json!({ "items": items })).await;
    let results = &reply.json()["results"];
    let is_in = |result: &&Value| result["status"] == "accepted";
    list(results).iter().filter(is_in).count()
}

/// Waits until the node's view of the quota is as wanted.
async fn sees(client: &Client, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..300 {
        let quota = client.get("/v1/namespaces/default/quota").await.ok();
        if wanted(&quota) {
            return quota;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!(
        "{} is not as wanted",
        client.get("/v1/namespaces/default/quota").await.text
    );
}

#[tokio::test]
async fn a_rate_holds_for_both_nodes_together() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let [one, two] = nodes(&postgres, &redis, "default:100:100").await;
    assert_eq!(accepted(&one.client(), 70).await, 70);
    // A hundred a minute come back one by one, one in 600 ms: a slow machine may see a few of them.
    let rest = accepted(&two.client(), 70).await;
    assert!((30..60).contains(&rest), "{rest}");
    let refused = two.client();
    let topic = refused.topic("t");
    let body = json!({"items": vec![json!({"text": "x"}); 100]});
    let reply = refused.post(&topic.at("enqueue"), body).await;
    // What is told is what both have left, of which a slow machine may see some come back.
    let left = |text: &str| text.split("r=").nth(1)?.split(';').next()?.parse::<u64>().ok();
    let told = left(reply.header("ratelimit")).unwrap();
    let seen = refused.get("/v1/namespaces/default/quota").await.ok();
    assert!(
        told == 0 && seen["remaining"].as_u64() < Some(15),
        "{told} {seen}"
    );
    assert!(
        reply.status == 429 || list(&reply.json()["results"]).len() == 100,
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn a_minute_holds_for_both_nodes_together_and_gets_back_what_stored_nothing() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let [one, two] = nodes(&postgres, &redis, "default:100").await;
    let (here, there) = (one.client(), two.client());
    assert_eq!(accepted(&here, 60).await, 60);
    let keyed =
        json!({"items": [{"text": "x", "idempotency_key": "k"}, {"text": "y", "idempotency_key": "l"}]});
    let topic = there.topic("t");
    let left = |reply: &crate::client::Reply| {
        let told = reply.header("ratelimit").split("r=").nth(1).unwrap().to_owned();
        told.split(';').next().unwrap().parse::<u64>().unwrap()
    };
    // The first two are enqueued, and then they are there: on whichever node they are sent again.
    for (client, wanted) in [(&there, 38), (&there, 38), (&here, 38), (&here, 38)] {
        let reply = client.post(&topic.at("enqueue"), keyed.clone()).await;
        assert_eq!((reply.status, left(&reply)), (200, wanted), "{:?}", reply.headers);
    }
    assert_eq!(accepted(&there, 70).await, 38);
    let body = json!({"items": [{"text": "x"}]});
    let refused = here.post(&topic.at("enqueue"), body).await;
    refused.problem(429, "quota_exceeded");
    assert!(
        refused
            .header("ratelimit-policy")
            .contains("\"enqueue\";q=100;w=60")
    );
    // Another kind of rate goes on from there.
    let quota = here.request(Method::PUT, "/v1/namespaces/default/quota");
    let quota = quota.json(&json!({"per_minute": 1, "burst": 101}));
    here.send(quota).await.ok();
    assert_eq!(accepted(&here, 70).await, 1);
}

#[tokio::test]
async fn leases_and_bytes_count_wherever_they_are() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let [one, two] = nodes(&postgres, &redis, "").await;
    let (here, there) = (one.client(), two.client());
    assert_eq!(accepted(&here, 10).await, 10);
    let quota = here.request(Method::PUT, "/v1/namespaces/default/quota");
    let quota = quota.json(&json!({"leases": 5, "stored_bytes": 5_000}));
    here.send(quota).await.ok();
    assert_eq!(here.topic("t").dequeue(4).await.len(), 4);
    // 10 items of 262 bytes.
    let seen = sees(&there, |quota| quota["leases"] == 4 && quota["leases_max"] == 5).await;
    assert_eq!(seen["stored_bytes"], 2_620, "{seen}");
    let topic = there.topic("t");
    let reply = there.post(&topic.at("dequeue"), json!({"max": 10})).await.ok();
    assert_eq!(list(&reply["items"]).len(), 1, "{reply}");
    assert_eq!(reply["limited_by"], "leases");
    // Another 10 would be 5,240 bytes.
    assert!(accepted(&there, 10).await < 10);
}

#[tokio::test]
async fn a_namespace_has_no_more_topics_on_two_nodes_than_on_one() {
    let (postgres, redis) = (Postgres::shards(1).await, RedisServer::start().await);
    let nodes = nodes_with(&postgres, &redis, ("topics.per_namespace_max", "20")).await;
    // Each node is asked for others, all at the same moment: none has heard yet of what the other makes.
    let clients: Vec<_> = nodes.iter().map(Server::client).collect();
    let made = topics_made(&clients, 60).await;
    assert_eq!(made, 20);
}
