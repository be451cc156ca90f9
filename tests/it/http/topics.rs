//! Topics and what is in them: settings, lists, browsing, explaining, cancelling, pausing, purging.

use serde_json::{Value, json};

use crate::client::{list, text};
use crate::server::Server;

#[tokio::test]
async fn settings_come_from_topic_then_namespace_then_configuration() {
    let server = Server::setup().set("topics.max_attempts", "4").start().await;
    let client = server.client();
    let topic = client.topic("settings");
    let namespace = client
        .put(
            "/v1/namespaces/default",
            json!({"priority": 60, "lease_ms": 5_000}),
        )
        .await
        .ok();
    assert_eq!(namespace["namespace"], "default");
    assert_eq!(namespace["effective"]["max_attempts"], 4);
    let shown = client
        .put(&topic.path, json!({"priority": 70, "ttl_ms": 0}))
        .await
        .ok();
    assert_eq!(shown["settings"], json!({"priority": 70, "ttl_ms": 0}));
    let effective = &shown["effective"];
    assert_eq!(
        (&effective["priority"], &effective["lease_ms"]),
        (&json!(70), &json!(5_000))
    );
    assert_eq!(client.get(&topic.path).await.ok()["effective"], *effective);
    topic.enqueue(json!([{"text": "x"}])).await;
    assert_eq!(topic.dequeue(1).await[0]["priority"], 70);
    assert_eq!(
        client.get("/v1/namespaces/default").await.ok()["settings"],
        json!({"priority": 60, "lease_ms": 5_000})
    );
}

#[tokio::test]
async fn topics_are_listed_page_by_page_and_deleted() {
    let server = Server::start().await;
    let client = server.client();
    for name in ["c", "a", "d", "b", "e"] {
        client.topic(name).enqueue(json!([{"text": name}])).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client
            .get(&format!("/v1/namespaces/default/topics?limit=2{cursor}"))
            .await
            .ok();
        for topic in list(&page["topics"]) {
            assert_eq!(topic["stats"]["ready"], 1);
            names.push(topic["topic"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let gone = client.topic("c");
    let unconfirmed = client.delete(&gone.path).await;
    unconfirmed.problem(400, "confirmation_required");
    let confirmed = client.delete(&format!("{}?confirm=c", gone.path)).await;
    assert_eq!(confirmed.ok(), json!({"count": 1}));
    client.get(&gone.path).await.problem(404, "unknown_topic");
    assert_eq!(gone.take(9).await, [""; 0]);
    gone.enqueue(json!([{"text": "again"}])).await;
    assert_eq!(gone.take(9).await, ["again"]);
}

#[tokio::test]
async fn items_are_browsed_in_delivery_order_hot_and_stored() {
    let server = Server::start().await;
    let topic = server.client().topic("browse");
    let items = |from: usize| -> Value {
        let item = |n: usize| json!({"text": format!("{n:03}"), "priority": ([5, 1, 3][n % 3])});
        (from..from + 60).map(item).collect()
    };
    let stored = json!({"durability": "stored", "items": items(0)});
    topic.client.post(&topic.at("enqueue"), stored).await.ok();
    topic.enqueue(items(60)).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = topic
            .client
            .get(&topic.at(&format!("items?limit=7{cursor}")))
            .await
            .ok();
        for item in list(&page["items"]) {
            assert_eq!(item["state"], "ready");
            seen.push(text(item));
        }
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(topic.counts().await, [120, 0, 0, 0], "browsing leases nothing");
    assert_eq!(seen, topic.take(1_000).await);
    assert_eq!(seen.len(), 120);
}

#[tokio::test]
async fn a_page_of_large_items_is_bounded_in_bytes() {
    let server = Server::setup()
        .set("limits.payload_bytes_max", "1MiB")
        .start()
        .await;
    let topic = server.client().topic("large");
    let large = "x".repeat(1 << 20);
    for durability in ["stored", "logged"] {
        for _ in 0..6 {
            let items: Value = (0..2).map(|_| json!({ "text": large })).collect();
            let body = json!({"durability": durability, "items": items});
            topic.client.post(&topic.at("enqueue"), body).await.ok();
        }
    }
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let page = topic
            .client
            .get(&topic.at(&format!("items?limit=1000{cursor}")))
            .await;
        assert!(page.text.len() < 10 << 20, "a page of {} bytes", page.text.len());
        let page = page.ok();
        seen += list(&page["items"]).len();
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, 24);
}

#[tokio::test]
async fn a_page_is_full_while_there_is_more() {
    let server = Server::start().await;
    let topic = server.client().topic("full");
    let items: Value = (0..300).map(|n| json!({"text": format!("{n:03}")})).collect();
    let stored = json!({"durability": "stored", "items": items});
    topic.client.post(&topic.at("enqueue"), stored).await.ok();
    // What the shard shows first is hot and leased, and so no part of the page.
    assert_eq!(topic.dequeue(200).await.len(), 200);
    let page = topic.client.get(&topic.at("items?limit=50")).await.ok();
    assert_eq!(list(&page["items"]).len(), 50);
    assert!(page["next_cursor"].is_string());
    let held = topic
        .client
        .get(&topic.at("items?limit=1000&state=leased"))
        .await
        .ok();
    assert_eq!(list(&held["items"]).len(), 200);
    assert!(held.get("next_cursor").is_none());
}

#[tokio::test]
async fn an_item_explains_itself() {
    let server = Server::start().await;
    let topic = server.client().topic("explain");
    let ids = topic
        .enqueue(json!([{"text": "a"}, {"text": "b", "delay_ms": 600_000}]))
        .await;
    let explain = async |id: &str| {
        let why = topic
            .client
            .get(&topic.at(&format!("items/{id}/explain")))
            .await
            .ok();
        (
            why["state"].as_str().unwrap().to_owned(),
            why["deliverable"].as_bool().unwrap(),
        )
    };
    assert_eq!(explain(&ids[0]).await, ("ready".into(), true));
    assert_eq!(explain(&ids[1]).await, ("scheduled".into(), false));
    topic.client.post(&topic.at("pause"), json!({})).await.ok();
    assert_eq!(explain(&ids[0]).await, ("ready".into(), false));
    topic.client.post(&topic.at("resume"), json!({})).await.ok();
    let held = topic.dequeue(1).await;
    assert_eq!(explain(&ids[0]).await, ("leased".into(), false));
    topic.settle("reject", &[crate::client::lease(&held[0])]).await;
    assert_eq!(explain(&ids[0]).await, ("dead".into(), false));
    let unknown = topic.client.get(&topic.at("items/1/explain")).await;
    unknown.problem(404, "unknown_item");
}

#[tokio::test]
async fn only_an_item_that_nobody_holds_is_cancelled() {
    let server = Server::start().await;
    let topic = server.client().topic("cancel");
    let ids = topic
        .enqueue(json!([{"text": "a"}, {"text": "b"}, {"text": "c", "delay_ms": 60_000}]))
        .await;
    let held = topic.dequeue(1).await;
    let cancel = async |id: &str| topic.client.delete(&topic.at(&format!("items/{id}"))).await;
    let problem = cancel(&ids[0]).await.problem(409, "conflict");
    assert!(
        problem["detail"].as_str().unwrap().contains("leased"),
        "{problem}"
    );
    for id in &ids[1..] {
        cancel(id).await.ok();
        cancel(id).await.problem(404, "unknown_item");
    }
    assert_eq!(topic.counts().await, [0, 0, 1, 0]);
    assert_eq!(topic.ack(&held).await, ["ok"]);
}

#[tokio::test]
async fn a_paused_topic_accepts_and_delivers_nothing_even_after_a_restart() {
    let mut server = Server::start().await;
    let topic = server.client().topic("pause");
    topic.enqueue(json!([{"text": "a"}])).await;
    assert_eq!(
        topic.client.post(&topic.at("pause"), json!({})).await.ok()["paused"],
        true
    );
    topic.enqueue(json!([{"text": "b"}])).await;
    assert!(topic.dequeue(9).await.is_empty());
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("pause");
    assert!(topic.dequeue(9).await.is_empty());
    let waiting = {
        let topic = topic.clone();
        tokio::spawn(async move { topic.dequeue_as(json!({"wait_ms": 20_000})).await })
    };
    assert_eq!(
        topic.client.post(&topic.at("resume"), json!({})).await.ok()["paused"],
        false
    );
    assert_eq!(waiting.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_purge_takes_all_that_waits_or_is_held() {
    let server = Server::start().await;
    let topic = server.client().topic("purge");
    topic
        .enqueue(json!([{"text": "a"}, {"text": "b"}, {"text": "c", "delay_ms": 60_000}]))
        .await;
    let held = topic.dequeue(1).await;
    assert_eq!(
        topic.client.post(&topic.at("purge"), json!({})).await.ok(),
        json!({"count": 3})
    );
    assert_eq!(topic.counts().await, [0, 0, 0, 0]);
    assert_eq!(topic.ack(&held).await, ["lease_lost"]);
    topic.enqueue(json!([{"text": "after"}])).await;
    assert_eq!(topic.take(9).await, ["after"]);
}
