//! A hook that runs into its limits again and again, against a real server: it is not run any more until its owner
//! says that it may be.

use serde_json::{Value, json};

use crate::client::text;
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::server::{Server, token};
use crate::shards::until;
use mqueue::tenant::Scope;

/// Exhausts its stack over items that begin with `b`.
const DEEP: Guest<'_> = Guest {
    imports: "",
    fields: "(func $deep (param i64) (call $deep (i64.add (local.get 0) (i64.const 1))))",
    body: "",
    item: "(if (i32.eq (i32.load8_u (i32.load offset=60 (local.get $item))) (i32.const 98))
        (then (call $deep (i64.const 0))))",
};

async fn version(hooks: &Hooks) -> Value {
    hooks.client.get(&hooks.at("hooks/h/versions/1")).await.ok()
}

/// Has the hook fail until it is in quarantine. Its breaker opens on the way, and good items close it again.
async fn provoke(hooks: &Hooks) {
    let bad: Vec<Value> = (0..40).map(|_| json!({"text": "bad"})).collect();
    let mut round = 0;
    until(async || {
        round += 1;
        let topic = format!("bad-{round}");
        hooks.enqueue(&topic, json!(bad)).await.ok();
        assert_eq!(hooks.dequeue(&topic).await, Vec::<Value>::new());
        hooks.enqueue("good", json!([{"text": "good"}])).await.ok();
        until(async || {
            let is_held = version(hooks).await.get("quarantine").is_some();
            (is_held || !hooks.dequeue("good").await.is_empty()).then_some(())
        })
        .await;
        version(hooks).await.get("quarantine").cloned()
    })
    .await;
}

#[tokio::test]
async fn what_runs_into_its_limits_again_and_again_is_run_no_more_until_its_owner_says_so() {
    let mut server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks.put("h", Side::Dequeue, DEEP, json!({})).await;
    provoke(&hooks).await;
    let quarantine = version(&hooks).await["quarantine"].clone();
    assert_eq!(quarantine["ceiling"], "stack", "{quarantine}");
    assert!(quarantine["trips"].as_u64().unwrap() >= 100, "{quarantine}");

    // Nor after a restart: nothing passes, and everybody is told why.
    assert!(server.terminate().await.success());
    server.start_again().await;
    let hooks = Hooks::of(&server.client(), "default");
    let item = hooks.enqueue("t", json!([{"text": "good"}])).await.ok();
    let id = item["results"][0]["id"].as_str().unwrap();
    assert!(hooks.dequeue("t").await.is_empty());
    let why = hooks.at(&format!("topics/t/items/{id}/explain"));
    let why = hooks.client.get(&why).await.ok();
    let is_told = |reason: &Value| reason["code"] == "hook_quarantined" && reason["hook"] == "h@1";
    assert!(why["reasons"].as_array().unwrap().iter().any(is_told), "{why}");
    assert_eq!(why["deliverable"], false, "{why}");
    let binding = hooks.client.get(&hooks.at("bindings/h")).await.ok();
    assert_eq!(binding["quarantined"], json!([1]), "{binding}");
    let stats = hooks.client.get(&hooks.at("hooks/h/stats")).await.ok();
    assert_eq!(stats["versions"][0]["quarantined"], true, "{stats}");
    let metrics = hooks.client.get("/metrics").await.text;
    let gauge = r#"mqueue_hook_quarantined{hook="h",namespace="default",version="1"} 1"#;
    assert!(metrics.contains(gauge), "{metrics}");
    let body = json!({"topic": "x", "side": "dequeue", "hook": "h", "version": 1});
    let path = hooks.at("bindings/other");
    let refused = hooks.client.put_if(&path, ("if-none-match", "*"), body).await;
    assert!(
        refused
            .problem(422, "gate_failed")
            .to_string()
            .contains("quarantine")
    );

    // That is for those to say who look after hooks.
    let path = hooks.at("hooks/h/versions/1/acknowledge");
    let consumer = server.client_with(Some(token(None, &[Scope::Enqueue, Scope::Dequeue])));
    consumer
        .post(&path, json!({}))
        .await
        .problem(403, "insufficient_scope");
    let command = ["hooks", "acknowledge", "h"];
    let said = server.command(&command).output().unwrap();
    assert!(
        said.status.success() && String::from_utf8_lossy(&said.stdout).contains("h@1 is run again"),
        "{said:?}"
    );
    hooks.client.post(&path, json!({})).await.problem(409, "conflict");
    let delivered = until(async || hooks.dequeue("t").await.pop()).await;
    assert_eq!(text(&delivered), "good");
    let audit = hooks.client.get(&hooks.at("audit")).await.ok().to_string();
    assert!(
        audit.contains("hook.quarantine") && audit.contains("hook.acknowledge"),
        "{audit}"
    );
}

#[tokio::test]
async fn a_shadow_says_what_it_would_have_done_and_changes_nothing() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let shout = Guest {
        item: crate::guests::UPPER,
        ..Guest::default()
    };
    hooks.push("h", Guest::default().enqueue()).await;
    hooks.push("h", shout.enqueue()).await;
    let shadowed = json!({"shadow": 2, "shadow_percent": 100});
    let bound = hooks.bind("h", 1, Side::Enqueue, shadowed).await;
    assert_eq!(
        (&bound["shadow_percent"], &bound["ready"]),
        (&json!(100), &json!(true))
    );
    hooks.enqueue("t", json!([{"text": "old"}])).await.ok();
    assert_eq!(text(&hooks.dequeue("t").await[0]), "old");
    let path = hooks.at("hooks/h/differences");
    let kept = until(async || {
        let kept = hooks.client.get(&path).await.ok()["differences"].clone();
        kept.as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (
            &kept["version"],
            &kept["shadow"],
            &kept["outcome"],
            &kept["topic"]
        ),
        (&json!(1), &json!(2), &json!("different"), &json!("t")),
        "{kept}"
    );
    assert_eq!(kept["counted"], json!({"verdict": "keep"}), "{kept}");
    assert_eq!(kept["said"]["changes"][0]["text"], "OLD", "{kept}");
    // One item in a hundred, unless its owner says otherwise.
    let bound = hooks.bind("h", 1, Side::Enqueue, json!({"shadow": 2})).await;
    assert_eq!(bound["shadow_percent"], 1);
    for wrong in [0, 101] {
        let body = json!({"topic": "*", "side": "enqueue", "hook": "h", "version": 1, "shadow": 2, "shadow_percent": wrong});
        let path = hooks.at("bindings/other");
        let refused = hooks.client.put_if(&path, ("if-none-match", "*"), body).await;
        assert!(refused.any_problem().to_string().contains("shadow_percent"));
    }
    hooks
        .client
        .get(&hooks.at("hooks/none/differences"))
        .await
        .problem(404, "unknown_hook");
}
