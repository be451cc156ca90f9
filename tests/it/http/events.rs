//! What watchers see: the stream of events, and the console's page.

use mqueue::tenant::Scope;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::client::Client;
use crate::server::{Server, token};

/// A stream and what arrived of the next event.
struct Stream {
    response: Response,
    buffer: String,
}

impl Stream {
    async fn open(client: &Client) -> Self {
        let response = client.request(Method::GET, "/v1/events").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            buffer: String::new(),
        }
    }

    /// The next event's data, or nothing when the stream ended in good order.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let event: String = self.buffer.drain(..end + 2).collect();
                assert!(event.starts_with("event: snapshot\nid: "), "{event}");
                let (_, data) = event.split_once("\ndata: ").unwrap();
                return Some(serde_json::from_str(data).unwrap());
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

fn topic_of<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    let topics = event["topics"].as_array().unwrap();
    topics.iter().find(|topic| topic["topic"] == name)
}

#[tokio::test]
async fn events_follow_the_topics() {
    let server = Server::start().await;
    let client = server.client();
    let topic = client.topic("watched");
    topic.enqueue(json!([{"text": "a"}])).await;
    let mut stream = Stream::open(&client).await;
    let first = stream.next().await.unwrap();
    assert_eq!(topic_of(&first, "watched").unwrap()["stats"]["ready"], 1);
    assert_eq!(first["ready"], true);
    assert!(first["node"]["log_bytes"].as_u64().unwrap() > 0);
    assert!(first["node"]["flush_lag_records"].is_u64());
    let ready = client.get("/readyz?verbose").await.ok();
    let names = |health: &Value| -> Vec<Value> {
        let parts = health["parts"].as_array().unwrap();
        parts.iter().map(|part| part["part"].clone()).collect()
    };
    assert_eq!(names(&first), names(&ready), "one view of health");
    topic.enqueue(json!([{"text": "b"}, {"text": "c"}])).await;
    let second = stream.next().await.unwrap();
    assert_eq!(topic_of(&second, "watched").unwrap()["stats"]["ready"], 3);
}

#[tokio::test]
async fn a_token_sees_its_own_namespaces_and_nothing_of_the_node() {
    let server = Server::start().await;
    let path = |namespace: &str| format!("/v1/namespaces/{namespace}/topics/seen/enqueue");
    for namespace in ["mine", "theirs"] {
        let reply = server
            .client()
            .post(&path(namespace), json!({"items": [{"text": "a"}]}))
            .await;
        reply.ok();
    }
    let client = server.client_with(Some(token(Some(&["mine"]), &[Scope::Dequeue])));
    let event = Stream::open(&client).await.next().await.unwrap();
    let topics = event["topics"].as_array().unwrap();
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0]["namespace"], "mine");
    assert_eq!(event["namespaces"], json!(["mine"]));
    assert_eq!(event["scopes"], json!(["dequeue"]));
    assert!(event.get("node").is_none());
    let hooks = server.client_with(Some(token(Some(&["mine"]), &[Scope::Hooks])));
    let event = Stream::open(&hooks).await.next().await.unwrap();
    assert_eq!(event["topics"], json!([]), "the scope hooks does not show topics");
}

#[tokio::test]
async fn streams_are_bounded_and_need_a_token() {
    let server = Server::start().await;
    let nobody = server.client_with(None);
    nobody.get("/v1/events").await.problem(401, "unauthorized");
    // Whatever a tenant's tokens do, others get in: another tenant, and whoever runs the servers.
    let of = |name: &str| server.client_with(Some(token(Some(&[name]), &[Scope::Dequeue])));
    let shop = of("shop");
    let mut open = vec![];
    for _ in 0..8 {
        open.push(Stream::open(&shop).await);
    }
    let refused = shop.get("/v1/events").await;
    let problem = refused.problem(429, "too_many_streams");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("of these namespaces"),
        "{problem}"
    );
    assert_eq!(refused.header("retry-after"), "5");
    open.push(Stream::open(&of("other")).await);
    for n in 0..39 {
        open.push(Stream::open(&of(&format!("tenant-{n}"))).await);
    }
    of("late")
        .get("/v1/events")
        .await
        .problem(429, "too_many_streams");
    let operator = server.client();
    for _ in 0..8 {
        open.push(Stream::open(&operator).await);
    }
    operator.get("/v1/events").await.problem(429, "too_many_streams");
    // A seat is free again once its stream has ended.
    drop(open);
    for _ in 0..600 {
        if shop
            .request(Method::GET, "/v1/events")
            .send()
            .await
            .unwrap()
            .status()
            == 200
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no seat comes free");
}

#[tokio::test]
async fn a_stop_ends_streams_in_good_order() {
    let mut server = Server::start().await;
    let mut stream = Stream::open(&server.client()).await;
    stream.next().await.unwrap();
    let reading = tokio::spawn(async move { while stream.next().await.is_some() {} });
    assert!(server.terminate().await.success());
    reading.await.unwrap();
}

#[tokio::test]
async fn the_console_is_served_and_asks_no_other_host() {
    let server = Server::start().await;
    let nobody = server.client_with(None);
    let page = nobody.get("/console").await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'; script-src 'self'; style-src 'self';")
    );
    assert!(
        !page.text.contains("http:") && !page.text.contains("https:"),
        "{}",
        page.text
    );
    nobody
        .get("/console/nowhere")
        .await
        .problem(404, "route_not_found");
    nobody.delete("/console").await.problem(405, "method_not_allowed");
}
