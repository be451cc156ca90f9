//! Handing items in: forms of payloads, results of batches, keys, durability, quotas.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{list, text};
use crate::server::{CANARY, Server};

#[tokio::test]
async fn an_item_comes_out_as_it_went_in() {
    let server = Server::start().await;
    let topic = server.client().topic("orders");
    let ids = topic
        .enqueue(json!([
            {"payload": "AAH/", "content_type": "application/octet-stream"},
            {"json": {"n": 9_007_199_254_740_993_u64, "canary": CANARY}, "headers": {"traceparent": "00-a-b-01"}},
            {"text": "zwölf\u{0}\u{1f980}", "priority": -7},
        ]))
        .await;
    let items = topic.dequeue(3).await;
    let got: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(got, [&ids[2], &ids[0], &ids[1]]);
    assert_eq!(
        (text(&items[0]).as_str(), &items[0]["priority"]),
        ("zwölf\u{0}\u{1f980}", &json!(-7))
    );
    assert_eq!(items[1]["payload"], "AAH/");
    assert_eq!(items[1]["content_type"], "application/octet-stream");
    assert_eq!(items[2]["json"]["n"], 9_007_199_254_740_993_u64);
    assert_eq!(items[2]["headers"], json!({"traceparent": "00-a-b-01"}));
    for item in &items {
        assert_eq!(item["topic"], "orders");
        assert_eq!(item["attempt"], 1);
        assert!(item["lease_expires_at"].as_str() > item["enqueued_at"].as_str());
    }
    assert_eq!(topic.ack(&items).await, ["ok", "ok", "ok"]);
    assert_eq!(topic.counts().await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn ids_survive_a_program_whose_numbers_are_doubles() {
    let server = Server::start().await;
    let topic = server.client().topic("javascript");
    let ids = topic.enqueue(json!([{"text": "a"}, {"text": "b"}])).await;
    for id in &ids {
        // As JavaScript reads a number: the ids are beyond what it keeps exactly, and so must be strings.
        let number: u64 = id.parse().unwrap();
        assert!(number > 1 << 53, "{id}");
        let path = topic.at(&format!("items/{id}"));
        let shown = topic.client.get(&path).await;
        assert_eq!(shown.ok()["id"], json!(id));
        assert!(shown.text.contains(&format!("\"{id}\"")));
    }
    assert_eq!(
        topic
            .client
            .delete(&topic.at(&format!("items/{}", ids[0])))
            .await
            .ok(),
        json!({"count": 1})
    );
    assert_eq!(topic.dequeue(9).await[0]["id"], json!(ids[1]));
}

#[tokio::test]
async fn results_are_in_the_order_of_the_batch() {
    let server = Server::setup()
        .set("quotas.namespaces", "default:4")
        .set("redis.rate_timeout", "5s")
        .start()
        .await;
    let topic = server.client().topic("batch");
    let items = json!({"items": [
        {"text": "a", "idempotency_key": CANARY},
        {"text": "a", "idempotency_key": CANARY},
        {"text": "b", "idempotency_key": CANARY},
        {"text": "c"},
        {"text": "over the quota"},
    ]});
    let reply = topic.client.post(&topic.at("enqueue"), items.clone()).await;
    let answer = reply.ok();
    assert_eq!(answer["durability"], "logged");
    let results = list(&answer["results"]);
    let statuses: Vec<_> = results
        .iter()
        .map(|result| result["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses,
        ["accepted", "duplicate", "rejected", "accepted", "rejected"]
    );
    assert_eq!(results[0]["id"], results[1]["id"]);
    assert_eq!(results[2]["reason"], "idempotency_conflict");
    assert_eq!(results[4]["reason"], "quota_exceeded");
    // The repeat stored nothing, and spent nothing.
    assert!(reply.header("ratelimit").contains("r=1"), "{:?}", reply.headers);
    topic.enqueue(json!([{"text": "d"}])).await;

    let refused = topic.client.post(&topic.at("enqueue"), items).await;
    let problem = refused.problem(429, "quota_exceeded");
    assert_eq!(list(&problem["results"]).len(), 5);
    let quota = topic.client.get("/v1/namespaces/default/quota").await.ok();
    assert_eq!(
        (&quota["limited"], &quota["remaining"]),
        (&json!(true), &json!(0))
    );

    // Over its quota a namespace can still finish what it has.
    let held = topic.dequeue(9).await;
    assert_eq!(topic.ack(&held).await, ["ok", "ok", "ok"]);
    let elsewhere = "/v1/namespaces/other/topics/t/enqueue";
    topic
        .client
        .post(elsewhere, json!({"items": [{"text": "x"}]}))
        .await
        .ok();
}

#[tokio::test]
async fn a_batch_that_is_refused_for_one_reason_has_that_reasons_status() {
    let server = Server::start().await;
    let topic = server.client().topic("conflict");
    topic
        .enqueue(json!([{"text": "a", "idempotency_key": "k"}]))
        .await;
    let other = json!({"items": [{"text": "b", "idempotency_key": "k"}]});
    let reply = topic.client.post(&topic.at("enqueue"), other).await;
    let problem = reply.problem(422, "idempotency_conflict");
    assert_eq!(problem["results"][0]["status"], "rejected");
}

#[tokio::test]
async fn a_stored_item_is_in_the_shard_before_the_answer() {
    let mut server = Server::setup().set("node.claim", "1s").start().await;
    let topic = server.client().topic("stored");
    let body = json!({"durability": "stored", "items": [{"text": "kept"}]});
    let answer = topic.client.post(&topic.at("enqueue"), body).await.ok();
    assert_eq!(answer["durability"], "stored");
    server.kill().await;
    // Without its log the node knows only what the shard has.
    std::fs::remove_dir_all(server.wal_dir()).unwrap();
    // With the log went the proof that the node's number is its own: it is free once the claim has ended.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    server.start_again().await;
    assert_eq!(server.client().topic("stored").take(9).await, ["kept"]);
}

#[tokio::test]
async fn an_accepted_item_survives_kill_9() {
    let mut server = Server::start().await;
    server
        .client()
        .topic("logged")
        .enqueue(json!([{"text": "kept"}]))
        .await;
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("logged");
    assert_eq!(topic.counts().await, [1, 0, 0, 0]);
    assert_eq!(topic.take(9).await, ["kept"]);
}

#[tokio::test]
async fn the_same_topic_name_in_two_namespaces_is_two_topics() {
    let server = Server::start().await;
    let client = server.client();
    // Joined without a separator, both pairs would be the same text.
    for (namespace, topic) in [("ab", "c"), ("a", "bc")] {
        let path = format!("/v1/namespaces/{namespace}/topics/{topic}/enqueue");
        client
            .post(&path, json!({"items": [{"text": namespace}]}))
            .await
            .ok();
    }
    for (namespace, topic) in [("a", "bc"), ("ab", "c")] {
        let path = format!("/v1/namespaces/{namespace}/topics/{topic}/dequeue");
        let answer = client.post(&path, json!({})).await.ok();
        let texts: Vec<Value> = list(&answer["items"])
            .iter()
            .map(|item| item["text"].clone())
            .collect();
        assert_eq!(texts, [json!(namespace)]);
    }
}

#[tokio::test]
async fn a_callers_request_id_is_kept_when_it_is_harmless() {
    let server = Server::start().await;
    let client = server.client();
    for (given, kept) in [("abc-1.2_3", true), ("a b", false), ("<script>", false)] {
        let request = client.request(Method::GET, "/v1/namespaces/default/topics/none/stats");
        let reply = client.send(request.header("x-request-id", given)).await;
        let problem = reply.problem(404, "unknown_topic");
        assert_eq!(problem["request_id"] == given, kept, "{given}");
    }
}
