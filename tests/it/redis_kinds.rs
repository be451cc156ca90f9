//! Other kinds of Redis than a plain server: a cluster, and one that speaks TLS.

use mqueue::model::TopicKey;
use serde_json::json;

use crate::client::{list, text};
use crate::redis::{RedisServer, free_port};
use crate::server::Server;
use crate::shards::until;
use crate::stores::redis_prefix;

/// Enqueues into several topics, takes what is due in order, settles it, and finds nothing left.
async fn serves(server: &Server) {
    for name in ["a", "b", "c", "d"] {
        let topic = server.client().topic(name);
        topic
            .enqueue(json!([{"text": "later", "priority": 9}, {"text": "first", "priority": 1, "idempotency_key": name}]))
            .await;
        let taken = topic.dequeue(9).await;
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["first", "later"]);
        assert_eq!(topic.ack(&taken).await, ["ok", "ok"]);
        assert_eq!(topic.counts().await, [0; 4]);
    }
}

#[tokio::test]
async fn a_server_that_is_away_stops_only_its_own_topics() {
    let mut servers = [RedisServer::start().await, RedisServer::start().await];
    let addrs = servers.each_ref().map(RedisServer::addr).join(",");
    let server = Server::setup().set("redis.addrs", &addrs).start().await;
    // Topics are spread by their slots.
    let topic_on = |number: u16| {
        let is_there = |name: &String| {
            let key = TopicKey::parse("default", name).unwrap();
            key.slot().0 % 2 == number
        };
        let name = (0..).map(|n| format!("topic-{n}")).find(is_there).unwrap();
        server.client().topic(&name)
    };
    let (here, gone) = (topic_on(0), topic_on(1));
    for topic in [&here, &gone] {
        topic.enqueue(json!([{"text": "x"}])).await;
    }
    servers[1].kill();
    for _ in 0..10 {
        let refused = gone.client.post(&gone.at("dequeue"), json!({})).await;
        refused.problem(503, "hot_tier_unavailable");
        here.enqueue(json!([{"text": "x"}])).await;
    }
    assert_eq!(here.take(99).await.len(), 11);
    servers[1].start_again().await;
    until(async || {
        let reply = gone.client.post(&gone.at("dequeue"), json!({})).await;
        reply.text.contains("lease_id").then_some(())
    })
    .await;
}

/// A cluster of one, which is a cluster to its clients.
async fn cluster() -> RedisServer {
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    redis.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    is_up(&redis).await;
    redis
}

async fn is_up(redis: &RedisServer) {
    until(async || {
        let info = format!("{:?}", redis.command(&["CLUSTER", "INFO"]).await);
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_cluster_is_one_hot_tier() {
    let mut redis = cluster().await;
    let mut server = Server::setup()
        .set("redis.addrs", &redis.addr())
        .set("redis.prefix", &redis_prefix())
        .set("quotas.namespaces", "default:1000")
        .start()
        .await;
    serves(&server).await;
    let topic = server.client().topic("kept");
    topic.enqueue(json!([{"text": "x"}])).await;
    server.kill().await;
    redis.command(&["FLUSHALL"]).await;
    server.start_again().await;
    let topic = server.client().topic("kept");
    assert_eq!(topic.take(9).await, ["x"]);
    // Of what comes back as it was once nothing is believed, in no slot.
    topic.enqueue(json!([{"text": "y"}])).await;
    redis.command(&["SAVE"]).await;
    assert_eq!(topic.take(9).await, ["y"]);
    topic.enqueue(json!([{"text": "z"}])).await;
    redis.kill();
    redis.start_from_snapshot().await;
    is_up(&redis).await;
    let next = until(async || {
        let reply = topic.client.post(&topic.at("dequeue"), json!({"max": 9})).await;
        (reply.status == 200 && reply.text.contains("lease_id")).then(|| reply.json())
    })
    .await;
    assert_eq!(list(&next["items"]).iter().map(text).collect::<Vec<_>>(), ["z"]);
}

#[tokio::test]
async fn a_redis_behind_tls_is_checked_against_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no"];
    let files = [
        "--tls-cert-file",
        cert,
        "--tls-key-file",
        key,
        "--tls-ca-cert-file",
        cert,
    ];
    let redis = RedisServer::start_with(&[&tls[..], &files[..]].concat()).await;
    let addr = format!("rediss://127.0.0.1:{port}");
    let server = Server::setup()
        .set("redis.addrs", &addr)
        .set("redis.tls_ca_file", cert)
        .set("redis.prefix", &redis_prefix())
        .start()
        .await;
    serves(&server).await;
    drop(redis);
}
