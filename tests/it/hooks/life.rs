//! A hook's life: uploaded, tried, in force, replaced, deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Hooks, chatty, keeping, rejecting, upper};
use crate::client::list;
use crate::server::Server;

#[tokio::test]
async fn a_hook_shapes_items_from_its_binding_to_its_rollback() {
    let mut server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    assert_eq!(hooks.uploaded("shape", upper()).await, 1);
    let again = hooks.upload("shape", upper()).await.ok();
    assert_eq!((&again["version"], &again["created"]), (&json!(1), &json!(false)));
    let topic = server.client().topic("orders");
    topic.enqueue(json!([{"text": "before"}])).await;

    let tag = hooks.bind("orders", "shape", "ord*").await;
    topic.enqueue(json!([{"text": "bound"}])).await;
    assert_eq!(topic.take(9).await, ["before", "BOUND"]);

    assert_eq!(hooks.uploaded("shape", rejecting()).await, 2);
    let second = hooks.activate("orders", &tag, json!({"version": 2})).await;
    assert_eq!(second.ok()["previous"], 1);
    let items = json!({"items": [{"text": "refused"}]});
    let refused = topic.client.post(&topic.at("enqueue"), items.clone()).await;
    assert!(
        refused.any_problem()["detail"].to_string().contains("no-email"),
        "{}",
        refused.text
    );

    let tag = second.header("etag").to_owned();
    let back = hooks
        .change(
            Method::POST,
            "bindings/orders/rollback",
            ("if-match", &tag),
            Value::Null,
        )
        .await;
    assert_eq!(back.ok()["version"], 1);
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("orders");
    let hooks = Hooks::of(server.client(), "default");
    topic.enqueue(json!([{"text": "restarted"}])).await;
    assert_eq!(topic.take(9).await, ["RESTARTED"]);

    let path = hooks.at("hooks/shape/versions/1");
    server.client().delete(&path).await.problem(409, "version_in_use");
    let tag = back.header("etag").to_owned();
    hooks
        .change(Method::DELETE, "bindings/orders", ("if-match", &tag), Value::Null)
        .await
        .ok();
    topic.enqueue(json!([{"text": "unbound"}])).await;
    assert_eq!(topic.take(9).await, ["unbound"]);
    server.client().delete(&path).await.ok();
    let audit = server.client().get(&hooks.at("audit")).await.ok();
    assert!(list(&audit["entries"]).len() >= 6, "{audit}");
}

#[tokio::test]
async fn a_dry_run_measures_and_leaves_the_topic_alone() {
    let server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    hooks.uploaded("shape", upper()).await;
    let topic = server.client().topic("jobs");
    topic
        .enqueue(json!([{"text": "one"}, {"text": "two", "priority": 500}]))
        .await;
    let run = async |body: Value| {
        let path = hooks.at("hooks/shape/versions/1/dry-run");
        server.client().post(&path, body).await.ok()
    };
    let last = run(json!({"last": 5, "topic": "jobs"})).await;
    assert_eq!(last["verdicts"], json!({"replace": 2}));
    // The last one accepted comes first, however long it will wait.
    let first = &last["items"][0];
    assert_eq!(first["changes"][0]["text"], "TWO");
    let one = run(json!({"last": 1, "topic": "jobs"})).await;
    assert_eq!(list(&one["items"]).len(), 1);
    assert_eq!(one["items"][0]["changes"][0]["text"], "TWO");
    let usage = &first["usage"];
    assert!(usage["instructions"].as_u64().unwrap() > 0, "{usage}");
    assert!(usage["memory_bytes"].as_u64().unwrap() >= 65_536, "{usage}");
    assert!(first["limits"]["memory_percent"].as_u64().unwrap() <= 100);
    // Counted instructions are the same every time; a clock's time is not.
    let again = run(json!({"last": 5, "topic": "jobs"})).await;
    assert_eq!(again["items"][0]["usage"]["instructions"], usage["instructions"]);
    assert_eq!(topic.counts().await, [2, 0, 0, 0]);
    assert_eq!(topic.take(9).await, ["one", "two"]);
}

#[tokio::test]
async fn a_version_goes_into_force_only_past_its_tests() {
    let server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    hooks.uploaded("shape", keeping()).await;
    hooks.uploaded("shape", rejecting()).await;
    let case = json!({"side": "enqueue", "item": {"text": "x"}, "expect": {"verdict": "keep"}});
    let path = hooks.at("hooks/shape/tests/kept");
    assert_eq!(server.client().put(&path, case).await.status, 201);
    let tag = hooks.bind("b", "shape", "t").await;
    let stopped = hooks.activate("b", &tag, json!({"version": 2})).await;
    let stopped = stopped.problem(422, "gate_failed");
    let reason = "expected keep, got reject with code `no-email`";
    assert!(stopped["errors"].to_string().contains(reason), "{stopped}");
    assert_eq!(
        hooks
            .activate("b", &tag, json!({"version": 2, "force": true}))
            .await
            .ok()["version"],
        2
    );
}

#[tokio::test]
async fn of_many_who_saw_the_same_one_wins() {
    let server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    hooks.uploaded("shape", keeping()).await;
    hooks.uploaded("shape", upper()).await;
    let tag = hooks.bind("b", "shape", "t").await;
    let racers =
        (1..=8).map(|percent| hooks.activate("b", &tag, json!({"version": 2, "canary_percent": percent})));
    let replies = futures_util::future::join_all(racers).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.problem(412, "precondition_failed");
    }
}

#[tokio::test]
async fn a_follower_sees_lines_as_they_are_written() {
    let mut server = Server::start().await;
    let hooks = Hooks::of(server.client(), "default");
    hooks.uploaded("chatty", chatty()).await;
    hooks.bind("b", "chatty", "t").await;
    let path = hooks.at("hooks/chatty/logs");
    let follow = server
        .client()
        .request(Method::GET, &format!("{path}?follow=true"));
    let mut stream = follow.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let topic = server.client().topic("t");
    topic.enqueue(json!([{"text": "x"}])).await;
    let mut seen = String::new();
    while !seen.contains("a line") {
        seen.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(
        seen.contains("event: line") && seen.contains("\"level\":\"info\""),
        "{seen}"
    );
    let lines = server.client().get(&path).await.ok();
    assert_eq!(lines["lines"][0]["message"], "a line");
    let stats = server.client().get(&hooks.at("hooks/chatty/stats")).await.ok();
    assert_eq!(stats["versions"][0]["verdicts"]["keep"], 1, "{stats}");
    // A follower does not hold up the node's stop.
    assert!(server.terminate().await.success());
    while let Ok(Some(_)) = stream.chunk().await {}
}
