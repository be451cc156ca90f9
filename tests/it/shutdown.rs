//! Stopping under load: in good order, inside the deadline, with nothing lost; and at once when told twice.

use std::collections::BTreeSet;
use std::time::Duration;

use mqueue::tenant::Scope;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Topic, list};
use crate::server::{Server, token};

/// Enqueues until it is refused or not answered; sends each id that was acknowledged.
fn produce(topic: Topic, acknowledged: mpsc::UnboundedSender<String>) -> JoinHandle<Option<u16>> {
    tokio::spawn(async move {
        let items: Vec<Value> = (0..20).map(|n| json!({"text": format!("item {n}")})).collect();
        loop {
            let request = topic.client.request(reqwest::Method::POST, &topic.at("enqueue"));
            let reply = topic
                .client
                .try_send(request.json(&json!({ "items": items })))
                .await
                .ok()?;
            if reply.status != 200 {
                reply.problem(503, "shutting_down");
                return Some(reply.status);
            }
            for result in list(&reply.json()["results"]) {
                acknowledged
                    .send(result["id"].as_str().unwrap().to_owned())
                    .unwrap();
            }
        }
    })
}

struct Load {
    producers: Vec<JoinHandle<Option<u16>>>,
    acknowledged: mpsc::UnboundedReceiver<String>,
    seen: BTreeSet<String>,
}

impl Load {
    /// Producers at work; returns once there are a few hundred items.
    async fn on(topic: &Topic) -> Self {
        let (sender, acknowledged) = mpsc::unbounded_channel();
        let mut load = Self {
            producers: (0..4).map(|_| produce(topic.clone(), sender.clone())).collect(),
            acknowledged,
            seen: BTreeSet::new(),
        };
        while load.seen.len() < 500 {
            load.seen.insert(load.acknowledged.recv().await.unwrap());
        }
        load
    }

    /// Every id that was acknowledged, once all producers have given up.
    async fn ended(mut self) -> BTreeSet<String> {
        for producer in self.producers {
            producer.await.unwrap();
        }
        while let Some(id) = self.acknowledged.recv().await {
            self.seen.insert(id);
        }
        self.seen
    }
}

/// The ids of all that is in the topic.
async fn everything(topic: &Topic) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let items = topic.dequeue_as(json!({"max": 1_000, "lease_ms": 600_000})).await;
        if items.is_empty() {
            return ids;
        }
        ids.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_stop_finishes_and_loses_nothing() {
    let mut server = Server::setup()
        .set("server.shutdown_deadline", "20s")
        .start()
        .await;
    let client = server.client();
    let load = Load::on(&client.topic("load")).await;
    let polls: Vec<_> = (0..5)
        .map(|n| {
            let poll = client.topic(&format!("empty-{n}"));
            tokio::spawn(async move {
                let request = poll.client.request(reqwest::Method::POST, &poll.at("dequeue"));
                poll.client
                    .try_send(request.json(&json!({"wait_ms": 20_000})))
                    .await
            })
        })
        .collect();
    let held = client
        .topic("load")
        .dequeue_as(json!({"max": 10, "lease_ms": 600_000}))
        .await;
    let began = Instant::now();
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "stopped after {:?}",
        began.elapsed()
    );
    for poll in polls {
        // A poll that had begun is answered empty, not cut; one that had not is refused.
        if let Ok(reply) = poll.await.unwrap() {
            if reply.status == 200 {
                assert_eq!(reply.json(), json!({"items": []}));
            } else {
                reply.problem(503, "shutting_down");
            }
        }
    }
    let mut acknowledged = load.ended().await;
    for line in server.log().text().lines() {
        assert!(
            !line.contains("took too long") && !line.contains("are cut"),
            "{line}"
        );
    }

    let log = server.dir().join("data/shard-0.db-wal");
    assert!(!log.exists(), "the shard was not closed in order");

    server.start_again().await;
    let topic = server.client().topic("load");
    // Leases live on: what was handed out stays its consumer's.
    let statuses = topic.ack(&held).await;
    assert!(statuses.iter().all(|status| status == "ok"), "{statuses:?}");
    for item in &held {
        acknowledged.remove(item["id"].as_str().unwrap());
    }
    let left = everything(&topic).await;
    assert!(
        acknowledged.is_subset(&left),
        "{} are lost",
        acknowledged.difference(&left).count()
    );
}

#[tokio::test]
async fn a_stopping_node_finishes_what_it_began_and_is_not_ready_meanwhile() {
    let mut server = Server::start().await;
    let client = server.client();
    let body = r#"{"items":[{"text":"late"}]}"#;
    let head = format!(
        "POST /v1/namespaces/default/topics/t/enqueue HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        token(None, &Scope::ALL),
        body.len()
    );
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut continued = [0; 25];
    socket.read_exact(&mut continued).await.unwrap();
    assert_eq!(&continued, b"HTTP/1.1 100 Continue\r\n\r\n");

    // The request is in the handler's hands, so the node cannot be gone before it is answered.
    server.signal(Signal::TERM);
    let began = Instant::now();
    let ready = async || {
        client
            .try_send(client.request(reqwest::Method::GET, "/readyz"))
            .await
    };
    while ready().await.is_ok_and(|reply| reply.status == 200) {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it says that it is ready"
        );
    }
    for _ in 0..5 {
        // It hears no more connections, or says that it is not ready.
        if let Ok(reply) = ready().await {
            reply.problem(503, "not_ready");
        }
    }
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let accepted = answer.starts_with("HTTP/1.1 200");
    assert!(accepted || answer.contains("shutting_down"), "{answer}");
    assert_eq!(server.ended().await.code(), Some(0));

    server.start_again().await;
    let left = server.client().topic("t").take(9).await;
    assert_eq!(left.len(), usize::from(accepted));
}

#[tokio::test]
async fn a_node_that_will_stop_says_so_and_serves_until_its_grace_is_over() {
    let mut server = Server::setup().set("server.shutdown_grace", "3s").start().await;
    let client = server.client();
    let topic = client.topic("grace");
    topic.enqueue(json!([{"text": "before"}])).await;
    server.signal(Signal::TERM);
    let ready = client.request(reqwest::Method::GET, "/readyz");
    let mut reply = client.try_send(ready.try_clone().unwrap()).await.unwrap();
    while reply.status == 200 {
        reply = client.try_send(ready.try_clone().unwrap()).await.unwrap();
    }
    reply.problem(503, "not_ready");
    // Whoever has not looked yet is served, and asked to connect elsewhere.
    let late = client.request(reqwest::Method::POST, &topic.at("enqueue"));
    let late = client
        .try_send(late.json(&json!({"items": [{"text": "late"}]})))
        .await;
    let late = late.unwrap();
    assert_eq!((late.status, late.header("connection")), (200, "close"));
    assert_eq!(server.ended().await.code(), Some(0));
    server.start_again().await;
    assert_eq!(server.client().topic("grace").take(9).await, ["before", "late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_stops_at_once_and_loses_nothing() {
    let mut server = Server::start().await;
    let topic = server.client().topic("twice");
    let load = Load::on(&topic).await;
    server.signal(Signal::TERM);
    server
        .log()
        .wait_for(|line| {
            line["message"]
                .as_str()?
                .contains("a second signal")
                .then_some(())
        })
        .await;
    server.signal(Signal::TERM);
    let status = server.ended().await;
    // Ended by the first signal before it saw the second, it is 0.
    assert!(matches!(status.code(), Some(0 | 143)), "{status}");
    let acknowledged = load.ended().await;
    server.start_again().await;
    let left = everything(&server.client().topic("twice")).await;
    assert!(
        acknowledged.is_subset(&left),
        "{} are lost",
        acknowledged.difference(&left).count()
    );
}

#[tokio::test]
async fn an_interrupt_is_as_good_as_a_request_to_stop() {
    let mut server = Server::start().await;
    server
        .client()
        .topic("int")
        .enqueue(json!([{"text": "kept"}]))
        .await;
    server.signal(Signal::INT);
    assert_eq!(server.ended().await.code(), Some(0));
    // Stopped in good order, everything is in the shard and the log is not needed.
    std::fs::remove_dir_all(server.wal_dir()).unwrap();
    server.start_again().await;
    assert_eq!(server.client().topic("int").take(9).await, ["kept"]);
}
