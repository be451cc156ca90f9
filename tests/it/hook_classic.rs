//! Every verdict over the first version's routes, and the version before in the place of one that fails, against a
//! real server.

use serde_json::{Value, json};

use crate::client::list;
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::hook_verdicts::{REPLACE, reason};
use crate::server::Server;

/// `new` at 64, `gone` at 80, `too bad` at 96, a header `a: b` from 128 on.
const TEXTS: &str = r#"(data (i32.const 64) "new") (data (i32.const 80) "gone") (data (i32.const 96) "too bad")
    (data (i32.const 112) "ab") (data (i32.const 128) "\70\00\00\00\01\00\00\00\71\00\00\00\01\00\00\00")"#;

/// Gives verdict 2 with the payload `new` and the header `a: b`.
const EDIT: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
    (i32.store8 offset=16 (local.get $verdict) (i32.const 1))
    (i32.store offset=20 (local.get $verdict) (i32.const 64)) (i32.store offset=24 (local.get $verdict) (i32.const 3))
    (i32.store8 offset=28 (local.get $verdict) (i32.const 1))
    (i32.store offset=32 (local.get $verdict) (i32.const 128)) (i32.store offset=36 (local.get $verdict) (i32.const 1))";

/// Makes two of an item.
const TWINS: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
    (local.set $at (call $alloc (i32.const 8) (i32.const 128)))
    (memory.fill (local.get $at) (i32.const 0) (i32.const 128))
    (i32.store offset=16 (local.get $verdict) (local.get $at))
    (i32.store offset=20 (local.get $verdict) (i32.const 2))";

/// Puts deliveries off for an hour.
const DEFER: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
    (i32.store offset=16 (local.get $verdict) (i32.const 3600000))";

fn guest(item: &str) -> Guest<'_> {
    Guest {
        fields: TEXTS,
        item,
        ..Guest::default()
    }
}

/// Enqueues `old` by the first version's route.
async fn enqueue(hooks: &Hooks, topic: &str) -> crate::client::Reply {
    let item = json!([{"namespace": "default", "topic": topic, "priority": 1, "payload": "b2xk"}]);
    hooks.client.post("/enqueue", item).await
}

/// Dequeues by the first version's route; the payloads as text.
async fn dequeue(hooks: &Hooks, topic: &str) -> Vec<Value> {
    let path = format!("/dequeue?namespace=default&topic={topic}&limit=10");
    list(&hooks.client.get(&path).await.ok()).to_vec()
}

fn payloads(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(|item| item["payload"].as_str()).collect()
}

/// `old` and `new` as the first version shows payloads.
const OLD: &str = "b2xk";
const NEW: &str = "bmV3";

#[tokio::test]
async fn each_verdict_counts_on_the_first_versions_way_in() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let (drop, reject, bury) = (reason(4), reason(5), reason(6));
    for (name, item, status, delivered) in [
        ("keep", "", 200, vec![OLD]),
        ("replace", REPLACE, 200, vec![NEW]),
        ("edit", EDIT, 200, vec![NEW]),
        ("split", TWINS, 200, vec![OLD, OLD]),
        ("drop", &drop, 200, vec![]),
        ("reject", &reject, 422, vec![]),
        ("bury", &bury, 200, vec![]),
    ] {
        hooks
            .put(name, Side::Enqueue, guest(item), json!({ "topic": name }))
            .await;
        let reply = enqueue(&hooks, name).await;
        assert_eq!(reply.status, status, "{name}: {}", reply.text);
        let items = dequeue(&hooks, name).await;
        assert_eq!(payloads(&items), delivered, "{name}: {items:?}");
    }
    assert_eq!(hooks.client.topic("bury").counts().await, [0, 0, 0, 1]);
}

#[tokio::test]
async fn each_verdict_counts_on_the_first_versions_way_out() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let (drop, bury) = (reason(4), reason(5));
    // Ready, scheduled, leased and dead afterwards.
    for (name, item, delivered, counts) in [
        ("deliver", "", vec![OLD], [0, 0, 1, 0]),
        ("deliver-as", REPLACE, vec![NEW], [0, 0, 1, 0]),
        ("deliver-edited", EDIT, vec![NEW], [0, 0, 1, 0]),
        ("defer", DEFER, vec![], [0, 1, 0, 0]),
        ("drop", &drop, vec![], [0, 0, 0, 0]),
        ("bury", &bury, vec![], [0, 0, 0, 1]),
    ] {
        hooks
            .put(name, Side::Dequeue, guest(item), json!({ "topic": name }))
            .await;
        let id = enqueue(&hooks, name).await.ok()[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let items = dequeue(&hooks, name).await;
        assert_eq!(payloads(&items), delivered, "{name}: {items:?}");
        assert_eq!(hooks.client.topic(name).counts().await, counts, "{name}");
        // What is shown is a view: the item is what it was, and settles as ever.
        if let Some(item) = items.first() {
            assert_eq!(item["id"], json!(id), "{name}");
            let stored = hooks
                .client
                .get(&hooks.at(&format!("topics/{name}/items/{id}")))
                .await;
            assert_eq!(stored.ok()["payload"], OLD, "{name}");
            let ack = json!({"id": id, "namespace": "default", "topic": name});
            hooks.client.post("/ack", ack).await.ok();
        }
    }
}

#[tokio::test]
async fn the_version_before_stands_in_for_one_that_fails_on_both_sides() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let error = "(i32.store8 (local.get $verdict) (i32.const 1))";
    let retry = json!({"error": "retry_previous", "trap": "retry_previous",
        "timeout": "retry_previous", "overload": "retry_previous"});
    for side in [Side::Enqueue, Side::Dequeue] {
        for (kind, body, item) in [
            ("error", "", error),
            ("trap", "unreachable", ""),
            ("timeout", "(loop $l (br $l))", ""),
        ] {
            let name = format!("{}-{kind}", side.word());
            let more = json!({"topic": name, "policies": retry});
            hooks.put(&name, side, guest(REPLACE), more.clone()).await;
            let fails = Guest { body, ..guest(item) };
            hooks.put(&name, side, fails, more).await;
            hooks.enqueue(&name, json!([{"text": "old"}])).await.ok();
            let items = hooks.dequeue(&name).await;
            let shown: Vec<_> = items
                .iter()
                .map(|item| (&item["text"], &item["hook_version"]))
                .collect();
            assert_eq!(shown, [(&json!("new"), &json!(format!("{name}@1")))], "{name}");
        }
    }
}
