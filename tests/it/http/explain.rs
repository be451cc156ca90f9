//! Why an item is not delivered.

use mqueue::tenant::Scope;
use serde_json::{Value, json};

use crate::client::{Topic, lease, list};
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::server::{Server, token};

/// The codes of the reasons, and the whole explanation.
async fn explained(topic: &Topic, id: &str) -> (Vec<String>, Value) {
    let answer = topic
        .client
        .get(&topic.at(&format!("items/{id}/explain")))
        .await
        .ok();
    let code = |reason: &Value| reason["code"].as_str().unwrap().to_owned();
    (list(&answer["reasons"]).iter().map(code).collect(), answer)
}

#[tokio::test]
async fn every_state_has_its_reason() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    let ids = topic
        .enqueue(json!([
            {"text": "first", "priority": 1},
            {"text": "second", "priority": 2},
            {"text": "third", "priority": 3},
            {"text": "later", "delay_ms": 600_000},
        ]))
        .await;
    let (codes, waiting) = explained(&topic, &ids[2]).await;
    assert_eq!(codes, ["waiting"]);
    assert_eq!(
        (&waiting["deliverable"], &waiting["ahead"]),
        (&json!(true), &json!(2))
    );
    let (codes, later) = explained(&topic, &ids[3]).await;
    assert_eq!(codes, ["scheduled"]);
    assert_eq!(later["deliverable"], false);
    assert!(later["reasons"][0]["until"].is_string() && later.get("ahead").is_none());

    let worker = server.client_with(Some(token(Some(&["default"]), &[Scope::Dequeue])));
    let held = worker.topic("t").dequeue(1).await;
    topic.client.post(&topic.at("pause"), json!({})).await.ok();
    let (codes, leased) = explained(&topic, &ids[0]).await;
    assert_eq!(codes, ["paused", "leased"]);
    assert_eq!(leased["reasons"][1]["consumer"], "tester");
    assert_eq!(leased["reasons"][1]["until"], held[0]["lease_expires_at"]);
    assert_eq!(leased["attempt"], 1);
    let mut extend = lease(&held[0]);
    extend["lease_ms"] = json!(3_600_000);
    assert_eq!(topic.settle("extend", &[extend]).await, ["ok"]);
    let (_, extended) = explained(&topic, &ids[0]).await;
    assert_eq!(extended["reasons"][1]["consumer"], "tester");
    assert_ne!(extended["reasons"][1]["until"], held[0]["lease_expires_at"]);

    let mut nack = lease(&held[0]);
    nack["delay_ms"] = json!(600_000);
    assert_eq!(topic.settle("nack", &[nack]).await, ["ok"]);
    assert_eq!(explained(&topic, &ids[0]).await.0, ["paused", "backing_off"]);
    assert_eq!(explained(&topic, &ids[1]).await.0, ["paused", "waiting"]);
    topic.client.post(&topic.at("resume"), json!({})).await.ok();
    let held = topic.dequeue(1).await;
    topic.settle("reject", &[lease(&held[0])]).await;
    assert_eq!(explained(&topic, &ids[1]).await.0, ["dead"]);
}

#[tokio::test]
async fn a_long_way_to_go_is_counted_to_a_bound() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    let many = |from: usize| -> Value {
        let item = |n: usize| json!({"text": n.to_string(), "priority": 1});
        (from..from + 800).map(item).collect()
    };
    topic.enqueue(many(0)).await;
    topic.enqueue(many(800)).await;
    let last = topic.enqueue(json!([{"text": "last", "priority": 2}])).await;
    let (_, explained) = explained(&topic, &last[0]).await;
    assert_eq!(
        (&explained["ahead"], &explained["ahead_or_more"]),
        (&json!(1_000), &json!(true))
    );
}

#[tokio::test]
async fn a_lease_from_before_a_restart_is_told_with_its_consumer_where_that_is_known() {
    let mut server = Server::start().await;
    let topic = server.client().topic("t");
    let ids = topic.enqueue(json!([{"text": "x", "lease_ms": 600_000}])).await;
    topic.dequeue(1).await;
    server.kill().await;
    server.start_again().await;
    let (codes, leased) = explained(&server.client().topic("t"), &ids[0]).await;
    assert_eq!(codes, ["leased"]);
    assert!(leased["reasons"][0]["until"].is_string());
    // A Redis outlives the node and knows; the node's own memory does not.
    let known = crate::stores::Stores::of_this_test()
        .redis
        .then_some(json!("tester"));
    assert_eq!(leased["reasons"][0].get("consumer"), known.as_ref());
}

#[tokio::test]
async fn a_hook_that_defers_is_named() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    // Verdict 3 of the dequeue side: not now, but after so many milliseconds.
    let defer = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
        (i32.store offset=16 (local.get $verdict) (i32.const 600000))";
    let guest = Guest {
        item: defer,
        ..Guest::default()
    };
    hooks.put("later", Side::Dequeue, guest, json!({})).await;
    let topic = server.client().topic("t");
    let ids = topic.enqueue(json!([{"text": "x"}])).await;
    assert!(topic.dequeue(1).await.is_empty());
    let (codes, deferred) = explained(&topic, &ids[0]).await;
    assert_eq!(codes, ["hook_deferred"]);
    assert_eq!(deferred["reasons"][0]["hook"], "later@1");
    assert!(deferred["reasons"][0]["until"].is_string());
}

#[tokio::test]
async fn a_hook_that_is_left_alone_is_named() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let guest = Guest {
        item: "(unreachable)",
        ..Guest::default()
    };
    hooks.put("broken", Side::Dequeue, guest, json!({})).await;
    let topic = server.client().topic("t");
    let ids = topic.enqueue(json!(vec![json!({"text": "x"}); 40])).await;
    // Each look at the items makes calls that trap, or tries whether the hook works again: its rest gets longer.
    for _ in 0..200 {
        assert!(topic.dequeue(40).await.is_empty());
        for id in ids.iter().step_by(13) {
            let (codes, explained) = explained(&topic, id).await;
            let Some(at) = codes.iter().position(|code| code == "hook_breaker_open") else {
                continue;
            };
            let reason = &explained["reasons"][at];
            assert_eq!(
                (&reason["hook"], &explained["deliverable"]),
                (&json!("broken@1"), &json!(false))
            );
            assert!(reason["until"].is_string(), "{reason}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it is not said that the hook is left alone");
}
