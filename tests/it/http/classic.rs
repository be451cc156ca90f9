//! The first version's routes, with the very command lines of its README.

use std::process::Command;

use base64_simd::STANDARD;
use mqueue::tenant::Scope;
use serde_json::{Value, json};

use crate::server::{Server, token};

/// Runs a command line in a shell, as a reader of the README would; `URL` and `TOKEN` stand for what the
/// README leaves open.
fn shell(server: &Server, line: &str) -> String {
    let line = line
        .replace("https://localhost:8080", server.url())
        .replace("<YOUR_JWT>", &token(None, &Scope::ALL));
    let output = Command::new("sh").args(["-ec", &line]).output().unwrap();
    assert!(
        output.status.success(),
        "{line} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

const HEALTH: &str = "curl -sk https://localhost:8080/health";

const ENQUEUE: &str = r#"curl -sk -X POST https://localhost:8080/enqueue \
  -H "Authorization: Bearer <YOUR_JWT>" \
  -H "Content-Type: application/json" \
  -d '[{
    "namespace": "default",
    "topic": "test-topic",
    "priority": 1,
    "payload": "SGVsbG8gV29ybGQ=", 
    "deliver_after": "2024-01-01T12:00:00Z"
  }]'"#;

const DEQUEUE: &str = r#"curl -sk "https://localhost:8080/dequeue?namespace=default&topic=test-topic&limit=1" \
  -H "Authorization: Bearer <YOUR_JWT>""#;

// Without a Content-Type: curl then says that the body is a form.
const SETTLE: &str = r#"curl -sk -X POST https://localhost:8080/VERB \
  -H "Authorization: Bearer <YOUR_JWT>" \
  -d '{
    "id": 174568912344,
    "namespace": "default",
    "topic": "test-topic"
  }'"#;

fn settle(server: &Server, verb: &str, id: &str) -> Value {
    let line = SETTLE.replace("VERB", verb).replace("174568912344", id);
    serde_json::from_str(&shell(server, &line)).unwrap()
}

#[tokio::test]
async fn the_readmes_curl_lines_work() {
    let server = Server::start().await;
    assert_eq!(shell(&server, HEALTH), "OK");
    let enqueued: Value = serde_json::from_str(&shell(&server, ENQUEUE)).unwrap();
    assert_eq!(enqueued[0]["status"], "accepted");
    let id = enqueued[0]["id"].as_str().unwrap();

    let items: Value = serde_json::from_str(&shell(&server, DEQUEUE)).unwrap();
    let item = &items[0];
    assert_eq!(item["id"], id);
    assert_eq!(
        STANDARD.decode_to_vec(item["payload"].as_str().unwrap()).unwrap(),
        b"Hello World"
    );
    assert_eq!(
        (&item["priority"], &item["topic"]),
        (&json!(1), &json!("test-topic"))
    );
    assert_eq!(item["deliver_after"], "2024-01-01T12:00:00.000Z");

    // The id as a bare number, as curl users and Go clients send it.
    assert_eq!(settle(&server, "ack", id), json!({"id": id, "status": "ok"}));
    let topic = server.client().topic("test-topic");
    assert_eq!(topic.counts().await, [0, 0, 0, 0]);
    assert_eq!(settle(&server, "ack", id)["code"], "not_leased");
}

#[tokio::test]
async fn a_nacked_item_comes_back() {
    let server = Server::start().await;
    let enqueued: Value = serde_json::from_str(&shell(&server, ENQUEUE)).unwrap();
    let id = enqueued[0]["id"].as_str().unwrap();
    shell(&server, DEQUEUE);
    assert_eq!(settle(&server, "nack", id)["status"], "ok");
    let client = server.client();
    let again = client
        .get("/dequeue?namespace=default&topic=test-topic&limit=1&wait_ms=20000")
        .await
        .ok();
    assert_eq!((&again[0]["id"], &again[0]["attempt"]), (&json!(id), &json!(2)));
    // A stale lease settles nothing; the current one does.
    let body =
        |lease: &Value| json!({"id": id, "namespace": "default", "topic": "test-topic", "lease_id": lease});
    client
        .post("/ack", body(&json!("forged")))
        .await
        .problem(409, "not_leased");
    client.post("/ack", body(&again[0]["lease_id"])).await.ok();
}

#[tokio::test]
async fn a_batch_of_several_namespaces_says_what_became_of_each() {
    let server = Server::setup()
        .set("quotas.namespaces", "tenant-a:1")
        .start()
        .await;
    let item = |namespace: &str| json!({"namespace": namespace, "topic": "t", "payload": "eA=="});
    let batch = json!([item("tenant-a"), item("tenant-b"), item("tenant-a")]);
    let problem = server
        .client()
        .post("/enqueue", batch)
        .await
        .problem(429, "quota_exceeded");
    let statuses: Vec<_> = [0, 1, 2]
        .map(|n| problem["results"][n]["status"].as_str().unwrap().to_owned())
        .into();
    assert_eq!(statuses, ["accepted", "accepted", "rejected"]);
}

#[tokio::test]
async fn a_token_of_one_namespace_enqueues_nothing_when_any_item_is_foreign() {
    let server = Server::start().await;
    let own = server.client_with(Some(token(Some(&["tenant-a"]), &Scope::ALL)));
    let item = |namespace: &str| json!({"namespace": namespace, "topic": "t", "payload": "eA=="});
    own.post("/enqueue", json!([item("tenant-a"), item("tenant-b")]))
        .await
        .problem(403, "forbidden");
    let got = own.get("/dequeue?namespace=tenant-a&topic=t").await.ok();
    assert_eq!(got, json!([]));
}
