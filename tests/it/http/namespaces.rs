//! Namespaces and topics as resources: settings under conditions, topics by themselves or not, the end.

use mqueue::tenant::Scope;
use reqwest::Method;
use serde_json::json;

use super::operations::ended;
use crate::client::list;
use crate::server::{Server, token};

const NAMESPACE: &str = "/v1/namespaces/default";

#[tokio::test]
async fn settings_change_only_as_they_were_seen() {
    let server = Server::start().await;
    let client = server.client();
    let topic = format!("{NAMESPACE}/topics/t");
    let made = client
        .put_if(&topic, ("if-none-match", "*"), json!({"priority": 1}))
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    let tag = made.header("etag").to_owned();
    assert_eq!(client.get(&topic).await.header("etag"), tag);
    client
        .put_if(&topic, ("if-none-match", "*"), json!({}))
        .await
        .problem(412, "precondition_failed");
    let changed = client
        .put_if(&topic, ("if-match", &tag), json!({"priority": 2}))
        .await;
    assert_ne!(changed.header("etag"), tag);
    client
        .put_if(&topic, ("if-match", &tag), json!({"priority": 3}))
        .await
        .problem(412, "precondition_failed");
    assert_eq!(client.get(&topic).await.ok()["settings"], json!({"priority": 2}));
    client
        .put_if(&topic, ("if-match", "nonsense"), json!({}))
        .await
        .problem(400, "bad_request");

    let tag = client.get(NAMESPACE).await.header("etag").to_owned();
    let first = client
        .put_if(NAMESPACE, ("if-match", &tag), json!({"priority": 5}))
        .await;
    assert_eq!(first.ok()["effective"]["priority"], 5);
    client
        .put_if(NAMESPACE, ("if-match", &tag), json!({"priority": 6}))
        .await
        .problem(412, "precondition_failed");
    let stale = client
        .request(Method::DELETE, &format!("{topic}?confirm=t"))
        .header("if-match", "\"1\"");
    client.send(stale).await.problem(412, "precondition_failed");
}

#[tokio::test]
async fn a_namespace_may_forbid_topics_to_appear() {
    let mut server = Server::start().await;
    let client = server.client();
    let rules = json!({"topics_on_first_use": false, "topics_max": 1, "ttl_ms": 60_000});
    let shown = client.put(NAMESPACE, rules.clone()).await.ok();
    assert_eq!((&shown["settings"], &shown["topics_max"]), (&rules, &json!(1)));
    server.kill().await;
    server.start_again().await;
    let client = server.client();
    let enqueue = async |topic: &str| {
        let path = format!("{NAMESPACE}/topics/{topic}/enqueue");
        client.post(&path, json!({"items": [{"text": "x"}]})).await
    };
    enqueue("made").await.problem(404, "topic_not_declared");
    client
        .get(&format!("{NAMESPACE}/topics/made"))
        .await
        .problem(404, "unknown_topic");
    client
        .put(&format!("{NAMESPACE}/topics/made"), json!({}))
        .await
        .ok();
    enqueue("made").await.ok();
    client
        .put(&format!("{NAMESPACE}/topics/more"), json!({}))
        .await
        .problem(409, "too_many_topics");
    client
        .put(NAMESPACE, json!({"topics_an_first_use": true}))
        .await
        .problem(400, "malformed_body");
    client.put(NAMESPACE, json!({})).await.ok();
    enqueue("free").await.ok();
    // The other namespaces never had that rule.
    let path = "/v1/namespaces/other/topics/t/enqueue";
    client.post(path, json!({"items": [{"text": "x"}]})).await.ok();
}

#[tokio::test]
async fn a_namespace_is_deleted_by_its_name() {
    let mut server = Server::start().await;
    let client = server.client();
    client.put(NAMESPACE, json!({"priority": 3})).await.ok();
    for name in ["a", "b", "c"] {
        let topic = client.topic(name);
        topic.enqueue(json!([{"text": "x"}, {"text": "y"}])).await;
        topic.dequeue(1).await;
    }
    let path = "/v1/namespaces/other/topics/t/enqueue";
    client.post(path, json!({"items": [{"text": "x"}]})).await.ok();
    for wrong in ["", "?confirm=other"] {
        let problem = client
            .delete(&format!("{NAMESPACE}{wrong}"))
            .await
            .problem(400, "confirmation_required");
        assert!(
            problem["detail"].as_str().unwrap().contains("every item"),
            "{problem}"
        );
    }
    let ordered = client.delete(&format!("{NAMESPACE}?confirm=default")).await;
    assert_eq!(ordered.status, 202, "{}", ordered.text);
    let deleted = ended(&client, ordered.header("location")).await;
    assert_eq!(
        (&deleted["state"], &deleted["done"]),
        (&json!("succeeded"), &json!(6))
    );
    for _ in 0..2 {
        let client = server.client();
        let left = client.get("/v1/namespaces").await.ok();
        let names: Vec<_> = list(&left["namespaces"])
            .iter()
            .map(|namespace| namespace["namespace"].clone())
            .collect();
        assert_eq!(names, ["other"]);
        let shown = client.get(NAMESPACE).await.ok();
        assert_eq!((&shown["settings"], &shown["topics"]), (&json!({}), &json!(0)));
        server.terminate().await;
        server.start_again().await;
    }
}

#[tokio::test]
async fn a_token_sees_the_namespaces_it_opens() {
    let server = Server::start().await;
    let client = server.client();
    for name in ["a", "b", "c"] {
        client
            .put(&format!("/v1/namespaces/{name}"), json!({"priority": 3}))
            .await
            .ok();
    }
    client
        .put("/v1/namespaces/b/quota", json!({"leases": 7}))
        .await
        .ok();
    let first = client.get("/v1/namespaces?limit=2").await.ok();
    assert_eq!(list(&first["namespaces"]).len(), 2);
    assert_eq!(first["namespaces"][0]["quota"]["limited"], false);
    assert_eq!(first["namespaces"][1]["quota"]["leases_max"], 7);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = client
        .get(&format!("/v1/namespaces?limit=2&cursor={cursor}"))
        .await
        .ok();
    assert_eq!(rest["namespaces"][0]["namespace"], "c");
    assert!(rest.get("next_cursor").is_none());
    let guest = server.client_with(Some(token(Some(&["b", "nobody"]), &[Scope::Dequeue])));
    let seen = guest.get("/v1/namespaces").await.ok();
    assert_eq!(list(&seen["namespaces"]).len(), 1);
    assert_eq!(seen["namespaces"][0]["namespace"], "b");
}
