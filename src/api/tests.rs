//! The whole API in this process, over a real queue in memory and a temporary folder.

use std::path::Path;

use poem::http::{Method, StatusCode};
use poem::{Body, Request, endpoint::BoxEndpoint};
use serde_json::{Value, json};

use super::*;
use crate::config::Inputs;
use crate::model::{Namespace, Quota, QuotaPatch};
use crate::telemetry::metrics::Metrics;
use crate::tenant::{AuthPolicy, KeySet, MintClaims, QuotaTable, Scope, mint};
use crate::wal::disk::SimDisk;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// An API over a queue of its own; namespace `limited` may enqueue 3 items a minute.
pub(crate) struct Bench {
    pub(crate) api: BoxEndpoint<'static, Response>,
    slow: BoxEndpoint<'static, Response>,
    pub(crate) state: Arc<ApiState>,
    _dir: tempfile::TempDir,
}

pub(crate) async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let config = crate::config::load(&Inputs {
        environment: vec![
            variable("MQUEUE_DATA_DIR", &dir.path().display().to_string()),
            variable("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ],
        ..Inputs::default()
    })
    .unwrap();
    let clock = Clock::system();
    let keys = KeySet::default().with_secret(SECRET).unwrap();
    let limited = QuotaPatch {
        per_minute: Some(3),
        ..QuotaPatch::default()
    };
    let table = QuotaTable {
        default: Quota::default(),
        namespaces: [("limited".parse().unwrap(), limited)].into(),
    };
    let quotas = Arc::new(Quotas::new(table, clock.clone()));
    let (disk, program) = (Arc::new(SimDisk::new(7)), Path::new("mqueue"));
    let node = crate::app::assemble(&config, SECRET, clock.clone(), disk, quotas.clone(), program);
    let queue = node.await.unwrap().queue;
    let seen = queue.clone();
    let state = Arc::new(ApiState {
        queue,
        hooks: hooks::tests::state(dir.path(), clock.clone()).await,
        auth: Arc::new(Authenticator::new(keys, AuthPolicy::default(), clock.clone())),
        failures: AuthFailures::new(clock.clone()),
        quotas,
        metrics: Arc::new(Metrics::new(ROUTES, move || snapshot(&seen)).unwrap()),
        clock,
        limits: ApiLimits::default(),
        config: Arc::new(Unchanging),
    });
    let slow = routes::mount(Route::new(), &state);
    Bench {
        api: poem::EndpointExt::boxed(endpoint(state.clone(), Route::new())),
        slow: poem::EndpointExt::boxed(layers::Outer::new(state.clone(), slow)),
        state,
        _dir: dir,
    }
}

/// A configuration that never was a file; it is wrong whenever it is read again.
struct Unchanging;

impl Configuration for Unchanging {
    fn entries(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry {
            key: "log.level".into(),
            value: "info".into(),
            source: "default".into(),
            reloadable: true,
        }]
    }

    fn reloads(&self) -> Reloads {
        Reloads {
            succeeded: 0,
            failed: 0,
            loaded_at: crate::clock::Timestamp::ZERO,
            last: None,
            restart_needed: vec![],
        }
    }

    fn reload(&self) -> Result<ConfigChange, Vec<ConfigFault>> {
        Err(vec![ConfigFault {
            key: Some("log.level".into()),
            detail: "must be quiet".into(),
        }])
    }
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: poem::http::HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn send(api: &BoxEndpoint<'static, Response>, request: Request) -> Answered {
    let mut response = api.call(request).await.unwrap();
    let text = response.take_body().into_string().await.unwrap();
    Answered {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text,
    }
}

pub(crate) fn token(namespaces: &[&str], scopes: &[Scope]) -> String {
    let names: Vec<Namespace> = namespaces.iter().map(|name| name.parse().unwrap()).collect();
    minted(Some(names), scopes)
}

/// A token that opens every namespace.
fn anywhere(scopes: &[Scope]) -> String {
    minted(None, scopes)
}

fn minted(namespaces: Option<Vec<Namespace>>, scopes: &[Scope]) -> String {
    let claims = MintClaims {
        subject: "tester".into(),
        namespaces,
        scopes: scopes.to_vec(),
        audience: None,
        issuer: None,
    };
    let now = Clock::system().now();
    mint(SECRET, &claims, now, Duration::from_secs(600)).unwrap()
}

pub(crate) fn request(method: Method, path: &str, token: Option<&str>, body: &str) -> Request {
    let builder = Request::builder().method(method).uri(path.parse().unwrap());
    let builder = match token {
        Some(token) => builder.header("authorization", format!("Bearer {token}")),
        None => builder,
    };
    if body.is_empty() {
        builder.finish()
    } else {
        builder.content_type("application/json").body(body.to_owned())
    }
}

impl Bench {
    pub(crate) async fn send(&self, method: Method, path: &str, body: &str) -> Answered {
        let token = token(&["a", "limited"], &Scope::ALL);
        send(&self.api, request(method, path, Some(&token), body)).await
    }

    /// Sends as who runs the servers.
    async fn operate(&self, method: Method, path: &str, body: &str) -> Answered {
        let claims = MintClaims {
            subject: "operator".into(),
            namespaces: None,
            scopes: vec![Scope::Admin],
            audience: None,
            issuer: None,
        };
        let token = mint(SECRET, &claims, Clock::system().now(), Duration::from_secs(600)).unwrap();
        send(&self.api, request(method, path, Some(&token), body)).await
    }

    async fn post(&self, path: &str, body: Value) -> Answered {
        self.send(Method::POST, path, &body.to_string()).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.send(Method::GET, path, "").await
    }
}

const TOPIC: &str = "/v1/namespaces/a/topics/t";

/// Fills the parameters of a documented path.
fn filled(path: &str) -> String {
    path.replace("{ns}", "a")
        .replace("{topic}", "t")
        .replace("{id}", "1")
        .replace("{code}", "internal")
        .replace("{hook}", "h")
        .replace("{binding}", "b")
        .replace("{version}", "1")
        .replace("{test}", "t")
}

pub(crate) fn documented() -> Vec<(String, Method, Value)> {
    let document: Value = serde_json::from_str(&openapi::document()).unwrap();
    let mut all = vec![];
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            all.push((
                path.clone(),
                method.to_uppercase().parse().unwrap(),
                operation.clone(),
            ));
        }
    }
    all
}

#[tokio::test]
async fn an_item_goes_in_comes_out_and_is_done() {
    let bench = bench().await;
    let enqueued = bench
        .post(
            &format!("{TOPIC}/enqueue"),
            json!({"items": [{"json": {"n": 1}, "priority": 5}, {"text": "urgent", "priority": 1}]}),
        )
        .await;
    assert_eq!(enqueued.status, 200, "{}", enqueued.text);
    assert_eq!(enqueued.json()["results"][0]["status"], "accepted");
    let items = bench
        .post(&format!("{TOPIC}/dequeue"), json!({"max": 2}))
        .await
        .json();
    assert_eq!(items["items"][0]["text"], "urgent");
    assert_eq!(items["items"][1]["json"], json!({"n": 1}));
    let leases: Vec<Value> = (0..2)
        .map(|i| json!({"lease_id": items["items"][i]["lease_id"]}))
        .collect();
    let acked = bench.post("/v1/ack", json!({"leases": leases})).await;
    assert_eq!(acked.json()["results"][1]["status"], "ok", "{}", acked.text);
    let again = bench
        .post("/v1/ack", json!({"leases": [leases[0], {"lease_id": "forged"}]}))
        .await
        .json();
    assert_ne!(again["results"][0]["status"], "ok");
    assert_eq!(again["results"][1], json!({"status": "lease_lost"}));
    let stats = bench.get(&format!("{TOPIC}/stats")).await.json();
    assert_eq!((&stats["ready"], &stats["acked_total"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn a_foreign_lease_is_lost_and_stays_held() {
    let bench = bench().await;
    bench
        .post(&format!("{TOPIC}/enqueue"), json!({"items": [{"text": "x"}]}))
        .await;
    let items = bench.post(&format!("{TOPIC}/dequeue"), json!({})).await.json();
    let body = json!({"leases": [{"lease_id": items["items"][0]["lease_id"]}]});
    let foreign = token(&["b"], &Scope::ALL);
    let refused = send(
        &bench.api,
        request(Method::POST, "/v1/ack", Some(&foreign), &body.to_string()),
    )
    .await;
    assert_eq!(refused.json(), json!({"results": [{"status": "lease_lost"}]}));
    assert_eq!(
        bench.post("/v1/ack", body).await.json()["results"][0]["status"],
        "ok"
    );
}

#[tokio::test]
async fn every_documented_operation_asks_for_a_token_that_opens_the_namespace() {
    let bench = bench().await;
    let open = ["/health", "/livez", "/readyz", "/problems/{code}"];
    // A forgotten check would show as anything else than these.
    let foreign = token(&["b"], &Scope::ALL);
    for (path, method, _) in documented() {
        let place = format!("{method} {path}");
        let uri = match filled(&path).as_str() {
            "/dequeue" => "/dequeue?namespace=a&topic=t".to_owned(),
            uri => uri.to_owned(),
        };
        if open.contains(&path.as_str()) {
            let answer = send(&bench.api, request(method, &uri, None, "")).await;
            assert_eq!(answer.status, 200, "{place}");
            continue;
        }
        let body = match path.as_str() {
            "/enqueue" => r#"[{"namespace":"a","topic":"t"}]"#,
            "/ack" | "/nack" => r#"{"id":"1","namespace":"a","topic":"t"}"#,
            _ if method == Method::GET => "",
            _ => r#"{"leases":[{"lease_id":"x"}]}"#,
        };
        let answer = send(&bench.api, request(method.clone(), &uri, Some("x.y.z"), body)).await;
        // There are more operations than one address may fail at in a minute.
        match answer.status {
            401 => assert!(answer.headers.contains_key("www-authenticate"), "{place}"),
            status => assert_eq!(
                (status, answer.code()),
                (429, "too_many_failures".into()),
                "{place}"
            ),
        }
        if path == "/v1/events" {
            // It names no namespace: every token sees what it opens, without end.
            continue;
        }
        let settles = matches!(
            path.as_str(),
            "/v1/ack" | "/v1/nack" | "/v1/extend" | "/v1/release" | "/v1/reject"
        );
        // The contract of hooks and their limits are the same for every tenant; lists show what a token opens.
        if path.starts_with("/v1/hooks/") || path == "/v1/namespaces" {
            continue;
        }
        if !settles {
            let answer = send(&bench.api, request(method.clone(), &uri, Some(&foreign), body)).await;
            assert_eq!(
                (answer.status, answer.code()),
                (403, "forbidden".into()),
                "{place}"
            );
        }
        // These ask for every namespace first.
        let of_all = ["/metrics", "/v1/audit", "/v1/nodes", "/v1/shards"];
        if !of_all.iter().any(|of_all| path.starts_with(of_all)) {
            let of_hooks = ["/hooks", "/bindings", "/audit"]
                .iter()
                .any(|part| path.contains(part));
            let other = if of_hooks { Scope::Enqueue } else { Scope::Hooks };
            let scopeless = token(&["a"], &[other]);
            let answer = send(&bench.api, request(method, &uri, Some(&scopeless), body)).await;
            assert_eq!(
                (answer.status, answer.code()),
                (403, "insufficient_scope".into()),
                "{place}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_and_foreign_namespaces_look_the_same() {
    let bench = bench().await;
    bench
        .post(&format!("{TOPIC}/enqueue"), json!({"items": [{"text": "x"}]}))
        .await;
    let outsider = token(&["c"], &Scope::ALL);
    let mut bodies = vec![];
    for path in [
        "/v1/namespaces/a/topics/t/stats",
        "/v1/namespaces/zzz/topics/t/stats",
    ] {
        let mut asked = request(Method::GET, path, Some(&outsider), "");
        asked
            .headers_mut()
            .insert("x-request-id", "same".parse().unwrap());
        bodies.push(send(&bench.api, asked).await.text);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn fast_and_documented_routes_answer_alike() {
    let bench = bench().await;
    let token = token(&["a", "limited"], &Scope::ALL);
    let cases = [
        (
            format!("{TOPIC}/enqueue"),
            r#"{"items":[{"text":"a"},{"payload":"%"}]}"#,
        ),
        (
            format!("{TOPIC}/enqueue"),
            r#"{"items":[{"text":"a","ttl_ms":-5}]}"#,
        ),
        (format!("{TOPIC}/enqueue"), "nonsense"),
        (format!("{TOPIC}/dequeue"), r#"{"max":0}"#),
        (format!("{TOPIC}/dequeue"), ""),
        ("/v1/namespaces/a/dequeue".into(), r#"{"topics":[]}"#),
        ("/v1/namespaces/b/dequeue".into(), r#"{"topics":[]}"#),
        ("/v1/namespaces/a/topics/b~/enqueue".into(), r#"{"items":[]}"#),
        ("/v1/ack".into(), r#"{"leases":[{"lease_id":"x"}]}"#),
        (
            "/v1/extend".into(),
            r#"{"leases":[{"lease_id":"x","lease_ms":1}]}"#,
        ),
        (
            "/v1/nack".into(),
            r#"{"leases":[{"lease_id":"x","delay_ms":1,"error":"e"}]}"#,
        ),
        (
            "/v1/release".into(),
            r#"{"leases":[{"lease_id":"x","error":"e"}]}"#,
        ),
        ("/v1/reject".into(), r#"{"lease":[]}"#),
    ];
    for (path, body) in cases {
        let mut answers = vec![];
        for api in [&bench.api, &bench.slow] {
            let mut asked = request(Method::POST, &path, Some(&token), body);
            asked
                .headers_mut()
                .insert("x-request-id", "same".parse().unwrap());
            let answer = send(api, asked).await;
            answers.push((answer.status, answer.headers, answer.text));
        }
        assert_eq!(answers[0], answers[1], "{path} {body}");
    }
    // What succeeds differs only in ids and instants.
    for api in [&bench.api, &bench.slow] {
        let path = format!("{TOPIC}/enqueue");
        let answer = send(
            api,
            request(Method::POST, &path, Some(&token), r#"{"items":[{"text":"a"}]}"#),
        )
        .await;
        assert_eq!(
            (answer.status, answer.json()["results"][0]["status"].clone()),
            (200, json!("accepted"))
        );
        let path = format!("{TOPIC}/dequeue");
        let answer = send(api, request(Method::POST, &path, Some(&token), "")).await;
        assert_eq!(answer.json()["items"][0]["text"], "a");
        assert_eq!(answer.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn the_frameworks_own_failures_are_problems_too() {
    let bench = bench().await;
    let big = format!(r#"{{"max":1,"pad":"{}"}}"#, "x".repeat(2 << 20));
    let cases = [
        (Method::GET, "/nowhere".to_owned(), "", 404, "route_not_found"),
        (Method::GET, "/v1/ack".to_owned(), "", 405, "method_not_allowed"),
        (Method::PATCH, TOPIC.to_owned(), "", 405, "method_not_allowed"),
        (
            Method::GET,
            format!("{TOPIC}/items?limit=many"),
            "",
            400,
            "invalid_query",
        ),
        (
            Method::GET,
            format!("{TOPIC}/items?limit=0"),
            "",
            400,
            "invalid_query",
        ),
        (
            Method::GET,
            format!("{TOPIC}/items?state=gone"),
            "",
            400,
            "invalid_query",
        ),
        (
            Method::GET,
            format!("{TOPIC}/items?cursor=AA"),
            "",
            400,
            "invalid_query",
        ),
        (Method::GET, format!("{TOPIC}/items/abc"), "", 400, "invalid_name"),
        (Method::GET, format!("{TOPIC}/items/7"), "", 404, "unknown_topic"),
        (
            Method::GET,
            "/dequeue?namespace=a".to_owned(),
            "",
            400,
            "invalid_query",
        ),
        (
            Method::GET,
            "/problems/nothing".to_owned(),
            "",
            404,
            "route_not_found",
        ),
        (
            Method::POST,
            format!("{TOPIC}/dequeue"),
            &big,
            413,
            "body_too_large",
        ),
        (
            Method::PUT,
            TOPIC.to_owned(),
            r#"{"lease_ms":5}"#,
            422,
            "invalid_field",
        ),
        (
            Method::PUT,
            TOPIC.to_owned(),
            r#"{"leese_ms":5}"#,
            400,
            "malformed_body",
        ),
    ];
    for (method, path, body, status, code) in cases {
        let answer = bench.send(method.clone(), &path, body).await;
        let place = format!("{method} {path}: {}", answer.text);
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{place}"
        );
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{place}");
        assert_eq!(
            answer.json()["request_id"],
            answer.headers["x-request-id"].to_str().unwrap(),
            "{place}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{place}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{place}");
    }
    assert_eq!(bench.get("/v1/ack").await.headers["allow"], "POST");
}

#[tokio::test]
async fn a_panic_is_a_problem_that_tells_nothing() {
    let bench = bench().await;
    let route = Route::new().at(
        "/boom",
        poem::endpoint::make_sync(|_| -> &'static str { panic!("secret detail") }),
    );
    let api = poem::EndpointExt::boxed(endpoint(bench.state.clone(), route));
    let answer = send(&api, request(Method::GET, "/boom", None, "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(!answer.text.contains("secret"));
}

#[tokio::test]
async fn a_quota_takes_the_first_items_and_then_answers_429() {
    let bench = bench().await;
    let path = "/v1/namespaces/limited/topics/t/enqueue";
    let five = json!({"items": [{"text": "1"}, {"text": "2"}, {"text": "3"}, {"text": "4"}, {"text": "5"}]});
    let partly = bench.post(path, five.clone()).await;
    let statuses: Vec<Value> = (0..5)
        .map(|i| partly.json()["results"][i]["status"].clone())
        .collect();
    assert_eq!(
        statuses,
        ["accepted", "accepted", "accepted", "rejected", "rejected"]
    );
    assert_eq!(partly.headers["ratelimit-policy"], "\"enqueue\";q=3;w=60");
    assert_eq!(partly.headers["ratelimit"], "\"enqueue\";r=0;t=61");
    let none = bench.post(path, five).await;
    assert_eq!((none.status, none.code().as_str()), (429, "quota_exceeded"));
    assert_eq!(none.json()["results"].as_array().unwrap().len(), 5);
    assert!(
        none.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            <= 61
    );
    let items = bench
        .post("/v1/namespaces/limited/topics/t/dequeue", json!({}))
        .await
        .json();
    let leases = json!({"leases": [{"lease_id": items["items"][0]["lease_id"]}]});
    assert_eq!(
        bench.post("/v1/ack", leases).await.json()["results"][0]["status"],
        "ok"
    );
    assert_eq!(bench.get("/v1/namespaces/limited/quota").await.json()["burst"], 3);
    let unlimited = bench.get("/v1/namespaces/a/quota").await.json();
    assert_eq!(
        (&unlimited["limited"], unlimited.get("burst")),
        (&json!(false), None)
    );
}

#[tokio::test]
async fn the_first_versions_commands_work_as_its_readme_shows_them() {
    let bench = bench().await;
    let token = token(&["default", "other"], &Scope::ALL);
    let item = json!([{"namespace": "default", "topic": "test-topic", "priority": 1,
        "payload": "SGVsbG8gV29ybGQ=", "deliver_after": "2024-01-01T12:00:00Z"},
        {"namespace": "other", "topic": "x", "payload": "", "deliver_after": "0001-01-01T00:00:00Z"}]);
    let asked = request(Method::POST, "/enqueue", Some(&token), &item.to_string());
    let enqueued = send(&bench.api, asked).await;
    assert_eq!(
        (enqueued.status, enqueued.json()[1]["namespace"].clone()),
        (200, json!("other"))
    );
    let path = "/dequeue?namespace=default&topic=test-topic&limit=1";
    let items = send(&bench.api, request(Method::GET, path, Some(&token), ""))
        .await
        .json();
    assert_eq!(items[0]["payload"], "SGVsbG8gV29ybGQ=");
    assert_eq!(items[0]["id"], enqueued.json()[0]["id"]);
    let id: u64 = items[0]["id"].as_str().unwrap().parse().unwrap();
    let ack = || {
        // `curl -d` without a content type of its own.
        Request::builder()
            .method(Method::POST)
            .uri("/ack".parse().unwrap())
            .header("authorization", format!("Bearer {token}"))
            .content_type("application/x-www-form-urlencoded")
            .body(Body::from_string(format!(
                r#"{{"id": {id}, "namespace": "default", "topic": "test-topic"}}"#
            )))
    };
    let acked = send(&bench.api, ack()).await;
    assert_eq!(
        (acked.status, acked.json()["status"].clone()),
        (200, json!("ok")),
        "{}",
        acked.text
    );
    let again = send(&bench.api, ack()).await;
    assert_eq!((again.status, again.code().as_str()), (409, "not_leased"));
    let health = send(&bench.api, request(Method::GET, "/health", None, "")).await;
    assert_eq!((health.status, health.text.as_str()), (200, "OK"));
}

#[tokio::test]
async fn items_are_browsed_explained_cancelled_and_topics_paused() {
    let bench = bench().await;
    let items: Vec<Value> = (0..3)
        .map(|n| json!({"text": n.to_string(), "priority": n}))
        .collect();
    bench
        .post(&format!("{TOPIC}/enqueue"), json!({"items": items}))
        .await;
    let first = bench.get(&format!("{TOPIC}/items?limit=2")).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = bench
        .get(&format!("{TOPIC}/items?limit=2&cursor={cursor}"))
        .await
        .json();
    let texts = |page: &Value| -> Vec<Value> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["text"].clone())
            .collect()
    };
    assert_eq!([texts(&first), texts(&second)].concat(), ["0", "1", "2"]);
    let id = first["items"][0]["id"].as_str().unwrap();
    assert_eq!(
        bench
            .send(Method::POST, &format!("{TOPIC}/pause"), "")
            .await
            .json()["paused"],
        true
    );
    let explained = bench.get(&format!("{TOPIC}/items/{id}/explain")).await.json();
    assert_eq!(explained["deliverable"], false);
    assert_eq!(
        bench
            .send(Method::DELETE, &format!("{TOPIC}/items/{id}"), "")
            .await
            .status,
        200
    );
    assert_eq!(bench.get(&format!("{TOPIC}/items/{id}")).await.status, 404);
    let topics = bench.get("/v1/namespaces/a/topics").await.json();
    assert_eq!(
        (
            &topics["topics"][0]["topic"],
            &topics["topics"][0]["stats"]["ready"]
        ),
        (&json!("t"), &json!(2))
    );
}

#[tokio::test]
async fn refused_tokens_are_braked_and_valid_ones_are_not() {
    let bench = bench().await;
    let path = format!("{TOPIC}/enqueue");
    let mut statuses = vec![];
    for _ in 0..50 {
        statuses.push(
            send(&bench.api, request(Method::POST, &path, Some("x.y.z"), "{}"))
                .await
                .status,
        );
    }
    assert_eq!((statuses[0], statuses[39], statuses[49]), (401, 401, 429));
    assert_eq!(
        bench.post(&path, json!({"items": [{"text": "x"}]})).await.status,
        200
    );
}

#[tokio::test]
async fn metrics_are_for_this_machine_and_for_tokens_that_open_everything() {
    let bench = bench().await;
    bench
        .post(&format!("{TOPIC}/enqueue"), json!({"items": [{"text": "x"}]}))
        .await;
    let from = |address: &str, forwarded: bool| {
        let mut asked = request(Method::GET, "/metrics", None, "");
        let parts = poem::http::Request::builder()
            .uri("/metrics")
            .body(())
            .unwrap()
            .into_parts()
            .0;
        let remote = poem::web::RemoteAddr(poem::Addr::SocketAddr(address.parse().unwrap()));
        let local = poem::web::LocalAddr::default();
        let parts = poem::RequestParts::from((parts, local, remote, poem::http::uri::Scheme::HTTP));
        asked = Request::from_parts(parts, asked.take_body());
        if forwarded {
            asked
                .headers_mut()
                .insert("x-forwarded-for", "192.0.2.9".parse().unwrap());
        }
        asked
    };
    let local = send(&bench.api, from("127.0.0.1:5", false)).await;
    assert_eq!(local.status, 200);
    let line = r#"mqueue_items{namespace="a",state="ready",topic="t"} 1"#;
    assert!(local.text.lines().any(|l| l == line), "{}", local.text);
    assert!(
        local
            .text
            .contains(r#"mqueue_http_requests_total{route="enqueue",status="2xx"} 1"#)
    );
    assert_eq!(send(&bench.api, from("127.0.0.1:5", true)).await.status, 401);
    assert_eq!(send(&bench.api, from("192.0.2.1:5", false)).await.status, 401);
    let all = MintClaims {
        subject: "prometheus".into(),
        namespaces: None,
        scopes: vec![],
        audience: None,
        issuer: None,
    };
    let all = mint(SECRET, &all, Clock::system().now(), Duration::from_secs(60)).unwrap();
    assert_eq!(
        send(&bench.api, request(Method::GET, "/metrics", Some(&all), ""))
            .await
            .status,
        200
    );
    assert_eq!(bench.get("/metrics").await.status, StatusCode::FORBIDDEN.as_u16());
}

/// What `schema` documents, followed through references; `None` for what may be anything.
pub(crate) fn check_shape(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        return check_shape(document, document.pointer(pointer).unwrap(), value, place);
    }
    if let Some(first) = schema["allOf"].as_array().and_then(|all| all.first()) {
        return check_shape(document, first, value, place);
    }
    match value {
        Value::Object(members) if schema["properties"].is_object() => {
            for (name, member) in members {
                let known = &schema["properties"][name];
                assert!(known.is_object(), "{place}.{name} is sent and not documented");
                check_shape(document, known, member, &format!("{place}.{name}"));
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                let required = required.as_str().unwrap();
                assert!(
                    members.contains_key(required),
                    "{place}.{required} is documented and not sent"
                );
            }
        }
        Value::Array(list) => {
            for entry in list {
                check_shape(document, &schema["items"], entry, &format!("{place}[]"));
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn answers_have_exactly_the_documented_members() {
    let bench = bench().await;
    let document: Value = serde_json::from_str(&openapi::document()).unwrap();
    let items = json!({"items": [
        {"payload": "aGk=", "content_type": "a/b", "headers": {"k": "v"}, "idempotency_key": "1", "ttl_ms": 60000},
        {"payload": "aGk=", "content_type": "a/b", "headers": {"k": "v"}, "idempotency_key": "1", "ttl_ms": 60000},
        {"json": [1]}, {"text": "t", "delay_ms": 60000}]});
    let enqueued = bench.post(&format!("{TOPIC}/enqueue"), items).await;
    let delivered = bench.post(&format!("{TOPIC}/dequeue"), json!({"max": 1})).await;
    let lease = json!({"leases": [{"lease_id": delivered.json()["items"][0]["lease_id"], "error": "no"}]});
    let rejected = bench.post("/v1/reject", lease).await;
    let id = enqueued.json()["results"][2]["id"].as_str().unwrap().to_owned();
    let answers = [
        ("enqueue", enqueued),
        ("dequeue", delivered),
        ("reject", rejected),
        ("topic_stats", bench.get(&format!("{TOPIC}/stats")).await),
        ("get_topic", bench.get(TOPIC).await),
        (
            "put_topic",
            bench
                .send(Method::PUT, TOPIC, r#"{"backoff":{"factor":3}}"#)
                .await,
        ),
        ("list_topics", bench.get("/v1/namespaces/a/topics").await),
        (
            "browse_items",
            bench.get(&format!("{TOPIC}/items?state=scheduled")).await,
        ),
        ("browse_dead", bench.get(&format!("{TOPIC}/dead")).await),
        ("get_item", bench.get(&format!("{TOPIC}/items/{id}")).await),
        (
            "explain_item",
            bench.get(&format!("{TOPIC}/items/{id}/explain")).await,
        ),
        (
            "redrive_dead",
            bench
                .post(&format!("{TOPIC}/dead/redrive"), json!({"dry_run": true}))
                .await,
        ),
        (
            "discard_dead",
            bench.send(Method::DELETE, &format!("{TOPIC}/dead"), "").await,
        ),
        ("get_namespace", bench.get("/v1/namespaces/a").await),
        ("list_namespaces", bench.get("/v1/namespaces").await),
        ("get_audit", bench.get("/v1/namespaces/a/audit").await),
        ("get_all_audit", {
            let admin = anywhere(&Scope::ALL);
            send(&bench.api, request(Method::GET, "/v1/audit", Some(&admin), "")).await
        }),
        ("order_operation", {
            let order =
                json!({"kind": "cancel", "topic": "t", "filter": {"older_than_ms": 1}, "dry_run": true});
            bench.post("/v1/namespaces/a/operations", order).await
        }),
        ("list_operations", bench.get("/v1/namespaces/a/operations").await),
        ("get_operation", bench.get("/v1/namespaces/a/operations/1").await),
        ("get_quota", bench.get("/v1/namespaces/limited/quota").await),
        ("readyz", bench.get("/readyz?verbose").await),
        ("classic_dequeue", bench.get("/dequeue?namespace=a&topic=t").await),
        (
            "put_quota",
            bench
                .operate(Method::PUT, "/v1/namespaces/a/quota", r#"{"burst":5,"leases":9}"#)
                .await,
        ),
        (
            "delete_quota",
            bench.operate(Method::DELETE, "/v1/namespaces/a/quota", "").await,
        ),
        ("get_config", bench.operate(Method::GET, "/v1/config", "").await),
    ];
    let operations = documented();
    for (name, answer) in answers {
        assert!(matches!(answer.status, 200 | 202), "{name}: {}", answer.text);
        let operation = &operations.iter().find(|o| o.2["operationId"] == name).unwrap().2;
        let status = answer.status.to_string();
        let schema = &operation["responses"][status]["content"]["application/json"]["schema"];
        check_shape(&document, schema, &answer.json(), name);
    }
    let problem = bench
        .post(&format!("{TOPIC}/enqueue"), json!({"items": [{"text": 1}]}))
        .await;
    check_shape(
        &document,
        &json!({"$ref": "#/components/schemas/Problem"}),
        &problem.json(),
        "problem",
    );
}

#[tokio::test]
async fn a_wrong_configuration_is_told_key_by_key() {
    let bench = bench().await;
    let answer = bench.operate(Method::POST, "/v1/config/reload", "").await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "config_invalid"));
    let error = json!({"field": "log.level", "detail": "must be quiet"});
    assert_eq!(answer.json()["errors"], json!([error]));
}

#[tokio::test]
async fn the_documentation_page_asks_no_other_host() {
    let bench = bench().await;
    for path in [
        "/docs",
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/docs/start.js",
    ] {
        let page = send(&bench.api, request(Method::GET, path, None, "")).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("http"),
            "{policy}"
        );
    }
    let document = send(&bench.api, request(Method::GET, "/openapi.json", None, "")).await;
    assert_eq!(document.text, openapi::document());
}
