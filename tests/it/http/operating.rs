//! What operators look at: health, readiness, metrics, the document, the pages about problems.

use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn a_fresh_server_is_alive_ready_and_documented() {
    let server = Server::start().await;
    let nobody = server.client_with(None);
    assert_eq!(nobody.get("/health").await.text, "OK");
    for path in ["/livez", "/readyz", "/docs"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
    nobody.get("/readyz?verbose").await.problem(401, "unauthorized");
    let verbose = server.client().get("/readyz?verbose").await.ok();
    assert_eq!(verbose["ready"], true);
    let document = nobody.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.0"));
}

#[tokio::test]
async fn the_documentation_asks_no_other_host() {
    let server = Server::start().await;
    let page = server.client_with(None).get("/docs").await;
    for asks in [
        "src=\"http",
        "href=\"http",
        "src='http",
        "href='http",
        "src=\"//",
        "@import url(http",
    ] {
        assert!(!page.text.contains(asks), "/docs has {asks}");
    }
}

#[tokio::test]
async fn every_problem_has_its_page() {
    let server = Server::start().await;
    let nobody = server.client_with(None);
    let problem = nobody.get("/nowhere").await.problem(404, "route_not_found");
    let page = nobody.get(problem["type"].as_str().unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("404 route_not_found"), "{}", page.text);
    nobody.get("/problems/none").await.problem(404, "route_not_found");
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = Server::start().await;
    let reply = server.client().delete("/v1/ack").await;
    reply.problem(405, "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Server::start().await;
    let topic = server.client().topic("measured");
    topic.enqueue(json!([{"text": "a"}, {"text": "b"}])).await;
    let held = topic.dequeue(1).await;
    topic.ack(&held).await;
    server
        .client_with(Some("nonsense".into()))
        .get(&topic.path)
        .await
        .problem(401, "unauthorized");
    let metrics = server.client_with(None).get("/metrics").await;
    let value = |start: &str| {
        let line = metrics.text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in {}", metrics.text));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let labelled = |name: &str| value(&format!("{name}{{namespace=\"default\",topic=\"measured\"}}"));
    assert_eq!(labelled("mqueue_items_enqueued_total"), 2.0);
    assert_eq!(labelled("mqueue_items_acked_total"), 1.0);
    assert_eq!(value("mqueue_ready "), 1.0);
    // Asked through a proxy it is not this machine that asks.
    let asked = server.client_with(None);
    let request = asked
        .request(reqwest::Method::GET, "/metrics")
        .header("x-forwarded-for", "192.0.2.1");
    asked.send(request).await.problem(401, "unauthorized");
}
