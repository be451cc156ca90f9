//! What a hook reaches for beyond its items, against a real server: floods of imports, topics that are not its
//! namespace's, headers that are the queue's own. Each is an error, and the binding's policy is applied.

use serde_json::{Value, json};

use crate::client::text;
use crate::guests::{CONFIG, Guest, LOG, NOW, RANDOM};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

#[tokio::test]
async fn b2_floods_of_imports_end_and_are_counted() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    for (name, imports, call) in [
        (
            "log",
            LOG,
            "(call $log (i32.const 2) (i32.const 0) (i32.const 8))",
        ),
        ("clock", NOW, "(drop (call $now))"),
        ("random", RANDOM, "(drop (call $random))"),
        (
            "config",
            CONFIG,
            "(call $get (i32.const 0) (i32.const 8) (i32.const 1024))",
        ),
        (
            "secret",
            CONFIG,
            "(call $secret (i32.const 0) (i32.const 8) (i32.const 1024))",
        ),
    ] {
        let body = format!("(loop $l {call} (br $l))");
        let guest = Guest {
            imports,
            body: &body,
            ..Guest::default()
        };
        let topic = json!({ "topic": name });
        hooks.put(name, Side::Enqueue, guest, topic).await;
        let refused = hooks.enqueue(name, json!([{"text": "x"}])).await;
        let told = refused.problem(422, "hook_failed").to_string();
        assert!(told.contains("trapped"), "{name}: {told}");
        let stats = hooks.client.get(&hooks.at(&format!("hooks/{name}/stats"))).await;
        let stats = stats.ok()["versions"][0].clone();
        assert_eq!(
            (&stats["traps"], &stats["ceiling_trips"], &stats["host_calls"]),
            (&json!(1), &json!(1), &json!(1_001)),
            "{name}: {stats}"
        );
    }
    // Of what is not too much for one call, a hook keeps as many lines as it may, and the rest is counted.
    let chatty = Guest {
        imports: LOG,
        body: "(block $done (loop $l
                 (br_if $done (i32.gt_u (local.get $at) (i32.const 99)))
                 (call $log (i32.const 2) (i32.const 2048) (i32.const 1024))
                 (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $l)))",
        ..Guest::default()
    };
    hooks
        .put("chatty", Side::Enqueue, chatty, json!({"topic": "chatty"}))
        .await;
    for _ in 0..40 {
        hooks.enqueue("chatty", json!([{"text": "x"}])).await.ok();
    }
    let log = hooks
        .client
        .get(&hooks.at("hooks/chatty/logs?limit=1000"))
        .await
        .ok();
    let lines = log["lines"].as_array().unwrap().len();
    let stats = hooks.client.get(&hooks.at("hooks/chatty/stats")).await.ok();
    let dropped = stats["versions"][0]["log_lines_dropped"].as_u64().unwrap();
    assert!(
        lines <= 1_000 && dropped >= 40 * 36,
        "{lines} lines, {dropped} dropped"
    );
}

/// Sends every item to the topic whose name lies at 40,000, `bytes` long.
fn to_topic(bytes: usize) -> String {
    format!(
        "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
         (i32.store8 offset=64 (local.get $verdict) (i32.const 1))
         (i32.store offset=68 (local.get $verdict) (i32.const 40000))
         (i32.store offset=72 (local.get $verdict) (i32.const {bytes}))"
    )
}

/// Puts a hook of a name and a topic of its own in force, which fails and says `word` of why, and then lets the topic's
/// items pass without it.
async fn fails_and_is_passed_over(
    hooks: &Hooks,
    number: usize,
    guest: Guest<'_>,
    (word, shown): (&str, &str),
) -> (String, String) {
    let (hook, topic) = (format!("h{number}"), format!("t{number}"));
    hooks
        .put(&hook, Side::Enqueue, guest, json!({ "topic": topic }))
        .await;
    let refused = hooks.enqueue(&topic, json!([{"text": "x"}])).await;
    let told = refused.problem(422, "hook_failed").to_string();
    assert!(told.contains(word), "{shown:?}: {told}");
    let open = json!({"topic": topic, "policies": {"error": "open"}});
    hooks.bind(&hook, 1, Side::Enqueue, open).await;
    (hook, topic)
}

#[tokio::test]
async fn b6_no_hook_sends_an_item_anywhere_but_to_a_topic_of_its_namespace() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let stranger = Hooks::of(&server.client(), "stranger");
    stranger.enqueue("t", json!([{"text": "own"}])).await.ok();
    let long = "x".repeat(10 << 10);
    for (number, name) in [
        "",
        ".",
        "..",
        "../stranger/t",
        "stranger/t",
        "/v1/namespaces/stranger/topics/t",
        "a b",
        "a\\0b",
        "a\\0d\\0ab",
        &long,
    ]
    .into_iter()
    .enumerate()
    {
        let bytes = if name == "a\\0d\\0ab" {
            4
        } else {
            name.replace("\\0b", "\u{b}").len()
        };
        let fields = format!(r#"(data (i32.const 40000) "{name}")"#);
        let item = to_topic(bytes);
        let guest = Guest {
            fields: &fields,
            item: &item,
            ..Guest::default()
        };
        let (hook, topic) = fails_and_is_passed_over(&hooks, number, guest, ("topic", name)).await;
        hooks.enqueue(&topic, json!([{"text": "x"}])).await.ok();
        let items = hooks.dequeue(&topic).await;
        assert_eq!(items.len(), 1, "{name:?}");
        assert_eq!(items[0]["headers"]["mq-hook-skipped"], format!("{hook}@1"));
    }
    let own: Vec<String> = stranger.dequeue("t").await.iter().map(text).collect();
    assert_eq!(own, ["own"]);
}

#[tokio::test]
async fn b9_headers_of_the_queues_own_and_broken_ones_are_refused() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    // Name and value, as they stand in the module.
    for (number, (name, value)) in [
        ("mq-hook-skipped", "h@1"),
        ("MQ-Trace", "x"),
        ("mq-", ""),
        ("a", r"b\0d\0ac: d"),
        ("a", r"b\0ac"),
        (r"a\0d\0ab", "c"),
        ("", "c"),
        ("a b", "c"),
        ("a:", "c"),
    ]
    .into_iter()
    .enumerate()
    {
        let length = |text: &str| text.replace(r"\0d", "r").replace(r"\0a", "n").len();
        let fields = format!(
            r#"(data (i32.const 64) "{name}") (data (i32.const 128) "{value}")
               (data (i32.const 192) "\40\00\00\00\{:02x}\00\00\00\80\00\00\00\{:02x}\00\00\00")"#,
            length(name),
            length(value)
        );
        let guest = Guest {
            fields: &fields,
            item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
                (i32.store8 offset=28 (local.get $verdict) (i32.const 1))
                (i32.store offset=32 (local.get $verdict) (i32.const 192))
                (i32.store offset=36 (local.get $verdict) (i32.const 1))",
            ..Guest::default()
        };
        let shown = format!("{name:?}: {value:?}");
        let (hook, topic) = fails_and_is_passed_over(&hooks, number, guest, ("header", &shown)).await;
        hooks
            .enqueue(&topic, json!([{"text": "x", "headers": {"mine": "1"}}]))
            .await
            .ok();
        let item: Value = hooks.dequeue(&topic).await.remove(0);
        let kept = json!({"mine": "1", "mq-hook-skipped": format!("{hook}@1")});
        assert_eq!(item["headers"], kept, "{shown}");
    }
}
