//! Hostile hooks against a real server: each is stopped, what it was asked about gets the binding's policy, and
//! the other tenants never notice. How long they waited is printed beside what they wait on a quiet server.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Client, list, text};
use crate::guests::{Guest, LOG, NOW};
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

/// A hook that must fail on every item, and a word of what its owner is told.
struct Case {
    name: &'static str,
    guest: Guest<'static>,
    /// Put in the place of other text, where the places of the template do not reach.
    instead: Option<(&'static str, &'static str)>,
    tells: &'static str,
}

const fn case(name: &'static str, guest: Guest<'static>, tells: &'static str) -> Case {
    Case {
        name,
        guest,
        instead: None,
        tells,
    }
}

const NOTHING: Guest<'static> = Guest {
    imports: "",
    fields: "",
    body: "",
    item: "",
};

const fn body(body: &'static str) -> Guest<'static> {
    Guest { body, ..NOTHING }
}

const fn item(item: &'static str) -> Guest<'static> {
    Guest { item, ..NOTHING }
}

const CASES: &[Case] = &[
    case("A1 an endless loop", body("(loop $l (br $l))"), "longer than"),
    Case {
        instead: Some((
            "(func $realloc (param i32 i32 i32 i32) (result i32)",
            "(func $realloc (param i32 i32 i32 i32) (result i32) (loop $l (br $l))",
        )),
        ..case("A3 an endless loop where memory is asked for", NOTHING, "longer than")
    },
    case(
        "A4 memory filled over and over",
        body(
            "(drop (memory.grow (i32.const 255)))
             (loop $l (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16000000)) (br $l))",
        ),
        "longer than",
    ),
    case(
        "A5 memory without end",
        body("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"),
        "trap",
    ),
    case(
        "A7 a table without end",
        Guest {
            fields: "(table $t 1 funcref)",
            ..body(
                "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))
                 unreachable",
            )
        },
        "trap",
    ),
    case(
        "A8 recursion without end",
        Guest {
            fields: "(func $r (param i64) (call $r (i64.add (local.get 0) (i64.const 1))))",
            ..body("(call $r (i64.const 0))")
        },
        "trap",
    ),
    case(
        "A9 two gigabytes of answer",
        item(
            "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
             (i32.store offset=16 (local.get $verdict) (i32.const 0))
             (i32.store offset=20 (local.get $verdict) (i32.const 2147483647))",
        ),
        "not valid",
    ),
    case(
        "A9 a million parts",
        item(
            "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
             (i32.store offset=16 (local.get $verdict) (i32.const 8))
             (i32.store offset=20 (local.get $verdict) (i32.const 1000000))",
        ),
        "not valid",
    ),
    case(
        "A10 text that is none",
        Guest {
            fields: r#"(data (i32.const 64) "\ff\fe")"#,
            ..item(
                "(i32.store8 offset=8 (local.get $verdict) (i32.const 5))
                 (i32.store offset=16 (local.get $verdict) (i32.const 64))
                 (i32.store offset=20 (local.get $verdict) (i32.const 2))",
            )
        },
        "not valid",
    ),
    case(
        "A11 results at an odd place",
        body("(local.set $out (i32.add (local.get $out) (i32.const 3)))"),
        "not valid",
    ),
    Case {
        instead: Some((
            "(func $realloc (param i32 i32 i32 i32) (result i32)",
            "(func $realloc (param i32 i32 i32 i32) (result i32) (return (i32.const -16))",
        )),
        ..case("A11 and B7 memory that is not there", NOTHING, "")
    },
    case(
        "A12 a verdict that does not exist",
        item("(i32.store8 offset=8 (local.get $verdict) (i32.const 99))"),
        "not valid",
    ),
    case(
        "A13 no verdict at all",
        item("(local.set $count (i32.const 0))"),
        "not valid",
    ),
    case("B1 a trap", body("unreachable"), "trap"),
    case(
        "B2 a flood of log lines",
        Guest {
            imports: LOG,
            ..body("(loop $l (call $log (i32.const 2) (i32.const 0) (i32.const 8)) (br $l))")
        },
        "trap",
    ),
    case(
        "B6 a topic that cannot be",
        Guest {
            fields: r#"(data (i32.const 64) "../other")"#,
            ..item(
                "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
                 (i32.store8 offset=64 (local.get $verdict) (i32.const 1))
                 (i32.store offset=68 (local.get $verdict) (i32.const 64))
                 (i32.store offset=72 (local.get $verdict) (i32.const 8))",
            )
        },
        "topic",
    ),
    case(
        "B9 a header of the queue's own",
        Guest {
            fields: r#"(data (i32.const 64) "mq-hook") (data (i32.const 128) "\40\00\00\00\07\00\00\00\40\00\00\00\01\00\00\00")"#,
            ..item(
                "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
                 (i32.store8 offset=28 (local.get $verdict) (i32.const 1))
                 (i32.store offset=32 (local.get $verdict) (i32.const 128))
                 (i32.store offset=36 (local.get $verdict) (i32.const 1))",
            )
        },
        "header",
    ),
    case(
        "an error of its own",
        item("(i32.store8 (local.get $verdict) (i32.const 1))"),
        "did not say why",
    ),
];

/// Single enqueues of a tenant without hooks, one after the other: median and 99th percentile.
pub(crate) async fn waits(client: &Client, count: usize) -> (Duration, Duration) {
    let hooks = Hooks::of(client, "bystander");
    let mut waits = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
        waits.push(began.elapsed());
    }
    waits.sort_unstable();
    (waits[count / 2], waits[count * 99 / 100])
}

pub(crate) fn report(what: &str, (median, p99): (Duration, Duration), quiet: (Duration, Duration)) {
    eprintln!(
        "{what}: another tenant waited {median:?}, p99 {p99:?}; quiet {:?}, p99 {:?}",
        quiet.0, quiet.1
    );
}

pub(crate) fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_hook_fails_alone() {
    let server = Server::start().await;
    let client = server.client();
    let quiet = waits(&client, 200).await;
    for (number, case) in CASES.iter().enumerate() {
        // A namespace each: the processor time of one is not taken from the next.
        let hooks = Hooks::of(&client, &format!("hostile-{number}"));
        let mut wat = Side::Enqueue.wat(&case.guest);
        if let Some((old, new)) = case.instead {
            assert!(wat.contains(old));
            wat = wat.replace(old, new);
        }
        let version = hooks.push("h", wat).await;
        hooks.bind("h", version, Side::Enqueue, json!({})).await;
        let closed = hooks.enqueue("t", json!([{"text": "x"}])).await;
        let problem = closed.any_problem();
        assert!(
            matches!(problem["code"].as_str(), Some("hook_failed" | "hook_overloaded")),
            "{}: {problem}",
            case.name
        );
        let told = problem.to_string();
        assert!(told.contains(case.tells), "{}: {told}", case.name);
        assert!(hooks.dequeue("t").await.is_empty(), "{}", case.name);

        let open =
            json!({"policies": {"error": "open", "trap": "open", "timeout": "open", "overload": "open"}});
        hooks.bind("h", version, Side::Enqueue, open).await;
        let busy = tokio::spawn({
            let hooks = hooks.clone();
            async move {
                for _ in 0..5 {
                    hooks
                        .enqueue("t", json!([{"text": "x"}, {"text": "y"}]))
                        .await
                        .ok();
                }
            }
        });
        let meanwhile = waits(&client, 50).await;
        busy.await.unwrap();
        report(case.name, meanwhile, quiet);
        let items = hooks.dequeue("t").await;
        assert_eq!(items.len(), 10, "{}", case.name);
        for item in &items {
            let headers = item["headers"].to_string();
            assert!(
                headers.contains("mq-hook-skipped") && headers.contains("h@1"),
                "{}: {headers}",
                case.name
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_failures() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "hostile");
    let bomb = body("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable");
    let open = json!({"policies": {"error": "open", "trap": "open", "timeout": "open", "overload": "open"}});
    hooks.put("h", Side::Enqueue, bomb, open).await;
    let round = |count: usize| {
        let hooks = hooks.clone();
        async move {
            for _ in 0..count {
                hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
            }
        }
    };
    round(200).await;
    let before = memory_kib(&server);
    round(1_000).await;
    let after = memory_kib(&server);
    assert!(after < before + (32 << 10), "{before} KiB became {after} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b1_and_d2_a_storm_of_failing_and_slow_calls_holds_up_nobody_else() {
    let server = Server::start().await;
    let client = server.client();
    let quiet = waits(&client, 200).await;
    for (name, guest) in [
        ("B1 a storm of traps", body("unreachable")),
        ("D2 thirty-two slow calls at once", body("(loop $l (br $l))")),
    ] {
        let hooks = Hooks::of(&client, &name[..2].to_lowercase());
        hooks.put("h", Side::Enqueue, guest, json!({})).await;
        let storm: Vec<_> = (0..32)
            .map(|_| {
                let hooks = hooks.clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        hooks.enqueue("t", json!([{"text": "x"}])).await.any_problem();
                    }
                })
            })
            .collect();
        report(name, waits(&client, 200).await, quiet);
        for task in storm {
            task.await.unwrap();
        }
        let stats = client.get(&hooks.at("hooks/h/stats")).await.ok();
        assert!(stats.to_string().contains("\"version\":1"), "{stats}");
    }
}

#[tokio::test]
async fn b3_log_lines_are_cut_and_cleaned() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let guest = Guest {
        imports: LOG,
        fields: r#"(data (i32.const 64) "\1b[31mred\0a{\22level\22:\22fake\22}")"#,
        body: "(call $log (i32.const 3) (i32.const 64) (i32.const 25))
            (call $log (i32.const 2) (i32.const 1024) (i32.const 3000))",
        item: "",
    };
    hooks.put("h", Side::Enqueue, guest, json!({})).await;
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
    let log = hooks.client.get(&hooks.at("hooks/h/logs")).await;
    let log = log.ok();
    let text = log.to_string();
    assert!(
        text.contains("red") && !text.contains("\\u001b") && !text.contains("\\n{"),
        "{text}"
    );
    assert!(text.len() < 8 << 10, "{} bytes of log", text.len());
}

#[tokio::test]
async fn b4_routes_in_a_circle_end_among_the_dead() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let to = |name: &'static str| format!(r#"(data (i32.const 64) "{name}")"#);
    let route = "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
        (i32.store8 offset=64 (local.get $verdict) (i32.const 1))
        (i32.store offset=68 (local.get $verdict) (i32.const 64))
        (i32.store offset=72 (local.get $verdict) (i32.const 1))";
    for (from, name) in [("a", "b"), ("b", "a")] {
        let fields = to(name);
        let guest = Guest {
            fields: &fields,
            item: route,
            ..Guest::default()
        };
        hooks
            .put(
                &format!("from-{from}"),
                Side::Enqueue,
                guest,
                json!({"topic": from}),
            )
            .await;
    }
    let result = hooks
        .enqueue("a", json!([{"text": "x"}, {"text": "y"}]))
        .await
        .ok();
    for result in list(&result["results"]) {
        assert_eq!(result["status"], "dead_lettered", "{result}");
    }
    let mut dead = 0;
    for topic in ["a", "b"] {
        let page = hooks.client.get(&hooks.at(&format!("topics/{topic}/dead"))).await;
        dead += if page.status == 200 {
            list(&page.json()["items"]).len()
        } else {
            0
        };
    }
    assert_eq!(dead, 2);
}

#[tokio::test]
async fn b8_numbers_at_their_ends_are_held_to_the_items_limits() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let least = item(
        "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
         (i32.store8 offset=40 (local.get $verdict) (i32.const 1))
         (i32.store offset=44 (local.get $verdict) (i32.const -2147483648))",
    );
    hooks.put("h", Side::Enqueue, least, json!({})).await;
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
    assert_eq!(hooks.dequeue("t").await[0]["priority"], -2_147_483_648_i64);

    let never = item(
        "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
         (i32.store8 offset=48 (local.get $verdict) (i32.const 1))
         (i64.store offset=56 (local.get $verdict) (i64.const -1))",
    );
    hooks.put("h", Side::Enqueue, never, json!({})).await;
    let reply = hooks.enqueue("t", json!([{"text": "x"}])).await;
    assert!(matches!(reply.status, 200 | 422), "{}", reply.text);
}

#[tokio::test]
async fn d9_d10_and_d11_nothing_leaks_from_call_to_call_and_time_stands_still() {
    let server = Server::start().await;
    let client = server.client();
    // Writes its mark over a megabyte.
    let marks = body(
        "(drop (memory.grow (i32.const 16))) (memory.fill (i32.const 65536) (i32.const 171) (i32.const 1000000))",
    );
    let one = Hooks::of(&client, "one");
    one.put("h", Side::Enqueue, marks, json!({})).await;
    // Looks for anything that is not zero there, counts its calls, and compares two readings of the clock.
    let looks = Guest {
        imports: NOW,
        fields: "(global $calls (mut i32) (i32.const 0)) (global $at (mut i32) (i32.const 65536))",
        body: "(drop (memory.grow (i32.const 16)))
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (i32.ne (global.get $calls) (i32.const 1)) (then unreachable))
            (loop $l
              (if (i64.ne (i64.load (global.get $at)) (i64.const 0)) (then unreachable))
              (global.set $at (i32.add (global.get $at) (i32.const 64)))
              (br_if $l (i32.lt_u (global.get $at) (i32.const 1000000))))
            (if (i64.ne (call $now) (call $now)) (then unreachable))",
        item: "",
    };
    let two = Hooks::of(&client, "two");
    two.put("h", Side::Enqueue, looks, json!({})).await;
    for _ in 0..50 {
        one.enqueue("t", json!([{"text": "x"}])).await.ok();
        two.enqueue("t", json!([{"text": "x"}])).await.ok();
    }
}

#[tokio::test]
async fn c2_and_c4_modules_that_are_no_hooks_are_refused_with_what_to_change() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    for (wat, tells) in [
        ("", ""),
        ("(module", "expected"),
        ("(module)", "on-enqueue"),
        (r#"(module (import "wasi:sockets/tcp@0.2.0" "x" (func)))"#, ""),
        (
            r#"(module (memory (export "memory") 1) (func (export "mqueue:hooks/enqueue@0.1.0#on-enqueue") (param i32)))"#,
            "on-enqueue",
        ),
        ("(module (memory 65536))", ""),
    ] {
        let problem = hooks
            .upload("h", wat.to_owned())
            .await
            .problem(422, "hook_refused");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(tells), "{wat}: {detail}");
    }
    // A start function that never ends is found out when the module is tried.
    let endless = Guest {
        fields: "(func $s (loop $l (br $l))) (start $s)",
        ..NOTHING
    };
    let wat = endless.enqueue();
    hooks.upload("h", wat).await.problem(422, "hook_refused");
    assert_eq!(hooks.client.get(&hooks.at("hooks/h")).await.status, 404);
}

#[tokio::test]
async fn d5_a_bound_version_cannot_be_deleted_and_one_of_two_changes_wins() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    hooks.put("h", Side::Enqueue, NOTHING, json!({})).await;
    let reply = hooks.client.delete(&hooks.at("hooks/h/versions/1")).await;
    assert_eq!(reply.status, 409, "{}", reply.text);
    let path = hooks.at("bindings/h");
    let etag = hooks.client.get(&path).await.header("etag").to_owned();
    let change = || {
        let body = json!({"topic": "*", "side": "enqueue", "hook": "h", "version": 1, "auto_rollback": true});
        let request = hooks.client.request(reqwest::Method::PUT, &path).json(&body);
        hooks.client.send(request.header("if-match", &etag))
    };
    let (one, two) = tokio::join!(change(), change());
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_each_item_is_shaped_by_exactly_one_version_while_versions_change() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    for letter in ["1", "2"] {
        let fields = format!(r#"(data (i32.const 64) "{letter}")"#);
        let guest = Guest {
            fields: &fields,
            item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
                (i32.store offset=16 (local.get $verdict) (i32.const 64))
                (i32.store offset=20 (local.get $verdict) (i32.const 1))",
            ..Guest::default()
        };
        hooks.push("h", Side::Enqueue.wat(&guest)).await;
    }
    hooks.bind("h", 1, Side::Enqueue, json!({})).await;
    let swapping = tokio::spawn({
        let hooks = hooks.clone();
        async move {
            for turn in 0..20 {
                hooks.bind("h", 1 + turn % 2, Side::Enqueue, json!({})).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let batch: Vec<Value> = (0..50).map(|_| json!({"text": "x"})).collect();
    let mut sent = 0;
    while !swapping.is_finished() {
        hooks.enqueue("t", json!(batch)).await.ok();
        sent += batch.len();
    }
    swapping.await.unwrap();
    let mut seen = 0;
    loop {
        let items = hooks.dequeue("t").await;
        if items.is_empty() {
            break;
        }
        for item in &items {
            assert_eq!(item["hook_version"], format!("h@{}", text(item)), "{item}");
        }
        seen += items.len();
    }
    assert_eq!(seen, sent);
}
