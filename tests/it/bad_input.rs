//! Requests that are well-formed HTTP and wrong: each is refused with a problem that says what to change,
//! nothing of it is done, and the server goes on.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::client::{Client, Reply, lease};
use crate::server::{CANARY, Server};

const ENQUEUE: &str = "/v1/namespaces/default/topics/t/enqueue";
const DEQUEUE: &str = "/v1/namespaces/default/topics/t/dequeue";

/// A request, the status and code it gets, and a part of the detail that helps its sender.
type Case<'a> = (&'a str, String, u16, &'a str, &'a str);

async fn send(client: &Client, path: &str, body: String) -> Reply {
    let request = client
        .request(Method::POST, path)
        .header("content-type", "application/json");
    client.send(request.body(body)).await
}

async fn check(client: &Client, cases: Vec<Case<'_>>) {
    for (path, body, status, code, detail) in cases {
        let start: String = body.chars().take(200).collect();
        let problem = send(client, path, body).await.any_problem();
        let got = (
            problem["status"].as_u64().unwrap(),
            problem["code"].as_str().unwrap(),
        );
        assert_eq!(
            got,
            (u64::from(status), code),
            "{path} with {start} answered {problem}"
        );
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(detail), "{path} with {start} answered {problem}");
    }
}

/// The server still works and none of what was refused was done.
async fn unharmed(server: &Server) {
    let topic = server.client().topic("t");
    let stats = topic.client.get(&topic.at("stats")).await;
    if stats.status == 200 {
        assert_eq!(stats.json()["enqueued_total"], 0, "something refused was done");
    }
    topic.enqueue(json!([{"text": "fine"}])).await;
    let held = topic.dequeue(1).await;
    assert_eq!(topic.ack(&held).await, ["ok"]);
}

fn one(item: &str) -> String {
    format!("{{\"items\":[{{\"text\":\"fine\"}},{{{item}}}]}}")
}

#[tokio::test]
async fn enqueues_that_do_not_fit_the_schema() {
    let server = Server::start().await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let malformed =
        |body: &str, detail: &'static str| (ENQUEUE, body.to_owned(), 400, "malformed_body", detail);
    let item = |item: &str, detail: &'static str| (ENQUEUE, one(item), 400, "malformed_body", detail);
    let cases = vec![
        malformed("", "EOF"),
        malformed("{", "EOF"),
        malformed("nonsense", "expected"),
        malformed("[]", "expected an object"),
        malformed("\u{feff}{}", "expected"),
        malformed("{\"items\":[{\"text\":\"a\"}]}x", "trailing"),
        malformed("{\"items\":{}}", "items"),
        malformed("{\"items\":[]}", "at least one"),
        malformed("{\"itms\":[]}", "itms"),
        malformed(
            "{\"items\":[{\"text\":\"a\"}],\"durability\":\"maybe\"}",
            "durability",
        ),
        malformed("{\"items\":[{\"text\":\"\u{1}\"}]}", "control character"),
        item("\"payload\":\"%%%\"", "items[1].payload"),
        item("\"payload\":\"aGk\"", "padded"),
        item("\"payload\":\"-_8=\"", "standard alphabet"),
        item("\"payload\":5", "items[1].payload"),
        item("\"text\":\"a\",\"json\":1", "only one"),
        item("\"text\":\"\\ud800\"", "items[1].text"),
        item("\"prio\":1,\"text\":\"a\"", "items[1].prio"),
        item("\"text\":\"a\",\"text\":\"b\"", "twice"),
        item("\"text\":\"a\",\"priority\":\"1\"", "items[1].priority"),
        item("\"text\":\"a\",\"priority\":1.5", "items[1].priority"),
        item(
            "\"text\":\"a\",\"priority\":9223372036854775808",
            "items[1].priority",
        ),
        item(
            "\"text\":\"a\",\"delay_ms\":9223372036854775808",
            "items[1].delay_ms",
        ),
        item("\"text\":\"a\",\"id\":\"9223372036854775808\"", "leave it out"),
        item(
            "\"text\":\"a\",\"deliver_after\":\"tomorrow\"",
            "items[1].deliver_after",
        ),
        item(
            "\"text\":\"a\",\"deliver_after\":1704067200",
            "items[1].deliver_after",
        ),
        item(
            "\"text\":\"a\",\"deliver_after\":\"2024-02-30T00:00:00Z\"",
            "items[1].deliver_after",
        ),
        item(
            "\"text\":\"a\",\"deliver_after\":\"99999-01-01T00:00:00Z\"",
            "items[1].deliver_after",
        ),
        item(
            "\"text\":\"a\",\"deliver_after\":\"2024-01-01T00:00:00\"",
            "items[1].deliver_after",
        ),
        item("\"text\":\"a\",\"headers\":{\"a\":1}", "items[1].headers"),
        item("\"text\":\"a\",\"headers\":{\"a\":\"1\",\"a\":\"2\"}", "twice"),
        (
            ENQUEUE,
            one(&format!("\"json\":{}", deep(33))),
            400,
            "malformed_body",
            "nested deeper",
        ),
        (
            ENQUEUE,
            one(&format!("\"json\":{}", deep(5_000))),
            400,
            "malformed_body",
            "items[1].json",
        ),
        (ENQUEUE, deep(100_000), 400, "malformed_body", ""),
        (
            ENQUEUE,
            one(&format!("\"{}\":1", "x".repeat(100_000))),
            400,
            "malformed_body",
            "is not a field",
        ),
    ];
    check(&server.client(), cases).await;
    unharmed(&server).await;
}

#[tokio::test]
async fn enqueues_with_values_outside_their_limits() {
    let server = Server::start().await;
    let invalid = |item: &str, detail: &'static str| {
        (
            ENQUEUE,
            one(&format!("\"text\":\"a\",{item}")),
            422,
            "invalid_field",
            detail,
        )
    };
    let long = |bytes: usize| "x".repeat(bytes);
    let many: String = (0..65).map(|n| format!("\"h{n}\":\"\",")).collect();
    let batch = format!("{{\"items\":[{}]}}", vec!["{\"text\":\"\"}"; 1_001].join(","));
    let cases = vec![
        invalid("\"delay_ms\":-1", "items[1].delay_ms"),
        invalid("\"delay_ms\":9223372036854775807", "between"),
        invalid("\"ttl_ms\":0", "items[1].ttl_ms"),
        invalid("\"lease_ms\":999", "between 1000 and 43200000"),
        invalid("\"lease_ms\":43200001", "items[1].lease_ms"),
        invalid("\"max_attempts\":0", "items[1].max_attempts"),
        invalid("\"max_attempts\":1001", "items[1].max_attempts"),
        invalid(
            "\"deliver_after\":\"2030-01-01T00:00:00Z\",\"delay_ms\":1",
            "not both",
        ),
        invalid("\"idempotency_key\":\"\"", "items[1].idempotency_key"),
        invalid("\"idempotency_key\":\"a\\u0000b\"", "control"),
        invalid("\"content_type\":\"a\\nb\"", "control"),
        invalid("\"headers\":{\"a b\":\"\"}", "not a header name"),
        invalid("\"headers\":{\"a\":\"x\\r\\ny\"}", "control"),
        invalid("\"headers\":{\"mq-id\":\"\"}", "mq-"),
        (
            ENQUEUE,
            one(&format!("\"text\":\"{}\"", long((256 << 10) + 1))),
            422,
            "invalid_field",
            "at most 262144",
        ),
        (
            ENQUEUE,
            one(&format!("\"text\":\"a\",\"idempotency_key\":\"{}\"", long(257))),
            422,
            "invalid_field",
            "256",
        ),
        (
            ENQUEUE,
            one(&format!("\"text\":\"a\",\"content_type\":\"{}\"", long(257))),
            422,
            "invalid_field",
            "256",
        ),
        (
            ENQUEUE,
            one(&format!(
                "\"text\":\"a\",\"headers\":{{\"a\":\"{}\"}}",
                long(17 << 10)
            )),
            422,
            "invalid_field",
            "16384",
        ),
        (
            ENQUEUE,
            one(&format!("\"text\":\"a\",\"headers\":{{{}\"z\":\"\"}}", many)),
            400,
            "malformed_body",
            "at most 64",
        ),
        (ENQUEUE, batch, 400, "malformed_body", "at most 1000"),
    ];
    check(&server.client(), cases).await;
    unharmed(&server).await;
}

#[tokio::test]
async fn consumers_requests_that_are_wrong() {
    let server = Server::start().await;
    let many = "/v1/namespaces/default/dequeue";
    let topics = |n: usize| format!("{{\"topics\":[{}]}}", vec!["{\"topic\":\"t\"}"; n].join(","));
    let leases = |n: usize| format!("{{\"leases\":[{}]}}", vec!["{\"lease_id\":\"x\"}"; n].join(","));
    let invalid = |path, body: &str, detail| (path, body.to_owned(), 422, "invalid_field", detail);
    let malformed = |path, body: &str, detail| (path, body.to_owned(), 400, "malformed_body", detail);
    let cases = vec![
        invalid(DEQUEUE, "{\"max\":0}", "between 1 and 1000"),
        invalid(DEQUEUE, "{\"max\":1001}", "between 1 and 1000"),
        invalid(DEQUEUE, "{\"wait_ms\":20001}", "at most 20000"),
        invalid(DEQUEUE, "{\"lease_ms\":1}", "lease_ms"),
        invalid(DEQUEUE, "{\"request_id\":\"\"}", "request_id"),
        malformed(DEQUEUE, "{\"max\":-1}", ""),
        malformed(DEQUEUE, "{\"max\":\"10\"}", ""),
        malformed(DEQUEUE, "{\"maximum\":1}", "maximum"),
        malformed(DEQUEUE, "null", ""),
        malformed(DEQUEUE, "[5]", "expected an object"),
        malformed("/v1/ack", "[[]]", "expected an object"),
        malformed("/v1/ack", "{\"leases\":[[\"x\"]]}", "expected an object"),
        malformed(
            "/v1/ack",
            "{\"leases\":[],\"then_dequeue\":[\"a\",\"t\"]}",
            "expected an object",
        ),
        malformed(many, "{}", "topics"),
        invalid(many, &topics(0), "1 to 100"),
        invalid(many, &topics(101), "1 to 100"),
        malformed(many, "{\"topics\":[{\"topic\":\"a/b\"}]}", ""),
        invalid("/v1/ack", &leases(0), "1 to 1000"),
        invalid("/v1/ack", &leases(1_001), "1 to 1000"),
        malformed("/v1/ack", "{\"leases\":[{\"lease_id\":5}]}", ""),
        malformed("/v1/ack", "{\"leases\":[{\"lease\":\"x\"}]}", "lease"),
        invalid(
            "/v1/ack",
            "{\"leases\":[{\"lease_id\":\"x\",\"delay_ms\":1}]}",
            "only nack",
        ),
        invalid(
            "/v1/nack",
            "{\"leases\":[{\"lease_id\":\"x\",\"delay_ms\":-1}]}",
            "leases[0].delay_ms",
        ),
        invalid(
            "/v1/extend",
            "{\"leases\":[{\"lease_id\":\"x\",\"lease_ms\":1}]}",
            "leases[0].lease_ms",
        ),
        invalid(
            "/v1/nack",
            "{\"leases\":[{\"lease_id\":\"x\"}],\"then_dequeue\":{\"namespace\":\"a\",\"topic\":\"b\"}}",
            "only ack",
        ),
        malformed("/enqueue", "{}", ""),
        invalid("/enqueue", "[]", "1 to 1000"),
        malformed("/enqueue", "[{\"namespace\":\"a\"}]", "topic"),
        malformed(
            "/enqueue",
            "[{\"namespace\":\"a\",\"topic\":\"b\",\"payload\":\"%\"}]",
            "[0].payload",
        ),
        malformed(
            "/enqueue",
            "[{\"namespace\":\"a\",\"topic\":\"b\",\"deliver_after\":\"noon\"}]",
            "[0].deliver_after",
        ),
        (
            "/enqueue",
            "[{\"namespace\":\"a\",\"topic\":\"b/c\"}]".to_owned(),
            400,
            "invalid_name",
            "[0].topic",
        ),
        malformed(
            "/ack",
            "{\"id\":18446744073709551616,\"namespace\":\"a\",\"topic\":\"b\"}",
            "",
        ),
        malformed("/ack", "{\"id\":-1,\"namespace\":\"a\",\"topic\":\"b\"}", ""),
        malformed("/ack", "{\"id\":1.5,\"namespace\":\"a\",\"topic\":\"b\"}", ""),
        (
            "/ack",
            "{\"id\":9223372036854775807,\"namespace\":\"a\",\"topic\":\"b\"}".to_owned(),
            409,
            "not_leased",
            "not leased",
        ),
    ];
    check(&server.client(), cases).await;
    unharmed(&server).await;
}

#[tokio::test]
async fn paths_and_queries_that_are_wrong() {
    let server = Server::start().await;
    let client = server.client();
    let topic = "/v1/namespaces/default/topics/t";
    client.post(ENQUEUE, json!({"items": [{"text": "x"}]})).await.ok();
    let long = format!("/v1/namespaces/{}/topics", "n".repeat(129));
    let item = |id: &str| format!("{topic}/items/{id}");
    let named = |name: &str| format!("/v1/namespaces/default/topics/{name}/stats");
    let query = |query: &str| format!("{topic}/items?{query}");
    let cases = [
        (long, 400, "invalid_name", "namespace"),
        (named("a%20b"), 400, "invalid_name", "topic"),
        (named("a%00b"), 400, "invalid_name", "topic"),
        (named("..%2f..%2fetc"), 400, "invalid_name", "topic"),
        (named("caf%C3%A9"), 400, "invalid_name", "topic"),
        (named("none"), 404, "unknown_topic", "first enqueue"),
        (item("x"), 400, "invalid_name", "id"),
        (item("-1"), 400, "invalid_name", "id"),
        (item("9223372036854775808"), 400, "invalid_name", "id"),
        (item("18446744073709551616"), 400, "invalid_name", "id"),
        (
            item("9223372036854775807"),
            404,
            "unknown_item",
            "9223372036854775807",
        ),
        (query("limit=0"), 400, "invalid_query", "limit"),
        (query("limit=1001"), 400, "invalid_query", "limit"),
        (query("limit=many"), 400, "invalid_query", "limit"),
        (query("state=gone"), 400, "invalid_query", "state"),
        (query("cursor=!!"), 400, "invalid_query", "cursor"),
        (query("cursor=AAAA"), 400, "invalid_query", "cursor"),
        (
            "/dequeue?namespace=default".to_owned(),
            400,
            "invalid_query",
            "topic",
        ),
        (
            "/dequeue?namespace=default&topic=t&limit=0".to_owned(),
            422,
            "invalid_field",
            "limit",
        ),
        ("/nothing".to_owned(), 404, "route_not_found", "openapi.json"),
        (
            format!("/{}", "x".repeat(4_000)),
            404,
            "route_not_found",
            "openapi.json",
        ),
    ];
    for (path, status, code, detail) in cases {
        let problem = client.get(&path).await.any_problem();
        let got = (
            problem["status"].as_u64().unwrap(),
            problem["code"].as_str().unwrap(),
        );
        assert_eq!(got, (status, code), "{path} answered {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(detail),
            "{path} answered {problem}"
        );
    }
}

#[tokio::test]
async fn settings_that_are_wrong_change_nothing() {
    let server = Server::start().await;
    let client = server.client();
    for path in ["/v1/namespaces/default", "/v1/namespaces/default/topics/t"] {
        for (body, status, detail) in [
            (json!({"lease_ms": 1}), 422, "lease_ms"),
            (json!({"max_attempts": 0}), 422, "max_attempts"),
            (json!({"ttl_ms": -1}), 422, "ttl_ms"),
            (json!({"backoff": {"factor": 1e300}}), 422, "backoff"),
            (json!({"priority": "high"}), 400, ""),
            (json!({"delivery": "exactly_once"}), 400, ""),
            (json!({"prioritiy": 1}), 400, "prioritiy"),
            (json!([]), 400, ""),
        ] {
            let problem = client.put(path, body.clone()).await.any_problem();
            assert_eq!(problem["status"], status, "{body} answered {problem}");
            assert!(
                problem["detail"].as_str().unwrap().contains(detail),
                "{body} answered {problem}"
            );
        }
    }
    let by_place = json!({"backoff": [1000, 2.0]});
    let reply = client.put("/v1/namespaces/default/topics/t", by_place).await;
    let problem = reply.problem(400, "malformed_body");
    assert!(
        problem["detail"].as_str().unwrap().contains("expected an object"),
        "{problem}"
    );
    assert_eq!(
        client.get("/v1/namespaces/default").await.ok()["settings"],
        json!({})
    );
    client
        .get("/v1/namespaces/default/topics/t")
        .await
        .problem(404, "unknown_topic");
}

#[tokio::test]
async fn bodies_of_other_types_are_refused() {
    let server = Server::start().await;
    let client = server.client();
    let valid = r#"{"items":[{"text":"x"}]}"#;
    let with = |name: &str, value: &str| -> RequestBuilder {
        client
            .request(Method::POST, ENQUEUE)
            .header(name, value)
            .body(valid)
    };
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-encoding", "gzip"),
    ] {
        client
            .send(with(name, value))
            .await
            .problem(415, "unsupported_media_type");
    }
    unharmed(&server).await;
    client
        .send(with("content-type", "application/json; charset=utf-8"))
        .await
        .ok();
}

#[tokio::test]
async fn lease_ids_that_were_not_made_here_settle_nothing() {
    let server = Server::start().await;
    let topic = server.client().topic("forged");
    topic.enqueue(json!([{"text": CANARY}])).await;
    let held = topic.dequeue(1).await;
    let real = held[0]["lease_id"].as_str().unwrap();
    let mut forged: Vec<String> = ["", "x", "AAAA", "%00", "../../etc/passwd", "\u{0}\u{1}\n", "é"]
        .map(String::from)
        .into();
    forged.push("A".repeat(10_000));
    forged.push(format!("{real}A"));
    forged.push(real[1..].to_owned());
    forged.push(real.to_ascii_lowercase());
    for at in 0..real.len() {
        // Another letter at each place: each changes at least one bit of what the text stands for, but for
        // the last, whose low bits stand for nothing.
        let letter = if real.as_bytes()[at] == b'A' { "B" } else { "A" };
        if at + 1 < real.len() {
            forged.push(format!("{}{letter}{}", &real[..at], &real[at + 1..]));
        }
    }
    for verb in ["ack", "nack", "extend", "release", "reject"] {
        for batch in forged.chunks(20) {
            let leases: Vec<Value> = batch.iter().map(|id| json!({"lease_id": id})).collect();
            let statuses = topic.settle(verb, &leases).await;
            assert!(
                statuses.iter().all(|status| status == "lease_lost"),
                "{verb}: {statuses:?}"
            );
        }
    }
    assert_eq!(topic.counts().await, [0, 0, 1, 0]);
    assert_eq!(topic.settle("ack", &[lease(&held[0])]).await, ["ok"]);
}
