//! Two PostgreSQL shards of which one goes away: the other's topics go on, and nothing is lost.

use std::time::Duration;

use mqueue::tenant::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Topic, list};
use crate::postgres::Postgres;
use crate::proxy::Link;
use crate::server::{Server, token};

/// A node over `postgres`.
async fn node(postgres: &Postgres) -> Server {
    Server::setup()
        .set("storage.database_urls", &postgres.urls())
        .set("storage.pool_connections_max", "4")
        .set("storage.statement_timeout", "3s")
        .set("hot.buffer_ttl", "100ms")
        .start()
        .await
}

/// Asks again until `found` finds something, as it will.
pub(crate) async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(180), search).await;
    found.expect("it never came to be")
}

async fn part(client: &Client, name: &str) -> Value {
    let health = client.get("/readyz?verbose").await.ok();
    let mut parts = list(&health["parts"]).iter();
    parts.find(|part| part["part"] == name).unwrap().clone()
}

/// Waits until the node leaves shard `number` alone, or does so no more.
async fn left_alone(client: &Client, number: usize, yes: bool) {
    until(async || {
        let part = part(client, &format!("shard-{number}")).await;
        let is = part["detail"].as_str().unwrap().starts_with("left alone");
        (is == yes).then_some(())
    })
    .await;
}

fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("item {n:04}")).collect()
}

async fn enqueue(topic: &Topic, texts: &[String], durability: &str) {
    let items: Vec<_> = texts.iter().map(|text| json!({ "text": text })).collect();
    let body = json!({"items": items, "durability": durability});
    let answer = topic.client.post(&topic.at("enqueue"), body).await.ok();
    assert_eq!(answer["durability"], durability, "{answer}");
}

/// Takes and acks everything, in order.
async fn drained(topic: &Topic) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let items = topic.dequeue(100).await;
        if items.is_empty() {
            return all;
        }
        topic.ack(&items).await;
        all.extend(items.iter().map(|item| item["text"].as_str().unwrap().to_owned()));
    }
}

/// Everything but the last hop of what a shard that is away means; `link` is how it goes.
async fn a_shard_goes_away(link: Link) {
    let postgres = Postgres::shards(2).await;
    let mut server = node(&postgres).await;
    let client = server.client();
    let here = client.topic(&postgres.topic_in(0, 0));
    let there = client.topic(&postgres.topic_in(1, 0));
    enqueue(&here, &texts(0, 50), "stored").await;
    enqueue(&there, &texts(0, 50), "stored").await;

    postgres.proxies[1].set(link);
    left_alone(&client, 1, true).await;
    // Refused at once, and with a word on when to come back.
    let body = json!({"items": [{"text": "later"}]});
    let refused = client.post(&there.at("enqueue"), body).await;
    refused.problem(503, "shard_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    let name = there.path.rsplit('/').next().unwrap();
    let classic = json!([{"namespace": "default", "topic": name, "payload": "AA=="}]);
    let refused = client.post("/enqueue", classic).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (500, &json!("shard_unavailable"))
    );
    // What is hot goes out and is acked all the same, and the other shard takes what it is given.
    let taken = there.dequeue(10).await;
    assert_eq!(taken.len(), 10);
    assert_eq!(there.ack(&taken).await, ["ok"; 10]);
    enqueue(&here, &texts(50, 60), "stored").await;
    assert_eq!(here.take(5).await, texts(0, 5));
    // And everybody is told.
    assert_eq!(part(&client, "shard-0").await["ok"], true);
    assert_eq!(part(&client, "shard-1").await["ok"], false);
    let held = there.dequeue(1).await;
    let path = there.at(&format!("items/{}/explain", held[0]["id"].as_str().unwrap()));
    let explained = client.get(&path).await.ok();
    assert_eq!(
        (&explained["shard"], explained["shard_state"] == "closed"),
        (&json!(1), false)
    );
    let metrics = client.get("/metrics").await.text;
    for line in [
        "mqueue_shard_breaker_open{shard=\"0\"} 0",
        "mqueue_shard_breaker_open{shard=\"1\"} 1",
        "mqueue_shard_breaker_openings_total{shard=\"1\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    postgres.proxies[1].set(Link::Up);
    left_alone(&client, 1, false).await;
    there.settle("release", &[crate::client::lease(&held[0])]).await;
    enqueue(&there, &texts(50, 60), "stored").await;
    // Everything is where it belongs, also after a start from log and shards alone.
    server.kill().await;
    server.start_again().await;
    let client = server.client();
    let there = client.topic(name);
    assert_eq!(drained(&there).await, texts(10, 60));
}

#[tokio::test]
async fn a_shard_that_is_cut_keeps_no_other_waiting() {
    a_shard_goes_away(Link::Cut).await;
}

#[tokio::test]
async fn a_shard_that_hangs_keeps_no_other_waiting() {
    a_shard_goes_away(Link::Blackhole).await;
}

#[tokio::test]
async fn a_slow_shard_is_used_as_long_as_answers_come_in_time() {
    let postgres = Postgres::shards(1).await;
    let server = node(&postgres).await;
    let client = server.client();
    let topic = client.topic("standby");
    enqueue(&topic, &texts(0, 3), "stored").await;
    postgres.proxies[0].set(Link::Slow(Duration::from_millis(20)));
    enqueue(&topic, &texts(3, 5), "stored").await;
    left_alone(&client, 0, false).await;
    assert_eq!(topic.counts().await, [5, 0, 0, 0]);
}

#[tokio::test]
async fn watchers_see_the_shards() {
    let postgres = Postgres::shards(2).await;
    let server = node(&postgres).await;
    let client = server.client();
    enqueue(&client.topic(&postgres.topic_in(1, 0)), &texts(0, 3), "stored").await;
    let mut stream = client.request(Method::GET, "/v1/events").send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    let (_, data) = std::str::from_utf8(&first)
        .unwrap()
        .split_once("\ndata: ")
        .unwrap();
    let event: Value = serde_json::from_str(data.trim()).unwrap();
    let shards = list(&event["node"]["shards"]);
    assert_eq!(shards.len(), 2);
    let expected = json!({
        "shard": 1, "state": "closed", "openings": 0, "refused": 0,
        "slots": 2048, "topics": 1, "items": 3,
    });
    assert_eq!(shards[1], expected);
    let tenant = server.client_with(Some(token(Some(&["default"]), &Scope::ALL)));
    let mut stream = tenant.request(Method::GET, "/v1/events").send().await.unwrap();
    let text = stream.chunk().await.unwrap().unwrap();
    assert!(!std::str::from_utf8(&text).unwrap().contains("shards"));
}
