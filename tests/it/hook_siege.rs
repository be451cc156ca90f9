//! What a hostile tenant tries beyond single calls, against a real server: bombs for the compiler, splits of splits,
//! more calls than there are places, clients that hang up, secrets in logs, and many tenants at once.
//! How long another tenant waited meanwhile is printed beside what it waits on a quiet server.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{list, text};
use crate::guests::{CONFIG, DAWDLE, Guest, LOG, UPPER};
use crate::hook_abuse::{memory_kib, report, waits};
use crate::hook_client::{Hooks, Side};
use crate::server::{Server, token};
use mqueue::tenant::Scope;

const MEMORY: &str = "(memory (export \"memory\") 1)";

/// A sound hook with something put beside its memory.
fn beside(field: &str) -> String {
    let wat = Side::Enqueue.wat(&Guest::default());
    assert!(wat.contains(MEMORY));
    wat.replace(MEMORY, &format!("{MEMORY} {field}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_a6_c1_c3_and_c6_bombs_are_refused_or_harmless_and_nobody_else_waits() {
    let server = Server::start().await;
    let client = server.client();
    let quiet = waits(&client, 200).await;
    let nested = |open: &str, count| format!("(func {} {})", open.repeat(count), "end ".repeat(count));
    let sound = beside("");
    // Whether it must be refused; the others may also be harmless.
    let bombs = [
        (
            "A2 a loop at the start",
            true,
            beside("(func $s (loop $l (br $l))) (start $s)"),
        ),
        (
            "A6 four gigabytes of memory",
            true,
            sound.replace(MEMORY, "(memory (export \"memory\") 65536)"),
        ),
        (
            "A6 a table of 2^32 - 1",
            true,
            beside("(table 4294967295 funcref)"),
        ),
        (
            "C1 50,000 locals",
            true,
            beside(&format!("(func (local {}))", "i64 ".repeat(50_000))),
        ),
        ("C1 20,000 ifs", false, beside(&nested("i32.const 0 if ", 20_000))),
        ("C1 10,000 blocks", false, beside(&nested("block ", 10_000))),
        ("C1 60,000 functions", true, beside(&"(func)".repeat(60_000))),
        (
            "C3 four megabytes of nothing",
            false,
            beside(&format!("(@custom \"x\" \"{}\")", "y".repeat(4 << 20))),
        ),
        (
            "C3 a name of a megabyte",
            false,
            beside(&format!("(func $\"{}\")", "n".repeat(1 << 20))),
        ),
        ("C6 two memories", true, beside("(memory 1)")),
        (
            "C6 a component in a component",
            true,
            "(component (component (core module)))".to_owned(),
        ),
    ];
    for (number, (name, refused, wat)) in bombs.into_iter().enumerate() {
        let hooks = Hooks::of(&client, &format!("bomber-{number}"));
        let upload = tokio::spawn({
            let hooks = hooks.clone();
            async move { hooks.upload("h", wat).await }
        });
        report(name, waits(&client, 50).await, quiet);
        let reply = upload.await.unwrap();
        if refused || reply.status >= 300 {
            reply.problem(422, "hook_refused");
            assert_eq!(client.get(&hooks.at("hooks/h")).await.status, 404, "{name}");
        } else {
            hooks.bind("h", 1, Side::Enqueue, json!({})).await;
            hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
        }
    }
}

#[tokio::test]
async fn b5_a_split_of_splits_stays_within_its_bounds_and_is_charged() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    // Sixteen edits of 64 bytes each that change nothing but the topic.
    let split = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
        (local.set $at (call $alloc (i32.const 8) (i32.const 1024)))
        (memory.fill (local.get $at) (i32.const 0) (i32.const 1024))
        (i32.store offset=16 (local.get $verdict) (local.get $at))
        (i32.store offset=20 (local.get $verdict) (i32.const 16))
        (local.set $end (i32.add (local.get $at) (i32.const 1024)))
        (loop $edit
          (i32.store8 offset=48 (local.get $at) (i32.const 1))
          (i32.store offset=52 (local.get $at) (i32.const 64))
          (i32.store offset=56 (local.get $at) (i32.const 1))
          (local.set $at (i32.add (local.get $at) (i32.const 64)))
          (br_if $edit (i32.lt_u (local.get $at) (local.get $end))))";
    for (from, to) in [("a", "b"), ("b", "a")] {
        let fields = format!(r#"(data (i32.const 64) "{to}")"#);
        let guest = Guest {
            fields: &fields,
            item: split,
            ..Guest::default()
        };
        let topic = json!({ "topic": from });
        hooks
            .put(&format!("from-{from}"), Side::Enqueue, guest, topic)
            .await;
    }
    let reply = hooks.enqueue("a", json!([{"text": "x"}])).await;
    reply.problem(422, "too_many_parts");
    assert_eq!(stored(&hooks, &["a", "b"]).await, 0);
    // What a split adds counts like what is sent: fifteen more than were asked for.
    let quota = json!({"per_minute": 100, "burst": 20});
    hooks.client.put(&hooks.at("quota"), quota).await.ok();
    let guest = Guest {
        fields: FAN_FIELDS,
        item: FAN,
        ..Guest::default()
    };
    hooks
        .put("fan", Side::Enqueue, guest, json!({"topic": "c"}))
        .await;
    hooks.enqueue("c", json!([{"text": "x"}])).await.ok();
    assert_eq!(stored(&hooks, &["c"]).await, 16);
    let refused = hooks.enqueue("c", json!([{"text": "x"}])).await;
    assert!(refused.text.contains("quota_exceeded"), "{}", refused.text);
    assert_eq!(stored(&hooks, &["c"]).await, 16);
    // The next tenant's item is an item as ever.
    let other = Hooks::of(&server.client(), "other");
    other.enqueue("t", json!([{"text": "x"}])).await.ok();
}

/// Splits an item into sixteen that are what it was.
const FAN: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
    (i32.store offset=16 (local.get $verdict) (call $zeroed (i32.const 1024)))
    (i32.store offset=20 (local.get $verdict) (i32.const 16))";
const FAN_FIELDS: &str = "(func $zeroed (param $size i32) (result i32) (local $at i32)
    (local.set $at (call $alloc (i32.const 8) (local.get $size)))
    (memory.fill (local.get $at) (i32.const 0) (local.get $size)) (local.get $at))";

/// How many items `topics` hold.
async fn stored(hooks: &Hooks, topics: &[&str]) -> u64 {
    let mut stored = 0;
    for topic in topics {
        let path = hooks.at(&format!("topics/{topic}/stats"));
        let stats = hooks.client.get(&path).await;
        let stats = if stats.status == 404 {
            json!({})
        } else {
            stats.ok()
        };
        let held = ["ready", "scheduled", "leased", "dead"];
        stored += held
            .iter()
            .filter_map(|state| stats[*state].as_u64())
            .sum::<u64>();
    }
    stored
}

#[tokio::test]
async fn b5_what_a_split_of_splits_would_be_takes_no_memory() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    for number in 1..=4 {
        let guest = Guest {
            fields: FAN_FIELDS,
            item: FAN,
            ..Guest::default()
        };
        let more = json!({"topic": "t", "position": number});
        hooks
            .put(&format!("fan-{number}"), Side::Enqueue, guest, more)
            .await;
    }
    // One item is a quarter of a megabyte, and would be 65,536 times that: sixteen gigabytes.
    let large = "x".repeat(200_000);
    let bomb = || hooks.enqueue("t", json!([{"text": large}]));
    bomb().await.problem(422, "too_many_parts");
    let before = memory_kib(&server);
    for _ in 0..5 {
        bomb().await.problem(422, "too_many_parts");
    }
    let after = memory_kib(&server);
    assert!(after < before + (64 << 10), "{before} KiB became {after} KiB");
    assert_eq!(stored(&hooks, &["t"]).await, 0);
}

#[tokio::test]
async fn b1_traps_open_the_breaker_and_the_version_before_comes_back_by_itself() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let auto = json!({"auto_rollback": true});
    hooks
        .put("h", Side::Enqueue, Guest::default(), auto.clone())
        .await;
    let traps = Guest {
        body: "unreachable",
        ..Guest::default()
    };
    hooks.put("h", Side::Enqueue, traps, auto).await;
    let mut failed = 0;
    let mut tries = 0;
    loop {
        let binding = hooks.client.get(&hooks.at("bindings/h")).await.ok();
        if binding["version"] == 1 {
            break;
        }
        tries += 1;
        assert!(tries < 500, "{binding}");
        failed += u32::from(hooks.enqueue("t", json!([{"text": "x"}])).await.status != 200);
    }
    assert!(failed >= 20, "{failed} calls failed");
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
    loop {
        let log = hooks.client.get(&hooks.at("hooks/h/logs")).await.ok().to_string();
        assert!(log.contains("opened"), "{log}");
        if log.contains("rolled back to version 1") {
            break;
        }
        tries += 1;
        assert!(tries < 500, "{log}");
    }
    // Nobody need be woken for a version that is not in force any more.
    let stats = hooks.client.get(&hooks.at("hooks/h/stats")).await.ok();
    for version in list(&stats["versions"]) {
        assert_eq!(version["breaker_open"], false, "{stats}");
    }
}

#[tokio::test]
async fn who_tries_hooks_out_all_day_waits_for_time_of_his_own() {
    let server = Server::setup()
        .set("hooks.cpu_per_second", "1ms")
        .set("hooks.cpu_burst", "40ms")
        .start()
        .await;
    let hooks = Hooks::of(&server.client(), "greedy");
    hooks.put("h", Side::Enqueue, Guest::default(), json!({})).await;
    let endless = Guest {
        body: "(loop $l (br $l))",
        ..Guest::default()
    };
    assert_eq!(hooks.push("h", endless.enqueue()).await, 2);
    let items: Vec<_> = (0..50).map(|_| json!({"text": "x"})).collect();
    let dry_run = |hooks: &Hooks, version: u32| {
        let path = hooks.at(&format!("hooks/h/versions/{version}/dry-run"));
        let (client, body) = (hooks.client.clone(), json!({ "items": items }));
        async move { client.post(&path, body).await }
    };
    let run = dry_run(&hooks, 2).await.ok();
    assert!(run["not_run"].as_u64().unwrap() > 0, "{run}");
    dry_run(&hooks, 1).await.problem(429, "hooks_busy");
    // The gate runs tests, which take time as well.
    let case = json!({"side": "enqueue", "item": {"text": "x"}, "expect": {"verdict": "keep"}});
    assert_eq!(
        hooks
            .client
            .put(&hooks.at("hooks/h/tests/keeps"), case)
            .await
            .status,
        201
    );
    let body = json!({"topic": "*", "side": "enqueue", "hook": "h", "version": 2});
    let path = hooks.at("bindings/h");
    let tag = hooks.client.get(&path).await.header("etag").to_owned();
    let request = hooks.client.request(reqwest::Method::PUT, &path).json(&body);
    let refused = hooks.client.send(request.header("if-match", tag)).await;
    refused.problem(429, "hooks_busy");
    // What is in force goes on, and nobody else waits.
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
    let other = Hooks::of(&server.client(), "other");
    other.push("h", Guest::default().enqueue()).await;
    dry_run(&other, 1).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_are_brief_until_they_are_trusted_hold_up_nobody_else() {
    let server = Server::start().await;
    let client = server.client();
    let quiet = waits(&client, 200).await;
    let many: Vec<_> = (0..16).map(|n| Hooks::of(&client, &format!("sly-{n}"))).collect();
    for (number, hooks) in many.iter().enumerate() {
        // A module each: what is known of one says nothing of another.
        let wat = Side::Enqueue.wat(&Guest {
            fields: &format!("(global (export \"g{number}\") i32 (i32.const 0))"),
            item: DAWDLE,
            ..Guest::default()
        });
        let version = hooks.push("h", wat).await;
        hooks.bind("h", version, Side::Enqueue, json!({})).await;
        for _ in 0..30 {
            hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
        }
    }
    let storm: Vec<_> = many
        .into_iter()
        .map(|hooks| {
            tokio::spawn(async move {
                for _ in 0..10 {
                    let slow = hooks.enqueue("t", json!([{"text": "long"}])).await.any_problem();
                    assert!(slow.to_string().contains("ran longer than"), "{slow}");
                    hooks.enqueue("t", json!([{"text": "x"}])).await;
                }
            })
        })
        .collect();
    report("sixteen hooks that were brief", waits(&client, 200).await, quiet);
    for task in storm {
        task.await.unwrap();
    }
    let metrics = client.get("/metrics").await.text;
    let counted = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(counted("mqueue_hook_calls_in_passing_total") > 0, "{metrics}");
    // Each had one chance, and not the next for ten seconds.
    let overruns = counted("mqueue_hook_overruns_total");
    assert!(overruns <= 32, "{overruns}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_calls_without_a_place_wait_and_are_then_turned_away() {
    let server = Server::setup()
        .set("hooks.instances", "4")
        .set("hooks.threads", "2")
        .set("hooks.queue_per_namespace", "4")
        .set("hooks.wait_max", "200ms")
        .set("hooks.item_time", "500ms")
        .start()
        .await;
    let client = server.client();
    let slow = Guest {
        body:
            "(local.set $n (i64.const 1000000)) (loop $l (local.set $n (i64.sub (local.get $n) (i64.const 1)))
            (br_if $l (i64.ne (local.get $n) (i64.const 0))))",
        ..Guest::default()
    };
    let hooks = Hooks::of(&client, "crowd");
    hooks.put("h", Side::Enqueue, slow, json!({})).await;
    let quiet = waits(&client, 100).await;
    let crowd = (0..64).map(|_| hooks.enqueue("t", json!([{"text": "x"}])));
    let (replies, meanwhile) = tokio::join!(futures_util::future::join_all(crowd), waits(&client, 100));
    report("D3 sixty-four calls for four places", meanwhile, quiet);
    let taken = replies.iter().filter(|reply| reply.status == 200).count();
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.problem(503, "hook_overloaded");
    }
    assert!((1..64).contains(&taken), "{taken} of 64 were done");
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_who_hangs_up_during_a_call_spoils_nothing() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let slow = Guest {
        body:
            "(local.set $n (i64.const 3000000)) (loop $l (local.set $n (i64.sub (local.get $n) (i64.const 1)))
            (br_if $l (i64.ne (local.get $n) (i64.const 0))))",
        item: UPPER,
        ..Guest::default()
    };
    hooks.put("h", Side::Enqueue, slow, json!({})).await;
    let body = r#"{"items":[{"text":"gone"}]}"#;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        hooks.at("topics/t/enqueue"),
        token(None, &Scope::ALL),
        body.len()
    );
    for _ in 0..50 {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        drop(socket);
    }
    for _ in 0..10 {
        hooks.enqueue("t", json!([{"text": "stayed"}])).await.ok();
    }
    // What was begun for those who left is there whole or not at all.
    let items = hooks.dequeue("t").await;
    let texts: Vec<_> = items.iter().map(text).collect();
    assert!(
        texts.iter().all(|text| text == "GONE" || text == "STAYED"),
        "{texts:?}"
    );
    assert_eq!(texts.iter().filter(|text| *text == "STAYED").count(), 10);
}

#[tokio::test]
async fn d14_a_secret_is_masked_wherever_its_hook_writes_it() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    let guest = Guest {
        imports: &format!("{CONFIG} {LOG}"),
        fields: r#"(data (i32.const 16) "key")"#,
        body: "(call $secret (i32.const 16) (i32.const 3) (i32.const 1024))
               (call $log (i32.const 3) (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))",
        item: "",
    };
    let secret = "s3cret-of-the-tenant";
    let upload = json!({"wat": Side::Enqueue.wat(&guest), "secrets": {"key": secret}});
    let reply = hooks.client.post(&hooks.at("hooks/h/versions"), upload).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    hooks.bind("h", 1, Side::Enqueue, json!({})).await;
    hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
    let log = hooks.client.get(&hooks.at("hooks/h/logs")).await.ok();
    assert!(log.to_string().contains("***"), "{log}");
    for path in [
        "hooks/h/logs",
        "hooks/h",
        "hooks/h/versions/1",
        "hooks/h/stats",
        "audit",
    ] {
        let reply = hooks.client.get(&hooks.at(path)).await;
        assert!(!reply.text.contains(secret), "{path}: {}", reply.text);
    }
    assert!(!server.log().text().contains(secret));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_many_tenants_with_a_module_each_go_round_in_bounded_memory() {
    const TENANTS: usize = 200;
    // Room for a quarter of the modules: the others leave memory and are mapped back at their next call. How long that takes
    // on a busy machine is not what this is about.
    let server = Server::setup()
        .set("hooks.item_time", "1s")
        .set("hooks.batch_time", "1s")
        .set("hooks.instances", "16")
        .set("hooks.modules_bytes_max", "1MiB")
        .start()
        .await;
    let client = server.client();
    let tenants: Vec<_> = (0..TENANTS)
        .map(|n| Hooks::of(&client, &format!("tenant-{n}")))
        .collect();
    let quiet = waits(&client, 200).await;
    for (number, hooks) in tenants.iter().enumerate() {
        let fields = format!(r#"(data (i32.const 64) "{number:03}")"#);
        let guest = Guest {
            fields: &fields,
            item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
                (i32.store offset=16 (local.get $verdict) (i32.const 64))
                (i32.store offset=20 (local.get $verdict) (i32.const 3))",
            ..Guest::default()
        };
        hooks.put("h", Side::Enqueue, guest, json!({})).await;
    }
    let round = async || {
        for hooks in &tenants {
            let answer = hooks.enqueue("t", json!([{"text": "x"}])).await.ok();
            assert_eq!(list(&answer["results"])[0]["status"], "accepted");
        }
    };
    round().await;
    let before = memory_kib(&server);
    let ((), meanwhile) = tokio::join!(
        async {
            for _ in 0..4 {
                round().await;
            }
        },
        waits(&client, 200)
    );
    report("D1 a module for each of two hundred tenants", meanwhile, quiet);
    let metrics = client.get("/metrics").await.text;
    let loaded = metrics
        .lines()
        .find_map(|line| line.strip_prefix("mqueue_hook_modules_loaded "));
    let loaded: usize = loaded
        .and_then(|count| count.parse().ok())
        .expect("how many modules are in memory");
    assert!(loaded < TENANTS, "{loaded} modules are in memory");
    let after = memory_kib(&server);
    assert!(after < before + (64 << 10), "{before} KiB became {after} KiB");
    for (number, hooks) in tenants.iter().enumerate() {
        let items = hooks.dequeue("t").await;
        assert!(items.iter().all(|item| text(item) == format!("{number:03}")));
        assert_eq!(items.len(), 5);
    }
}
