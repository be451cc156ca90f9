//! Idempotency keys after the Redis that nodes share lost its memory: one key is one item yet.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Reply, Topic};
use crate::postgres::Postgres;
use crate::redis::RedisServer;
use crate::server::Server;
use crate::shards::until;

/// Two nodes over one Redis and one shard that is told nothing of its own accord.
struct Pair {
    one: Server,
    two: Server,
    redis: RedisServer,
    /// Goes last: the nodes use it until their end.
    _postgres: Postgres,
}

impl Pair {
    async fn start(claim: &str) -> Self {
        let (postgres, redis) = (Postgres::bare(1), RedisServer::start().await);
        let start = async |number: &str| {
            Server::setup()
                .set("node.id", number)
                .set("node.claim", claim)
                .set("storage.database_urls", &postgres.urls())
                .set("storage.pool_connections_max", "4")
                .set("redis.addrs", &redis.addr())
                .set("hot.buffer_ttl", "1h")
                .start()
                .await
        };
        Self {
            one: start("1").await,
            two: start("2").await,
            redis,
            _postgres: postgres,
        }
    }

    /// Redis loses its memory, and node one brings its part back.
    async fn forgets(&self) {
        self.redis.command(&["FLUSHALL"]).await;
        let topic = self.one.client().topic("keyed");
        until(async || {
            let body = json!({ "items": [{ "text": "without a key" }] });
            let reply = topic.client.post(&topic.at("enqueue"), body).await;
            (reply.status == 200).then_some(())
        })
        .await;
    }
}

async fn enqueue(topic: &Topic) -> Reply {
    let body = json!({ "items": [{ "text": "x", "idempotency_key": "k" }] });
    topic.client.post(&topic.at("enqueue"), body).await
}

/// The result of the only item, once it is not refused.
async fn taken(topic: &Topic) -> Value {
    until(async || {
        let reply = enqueue(topic).await;
        match reply.status {
            200 => Some(reply.json()["results"][0].clone()),
            503 => None,
            other => panic!("{other}: {}", reply.text),
        }
    })
    .await
}

#[tokio::test]
async fn a_key_that_only_the_log_of_another_node_has_is_waited_for() {
    // Nobody is taken for missing, however slow the machine is.
    let pair = Pair::start("60s").await;
    let [one, two] = [&pair.one, &pair.two].map(|server| server.client().topic("keyed"));
    let first = enqueue(&two).await.ok();
    pair.two.signal(Signal::STOP);
    pair.forgets().await;
    for _ in 0..3 {
        let refused = enqueue(&one).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert_eq!(refused.json()["type"], "/problems/hot_tier_unavailable");
        assert!(!refused.header("retry-after").is_empty());
    }
    pair.two.signal(Signal::CONT);
    let again = taken(&one).await;
    assert_eq!(again["id"], first["results"][0]["id"]);
    assert_eq!(again["status"], "duplicate");
}

#[tokio::test]
async fn a_node_that_never_comes_back_is_waited_for_until_it_is_missed() {
    let mut pair = Pair::start("1s").await;
    let one = pair.one.client().topic("keyed");
    enqueue(&pair.two.client().topic("keyed")).await.ok();
    pair.two.kill().await;
    pair.forgets().await;
    // What only its log has is lost, and its keys with it.
    assert_eq!(taken(&one).await["status"], "accepted");
}
