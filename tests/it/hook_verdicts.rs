//! Every verdict of a hook, over HTTP, against a real server.

use serde_json::{Value, json};

use crate::client::{list, text};
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

/// `new` at 64, `gone` at 80, `too bad` at 96, `other` at 112.
pub(crate) const TEXTS: &str = r#"(data (i32.const 64) "new") (data (i32.const 80) "gone") (data (i32.const 96) "too bad") (data (i32.const 112) "other")"#;

/// Gives verdict `number` with the reason `gone`, `too bad`.
pub(crate) fn reason(number: u8) -> String {
    format!(
        "(i32.store8 offset=8 (local.get $verdict) (i32.const {number}))
         (i32.store offset=16 (local.get $verdict) (i32.const 80)) (i32.store offset=20 (local.get $verdict) (i32.const 4))
         (i32.store offset=24 (local.get $verdict) (i32.const 96)) (i32.store offset=28 (local.get $verdict) (i32.const 7))"
    )
}

/// Gives verdict 1 with the payload `new`.
pub(crate) const REPLACE: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
    (i32.store offset=16 (local.get $verdict) (i32.const 64)) (i32.store offset=20 (local.get $verdict) (i32.const 3))";

async fn with(side: Side, item: &str, more: Value) -> (Server, Hooks) {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let guest = Guest {
        fields: TEXTS,
        item,
        ..Guest::default()
    };
    hooks.put("h", side, guest, more).await;
    (server, hooks)
}

async fn one(hooks: &Hooks, topic: &str) -> Value {
    let reply = hooks
        .enqueue(topic, json!([{"text": "old"}, {"text": "old"}]))
        .await;
    let results = reply.ok()["results"].clone();
    assert_eq!(list(&results).len(), 2, "{results}");
    results[0].clone()
}

/// The item `id` of the topic `t` as the queue has it.
async fn as_stored(hooks: &Hooks, id: &str) -> Value {
    let item = hooks.at(&format!("topics/t/items/{id}"));
    hooks.client.get(&item).await.ok()
}

#[tokio::test]
async fn keep_leaves_an_item_alone() {
    let (_server, hooks) = with(Side::Enqueue, "", json!({})).await;
    assert_eq!(one(&hooks, "t").await["status"], "accepted");
    let items = hooks.dequeue("t").await;
    assert_eq!(text(&items[0]), "old");
    assert_eq!(items[0].get("hook_version"), None, "{}", items[0]);
}

#[tokio::test]
async fn replace_stores_another_payload_and_names_the_hook() {
    let (_server, hooks) = with(Side::Enqueue, REPLACE, json!({})).await;
    assert_eq!(one(&hooks, "t").await["status"], "accepted");
    let items = hooks.dequeue("t").await;
    assert_eq!(text(&items[0]), "new");
    assert_eq!(items[0]["hook_version"], "h@1");
}

#[tokio::test]
async fn edit_changes_priority_and_routes_to_another_topic() {
    let edit = "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
        (i32.store8 offset=40 (local.get $verdict) (i32.const 1)) (i32.store offset=44 (local.get $verdict) (i32.const -7))
        (i32.store8 offset=64 (local.get $verdict) (i32.const 1)) (i32.store offset=68 (local.get $verdict) (i32.const 112))
        (i32.store offset=72 (local.get $verdict) (i32.const 5))";
    let (_server, hooks) = with(Side::Enqueue, edit, json!({"topic": "t"})).await;
    assert_eq!(one(&hooks, "t").await["status"], "accepted");
    assert!(hooks.dequeue("t").await.is_empty());
    let items = hooks.dequeue("other").await;
    assert_eq!((items.len(), &items[0]["priority"]), (2, &json!(-7)));
    assert_eq!(text(&items[0]), "old");
}

/// Makes two of an item with two edits that change nothing: 64 bytes each, all options empty.
const TWINS: Guest<'_> = Guest {
    imports: "",
    fields: "(func $zeroed (param $size i32) (result i32) (local $at i32)
        (local.set $at (call $alloc (i32.const 8) (local.get $size)))
        (memory.fill (local.get $at) (i32.const 0) (local.get $size)) (local.get $at))",
    body: "",
    item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
        (i32.store offset=16 (local.get $verdict) (call $zeroed (i32.const 128)))
        (i32.store offset=20 (local.get $verdict) (i32.const 2))",
};

#[tokio::test]
async fn split_makes_several_items_of_one() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks.put("h", Side::Enqueue, TWINS, json!({})).await;
    let result = one(&hooks, "t").await;
    assert_eq!(list(&result["ids"]).len(), 2, "{result}");
    assert_eq!(hooks.dequeue("t").await.len(), 4);
}

#[tokio::test]
async fn drop_says_yes_and_stores_nothing() {
    let (server, hooks) = with(Side::Enqueue, &reason(4), json!({})).await;
    let result = one(&hooks, "t").await;
    assert_eq!(
        (
            &result["status"],
            &result["reason"],
            &result["detail"],
            &result["hook"]
        ),
        (
            &json!("filtered"),
            &json!("gone"),
            &json!("too bad"),
            &json!("h@1")
        )
    );
    assert!(hooks.dequeue("t").await.is_empty());
    // The routes of the first version have no word for it: the item looks accepted.
    let classic = json!([{"namespace": "default", "topic": "t", "priority": 1, "payload": "eA=="}]);
    assert_eq!(server.client().post("/enqueue", classic).await.status, 200);
    assert!(hooks.dequeue("t").await.is_empty());
}

#[tokio::test]
async fn reject_tells_the_producer_why() {
    let (server, hooks) = with(Side::Enqueue, &reason(5), json!({})).await;
    let problem = hooks
        .enqueue("t", json!([{"text": "old"}]))
        .await
        .problem(422, "hook_rejected");
    let result = &problem["results"][0];
    assert_eq!(
        (&result["code"], &result["detail"], &result["hook"]),
        (&json!("gone"), &json!("too bad"), &json!("h@1")),
        "{problem}"
    );
    assert!(hooks.dequeue("t").await.is_empty());
    let classic = json!([{"namespace": "default", "topic": "t", "priority": 1, "payload": "eA=="}]);
    assert_eq!(server.client().post("/enqueue", classic).await.status, 422);
}

#[tokio::test]
async fn dead_letter_stores_an_item_among_the_dead() {
    let (_server, hooks) = with(Side::Enqueue, &reason(6), json!({})).await;
    assert_eq!(one(&hooks, "t").await["status"], "dead_lettered");
    let dead = hooks.client.get(&hooks.at("topics/t/dead")).await.ok();
    let first = &dead["items"][0];
    assert!(first.to_string().contains("too bad"), "{dead}");
    assert!(hooks.dequeue("t").await.is_empty());
}

#[tokio::test]
async fn a_part_that_is_buried_takes_the_whole_item_along() {
    let (_server, hooks) = with(Side::Enqueue, &reason(6), json!({"position": 2})).await;
    hooks
        .put("twins", Side::Enqueue, TWINS, json!({"position": 1}))
        .await;
    let result = one(&hooks, "t").await;
    assert_eq!(result["status"], "dead_lettered", "{result}");
    let dead = hooks.client.get(&hooks.at("topics/t/dead")).await.ok();
    assert_eq!(list(&dead["items"]).len(), 2, "{dead}");
    let id = result["id"].as_str().unwrap();
    let item = as_stored(&hooks, id).await;
    assert_eq!(
        (text(&item), &item["hook_version"]),
        ("old".to_owned(), &Value::Null),
        "{item}"
    );
}

#[tokio::test]
async fn a_delivery_shows_another_payload_and_keeps_the_stored_one() {
    let (_server, hooks) = with(Side::Dequeue, REPLACE, json!({})).await;
    let id = one(&hooks, "t").await["id"].as_str().unwrap().to_owned();
    assert_eq!(text(&hooks.dequeue("t").await[0]), "new");
    let stored = as_stored(&hooks, &id).await;
    assert_eq!(text(&stored), "old");
}

#[tokio::test]
async fn a_delivery_can_be_put_off_uncounted() {
    let defer = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
        (i32.store offset=16 (local.get $verdict) (i32.const 3600000))";
    let (_server, hooks) = with(Side::Dequeue, defer, json!({})).await;
    let id = one(&hooks, "t").await["id"].as_str().unwrap().to_owned();
    assert!(hooks.dequeue("t").await.is_empty());
    let item = as_stored(&hooks, &id).await;
    assert_eq!(
        (&item["state"], &item["attempt"]),
        (&json!("scheduled"), &json!(0)),
        "{item}"
    );
}

#[tokio::test]
async fn a_delivery_can_be_dropped_or_buried() {
    let (_server, hooks) = with(Side::Dequeue, &reason(4), json!({})).await;
    one(&hooks, "t").await;
    assert!(hooks.dequeue("t").await.is_empty());
    let topic = hooks.client.topic("t");
    assert_eq!(topic.counts().await, [0, 0, 0, 0]);

    let (_server, hooks) = with(Side::Dequeue, &reason(5), json!({})).await;
    one(&hooks, "t").await;
    assert!(hooks.dequeue("t").await.is_empty());
    let topic = hooks.client.topic("t");
    assert_eq!(topic.counts().await, [0, 0, 0, 2]);
}

#[tokio::test]
async fn hooks_see_the_words_of_the_tokens_scope() {
    // The number of scope words, as a digit, is the payload.
    let body = "(i32.store8 (i32.const 64) (i32.add (i32.const 48) (local.get 8)))";
    let item = "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
        (i32.store offset=16 (local.get $verdict) (i32.const 64)) (i32.store offset=20 (local.get $verdict) (i32.const 1))";
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let guest = Guest {
        body,
        item,
        ..Guest::default()
    };
    hooks.put("h", Side::Dequeue, guest, json!({})).await;
    one(&hooks, "t").await;
    // The tests' token has all four.
    assert_eq!(text(&hooks.dequeue("t").await[0]), "4");
}

#[tokio::test]
async fn hooks_outlive_a_restart() {
    let (mut server, _) = with(Side::Enqueue, REPLACE, json!({})).await;
    assert!(server.terminate().await.success());
    server.start_again().await;
    let hooks = Hooks::of(&server.client(), "default");
    assert_eq!(one(&hooks, "t").await["status"], "accepted");
    assert_eq!(text(&hooks.dequeue("t").await[0]), "new");
}
