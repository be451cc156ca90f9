use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::hooks::{DequeueVerdict, Edit, EnqueueVerdict, Failure, Reason, Verdicts};
use crate::model::{Digest, HookLimits, HookRef, Manifest};

/// Answers every call with the same outcome and remembers the calls.
struct Parrot {
    outcome: Result<Verdicts, Failure>,
    heard: Mutex<Vec<Call>>,
}

#[async_trait]
impl Rehearser for Parrot {
    async fn rehearse(&self, call: Call) -> Report {
        self.heard.lock().push(call);
        Report {
            outcome: self.outcome.clone(),
            usage: Usage {
                run: Duration::from_micros(5_001),
                memory_bytes: 32 << 20,
                log_lines_dropped: 64,
                ..Usage::default()
            },
            log: vec![],
        }
    }
}

fn version() -> Arc<Version> {
    Arc::new(Version {
        namespace: "a".parse().unwrap(),
        hook: HookRef {
            hook: "h".parse().unwrap(),
            version: 1,
        },
        digest: Digest([0; 32]),
        manifest: Manifest::default(),
        limits: HookLimits::default(),
        config: Arc::default(),
        secrets: Arc::default(),
        quarantined: false,
    })
}

async fn run(outcome: Result<Verdicts, Failure>, case: serde_json::Value) -> (CaseResult, Vec<Call>) {
    let parrot = Parrot {
        outcome,
        heard: Mutex::default(),
    };
    let cases = parse_cases(&case.to_string()).unwrap();
    let mut results = run_cases(&parrot, &version(), &cases).await;
    (results.remove(0), parrot.heard.into_inner())
}

fn enqueue(verdict: EnqueueVerdict) -> Result<Verdicts, Failure> {
    Ok(Verdicts::Enqueue(vec![Ok(verdict)]))
}

async fn mismatch(outcome: Result<Verdicts, Failure>, side: &str, expect: serde_json::Value) -> String {
    let case = json!({"name": "n", "side": side, "item": {"json": {"a": 1}}, "expect": expect});
    run(outcome, case).await.0.mismatch.unwrap_or_default()
}

#[tokio::test]
async fn a_mismatch_says_what_was_expected_and_what_came() {
    let no_email = Reason {
        code: "no-email".into(),
        message: "give one".into(),
    };
    let rejected = || enqueue(EnqueueVerdict::Reject(no_email.clone()));
    let replaced = || enqueue(EnqueueVerdict::Replace((*b"{\"a\": 2}").into()));
    let enqueued = |outcome, expect| mismatch(outcome, "enqueue", expect);
    assert_eq!(
        enqueued(
            enqueue(EnqueueVerdict::Keep),
            json!({"verdict": "reject", "code": "no-email"})
        )
        .await,
        "expected reject with code `no-email`, got keep"
    );
    assert_eq!(
        enqueued(rejected(), json!({"verdict": "keep"})).await,
        "expected keep, got reject with code `no-email`"
    );
    assert_eq!(
        enqueued(rejected(), json!({"verdict": "reject", "code": "other"})).await,
        "expected reject with code `other`, got `no-email`"
    );
    assert_eq!(
        enqueued(rejected(), json!({"verdict": "reject", "message": "give one"})).await,
        ""
    );
    assert_eq!(
        enqueued(replaced(), json!({"verdict": "replace", "json": {"a": 2}})).await,
        ""
    );
    assert_eq!(
        enqueued(replaced(), json!({"verdict": "replace", "text": "x"})).await,
        "expected the payload to be `x`, got `{\"a\": 2}`"
    );
    assert_eq!(
        enqueued(replaced(), json!({"verdict": "replace", "priority": 3})).await,
        "expected the priority to be `3`, but the hook leaves it as it is"
    );
    assert_eq!(
        enqueued(
            Err(Failure::Trap("unreachable".into())),
            json!({"verdict": "keep"})
        )
        .await,
        "expected keep, got trap (the hook trapped: unreachable)"
    );
    let failed = || Ok(Verdicts::Enqueue(vec![Err("no table for DE".into())]));
    assert_eq!(
        enqueued(failed(), json!({"verdict": "error", "message": "for DE"})).await,
        ""
    );
    assert_eq!(
        enqueued(failed(), json!({"verdict": "error", "message": "FR"})).await,
        "expected the message `FR`, got `no table for DE`"
    );
    // What the queue would refuse is no success here.
    let nowhere = Edit {
        topic: Some("../x".into()),
        ..Edit::default()
    };
    assert!(
        enqueued(enqueue(EnqueueVerdict::Edit(nowhere)), json!({"verdict": "edit"}))
            .await
            .starts_with("expected edit, got error (topic: ")
    );
    let many = vec![Edit::default(); 17];
    assert_eq!(
        enqueued(
            enqueue(EnqueueVerdict::Split(many)),
            json!({"verdict": "error", "message": "at most 16"})
        )
        .await,
        ""
    );
    let deferred = Ok(Verdicts::Dequeue(vec![Ok(DequeueVerdict::Defer(5))]));
    assert_eq!(
        mismatch(deferred, "dequeue", json!({"verdict": "defer", "delay_ms": 6})).await,
        "expected delay_ms `6`, got `5`"
    );
}

#[tokio::test]
async fn parts_of_a_split_are_compared_one_by_one() {
    let part = |topic: &str| Edit {
        topic: Some(topic.into()),
        headers: Some(vec![("b".into(), "2".into()), ("a".into(), "1".into())]),
        ..Edit::default()
    };
    let split = || enqueue(EnqueueVerdict::Split(vec![part("x"), part("y")]));
    let expect = |items: serde_json::Value| json!({"verdict": "split", "items": items});
    let fine = json!([{"topic": "x"}, {"topic": "y", "headers": {"a": "1", "b": "2"}}]);
    assert_eq!(mismatch(split(), "enqueue", expect(fine)).await, "");
    assert_eq!(
        mismatch(split(), "enqueue", expect(json!([{}]))).await,
        "expected a split into 1, got one into 2"
    );
    assert_eq!(
        mismatch(split(), "enqueue", expect(json!([{}, {"topic": "z"}]))).await,
        "part 2 of the split: expected the topic to be `z`, got `y`"
    );
}

#[tokio::test]
async fn a_case_sets_everything_the_hook_sees() {
    let case = json!({
        "name": "n", "side": "dequeue", "topic": "orders", "principal": "p", "scopes": ["dequeue"],
        "now": "2030-01-01T00:00:00Z", "config": {"limit": 5}, "secrets": {"key": "k"},
        "item": {"payload": "aGk=", "priority": -1, "headers": {"a": "b"}, "attempt": 3, "hops": 1},
        "expect": {"verdict": "deliver"},
    });
    let delivered = Ok(Verdicts::Dequeue(vec![Ok(DequeueVerdict::Deliver)]));
    let (result, calls) = run(delivered, case).await;
    assert!(result.passed(), "{result:?}");
    let call = &calls[0];
    assert!(call.rehearsal && call.side == Side::Dequeue);
    assert_eq!(call.context.topic.to_string(), "a/orders");
    assert_eq!(call.context.now.to_string(), "2030-01-01T00:00:00.000Z");
    assert_eq!(
        (&*call.context.principal, &*call.context.scopes[0]),
        ("p", "dequeue")
    );
    assert_eq!(&*call.version.config["limit"], "5");
    assert_eq!(&*call.version.secrets["key"], "k");
    let item = &call.items()[0];
    assert_eq!((item.attempt, item.hops, item.item.priority), (3, 1, -1));
    assert_eq!(&*item.item.payload, b"hi");
    let nearness = result.rehearsal.unwrap().nearness;
    assert_eq!(
        (
            nearness.time_percent,
            nearness.memory_percent,
            nearness.log_lines_percent
        ),
        (26, 50, 100)
    );
}

#[test]
fn files_that_do_not_fit_are_refused_with_the_place() {
    let case = |item: &str, expect: &str| {
        let text = format!(r#"[{{"side":"enqueue","item":{item},"expect":{expect}}}]"#);
        parse_cases(&text).unwrap_err()
    };
    let keep = r#"{"verdict":"keep"}"#;
    assert_eq!(
        case(r#"{"payload":"%"}"#, keep),
        "[0].item.payload: not base64 (the standard alphabet, padded with '=')"
    );
    assert_eq!(
        case(r#"{"text":"a","json":1}"#, keep),
        "[0].item.payload: give only one of json, text and payload"
    );
    assert_eq!(
        case("{}", r#"{"verdict":"defer"}"#),
        "[0].expect.verdict: `defer` is no verdict of enqueue hooks"
    );
    assert!(case("{}", r#"{"verdict":"maybe"}"#).contains("unknown variant `maybe`"));
    assert!(case("{}", r#"{"verdict":"keep","items":[]}"#).contains("expect.items: only a split"));
    assert!(case(r#"{"txt":""}"#, keep).contains("unknown field `txt`"));
    let named = r#"{"name":"x","side":"enqueue","item":{},"expect":{"verdict":"keep"}}"#;
    assert_eq!(parse_cases(named).unwrap().len(), 1);
    assert_eq!(
        parse_cases(&format!("[{named},{named}]")).unwrap_err(),
        "[1].name: `x` is there twice"
    );
}

#[test]
fn a_changed_payload_is_shown_in_the_form_of_the_old_one() {
    let view = |item: serde_json::Value, payload: &[u8]| {
        let item: TestItem = serde_json::from_value(item).unwrap();
        let item = item
            .hook_item(
                Side::Enqueue,
                crate::clock::Timestamp::ZERO,
                crate::model::ItemId(1),
            )
            .unwrap();
        let report = Report {
            outcome: enqueue(EnqueueVerdict::Replace(payload.into())),
            usage: Usage::default(),
            log: vec![],
        };
        serde_json::to_value(Outcome::of(&report).view(&item)).unwrap()["changes"][0].clone()
    };
    assert_eq!(
        view(json!({"json": {"a": 1}}), b"{\"a\":2}")["json"],
        json!({"a": 2})
    );
    assert_eq!(
        view(json!({"json": {"a": 1}}), b"{\"a\":2}")["diff"]["kind"],
        "json"
    );
    assert_eq!(view(json!({"json": 1}), b"hello")["text"], "hello");
    assert_eq!(view(json!({"text": "x"}), b"hello")["text"], "hello");
    assert_eq!(view(json!({"payload": ""}), b"hi")["payload"], "aGk=");
    assert_eq!(view(json!({"text": "x"}), b"\xff")["payload"], "/w==");
}
