//! Dead letters: how items become them, and how they come back.

use serde_json::{Value, json};

use crate::client::{Topic, lease, list, text};
use crate::server::Server;

/// Enqueues texts and rejects each with the error "`text` luck".
async fn rejected(topic: &Topic, texts: &[&str]) {
    let items: Value = texts.iter().map(|text| json!({"text": text})).collect();
    topic.enqueue(items).await;
    for item in topic.dequeue(texts.len()).await {
        let mut action = lease(&item);
        action["error"] = json!(format!("{} luck", text(&item)));
        assert_eq!(topic.settle("reject", &[action]).await, ["ok"]);
    }
}

#[tokio::test]
async fn an_item_dies_after_its_attempts_and_says_why() {
    let server = Server::start().await;
    let topic = server.client().topic("poison");
    topic
        .enqueue(json!([{"text": "poison", "max_attempts": 3}]))
        .await;
    for attempt in 1..=3 {
        let items = topic.dequeue(1).await;
        assert_eq!(items[0]["attempt"], attempt);
        let mut nack = lease(&items[0]);
        nack["delay_ms"] = json!(0);
        nack["error"] = json!(format!("failure {attempt}"));
        assert_eq!(topic.settle("nack", &[nack]).await, ["ok"]);
    }
    assert!(topic.dequeue(1).await.is_empty());
    let dead = topic.client.get(&topic.at("dead")).await.ok();
    let letter = &list(&dead["items"])[0];
    assert_eq!(letter["dead"]["reason"], "attempts_exhausted");
    assert_eq!(
        (&letter["last_error"], &letter["state"]),
        (&json!("failure 3"), &json!("dead"))
    );
}

#[tokio::test]
async fn a_redrive_takes_what_its_filter_names() {
    let server = Server::start().await;
    let topic = server.client().topic("redrive");
    rejected(&topic, &["bad", "worse", "worst"]).await;
    let redrive = async |body: Value| topic.client.post(&topic.at("dead/redrive"), body).await.ok();
    let bad = json!({"filter": {"error_contains": "bad"}, "dry_run": true});
    let dry = redrive(bad).await;
    assert_eq!(
        (&dry["count"], &dry["dry_run"], &dry["sample"][0]["text"]),
        (&json!(1), &json!(true), &json!("bad"))
    );
    assert_eq!(topic.counts().await, [0, 0, 0, 3]);

    let done = redrive(json!({"filter": {"error_contains": "bad", "reason": "rejected"}})).await;
    assert_eq!(done["count"], 1);
    let back = topic.dequeue(9).await;
    assert_eq!(
        (text(&back[0]), &back[0]["attempt"], back.len()),
        ("bad".into(), &json!(1), 1)
    );

    let moved = redrive(json!({"to_topic": "elsewhere", "limit": 1})).await;
    assert_eq!(moved["count"], 1);
    assert_eq!(server.client().topic("elsewhere").take(9).await.len(), 1);
    let left = topic.client.delete(&topic.at("dead")).await.ok();
    assert_eq!(left, json!({"count": 1}));
    assert_eq!(topic.counts().await, [0, 0, 1, 0]);
}

#[tokio::test]
async fn dead_letters_survive_kill_9_and_are_redriven_once() {
    let mut server = Server::start().await;
    rejected(&server.client().topic("dead"), &["a", "b"]).await;
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("dead");
    assert_eq!(topic.counts().await, [0, 0, 0, 2]);
    assert_eq!(
        topic.client.post(&topic.at("dead/redrive"), json!({})).await.ok()["count"],
        2
    );
    server.kill().await;
    server.start_again().await;
    let topic = server.client().topic("dead");
    assert_eq!(topic.counts().await, [2, 0, 0, 0]);
    assert_eq!(topic.take(9).await, ["a", "b"]);
}

#[tokio::test]
async fn an_expired_item_is_kept_where_the_topic_says_so() {
    let server = Server::start().await;
    let topic = server.client().topic("expiry");
    topic
        .client
        .put(&topic.path, json!({"on_expiry": "dead"}))
        .await
        .ok();
    topic.enqueue(json!([{"text": "x", "ttl_ms": 1}])).await;
    // The reaper finds it by itself; a poll only passes the time until it has.
    let elsewhere = server.client().topic("elsewhere");
    for _ in 0..100 {
        if topic.counts().await == [0, 0, 0, 1] {
            break;
        }
        assert!(elsewhere.dequeue_as(json!({"wait_ms": 100})).await.is_empty());
    }
    let dead = topic.client.get(&topic.at("items?state=dead")).await.ok();
    assert_eq!(dead["items"][0]["dead"]["reason"], "expired");
}
