//! The routes of hooks over a real registry, with an engine that only pretends: a module is a script of what
//! to say.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use poem::http::Method;
use poem::{Body, Request};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::super::openapi;
use super::super::tests::{Answered, Bench, bench, check_shape, documented, request, send, token};
use super::HooksState;
use crate::clock::Clock;
use crate::hooks::engine::{Prepared, UploadError};
use crate::hooks::registry::{NamespaceHookLimits, Preparer, Registry};
use crate::hooks::rehearse::Rehearser;
use crate::hooks::{
    Call, EnqueueVerdict, Failure, LogLevel, LogLine, Observer, Reason, Report, Usage, Verdicts,
};
use crate::model::{Digest, HookLimits, Namespace, Side};
use crate::shard::{SeaShard, ShardOptions};
use crate::tenant::Scope;

/// What a module whose text begins with `slow` waits for.
static SLOW: Semaphore = Semaphore::const_new(0);

/// Takes any text as a module that says it: `keep`, `upper`, `trap`, or else a reject with it as its code.
struct Pretender {
    modules: parking_lot::Mutex<std::collections::HashMap<Digest, String>>,
}

#[async_trait]
impl Preparer for Pretender {
    async fn prepare(&self, upload: &[u8], _: &Namespace) -> Result<Prepared, UploadError> {
        let text = String::from_utf8_lossy(upload).into_owned();
        if let Some(reason) = text.strip_prefix("refuse ") {
            return Err(UploadError::Contract(reason.to_owned()));
        }
        if text.starts_with("slow") {
            SLOW.acquire().await.unwrap().forget();
        }
        let digest = Digest(Sha256::digest(upload).into());
        self.modules.lock().insert(digest, text);
        Ok(Prepared {
            digest,
            component: upload.to_vec(),
            exports: vec![Side::Enqueue],
            imports: vec!["mqueue:hooks/log@0.1.0".to_owned()],
            compile_ms: 1,
            warnings: vec![],
        })
    }

    async fn ensure(&self, _: Digest, _: &Namespace) -> Result<(), UploadError> {
        Ok(())
    }

    fn is_ready(&self, digest: Digest) -> bool {
        self.modules.lock().contains_key(&digest)
    }
}

#[async_trait]
impl Rehearser for Pretender {
    async fn rehearse(&self, call: Call) -> Report {
        let text = self.modules.lock()[&call.version.digest].clone();
        let payload = &call.items()[0].item.payload;
        let verdict = match &*text {
            "keep" => EnqueueVerdict::Keep,
            "upper" => EnqueueVerdict::Replace(payload.to_ascii_uppercase().into()),
            code => EnqueueVerdict::Reject(Reason {
                code: code.into(),
                message: "no".into(),
            }),
        };
        let outcome = match &*text {
            "trap" => Err(Failure::Trap("unreachable".into())),
            _ => Ok(Verdicts::Enqueue(vec![Ok(verdict)])),
        };
        Report {
            outcome,
            usage: Usage {
                instructions: Some(77),
                memory_bytes: 16 << 20,
                ..Usage::default()
            },
            log: vec![LogLine {
                level: LogLevel::Info,
                message: "seen".into(),
            }],
        }
    }
}

/// The hooks of a test's API, with the catalog of the node whose data is in the folder `dir`.
pub(in super::super) async fn state(dir: &Path, clock: Clock) -> HooksState {
    let url = format!("sqlite://{}?mode=rwc", dir.join("shard-0.db").display());
    let shard = SeaShard::open(&url.into(), &ShardOptions::default())
        .await
        .unwrap();
    let engine = Arc::new(Pretender {
        modules: parking_lot::Mutex::default(),
    });
    let registry = Registry::open(
        shard.catalog(),
        engine.clone(),
        clock,
        HookLimits::default(),
        NamespaceHookLimits::default(),
    )
    .await
    .unwrap();
    HooksState::new(registry, engine, 1 << 20)
}

const HOOK: &str = "/v1/namespaces/a/hooks/h";
const BINDING: &str = "/v1/namespaces/a/bindings/b";

fn with(mut request: Request, headers: &[(&'static str, &str)]) -> Request {
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// Sends as the tenant `a` with every scope.
async fn ask(
    bench: &Bench,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: Value,
) -> Answered {
    let token = token(&["a"], &Scope::ALL);
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    send(
        &bench.api,
        with(request(method, path, Some(&token), &body), headers),
    )
    .await
}

async fn get(bench: &Bench, path: &str) -> Answered {
    ask(bench, Method::GET, path, &[], Value::Null).await
}

async fn upload(bench: &Bench, module: &str) -> Answered {
    let token = token(&["a"], &Scope::ALL);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{HOOK}/versions").parse().unwrap())
        .header("authorization", format!("Bearer {token}"))
        .content_type("text/wat")
        .body(Body::from(module.to_owned()));
    send(&bench.api, request).await
}

/// A binding of version 1 under its first revision.
async fn bound(bench: &Bench) -> String {
    let draft = json!({"topic": "t*", "side": "enqueue", "hook": "h", "version": 1});
    let made = ask(bench, Method::PUT, BINDING, &[("if-none-match", "*")], draft).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.headers["etag"].to_str().unwrap().to_owned()
}

async fn activate(bench: &Bench, etag: &str, body: Value) -> Answered {
    let path = format!("{BINDING}/activate");
    ask(bench, Method::POST, &path, &[("if-match", etag)], body).await
}

fn etag(answer: &Answered) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.headers["etag"].to_str().unwrap().to_owned()
}

fn problem(answer: &Answered) -> (u16, String) {
    (answer.status, answer.code())
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_hook_lives_from_its_upload_to_its_deletion() {
    let bench = bench().await;
    let first = upload(&bench, "keep").await;
    assert_eq!((first.status, &first.json()["version"]), (201, &json!(1)));
    let again = upload(&bench, "keep").await;
    assert_eq!((again.status, &again.json()["created"]), (200, &json!(false)));
    assert_eq!(upload(&bench, "upper").await.json()["version"], 2);

    let tag = bound(&bench).await;
    let canary = activate(&bench, &tag, json!({"version": 2, "canary_percent": 5})).await;
    assert_eq!(canary.json()["canary"], json!({"version": 2, "percent": 5}));
    let step = async |verb: &str, tag: &str| {
        let path = format!("{BINDING}/{verb}");
        ask(&bench, Method::POST, &path, &[("if-match", tag)], Value::Null).await
    };
    let promoted = step("promote", &etag(&canary)).await;
    assert_eq!(
        (&promoted.json()["version"], &promoted.json()["previous"]),
        (&json!(2), &json!(1))
    );
    let version = |number: u32| format!("{HOOK}/versions/{number}");
    for bound in [1, 2] {
        let kept = ask(&bench, Method::DELETE, &version(bound), &[], Value::Null).await;
        assert_eq!(problem(&kept), is(409, "version_in_use"));
    }
    let back = step("rollback", &etag(&promoted)).await;
    assert_eq!(back.json()["version"], 1);
    let tag = etag(&back);
    let gone = ask(
        &bench,
        Method::DELETE,
        BINDING,
        &[("if-match", &tag)],
        Value::Null,
    )
    .await;
    assert_eq!(gone.json(), json!({"count": 1}));
    for number in [1, 2] {
        let gone = ask(&bench, Method::DELETE, &version(number), &[], Value::Null).await;
        assert_eq!(gone.status, 200, "{}", gone.text);
    }
    assert_eq!(problem(&get(&bench, HOOK).await), is(404, "unknown_hook"));

    let audit = get(&bench, "/v1/namespaces/a/audit?limit=3").await.json();
    assert_eq!(audit["entries"].as_array().unwrap().len(), 3);
    assert_eq!(audit["entries"][0]["actor"], "tester");
    let rest = format!("/v1/namespaces/a/audit?after={}", audit["next_after"]);
    assert!(
        get(&bench, &rest).await.json()["entries"]
            .as_array()
            .unwrap()
            .len()
            >= 4
    );
}

#[tokio::test]
async fn of_two_who_saw_the_same_one_changes_it() {
    let bench = bench().await;
    upload(&bench, "keep").await;
    upload(&bench, "upper").await;
    let draft = json!({"topic": "t", "side": "enqueue", "hook": "h", "version": 1});
    let blind = ask(&bench, Method::PUT, BINDING, &[], draft.clone()).await;
    assert_eq!(problem(&blind), is(428, "precondition_required"));
    let tag = bound(&bench).await;
    let twice = ask(&bench, Method::PUT, BINDING, &[("if-none-match", "*")], draft).await;
    assert_eq!(problem(&twice), is(412, "precondition_failed"));
    let race = [json!({"version": 2}), json!({"version": 2, "canary_percent": 1})];
    let [one, other] = race.map(|body| activate(&bench, &tag, body));
    let (one, other) = tokio::join!(one, other);
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let loser = if one.status == 412 { one } else { other };
    assert_eq!(loser.headers["etag"], get(&bench, BINDING).await.headers["etag"]);
    let missing = activate(&bench, "\"1\"", json!({"version": 9})).await;
    assert_eq!(problem(&missing), is(412, "precondition_failed"));
    let nowhere = "/v1/namespaces/a/bindings/none/promote";
    let unknown = ask(&bench, Method::POST, nowhere, &[("if-match", "*")], Value::Null).await;
    assert_eq!(problem(&unknown), is(404, "unknown_binding"));
}

#[tokio::test]
async fn a_version_that_fails_its_tests_stays_out_unless_an_administrator_forces_it() {
    let bench = bench().await;
    upload(&bench, "keep").await;
    upload(&bench, "no-email").await;
    let case = json!({"side": "enqueue", "item": {"text": "x"}, "expect": {"verdict": "keep"}});
    let test = format!("{HOOK}/tests/kept");
    assert_eq!(
        ask(&bench, Method::PUT, &test, &[], case.clone()).await.status,
        201
    );
    assert_eq!(ask(&bench, Method::PUT, &test, &[], case).await.status, 200);
    let bad = json!({"side": "enqueue", "item": {"payload": "%"}, "expect": {"verdict": "keep"}});
    let bad = ask(&bench, Method::PUT, &format!("{HOOK}/tests/bad"), &[], bad).await;
    assert_eq!(bad.json()["errors"][0]["field"], "item.payload");
    let tag = bound(&bench).await;
    let stopped = activate(&bench, &tag, json!({"version": 2})).await;
    assert_eq!(problem(&stopped), is(422, "gate_failed"));
    let reason = stopped.json()["errors"].to_string();
    assert!(
        reason.contains("expected keep, got reject with code `no-email`"),
        "{reason}"
    );
    let run = format!("{HOOK}/versions/2/tests");
    let run = ask(&bench, Method::POST, &run, &[], Value::Null).await.json();
    assert_eq!((&run["passed"], &run["failed"]), (&json!(0), &json!(1)));

    let force = json!({"version": 2, "force": true});
    let hooks_only = token(&["a"], &[Scope::Hooks]);
    let path = format!("{BINDING}/activate");
    let body = force.to_string();
    let asked = with(
        request(Method::POST, &path, Some(&hooks_only), &body),
        &[("if-match", &tag)],
    );
    let refused = send(&bench.api, asked).await;
    assert_eq!(problem(&refused), is(403, "insufficient_scope"));
    assert_eq!(activate(&bench, &tag, force).await.json()["version"], 2);
    assert_eq!(
        ask(&bench, Method::DELETE, &test, &[], Value::Null).await.status,
        200
    );
    assert_eq!(problem(&get(&bench, &test).await), is(404, "unknown_test"));
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_and_writes_nothing() {
    let bench = bench().await;
    upload(&bench, "upper").await;
    let run = async |body: Value| {
        let path = format!("{HOOK}/versions/1/dry-run");
        ask(&bench, Method::POST, &path, &[], body).await
    };
    let given = run(json!({"items": [{"text": "abc"}, {"json": {"a": "b"}}]}))
        .await
        .json();
    assert_eq!(given["verdicts"], json!({"replace": 2}));
    assert_eq!(given["items"][0]["changes"][0]["text"], "ABC");
    assert_eq!(
        given["items"][1]["changes"][0]["diff"]["patch"][0],
        json!({"op": "add", "path": "/A", "value": "B"})
    );
    assert_eq!(given["items"][0]["usage"]["instructions"], 77);
    assert_eq!(given["items"][0]["limits"]["memory_percent"], 25);
    assert_eq!(given["items"][0]["log"][0]["message"], "seen");

    let topic = "/v1/namespaces/a/topics/t";
    let items = json!({"items": [{"text": "one"}, {"text": "two"}]});
    ask(&bench, Method::POST, &format!("{topic}/enqueue"), &[], items).await;
    let last = run(json!({"last": 1, "topic": "t"})).await.json();
    assert_eq!(last["items"].as_array().unwrap().len(), 1);
    assert_eq!(last["items"][0]["changes"][0]["text"], "TWO");
    let stored = get(&bench, &format!("{topic}/items")).await.json();
    assert_eq!(stored["items"][1]["text"], "two");
    assert_eq!(last["items"][0]["id"], stored["items"][1]["id"]);

    assert_eq!(run(json!({})).await.code(), "malformed_body");
    assert_eq!(
        run(json!({"last": 101, "topic": "t"})).await.code(),
        "invalid_field"
    );
    assert_eq!(
        run(json!({"last": 1, "topic": "none"})).await.code(),
        "unknown_topic"
    );
    let other_side = run(json!({"items": [{}], "side": "dequeue"})).await;
    assert_eq!(other_side.json()["errors"][0]["field"], "side");
    let unknown = format!("{HOOK}/versions/7/dry-run");
    let unknown = ask(&bench, Method::POST, &unknown, &[], json!({"items": [{}]})).await;
    assert_eq!(problem(&unknown), is(404, "unknown_hook_version"));
}

#[tokio::test]
async fn what_an_upload_leaves_out_is_kept_and_secrets_are_never_shown() {
    let bench = bench().await;
    let versions = format!("{HOOK}/versions");
    let post = async |body: Value| ask(&bench, Method::POST, &versions, &[], body).await;
    let none = post(json!({"note": "no module"})).await;
    assert_eq!(problem(&none), is(422, "invalid_field"));
    let first = post(json!({
        "wat": "keep", "config": {"limit": {"a": [1]}}, "secrets": {"key": "hunter2"},
        "manifest": {"description": "d", "limits": {"item_ms": 5}}, "note": "first",
    }))
    .await;
    assert_eq!(
        (first.status, &first.json()["secrets"]),
        (201, &json!(["key"])),
        "{}",
        first.text
    );
    assert_eq!(first.json()["config"], json!({"limit": {"a": [1]}}));
    let second = upload(&bench, "upper").await.json();
    assert_eq!(
        (&second["config"], &second["secrets"]),
        (&first.json()["config"], &json!(["key"]))
    );
    let third = post(json!({"config": {}, "secrets": {}})).await.json();
    assert_eq!(
        (&third["digest"], &third["secrets"]),
        (&second["digest"], &json!([]))
    );
    for path in [
        HOOK,
        &versions,
        "/v1/namespaces/a/audit",
        &format!("{versions}/1"),
    ] {
        assert!(!get(&bench, path).await.text.contains("hunter2"), "{path}");
    }
    let module = get(&bench, &format!("{versions}/2/module")).await;
    assert_eq!(
        (module.text.as_str(), &module.headers["content-type"]),
        ("upper", &"application/wasm".parse().unwrap())
    );
    let tag = module.headers["etag"].to_str().unwrap();
    let path = format!("{versions}/2/module");
    let known = ask(&bench, Method::GET, &path, &[("if-none-match", tag)], Value::Null).await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));

    let refused = upload(&bench, "refuse it exports no hook").await;
    assert_eq!(problem(&refused), is(422, "hook_refused"));
    assert_eq!(refused.json()["detail"], "it exports no hook");
    for (body, code) in [
        (json!({"module": "%%"}), "malformed_body"),
        (json!({"wat": "a", "module": "YQ=="}), "malformed_body"),
        (json!({"manifest": {"instance": "cold"}}), "malformed_body"),
        (json!({"what": 1}), "malformed_body"),
    ] {
        assert_eq!(post(body.clone()).await.code(), code, "{body}");
    }
    let huge = upload(&bench, &"x".repeat((1 << 20) + 1)).await;
    assert_eq!(problem(&huge), is(413, "body_too_large"));
}

#[tokio::test]
async fn a_namespace_uploads_one_module_at_a_time() {
    let bench = bench().await;
    let held = upload(&bench, "slow");
    let flood = async {
        while bench
            .state
            .hooks
            .uploads
            .take(&"a".parse().unwrap(), "uploads")
            .is_ok()
        {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            let refused = upload(&bench, "keep").await;
            assert_eq!(problem(&refused), is(429, "hooks_busy"));
            assert_eq!(refused.headers["retry-after"], "1");
        }
        SLOW.add_permits(1);
    };
    let (held, ()) = tokio::join!(held, flood);
    assert_eq!(held.status, 201, "{}", held.text);
    assert_eq!(upload(&bench, "keep").await.status, 201);
}

#[tokio::test]
async fn a_log_is_read_and_followed_where_it_was_left() {
    let bench = bench().await;
    upload(&bench, "keep").await;
    let registry = bench.state.hooks.registry.clone();
    let version = registry
        .version(&"a".parse().unwrap(), &"h".parse().unwrap(), 1)
        .unwrap();
    let write = |message: &str| {
        let call = Call {
            version: version.clone(),
            side: Side::Enqueue,
            context: Arc::new(crate::hooks::HookContext {
                topic: crate::model::TopicKey::parse("a", "t").unwrap(),
                now: crate::clock::Timestamp::ZERO,
                principal: "".into(),
                scopes: Arc::new([]),
            }),
            items: Arc::new([]),
            range: 0..0,
            rehearsal: false,
        };
        let report = Report {
            outcome: Ok(Verdicts::Enqueue(vec![])),
            usage: Usage::default(),
            log: vec![LogLine {
                level: LogLevel::Warn,
                message: message.into(),
            }],
        };
        registry.called(&call, &report);
    };
    ["one", "two", "three"].into_iter().for_each(&write);
    let logs = format!("{HOOK}/logs");
    let newest = get(&bench, &format!("{logs}?limit=2")).await.json();
    assert_eq!(newest["lines"][0]["message"], "two");
    assert_eq!(newest["lines"][1]["level"], "warn");
    let seen = newest["lines"][0]["seq"].as_u64().unwrap();
    let after = get(&bench, &format!("{logs}?after={seen}")).await.json();
    assert_eq!(after["lines"].as_array().unwrap().len(), 1);

    let all = token(&["a"], &Scope::ALL);
    let follow = with(
        request(Method::GET, &format!("{logs}?follow=true"), Some(&all), ""),
        &[("last-event-id", &seen.to_string())],
    );
    let mut stream = poem::Endpoint::call(&bench.api, follow).await.unwrap();
    assert_eq!(stream.content_type(), Some("text/event-stream"));
    write("four");
    let mut body = stream.take_body().into_bytes_stream();
    let mut text = String::new();
    while !text.contains("four") {
        let chunk = futures_util::StreamExt::next(&mut body).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(text.contains("three") && !text.contains("two"), "{text}");
    assert!(text.contains("event: line") && text.contains("id: "), "{text}");
    let bad = get(&bench, &format!("{logs}?limit=0")).await;
    assert_eq!(problem(&bad), is(400, "invalid_query"));
}

#[tokio::test]
async fn answers_of_hooks_have_exactly_the_documented_members() {
    let bench = bench().await;
    let uploaded = upload(&bench, "upper").await;
    let tag = bound(&bench).await;
    let case = json!({"side": "enqueue", "item": {"json": 1, "headers": {"a": "b"}},
        "expect": {"verdict": "replace", "json": 1}});
    let test = ask(&bench, Method::PUT, &format!("{HOOK}/tests/t"), &[], case).await;
    let dry_run = json!({"items": [{"json": {"a": "b"}}, {"text": "x"}]});
    let version = format!("{HOOK}/versions/1");
    let answers = [
        ("add_hook_version", uploaded),
        ("put_hook_test", test),
        ("list_hooks", get(&bench, "/v1/namespaces/a/hooks").await),
        ("get_hook", get(&bench, HOOK).await),
        (
            "list_hook_versions",
            get(&bench, &format!("{HOOK}/versions")).await,
        ),
        ("get_hook_version", get(&bench, &version).await),
        (
            "dry_run_hook",
            ask(&bench, Method::POST, &format!("{version}/dry-run"), &[], dry_run).await,
        ),
        (
            "run_hook_tests",
            ask(
                &bench,
                Method::POST,
                &format!("{version}/tests"),
                &[],
                Value::Null,
            )
            .await,
        ),
        ("list_hook_tests", get(&bench, &format!("{HOOK}/tests")).await),
        ("get_hook_limits", get(&bench, "/v1/hooks/limits").await),
        ("list_bindings", get(&bench, "/v1/namespaces/a/bindings").await),
        ("get_binding", get(&bench, BINDING).await),
        (
            "activate_binding",
            activate(&bench, &tag, json!({"version": 1})).await,
        ),
        ("get_hook_logs", get(&bench, &format!("{HOOK}/logs")).await),
        ("get_hook_stats", get(&bench, &format!("{HOOK}/stats")).await),
        (
            "get_hook_failures",
            get(&bench, &format!("{HOOK}/failures")).await,
        ),
        ("get_audit", get(&bench, "/v1/namespaces/a/audit").await),
    ];
    let document: Value = serde_json::from_str(&openapi::document()).unwrap();
    let operations = documented();
    for (name, answer) in answers {
        assert!(matches!(answer.status, 200 | 201), "{name}: {}", answer.text);
        let operation = &operations.iter().find(|o| o.2["operationId"] == name).unwrap().2;
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        check_shape(&document, schema, &answer.json(), name);
    }
    let wit = get(&bench, "/v1/hooks/wit").await;
    assert!(wit.text.contains("package mqueue:hooks@"), "{}", wit.text);
}
