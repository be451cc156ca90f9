//! What operators look at: health, readiness, metrics, the document, the pages about problems.

use serde_json::json;

use crate::client::lease;
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

/// The value of `series` in a scrape; 0 when it is not there.
fn value(scrape: &str, series: &str) -> f64 {
    let line = scrape
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_scrape_shows_how_long_leases_lasted() {
    let server = Server::start().await;
    let topic = server.client().topic("t");
    topic
        .enqueue(json!([{"text": "acked"}, {"text": "extended"}, {"text": "runs out", "priority": 1}]))
        .await;
    let held = topic.dequeue(2).await;
    topic.settle("extend", &[lease(&held[1])]).await;
    let scrape = server.client().get("/metrics").await.text;
    assert_eq!(value(&scrape, "mqueue_lease_duration_seconds_count"), 0.0);
    topic.ack(&held[..1]).await;
    topic.settle("reject", &[lease(&held[1])]).await;
    // One that runs out lasted as long as it was given for, and counts when its item goes out again.
    let brief = json!({"max": 1, "lease_ms": 1_000});
    topic.client.post(&topic.at("dequeue"), brief).await.ok();
    let again = json!({"max": 1, "wait_ms": 10_000});
    let again = topic.client.post(&topic.at("dequeue"), again).await.ok();
    assert_eq!(again["items"][0]["attempt"], 2);
    let scrape = server.client().get("/metrics").await.text;
    assert_eq!(
        value(&scrape, "mqueue_lease_duration_seconds_count"),
        3.0,
        "{scrape}"
    );
    // A rejected delivery, one whose lease ended, and one that is nacked are told apart.
    let held = json!([{"lease_id": again["items"][0]["lease_id"]}]);
    topic.settle("nack", held.as_array().unwrap()).await;
    let after = server.client().get("/metrics").await.text;
    for reason in ["nack", "reject", "lease_ended"] {
        let labels = format!("{{namespace=\"default\",reason=\"{reason}\",topic=\"t\"}}");
        let series = format!("mqueue_deliveries_failed_total{labels}");
        assert_eq!(value(&after, &series), 1.0, "{after}");
    }
    assert_eq!(value(&after, "mqueue_hot_tier_healthy"), 1.0);
    let sum = value(&scrape, "mqueue_lease_duration_seconds_sum");
    assert!((1.0..60.0).contains(&sum), "{sum}");
}
