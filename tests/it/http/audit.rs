//! The log of changes: every act of an administrator, with who, what, from where, before and after.

use mqueue::tenant::Scope;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Client, lease, list};
use crate::server::{Server, token};

const AUDIT: &str = "/v1/namespaces/default/audit";

#[tokio::test]
async fn every_act_is_noted_with_what_was_and_what_is() {
    let mut server = Server::start().await;
    let client = server.client();
    let topic = client.topic("t");
    client
        .put("/v1/namespaces/default", json!({"priority": 7}))
        .await
        .ok();
    client.put(&topic.path, json!({"max_attempts": 3})).await.ok();
    client.put(&topic.path, json!({"max_attempts": 4})).await.ok();
    client.post(&topic.at("pause"), json!({})).await.ok();
    client.post(&topic.at("resume"), json!({})).await.ok();
    let ids = topic
        .enqueue(json!([{"text": "a"}, {"text": "b"}, {"text": "c"}]))
        .await;
    client.delete(&topic.at(&format!("items/{}", ids[2]))).await.ok();
    let held = topic.dequeue(1).await;
    topic.settle("reject", &[lease(&held[0])]).await;
    client
        .post(&topic.at("dead/redrive"), json!({"dry_run": true}))
        .await
        .ok();
    client.post(&topic.at("dead/redrive"), json!({})).await.ok();
    client.post(&topic.at("purge"), json!({})).await.ok();
    client.delete(&topic.at("dead")).await.ok();
    let order = json!({"kind": "purge", "topic": "t"});
    client.post("/v1/namespaces/default/operations", order).await;
    client.delete(&format!("{}?confirm=t", topic.path)).await.ok();
    server.kill().await;
    server.start_again().await;

    let log = server.client().get(AUDIT).await.ok();
    let actions: Vec<_> = list(&log["entries"])
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    assert_eq!(
        actions,
        [
            "namespace.put",
            "topic.put",
            "topic.put",
            "topic.pause",
            "topic.resume",
            "item.cancel",
            "dead.redrive",
            "topic.purge",
            "dead.discard",
            "operation.order",
            "topic.delete",
        ]
    );
    let second = &log["entries"][2];
    assert_eq!(
        (
            &second["actor"],
            &second["target"],
            &second["before"],
            &second["after"]
        ),
        (
            &json!("tester"),
            &json!("t"),
            &json!({"max_attempts": 3}),
            &json!({"max_attempts": 4})
        )
    );
    assert_eq!(second["peer"], "127.0.0.1");
    assert_eq!(log["entries"][1].get("before"), None);
    assert_eq!(log["entries"][7]["after"], json!({"items_dropped": 2}));
}

#[tokio::test]
async fn a_refused_act_leaves_no_trace_and_a_request_is_found_by_its_id() {
    let server = Server::start().await;
    let client = server.client();
    let reader = server.client_with(Some(token(None, &[Scope::Dequeue])));
    let refused = reader.get(AUDIT).await;
    assert!(refused.text.contains("admin or hooks"), "{}", refused.text);
    refused.problem(403, "insufficient_scope");
    client
        .put("/v1/namespaces/default/topics/t", json!({"max_attempts": 0}))
        .await
        .problem(422, "invalid_field");
    client
        .post("/v1/namespaces/default/topics/none/purge", json!({}))
        .await
        .problem(404, "unknown_topic");
    let request = client
        .request(reqwest::Method::PUT, "/v1/namespaces/default/topics/t")
        .header("x-request-id", "ticket-4711")
        .json(&json!({}));
    client.send(request).await.ok();
    let log = client.get(AUDIT).await.ok();
    assert_eq!(list(&log["entries"]).len(), 1, "{log}");
    assert_eq!(log["entries"][0]["request_id"], "ticket-4711");
}

#[tokio::test]
async fn what_is_deleted_in_the_background_is_noted_as_it_was() {
    let server = Server::start().await;
    let client = server.client();
    client
        .put("/v1/namespaces/default", json!({"priority": 7}))
        .await
        .ok();
    client
        .put(&client.topic("t").path, json!({"max_attempts": 3}))
        .await
        .ok();
    let order = json!({"kind": "delete_topic", "topic": "t", "confirm": "t"});
    client.post("/v1/namespaces/default/operations", order).await;
    client.delete("/v1/namespaces/default?confirm=default").await;
    let log = client.get(&format!("{AUDIT}?action=operation.order")).await.ok();
    let before: Vec<_> = list(&log["entries"])
        .iter()
        .map(|entry| &entry["before"])
        .collect();
    assert_eq!(
        before,
        [&json!({"max_attempts": 3}), &json!({"priority": 7})],
        "{log}"
    );
}

#[tokio::test]
async fn an_act_whose_client_hangs_up_is_done_and_noted_whole() {
    const TOPICS: usize = 40;
    let mut server = Server::start().await;
    let client = server.client();
    let names: Vec<String> = (0..TOPICS).map(|n| format!("t{n}")).collect();
    for name in &names {
        client
            .put(&format!("/v1/namespaces/default/topics/{name}"), json!({}))
            .await
            .ok();
    }
    let token = token(None, &Scope::ALL);
    for name in &names {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        let pause = format!(
            "POST /v1/namespaces/default/topics/{name}/pause HTTP/1.1\r\nHost: x\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        socket.write_all(pause.as_bytes()).await.unwrap();
    }
    let mut noted = 0;
    for _ in 0..600 {
        let log = client
            .get(&format!("{AUDIT}?action=topic.pause&limit=500"))
            .await
            .ok();
        noted = list(&log["entries"]).len();
        if noted == TOPICS {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(noted, TOPICS);
    let paused = async |client: &Client| {
        let page = client.get("/v1/namespaces/default/topics?limit=1000").await.ok();
        let topics = list(&page["topics"]).iter();
        topics.filter(|topic| topic["paused"] == true).count()
    };
    assert_eq!(paused(&client).await, TOPICS, "in memory");
    server.kill().await;
    server.start_again().await;
    assert_eq!(paused(&server.client()).await, TOPICS, "in the catalog");
}

#[tokio::test]
async fn the_log_is_filtered_and_read_in_both_directions() {
    let server = Server::start().await;
    let client = server.client();
    for name in ["a", "b", "c"] {
        client
            .put(&format!("/v1/namespaces/default/topics/{name}"), json!({}))
            .await
            .ok();
    }
    let pause = "/v1/namespaces/default/topics/b/pause";
    client.post(pause, json!({})).await.ok();
    client.put("/v1/namespaces/other", json!({})).await.ok();
    let targets = async |query: &str| -> Vec<String> {
        let log = client.get(&format!("{AUDIT}?{query}")).await.ok();
        let target = |entry: &Value| entry["target"].as_str().unwrap().to_owned();
        list(&log["entries"]).iter().map(target).collect()
    };
    assert_eq!(targets("action=topic.put").await, ["a", "b", "c"]);
    assert_eq!(targets("action=topic.").await, ["a", "b", "c", "b"]);
    assert_eq!(targets("action=topic").await, [""; 0]);
    assert_eq!(targets("target=b").await, ["b", "b"]);
    assert_eq!(targets("actor=nobody").await, [""; 0]);
    assert_eq!(targets("since=2100-01-01T00:00:00Z").await, [""; 0]);
    assert_eq!(
        targets("until=2100-01-01T00:00:00Z&order=newest&limit=2").await,
        ["b", "c"]
    );
    let newest = client.get(&format!("{AUDIT}?order=newest&limit=2")).await.ok();
    let after = newest["next_after"].as_u64().unwrap();
    assert_eq!(targets(&format!("order=newest&after={after}")).await, ["b", "a"]);
    for bad in ["since=yesterday", "order=odd", "limit=0"] {
        client
            .get(&format!("{AUDIT}?{bad}"))
            .await
            .problem(400, "invalid_query");
    }
    let all = client.get("/v1/audit").await.ok();
    let namespaces: Vec<_> = list(&all["entries"])
        .iter()
        .map(|e| e["namespace"].clone())
        .collect();
    assert_eq!(namespaces, ["default", "default", "default", "default", "other"]);
    for (namespaces, scopes, code) in [
        (Some(&["default"][..]), &Scope::ALL[..], "forbidden"),
        (None, &[Scope::Hooks][..], "insufficient_scope"),
    ] {
        let other = server.client_with(Some(token(namespaces, scopes)));
        other.get("/v1/audit").await.problem(403, code);
    }
}
