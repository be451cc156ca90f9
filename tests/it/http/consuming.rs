//! Taking items out and settling them: long polls, retries, several topics, every verb.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{lease, list, text};
use crate::server::Server;

#[tokio::test]
async fn a_long_poll_is_woken_by_an_enqueue() {
    let server = Server::start().await;
    let topic = server.client().topic("poll");
    for round in 0..3 {
        let waiting = {
            let topic = topic.clone();
            tokio::spawn(async move {
                let items = topic.dequeue_as(json!({"max": 1, "wait_ms": 20_000})).await;
                (items, Instant::now())
            })
        };
        // The topic is unknown at first, then empty: both must wake.
        let probe = topic
            .client
            .post(&topic.at("dequeue"), json!({"wait_ms": 50}))
            .await
            .ok();
        assert_eq!(probe, json!({"items": []}), "round {round}");
        let enqueued = Instant::now();
        topic.enqueue(json!([{"text": "now"}])).await;
        let (items, woken) = waiting.await.unwrap();
        assert_eq!(text(&items[0]), "now");
        assert!(
            woken - enqueued < Duration::from_secs(15),
            "woken after {:?}",
            woken - enqueued
        );
        assert_eq!(topic.ack(&items).await, ["ok"]);
    }
}

#[tokio::test]
async fn a_long_poll_ends_empty_and_not_before_its_time() {
    let server = Server::start().await;
    let topic = server.client().topic("empty");
    let began = Instant::now();
    assert!(topic.dequeue_as(json!({"wait_ms": 300})).await.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_delayed_item_comes_when_due_and_not_earlier() {
    let server = Server::start().await;
    let topic = server.client().topic("delay");
    let began = Instant::now();
    topic.enqueue(json!([{"text": "later", "delay_ms": 700}])).await;
    assert_eq!(topic.counts().await, [0, 1, 0, 0]);
    assert!(topic.dequeue(1).await.is_empty());
    let items = topic.dequeue_as(json!({"wait_ms": 20_000})).await;
    assert_eq!(text(&items[0]), "later");
    assert!(
        began.elapsed() >= Duration::from_millis(700),
        "early: {:?}",
        began.elapsed()
    );
    assert!(items[0]["deliver_after"].as_str() > items[0]["enqueued_at"].as_str());
}

#[tokio::test]
async fn an_item_far_in_the_future_waits() {
    let server = Server::start().await;
    let topic = server.client().topic("future");
    topic
        .enqueue(json!([
            {"text": "new year", "deliver_after": "2099-12-31T23:59:59.5+02:00"},
            {"text": "long ago", "deliver_after": "2001-01-01T00:00:00Z"},
        ]))
        .await;
    let items = topic.dequeue(9).await;
    assert_eq!((items.len(), text(&items[0]).as_str()), (1, "long ago"));
    let waiting = topic.client.get(&topic.at("items?state=scheduled")).await.ok();
    assert_eq!(waiting["items"][0]["deliver_after"], "2099-12-31T21:59:59.500Z");
}

#[tokio::test]
async fn an_urgent_item_goes_first() {
    let server = Server::start().await;
    let topic = server.client().topic("urgent");
    let crowd: Vec<Value> = (0..500)
        .map(|n| json!({"text": format!("{n}"), "priority": 50}))
        .collect();
    topic.enqueue(json!(crowd)).await;
    assert_eq!(topic.take(2).await, ["0", "1"]);
    topic.enqueue(json!([{"text": "urgent", "priority": 1}])).await;
    assert_eq!(topic.take(2).await, ["urgent", "2"]);
}

#[tokio::test]
async fn an_expired_item_is_not_delivered() {
    let server = Server::start().await;
    let topic = server.client().topic("ttl");
    topic
        .enqueue(json!([{"text": "short", "ttl_ms": 1}, {"text": "long", "ttl_ms": 600_000}]))
        .await;
    // A poll of another topic passes the time.
    let elsewhere = topic.client.topic("elsewhere");
    assert!(elsewhere.dequeue_as(json!({"wait_ms": 50})).await.is_empty());
    assert_eq!(topic.take(9).await, ["long"]);
    let stats = topic.client.get(&topic.at("stats")).await.ok();
    assert_eq!(stats["expired_total"], 1);
}

#[tokio::test]
async fn a_retried_request_id_gets_the_same_batch() {
    let server = Server::start().await;
    let topic = server.client().topic("retry");
    topic
        .enqueue(json!([{"text": "a"}, {"text": "b"}, {"text": "c"}]))
        .await;
    let retry = json!({"max": 2, "request_id": "r-1"});
    let first = topic.dequeue_as(retry.clone()).await;
    assert_eq!(topic.dequeue_as(retry.clone()).await, first);
    assert_eq!(topic.counts().await, [1, 0, 2, 0]);
    topic.ack(&first).await;
    let next = topic.dequeue_as(retry).await;
    assert_eq!(next.iter().map(text).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn several_topics_in_one_call() {
    let server = Server::start().await;
    let client = server.client();
    let (a, b) = (client.topic("a"), client.topic("b"));
    a.enqueue(json!([{"text": "a1"}, {"text": "a2"}, {"text": "a3"}]))
        .await;
    b.enqueue(json!([{"text": "b1"}])).await;
    let path = "/v1/namespaces/default/dequeue";
    let body =
        json!({"topics": [{"topic": "b"}, {"topic": "a", "max": 2}, {"topic": "none"}], "max_total": 5});
    let answer = client.post(path, body).await.ok();
    let got: Vec<_> = list(&answer["items"])
        .iter()
        .map(|item| (item["topic"].as_str().unwrap(), text(item)))
        .collect();
    assert_eq!(
        got,
        [
            ("b", "b1".to_owned()),
            ("a", "a1".to_owned()),
            ("a", "a2".to_owned())
        ]
    );
    assert_eq!(a.ack(list(&answer["items"])).await, ["ok", "ok", "ok"]);

    let waiting = {
        let client = client.clone();
        tokio::spawn(async move {
            let body = json!({"topics": [{"topic": "b"}, {"topic": "c"}], "wait_ms": 20_000});
            client.post("/v1/namespaces/default/dequeue", body).await.ok()
        })
    };
    client.topic("c").enqueue(json!([{"text": "c1"}])).await;
    assert_eq!(waiting.await.unwrap()["items"][0]["text"], "c1");
}

#[tokio::test]
async fn each_verb_does_what_it_says() {
    let server = Server::start().await;
    let topic = server.client().topic("verbs");
    let names = ["acked", "nacked", "extended", "released", "rejected"];
    topic
        .enqueue(json!(names.map(|text| json!({"text": text}))))
        .await;
    let held = topic.dequeue(5).await;
    let with = |index: usize, more: Value| {
        let mut action = lease(&held[index]);
        action
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        action
    };
    assert_eq!(topic.settle("ack", &[with(0, json!({}))]).await, ["ok"]);
    assert_eq!(
        topic
            .settle("nack", &[with(1, json!({"delay_ms": 0, "error": "boom"}))])
            .await,
        ["ok"]
    );
    let body = json!({"leases": [with(2, json!({"lease_ms": 60_000}))]});
    let extended = topic.client.post("/v1/extend", body).await.ok();
    assert!(extended["results"][0]["lease_expires_at"].as_str() > held[2]["lease_expires_at"].as_str());
    assert_eq!(topic.settle("release", &[with(3, json!({}))]).await, ["ok"]);
    assert_eq!(
        topic
            .settle("reject", &[with(4, json!({"error": "never"}))])
            .await,
        ["ok"]
    );
    assert_eq!(topic.counts().await, [2, 0, 1, 1]);

    let again = topic.dequeue(9).await;
    let seen: Vec<_> = again
        .iter()
        .map(|item| (text(item), item["attempt"].clone(), item["last_error"].clone()))
        .collect();
    // The nacked one is due since its nack, the released one since it was enqueued.
    assert_eq!(
        seen,
        [
            ("released".to_owned(), json!(1), json!(null)),
            ("nacked".to_owned(), json!(2), json!("boom")),
        ]
    );
    // What is over is told apart from what is lost.
    let late = [with(0, json!({})), with(1, json!({}))];
    assert_eq!(topic.settle("ack", &late).await, ["already_done", "already_done"]);
    assert_eq!(topic.ack(&again).await, ["ok", "ok"]);
    assert_eq!(topic.ack(&held[2..3]).await, ["ok"]);
}

#[tokio::test]
async fn a_lease_that_ended_is_lost_and_the_item_comes_back() {
    let server = Server::start().await;
    let topic = server.client().topic("lost");
    topic.enqueue(json!([{"text": "x", "lease_ms": 1_000}])).await;
    let began = Instant::now();
    let first = topic.dequeue(1).await;
    let second = topic
        .dequeue_as(json!({"wait_ms": 20_000, "lease_ms": 600_000}))
        .await;
    let back_after = began.elapsed();
    assert!(
        back_after >= Duration::from_millis(1_000),
        "early: {back_after:?}"
    );
    assert_eq!(second[0]["attempt"], 2);
    for verb in ["ack", "nack", "extend", "release", "reject"] {
        assert_eq!(
            topic.settle(verb, &[lease(&first[0])]).await,
            ["lease_lost"],
            "{verb}"
        );
    }
    assert_eq!(topic.counts().await, [0, 0, 1, 0]);
    assert_eq!(topic.ack(&second).await, ["ok"]);
}

#[tokio::test]
async fn an_ack_may_bring_the_next_items() {
    let server = Server::start().await;
    let topic = server.client().topic("chain");
    topic
        .enqueue(json!([{"text": "1"}, {"text": "2"}, {"text": "3"}]))
        .await;
    let next = json!({"namespace": "default", "topic": "chain", "max": 1});
    let mut held: Vec<Value> = Vec::new();
    for expected in ["1", "2", "3"] {
        let leases: Vec<_> = held.iter().map(lease).collect();
        let body = json!({"leases": leases, "then_dequeue": next});
        let answer = topic.client.post("/v1/ack", body).await.ok();
        assert_eq!(list(&answer["results"]).len(), held.len());
        held = list(&answer["items"]).to_vec();
        assert_eq!(held.iter().map(text).collect::<Vec<_>>(), [expected]);
    }
    assert_eq!(topic.counts().await, [0, 0, 1, 0]);
}

#[tokio::test]
async fn at_most_once_is_done_when_delivered() {
    let server = Server::start().await;
    let topic = server.client().topic("once");
    topic
        .client
        .put(&topic.path, json!({"delivery": "at_most_once"}))
        .await
        .ok();
    topic.enqueue(json!([{"text": "x"}])).await;
    let items = topic.dequeue(1).await;
    assert!(items[0].get("lease_id").is_none(), "{}", items[0]);
    assert_eq!(topic.counts().await, [0, 0, 0, 0]);
}
