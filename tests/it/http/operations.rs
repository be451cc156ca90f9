//! Operations: work on many items that is ordered, looked at, cancelled, and that outlives its node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Reply, Topic, lease, list};
use crate::server::Server;

const OPERATIONS: &str = "/v1/namespaces/default/operations";

/// Orders work that must be taken; returns its path.
pub(crate) async fn order(client: &Client, body: Value) -> String {
    let reply = client.post(OPERATIONS, body).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    assert!(["queued", "running"].contains(&reply.json()["state"].as_str().unwrap()));
    reply.header("location").to_owned()
}

/// The operation once `reached` holds of it.
pub(crate) async fn until(client: &Client, path: &str, reached: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        let operation = client.get(path).await.ok();
        if reached(&operation) {
            return operation;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} never came so far: {}", client.get(path).await.text);
}

pub(crate) async fn ended(client: &Client, path: &str) -> Value {
    until(client, path, |operation| operation.get("ended_at").is_some()).await
}

async fn done(client: &Client, body: Value) -> Value {
    let path = order(client, body).await;
    ended(client, &path).await
}

/// Fills a topic with `count` dead letters named by their numbers.
async fn dead(topic: &Topic, count: usize) {
    let items: Vec<Value> = (0..count).map(|n| json!({"text": format!("{n:04}")})).collect();
    topic.enqueue(json!(items)).await;
    let leases: Vec<Value> = topic.dequeue(1_000).await.iter().map(lease).collect();
    assert_eq!(topic.settle("reject", &leases).await.len(), count);
}

#[tokio::test]
async fn items_are_cancelled_by_what_they_are() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    topic
        .enqueue(json!([
            {"text": "a", "priority": 1, "headers": {"Kind": "mail"}},
            {"text": "b", "priority": 5, "headers": {"Kind": "mail"}},
            {"text": "c", "priority": 5, "headers": {"Kind": "call"}},
            {"text": "d", "priority": 9, "headers": {"Kind": "mail"}, "delay_ms": 600_000},
            {"text": "e", "priority": 0},
        ]))
        .await;
    let held = topic.dequeue(1).await;
    let filter = json!({"priority_min": 5, "header": {"name": "kind", "value": "mail"}});
    let order = json!({"kind": "cancel", "topic": "t", "filter": filter, "dry_run": true});
    let dry = done(&topic.client, order).await;
    assert_eq!(
        (&dry["state"], &dry["done"], &dry["total"], &dry["looked"]),
        (&json!("succeeded"), &json!(0), &json!(4), &json!(4))
    );
    assert_eq!(dry["outcome"]["count"], 2);
    assert_eq!(dry["outcome"]["examples"][0]["priority"], 5);
    assert_eq!(topic.counts().await, [3, 1, 1, 0]);

    let order = json!({"kind": "cancel", "topic": "t", "filter": filter});
    let cancelled = done(&topic.client, order).await;
    assert_eq!(
        (&cancelled["done"], &cancelled["created_by"]),
        (&json!(2), &json!("tester"))
    );
    let scrape = server.client().get("/metrics").await.text;
    for line in [
        r#"mqueue_operations_ended_total{kind="cancel",outcome="succeeded"} 2"#,
        r#"mqueue_operations_running{kind="cancel"} 0"#,
    ] {
        assert!(
            scrape.lines().any(|shown| shown == line),
            "{line} is missing in\n{scrape}"
        );
    }
    assert_eq!(topic.counts().await, [2, 0, 1, 0]);
    let order = json!({"kind": "cancel", "topic": "t", "filter": {"older_than_ms": 3_600_000}});
    assert_eq!(done(&topic.client, order).await["done"], 0);
    let order = json!({"kind": "cancel", "topic": "t", "limit": 1});
    assert_eq!(done(&topic.client, order).await["done"], 1);
    assert_eq!(topic.ack(&held).await, ["ok"]);
    assert_eq!(topic.take(9).await, ["c"]);
}

#[tokio::test]
async fn topics_are_emptied_and_deleted_in_the_background() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 3).await;
    topic.enqueue(json!([{"text": "a"}, {"text": "b"}])).await;
    topic.dequeue(1).await;
    let purge = done(
        &topic.client,
        json!({"kind": "purge", "topic": "t", "dry_run": true}),
    )
    .await;
    assert_eq!(
        (&purge["outcome"]["count"], &purge["done"]),
        (&json!(2), &json!(0))
    );
    let purge = done(&topic.client, json!({"kind": "purge", "topic": "t"})).await;
    assert_eq!((&purge["done"], &purge["total"]), (&json!(2), &json!(2)));
    let discard = done(&topic.client, json!({"kind": "discard_dead", "topic": "t"})).await;
    assert_eq!(discard["done"], 3);
    assert_eq!(topic.counts().await, [0; 4]);
    let unconfirmed = json!({"kind": "delete_topic", "topic": "t"});
    topic
        .client
        .post(OPERATIONS, unconfirmed)
        .await
        .problem(400, "confirmation_required");
    let order = json!({"kind": "delete_topic", "topic": "t", "confirm": "t"});
    assert_eq!(done(&topic.client, order).await["state"], "succeeded");
    topic.client.get(&topic.path).await.problem(404, "unknown_topic");
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    client.topic("t").enqueue(json!([{"text": "x"}])).await;
    let order = async |body: Value| client.post(OPERATIONS, body).await;
    let refused = async |body: Value, field: &str| {
        let problem = order(body).await.problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    };
    refused(json!({"kind": "purge", "topic": "t", "limit": 1}), "limit").await;
    refused(json!({"kind": "cancel", "topic": "t", "hook": "h"}), "hook").await;
    refused(json!({"kind": "cancel", "topic": "t", "limit": 0}), "limit").await;
    refused(
        json!({"kind": "cancel", "topic": "t", "states": ["leased"]}),
        "states",
    )
    .await;
    refused(
        json!({"kind": "cancel", "topic": "t", "filter": {"ids": []}}),
        "filter.ids",
    )
    .await;
    refused(
        json!({"kind": "cancel", "topic": "t", "filter": {"older_than_ms": -1}}),
        "filter.older_than_ms",
    )
    .await;
    order(json!({"kind": "purge", "topic": "none"}))
        .await
        .problem(404, "unknown_topic");
    order(json!({"kind": "dance", "topic": "t"}))
        .await
        .problem(400, "malformed_body");
    order(json!({"kind": "cancel", "topic": "t", "filter": {"colour": "red"}}))
        .await
        .problem(400, "malformed_body");
    client
        .get(&format!("{OPERATIONS}/77"))
        .await
        .problem(404, "unknown_operation");
    client
        .get(&format!("{OPERATIONS}?state=odd"))
        .await
        .problem(400, "invalid_query");
}

#[tokio::test]
async fn a_slow_operation_is_cancelled_and_keeps_what_it_did() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 200).await;
    let slow = json!({"kind": "redrive", "topic": "t", "rate_per_s": 2});
    let path = order(&topic.client, slow).await;
    let running = until(&topic.client, &path, |operation| {
        operation["done"].as_u64() >= Some(2)
    })
    .await;
    assert_eq!(
        (&running["state"], &running["total"]),
        (&json!("running"), &json!(200))
    );
    assert!(
        running["looked"].as_u64() < Some(100),
        "what waits for its turn is not done: {running}"
    );
    topic.client.delete(&path).await.ok();
    let cancelled = ended(&topic.client, &path).await;
    assert_eq!(cancelled["state"], "cancelled");
    let back = cancelled["done"].as_u64().unwrap();
    assert!((2..100).contains(&back), "{cancelled}");
    assert_eq!(topic.counts().await, [back, 0, 0, 200 - back]);
    topic.client.delete(&path).await.problem(409, "conflict");
}

#[tokio::test]
async fn a_namespace_has_only_so_many_operations_and_one_runs() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 100).await;
    let slow = json!({"kind": "redrive", "topic": "t", "rate_per_s": 1});
    let first = order(&topic.client, slow.clone()).await;
    for _ in 1..16 {
        order(&topic.client, slow.clone()).await;
    }
    topic
        .client
        .post(OPERATIONS, slow)
        .await
        .problem(429, "too_many_operations");
    until(&topic.client, &first, |operation| operation["state"] == "running").await;
    let queued = topic.client.get(&format!("{OPERATIONS}?state=queued")).await.ok();
    assert_eq!(list(&queued["operations"]).len(), 15);
    // Another namespace does not wait for this one.
    let other = server.client();
    let path = "/v1/namespaces/other/topics/t/enqueue";
    other.post(path, json!({"items": [{"text": "x"}]})).await.ok();
    let purge = json!({"kind": "purge", "topic": "t"});
    let reply: Reply = other.post("/v1/namespaces/other/operations", purge).await;
    let theirs = ended(&other, reply.header("location")).await;
    assert_eq!(
        (&theirs["state"], &theirs["done"]),
        (&json!("succeeded"), &json!(1))
    );
    // What waits is cancelled at once; page by page, the newest first.
    let page = topic
        .client
        .get(&format!("{OPERATIONS}?state=queued&limit=10"))
        .await
        .ok();
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = topic
        .client
        .get(&format!("{OPERATIONS}?state=queued&limit=10&cursor={cursor}"))
        .await
        .ok();
    assert_eq!(list(&rest["operations"]).len(), 5);
    let id = rest["operations"][0]["id"].as_str().unwrap();
    let cancelled = topic.client.delete(&format!("{OPERATIONS}/{id}")).await.ok();
    assert_eq!(cancelled["state"], "cancelled");
}

#[tokio::test]
async fn what_comes_after_an_order_is_not_meant_by_it() {
    let server = Server::start().await;
    let client = server.client();
    let (slow, purged, deleted) = (
        client.topic("slow"),
        client.topic("purged"),
        client.topic("deleted"),
    );
    dead(&slow, 100).await;
    dead(&deleted, 2).await;
    for topic in [&purged, &deleted] {
        topic
            .enqueue(json!([{"text": "before"}, {"text": "before too"}]))
            .await;
    }
    // A namespace's operations take turns: the others wait for this one.
    let first = order(
        &client,
        json!({"kind": "redrive", "topic": "slow", "rate_per_s": 1}),
    )
    .await;
    let purge = order(&client, json!({"kind": "purge", "topic": "purged"})).await;
    let delete = json!({"kind": "delete_topic", "topic": "deleted", "confirm": "deleted"});
    let delete = order(&client, delete).await;
    let ordered = client.get(&delete).await.ok()["created_at"].clone();
    for topic in [&purged, &deleted] {
        // Both count in milliseconds.
        loop {
            let ids = topic.enqueue(json!([{"text": "after"}])).await;
            let item = topic
                .client
                .get(&topic.at(&format!("items/{}", ids[0])))
                .await
                .ok();
            if item["enqueued_at"].as_str() > ordered.as_str() {
                break;
            }
        }
    }
    client.delete(&first).await.ok();
    assert_eq!(ended(&client, &purge).await["done"], 2);
    assert_eq!(ended(&client, &delete).await["state"], "succeeded");
    for topic in [&purged, &deleted] {
        let mut texts = topic.take(100).await;
        texts.dedup();
        assert_eq!(texts, ["after"], "{}", topic.path);
        assert_eq!(topic.counts().await[3], 0);
    }
}

#[tokio::test]
async fn an_operation_goes_on_after_kill_9_and_every_item_comes_back_once() {
    let mut server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 60).await;
    let slow = json!({"kind": "redrive", "topic": "t", "rate_per_s": 20});
    let path = order(&topic.client, slow).await;
    until(&topic.client, &path, |operation| {
        operation["done"].as_u64() >= Some(20)
    })
    .await;
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("t");
    let finished = ended(&topic.client, &path).await;
    assert_eq!(finished["state"], "succeeded", "{finished}");
    // What was done before counts in both.
    assert_eq!(finished["looked"], finished["total"], "{finished}");
    assert_eq!(topic.counts().await, [60, 0, 0, 0]);
    let mut texts = topic.take(100).await;
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 60);
}

#[tokio::test]
async fn an_operation_with_a_limit_says_that_it_stopped() {
    let mut server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 60).await;
    let slow = json!({"kind": "redrive", "topic": "t", "rate_per_s": 10, "limit": 50});
    let path = order(&topic.client, slow).await;
    until(&topic.client, &path, |operation| {
        operation["done"].as_u64() >= Some(10)
    })
    .await;
    assert!(server.terminate().await.success());
    server.start_again().await;
    let client = server.client();
    let stopped = ended(&client, &path).await;
    assert_eq!(stopped["state"], "stopped");
    assert!(
        stopped["error"].as_str().unwrap().contains("order it again"),
        "{stopped}"
    );
    let [back, _, _, left] = client.topic("t").counts().await;
    assert!((10..50).contains(&back) && back + left == 60, "{back} of 60");
}

#[tokio::test]
async fn the_command_line_orders_and_waits() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    dead(&topic, 5).await;
    let run = |line: &str| {
        let mut command = server.command(&line.split_whitespace().collect::<Vec<_>>());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run("operations order redrive t --limit 2 --wait");
    assert!(said.contains("redrive t is succeeded, 2 of 5 done"), "{said}");
    assert!(run("operations list").contains("succeeded"));
    let said = run("operations order cancel t --state dead --dry-run --wait");
    assert!(said.contains("it would change 3 items"), "{said}");
    let id = topic.client.get(&topic.at("items")).await.ok()["items"][0]["id"].clone();
    let said = run(&format!("explain t {}", id.as_str().unwrap()));
    assert!(
        said.contains("it can be delivered now") && said.contains("no item"),
        "{said}"
    );
}
