//! Other kinds of Redis than a plain server: a cluster, and one that speaks TLS.

use std::net::TcpListener;

use serde_json::json;

use crate::client::text;
use crate::node::redis_prefix;
use crate::redis::RedisServer;
use crate::server::Server;

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

/// A cluster of one, which is a cluster to its clients.
async fn cluster() -> RedisServer {
    let redis = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    redis.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    for _ in 0..400 {
        let info = format!("{:?}", redis.command(&["CLUSTER", "INFO"]).await);
        if info.contains("cluster_state:ok") {
            return redis;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the cluster does not come up");
}

#[tokio::test]
async fn a_redis_cluster_is_one_hot_tier() {
    let redis = cluster().await;
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
    assert_eq!(server.client().topic("kept").take(9).await, ["x"]);
}

#[tokio::test]
async fn a_redis_behind_tls_is_checked_against_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
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
