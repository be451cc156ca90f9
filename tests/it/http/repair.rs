//! Dead letters that come back through a hook.

use serde_json::{Value, json};

use super::operations::{ended, order};
use crate::client::{Topic, lease, list, text};
use crate::guests::{Guest, UPPER};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

/// `gone` at 80, `too bad` at 96.
const TEXTS: &str = r#"(data (i32.const 80) "gone") (data (i32.const 96) "too bad")"#;

/// Upper-cases payloads; one that begins with `x` is refused, one that begins with `z` dropped.
fn repairer() -> String {
    let reason = |number: u8| {
        format!(
            "(i32.store8 offset=8 (local.get $verdict) (i32.const {number}))
            (i32.store offset=16 (local.get $verdict) (i32.const 80))
            (i32.store offset=20 (local.get $verdict) (i32.const 4))
            (i32.store offset=24 (local.get $verdict) (i32.const 96))
            (i32.store offset=28 (local.get $verdict) (i32.const 7))"
        )
    };
    let begins = |letter: char| {
        format!(
            "(i32.eq (i32.load8_u (i32.load offset=60 (local.get $item))) (i32.const {}))",
            letter as u32
        )
    };
    format!(
        "(if {} (then {}) (else (if {} (then {}) (else {UPPER}))))",
        begins('x'),
        reason(5),
        begins('z'),
        reason(4)
    )
}

async fn furnished() -> (Server, Topic) {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let item = repairer();
    let guest = Guest {
        fields: TEXTS,
        item: &item,
        ..Guest::default()
    };
    // It is not bound to anything.
    assert_eq!(hooks.push("repair", Side::Enqueue.wat(&guest)).await, 1);
    let topic = server.client().topic("t");
    topic
        .enqueue(json!([{"text": "abc", "priority": 7}, {"text": "xyz"}, {"text": "zoo"}]))
        .await;
    let leases: Vec<Value> = topic.dequeue(9).await.iter().map(lease).collect();
    topic.settle("reject", &leases).await;
    (server, topic)
}

#[tokio::test]
async fn a_dry_run_shows_what_the_hook_would_make_of_them() {
    let (_server, topic) = furnished().await;
    let body = json!({"hook": "repair", "dry_run": true});
    let dry = topic.client.post(&topic.at("dead/redrive"), body).await.ok();
    assert_eq!((&dry["count"], &dry["dry_run"]), (&json!(3), &json!(true)));
    let verdicts: Vec<_> = list(&dry["rehearsals"])
        .iter()
        .map(|run| run["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["replace", "reject", "drop"]);
    let change = &dry["rehearsals"][0]["changes"][0];
    assert_eq!(
        (&change["text"], &change["diff"]["kind"]),
        (&json!("ABC"), &json!("bytes"))
    );
    assert_eq!(dry["rehearsals"][0]["id"], dry["sample"][0]["id"]);
    assert_eq!(topic.counts().await, [0, 0, 0, 3]);
}

#[tokio::test]
async fn what_the_hook_mends_comes_back_and_what_it_refuses_stays() {
    let (mut server, topic) = furnished().await;
    let body = json!({"hook": "repair@1"});
    let done = topic.client.post(&topic.at("dead/redrive"), body).await.ok();
    assert_eq!((&done["count"], &done["kept"]), (&json!(2), &json!(1)));
    assert_eq!(topic.counts().await, [1, 0, 0, 1]);
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("t");
    assert_eq!(topic.counts().await, [1, 0, 0, 1]);
    let back = topic.dequeue(9).await;
    assert_eq!(
        (text(&back[0]), &back[0]["priority"], &back[0]["hook_version"]),
        ("ABC".to_owned(), &json!(7), &json!("repair@1"))
    );
    let dead = topic.client.get(&topic.at("dead")).await.ok();
    assert_eq!(dead["items"][0]["text"], "xyz");
}

#[tokio::test]
async fn an_operation_repairs_into_another_topic() {
    let (server, topic) = furnished().await;
    let body = json!({"kind": "redrive", "topic": "t", "to_topic": "mended", "hook": "repair"});
    let path = order(&topic.client, body).await;
    let done = ended(&topic.client, &path).await;
    assert_eq!(
        (&done["state"], &done["done"]),
        (&json!("succeeded"), &json!(2)),
        "{done}"
    );
    assert_eq!(done["outcome"]["kept"], 1);
    assert_eq!(done["work"]["hook"], json!({"hook": "repair", "version": 1}));
    assert_eq!(server.client().topic("mended").take(9).await, ["ABC"]);
    assert_eq!(topic.counts().await, [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_hook_that_cannot_be_meant_is_refused() {
    let (server, topic) = furnished().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks.push("outward", Side::Dequeue.wat(&Guest::default())).await;
    let redrive = async |hook: &str| {
        let path = topic.at("dead/redrive");
        topic.client.post(&path, json!({ "hook": hook })).await
    };
    redrive("none").await.problem(404, "unknown_hook");
    redrive("repair@9").await.problem(404, "unknown_hook_version");
    redrive("repair@x").await.problem(422, "invalid_field");
    redrive("outward").await.problem(422, "invalid_field");
    let order = json!({"kind": "redrive", "topic": "t", "hook": "repair", "dry_run": true});
    topic
        .client
        .post("/v1/namespaces/default/operations", order)
        .await
        .problem(422, "invalid_field");
    assert_eq!(topic.counts().await, [0, 0, 0, 3]);
}
