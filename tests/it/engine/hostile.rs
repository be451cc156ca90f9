//! Guests that mean harm: each is contained, and the next call is fine.

use std::sync::Arc;
use std::time::Duration;

use mqueue::hooks::engine::{CpuQuotas, UploadError, allow_passing};
use mqueue::hooks::{Failure, Runner, Verdicts, Version};
use mqueue::model::{CpuRate, Side};

use super::{Node, call, enqueued, replaced, version, warm};
use crate::guests::{CONFIG, DAWDLE, Guest, LOG, NOW, UPPER};

fn body(body: &str) -> String {
    let guest = Guest {
        body,
        ..Guest::default()
    };
    guest.enqueue()
}

/// A guest whose answer begins at 1024 with `address` and `length`.
fn answer(address: u32, length: u32) -> String {
    body(&format!(
        "(i32.store (i32.const 1024) (i32.const {address})) (i32.store (i32.const 1028) (i32.const {length}))
         (return (i32.const 1024))"
    ))
}

async fn contained(text: &str) -> Failure {
    let node = Node::start();
    let failure = node.fails(text).await;
    let good = Guest {
        item: UPPER,
        ..Guest::default()
    };
    let good = Arc::new(node.version(&good.enqueue()).await);
    assert_eq!(enqueued(&node.call(&good, &["x"]).await), [replaced("X")]);
    failure
}

/// Runs `text` with 20 ms for a call.
async fn timed_out(text: &str) {
    let node = Node::start();
    let mut short = node.version(text).await;
    short.limits.item_ms = 20;
    let short = Arc::new(short);
    for _ in 0..3 {
        let failure = node.call(&short, &["x"]).await.outcome.unwrap_err();
        assert_eq!(failure, Failure::Timeout(Duration::from_millis(20)));
    }
}

#[tokio::test]
async fn endless_loops_end() {
    timed_out(&body("(loop $l (br $l))")).await;
    let realloc = "(func $realloc (param i32 i32 i32 i32) (result i32)";
    timed_out(&body("").replace(realloc, &format!("{realloc} (loop $l (br $l))"))).await;
    let post = "(func (export \"cabi_post_mqueue:hooks/enqueue@0.1.0#on-enqueue\") (param i32)";
    timed_out(&body("").replace(post, &format!("{post} (loop $l (br $l))"))).await;
    timed_out(&body(
        "(drop (memory.grow (i32.const 255)))
         (loop $l (memory.fill (i32.const 65536) (i32.const 1) (i32.const 16000000)) (br $l))",
    ))
    .await;
}

/// Calls until some calls were made in passing.
async fn until_trusted(node: &Node, version: &Arc<Version>) {
    let passed = || node.engine.status().calls_in_passing;
    for _ in 0..10_000 {
        assert!(node.call(version, &["x"]).await.outcome.is_ok());
        if passed() > 5 {
            break;
        }
    }
    assert!(passed() > 5);
}

#[tokio::test]
async fn a_guest_that_is_brief_no_more_is_broken_off_and_has_its_time_elsewhere() {
    allow_passing();
    let node = Node::start();
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 1))";
    let guest = Guest {
        imports: LOG,
        item: &format!("{log} {DAWDLE}"),
        ..Guest::default()
    };
    let mut version = node.version(&guest.enqueue()).await;
    version.limits.item_ms = 50;
    let version = Arc::new(version);
    let passed = || node.engine.status().calls_in_passing;
    until_trusted(&node, &version).await;
    let report = node.call(&version, &["long"]).await;
    assert_eq!(report.outcome, Err(Failure::Timeout(Duration::from_millis(50))));
    assert_eq!(report.log.len(), 1, "only the attempt that counts is told of");
    assert_eq!(node.engine.status().overruns, 1);
    // It is made to wait, and works.
    let before = passed();
    for _ in 0..100 {
        assert!(node.call(&version, &["x"]).await.outcome.is_ok());
    }
    assert_eq!(passed(), before);
}

#[tokio::test]
async fn imports_called_without_end_are_broken_off_as_well() {
    allow_passing();
    let node = Node::start();
    // No loop and no function begins in between, where the time is looked at otherwise.
    let log = "(call $log (i32.const 2) (i32.const 0) (i32.const 60000))".repeat(900);
    let guest = Guest {
        imports: LOG,
        item: &format!("(if (i32.gt_u (i32.load offset=64 (local.get $item)) (i32.const 3)) (then {log}))"),
        ..Guest::default()
    };
    let mut version = node.version(&guest.enqueue()).await;
    version.limits.host_calls = 1_000;
    let version = Arc::new(version);
    until_trusted(&node, &version).await;
    assert_eq!(node.engine.status().overruns, 0);
    let report = node.call(&version, &["long"]).await;
    assert_eq!((report.outcome.is_ok(), report.usage.host_calls), (true, 900));
    assert_eq!(node.engine.status().overruns, 1);
}

#[tokio::test]
async fn where_no_call_may_be_made_in_passing_none_is() {
    allow_passing();
    let node = Node::start_with(|options| options.in_passing = false);
    let version = Arc::new(node.version(&Guest::default().enqueue()).await);
    for _ in 0..100 {
        assert!(node.call(&version, &["x"]).await.outcome.is_ok());
    }
    assert_eq!(node.engine.status().calls_in_passing, 0);
}

#[tokio::test]
async fn a_start_function_has_the_limits_of_a_call() {
    let node = Node::start_with(|options| options.ceilings.item_ms = 20);
    let start = |body: &str, imports| {
        let fields = format!("(func $begin {body}) (start $begin)");
        let guest = Guest {
            imports,
            fields: &fields,
            ..Guest::default()
        };
        guest.enqueue()
    };
    let endless = node.upload(&start("(loop $l (br $l))", "")).await.unwrap_err();
    assert!(matches!(endless, UploadError::Start(_)), "{endless:?}");
    let trap = node.upload(&start("unreachable", "")).await.unwrap_err();
    assert!(matches!(trap, UploadError::Start(_)), "{trap:?}");
    // An import in a start function is an import like any other, as far as the adapter module is there yet.
    if let Err(error) = node.upload(&start("(drop (call $now))", NOW)).await {
        assert!(matches!(error, UploadError::Start(_)), "{error:?}");
    }
}

#[tokio::test]
async fn memory_and_tables_stop_growing_at_their_limits() {
    let node = Node::start();
    let grow =
        "(block $full (loop $l (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1))) (br $l)))
                (if (i32.gt_u (memory.size) (i32.const 1024)) (then unreachable))";
    let mut small = node.version(&body(grow)).await;
    small.limits.memory_bytes = 16 << 20;
    let report = node.call(&Arc::new(small), &["x"]).await;
    assert!(report.outcome.is_ok(), "{report:?}");
    assert!(
        (15 << 20..=16 << 20).contains(&report.usage.memory_bytes),
        "{:?}",
        report.usage
    );

    let table = Guest {
        fields: "(table $t 1 funcref)",
        body: "(block $full (loop $l
                 (br_if $full (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))) (br $l)))
               (if (i32.gt_u (table.size $t) (i32.const 100000)) (then unreachable))",
        ..Guest::default()
    };
    let table = Arc::new(node.version(&table.enqueue()).await);
    assert!(node.call(&table, &["x"]).await.outcome.is_ok());
}

#[tokio::test]
async fn a_deep_recursion_is_a_trap_with_a_stack() {
    let guest = Guest {
        fields: "(func $sink (param i64) (call $sink (local.get 0)) (drop (i64.add (local.get 0) (i64.const 1))))",
        body: "(call $sink (i64.const 1))",
        ..Guest::default()
    };
    let Failure::Trap(text) = contained(&guest.enqueue()).await else {
        panic!()
    };
    assert!(
        text.contains("stack exhausted") && text.contains("sink"),
        "{text}"
    );
    let Failure::Trap(text) = contained(&body("unreachable")).await else {
        panic!()
    };
    assert!(text.contains("unreachable") && text.contains("hook"), "{text}");
}

#[tokio::test]
async fn answers_that_lie_are_invalid() {
    let bombs = [
        answer(4_096, 0x1000_0000),
        answer(4_096, u32::MAX),
        answer(u32::MAX - 7, 1),
        answer(4_097, 1),
        answer(65_532, 1),
        // A payload of 2 GiB, a code of invalid UTF-8, numbers that mean nothing.
        body_item(
            "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
                   (i32.store offset=16 (local.get $verdict) (i32.const 0))
                   (i32.store offset=20 (local.get $verdict) (i32.const 0x7fffffff))",
        ),
        body_item(
            "(i32.store8 (i32.const 1024) (i32.const 255))
                   (i32.store8 offset=8 (local.get $verdict) (i32.const 4))
                   (i32.store offset=16 (local.get $verdict) (i32.const 1024))
                   (i32.store offset=20 (local.get $verdict) (i32.const 1))",
        ),
        body_item("(i32.store8 offset=8 (local.get $verdict) (i32.const 7))"),
        body_item("(i32.store8 (local.get $verdict) (i32.const 2))"),
        // One item split into a million; a million headers.
        body_item(
            "(drop (memory.grow (i32.const 1000)))
                   (i32.store8 offset=8 (local.get $verdict) (i32.const 3))
                   (i32.store offset=16 (local.get $verdict) (i32.const 65536))
                   (i32.store offset=20 (local.get $verdict) (i32.const 1000000))",
        ),
        body_item(
            "(drop (memory.grow (i32.const 1000)))
                   (i32.store8 offset=8 (local.get $verdict) (i32.const 2))
                   (i32.store8 offset=28 (local.get $verdict) (i32.const 1))
                   (i32.store offset=32 (local.get $verdict) (i32.const 65536))
                   (i32.store offset=36 (local.get $verdict) (i32.const 1000000))",
        ),
    ];
    let node = Node::start();
    for text in bombs {
        let failure = node.fails(&text).await;
        assert!(matches!(failure, Failure::Invalid(_)), "{failure:?} of {text}");
    }
}

fn body_item(item: &str) -> String {
    let guest = Guest {
        item,
        ..Guest::default()
    };
    guest.enqueue()
}

#[tokio::test]
async fn an_answer_has_one_verdict_per_item() {
    let node = Node::start();
    for wrong in [
        "(i32.const 0)",
        "(i32.sub (local.get $count) (i32.const 1))",
        "(i32.add (local.get $count) (i32.const 1))",
    ] {
        let text = body(&format!(
            "(memory.fill (local.get $out) (i32.const 0) (i32.const 400)) (local.set $count {wrong})"
        ));
        let version = Arc::new(node.version(&text).await);
        let failure = node.call(&version, &["a", "b"]).await.outcome.unwrap_err();
        assert!(failure.to_string().contains(" for 2 items"), "{failure}");
    }
}

#[tokio::test]
async fn an_allocator_that_lies_harms_its_guest_only() {
    let realloc = "(call $alloc (local.get 2) (local.get 3)))\n  (export";
    let node = Node::start();
    for lie in [
        "(i32.const -8)",
        "(i32.const 65535)",
        "(i32.const 0x7ffffff8)",
        "(i32.const 3)",
    ] {
        let text = body("").replace(realloc, &format!("{lie})\n  (export"));
        assert_ne!(text, body(""));
        let version = Arc::new(node.version(&text).await);
        let failure = node.call(&version, &["abc", "def"]).await.outcome.unwrap_err();
        assert!(
            matches!(failure, Failure::Invalid(_) | Failure::Trap(_)),
            "{failure:?}"
        );
    }
    // Everything at the same address is nonsense, and the guest's own.
    for same in ["(i32.const 0)", "(i32.const 8)"] {
        let text = body("").replace(realloc, &format!("{same})\n  (export"));
        let version = Arc::new(node.version(&text).await);
        let report = node.call(&version, &["abc", "def"]).await;
        assert!(
            !matches!(report.outcome, Err(Failure::Overload { .. })),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn floods_of_imports_are_traps_and_lines_are_counted() {
    let node = Node::start();
    let guest = Guest {
        imports: LOG,
        fields: r#"(data (i32.const 0) "\1b[2J\0a{\22fake\22:1}")"#,
        body: "(call $log (i32.const 2) (i32.const 0) (i32.const 15))
               (block $done (loop $l
                 (br_if $done (i32.gt_u (local.get $at) (i32.const 98)))
                 (call $log (i32.const 4) (i32.const 2048) (i32.const 60000))
                 (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $l)))",
        ..Guest::default()
    };
    let version = Arc::new(node.version(&guest.enqueue()).await);
    let report = node.call(&version, &["x"]).await;
    assert_eq!(
        (
            report.log.len(),
            report.usage.log_lines_dropped,
            report.usage.host_calls
        ),
        (64, 36, 100)
    );
    assert_eq!(&*report.log[0].message, r#"[2J{"fake":1}"#);
    assert!(report.log.iter().all(|line| line.message.len() <= 1_024));

    let flood = Guest {
        imports: NOW,
        body: "(loop $l (drop (call $now)) (br $l))",
        ..Guest::default()
    };
    let Failure::Trap(text) = node.fails(&flood.enqueue()).await else {
        panic!()
    };
    assert!(text.contains("more than 1000 calls of imports"), "{text}");
    let flood = Guest {
        imports: CONFIG,
        body: "(loop $l (call $secret (i32.const 0) (i32.const 1000) (i32.const 1024)) (br $l))",
        ..Guest::default()
    };
    assert!(matches!(node.fails(&flood.enqueue()).await, Failure::Trap(_)));
}

#[tokio::test]
async fn an_instance_that_failed_is_not_used_again() {
    let node = Node::start();
    // Traps at every other call of an instance.
    let guest = Guest {
        fields: "(global $calls (mut i32) (i32.const 0))",
        body: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
               (if (i32.eq (global.get $calls) (i32.const 2)) (then unreachable))",
        ..Guest::default()
    };
    let kept = warm(node.version(&guest.enqueue()).await);
    for _ in 0..3 {
        assert!(node.call(&kept, &["x"]).await.outcome.is_ok());
        assert!(matches!(
            node.call(&kept, &["x"]).await.outcome,
            Err(Failure::Trap(_))
        ));
        assert_eq!(node.engine.status().instances_warm, 0);
    }
}

#[tokio::test]
async fn what_one_tenant_left_in_memory_no_other_sees() {
    // One slot, so that both get the same memory.
    let node = Node::start_with(|options| {
        options.instances = 1;
        options.threads = 1;
    });
    let write = "(drop (memory.grow (i32.const 63)))
                 (memory.fill (i32.const 65536) (i32.const 0xAB) (i32.const 4128768))";
    let scan = "(drop (memory.grow (i32.const 63)))
                (local.set $at (i32.const 65536))
                (block $clean (loop $l
                  (br_if $clean (i32.ge_u (local.get $at) (i32.const 4194304)))
                  (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then unreachable))
                  (local.set $at (i32.add (local.get $at) (i32.const 8))) (br $l)))";
    let writer = Arc::new(node.version(&body(write)).await);
    let mut scanner = node.version(&body(scan)).await;
    scanner.namespace = "other".parse().unwrap();
    let scanner = Arc::new(scanner);
    for _ in 0..20 {
        assert!(node.call(&writer, &["x"]).await.outcome.is_ok());
        assert!(node.call(&scanner, &["x"]).await.outcome.is_ok());
    }
}

#[tokio::test]
async fn too_many_calls_are_turned_away_at_once() {
    let node = Node::start_with(|options| {
        options.threads = 1;
        options.queue_per_namespace = 2;
    });
    let mut slow = node.version(&body("(loop $l (br $l))")).await;
    slow.limits.item_ms = 50;
    let slow = Arc::new(slow);
    let calls = (0..20).map(|_| node.call(&slow, &["x"]));
    let reports = futures_util::future::join_all(calls).await;
    let turned_away =
        |report: &&mqueue::hooks::Report| matches!(report.outcome, Err(Failure::Overload { .. }));
    let count = reports.iter().filter(turned_away).count();
    assert!((1..20).contains(&count), "{count}");
}

#[tokio::test]
async fn a_namespace_that_used_up_its_time_waits_and_others_do_not() {
    let node = Node::start_with(|options| {
        options.cpu = CpuQuotas::new(|_| CpuRate {
            per_second: Duration::from_millis(1),
            burst: Duration::from_millis(10),
        });
    });
    let mut slow = node.version(&body("(loop $l (br $l))")).await;
    slow.limits.item_ms = 50;
    let digest = slow.digest;
    let slow = Arc::new(slow);
    assert!(matches!(
        node.call(&slow, &["x"]).await.outcome,
        Err(Failure::Timeout(_))
    ));
    // What ran is booked before the thread asks for more; the answer may be a moment earlier.
    let mut failure = node.call(&slow, &["x"]).await.outcome.unwrap_err();
    while !matches!(failure, Failure::Overload { .. }) {
        failure = node.call(&slow, &["x"]).await.outcome.unwrap_err();
    }
    let Failure::Overload { retry_after, .. } = failure else {
        panic!()
    };
    assert!(retry_after >= Duration::from_secs(1), "{retry_after:?}");
    let mut other = version(digest);
    other.namespace = "other".parse().unwrap();
    other.limits.item_ms = 1;
    let report = node
        .engine
        .call(call(&Arc::new(other), Side::Enqueue, &["x"]))
        .await;
    assert!(matches!(report.outcome, Err(Failure::Timeout(_))));
}

#[tokio::test]
async fn verdicts_are_as_many_as_items_also_for_many() {
    let node = Node::start();
    let version = Arc::new(node.version(&body("")).await);
    let payloads = vec!["x"; 1_000];
    let report = node.call(&version, &payloads).await;
    assert_eq!(report.outcome.as_ref().map(Verdicts::len), Ok(1_000));
}
