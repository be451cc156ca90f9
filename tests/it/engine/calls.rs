//! What good guests see and say.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mqueue::hooks::{DequeueVerdict, EnqueueVerdict, Failure, LogLevel, Report, Runner, Verdicts, Version};
use mqueue::model::{InputMode, Side};

use super::{Node, call, enqueued, replaced, version, warm};
use crate::guests::{CONFIG, Guest, LOG, NOW, RANDOM, UPPER};

const SHOUT: Guest<'static> = Guest {
    imports: "",
    fields: "",
    body: "",
    item: UPPER,
};

/// Answers `replace` with a counter that lives in the instance.
const COUNTER: Guest<'static> = Guest {
    imports: "",
    fields: "(global $calls (mut i32) (i32.const 64))",
    body: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
           (i32.store8 (i32.const 1024) (global.get $calls))",
    item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
           (i32.store offset=16 (local.get $verdict) (i32.const 1024))
           (i32.store offset=20 (local.get $verdict) (i32.const 1))",
};

#[tokio::test]
async fn a_guest_changes_payloads_one_by_one() {
    let node = Node::start();
    let version = Arc::new(node.version(&SHOUT.enqueue()).await);
    let report = node.call(&version, &["one", "two", ""]).await;
    assert_eq!(
        enqueued(&report),
        [replaced("ONE"), replaced("TWO"), replaced("")]
    );
    assert_eq!((report.usage.bytes_in, report.usage.bytes_out), (6, 6));
    assert!(report.usage.memory_bytes >= 65_536);

    // A part of the items is a call of its own.
    let mut part = call(&version, Side::Enqueue, &["one", "two", "three"]);
    part.range = 1..2;
    assert_eq!(enqueued(&node.engine.call(part).await), [replaced("TWO")]);
}

/// What fifty calls of one item each are told that come at the same moment.
async fn at_once(
    node: &Node,
    version: &Arc<Version>,
    text: impl Fn(usize) -> String,
) -> Vec<(String, Report)> {
    let calls = (0..50).map(|number| {
        let text = text(number);
        let call = call(version, Side::Enqueue, &[&text]);
        async move { (text, node.engine.call(call).await) }
    });
    join_all(calls).await
}

#[tokio::test]
async fn calls_that_come_at_once_are_made_as_one_and_told_of_their_own_items() {
    let node = Node::start();
    let guest = Guest {
        imports: LOG,
        fields: r#"(data (i32.const 16) "once a call")"#,
        body: "(call $log (i32.const 2) (i32.const 16) (i32.const 11))",
        item: UPPER,
    };
    let version = Arc::new(node.version(&guest.enqueue()).await);
    let mut made = 50;
    // On a busy machine it takes some calls until it is known that they are short.
    for _ in 0..200 {
        let reports = at_once(&node, &version, |number| format!("item {number}")).await;
        for (text, report) in &reports {
            assert_eq!(enqueued(report), [replaced(&text.to_uppercase())]);
            let bytes = text.len() as u64;
            assert_eq!((report.usage.bytes_in, report.usage.bytes_out), (bytes, bytes));
        }
        made = reports.iter().map(|(_, report)| report.log.len()).sum();
        if made < 25 {
            break;
        }
    }
    assert!((1..25).contains(&made), "{made} calls were made for fifty");
}

#[tokio::test]
async fn no_call_fails_for_what_another_asked() {
    let node = Node::start();
    let guest = Guest {
        item: "(if (i32.eq (i32.load8_u (i32.load offset=60 (local.get $item))) (i32.const 98)) (then unreachable))",
        ..Guest::default()
    };
    let version = Arc::new(node.version(&guest.enqueue()).await);
    for _ in 0..3 {
        let text = |number| if number == 7 { "bad" } else { "good" }.to_owned();
        for (text, report) in at_once(&node, &version, text).await {
            match &*text {
                "bad" => assert!(matches!(report.outcome, Err(Failure::Trap(_))), "{report:?}"),
                _ => assert_eq!(enqueued(&report), [Ok(EnqueueVerdict::Keep)]),
            }
        }
    }
}

#[tokio::test]
async fn a_dequeue_guest_has_its_own_verdicts() {
    let node = Node::start();
    let shout = Arc::new(node.version(&SHOUT.dequeue()).await);
    let report = node.engine.call(call(&shout, Side::Dequeue, &["one"])).await;
    let expected = Verdicts::Dequeue(vec![Ok(DequeueVerdict::DeliverAs((*b"ONE").into()))]);
    assert_eq!(report.outcome, Ok(expected));

    let later = Guest {
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 3))
               (i32.store offset=16 (local.get $verdict) (i32.const 5000))",
        ..Guest::default()
    };
    let later = Arc::new(node.version(&later.dequeue()).await);
    let report = node.engine.call(call(&later, Side::Dequeue, &["one"])).await;
    assert_eq!(
        report.outcome,
        Ok(Verdicts::Dequeue(vec![Ok(DequeueVerdict::Defer(5_000))]))
    );

    let wrong_side = node.engine.call(call(&later, Side::Enqueue, &["one"])).await;
    assert!(
        wrong_side
            .outcome
            .unwrap_err()
            .to_string()
            .contains("no enqueue hook")
    );
}

#[tokio::test]
async fn metadata_alone_leaves_the_payload_out() {
    let node = Node::start();
    let mut meta = node.version(&SHOUT.enqueue()).await;
    meta.manifest.input = InputMode::Meta;
    let report = node.call(&Arc::new(meta), &["one"]).await;
    assert_eq!(enqueued(&report), [replaced("")]);
    assert_eq!(report.usage.bytes_in, 0);
}

#[tokio::test]
async fn a_complaint_and_a_reason_are_the_items_own() {
    let node = Node::start();
    let guest = Guest {
        fields: r#"(data (i32.const 0) "too-large") (data (i32.const 16) "no\1b[31m!")"#,
        item: "(if (i32.eqz (local.get $i))
                 (then (i32.store8 (local.get $verdict) (i32.const 1))
                       (i32.store offset=8 (local.get $verdict) (i32.const 16))
                       (i32.store offset=12 (local.get $verdict) (i32.const 8)))
                 (else (i32.store8 offset=8 (local.get $verdict) (i32.const 5))
                       (i32.store offset=16 (local.get $verdict) (i32.const 0))
                       (i32.store offset=20 (local.get $verdict) (i32.const 9))
                       (i32.store offset=24 (local.get $verdict) (i32.const 16))
                       (i32.store offset=28 (local.get $verdict) (i32.const 8))))",
        ..Guest::default()
    };
    let version = Arc::new(node.version(&guest.enqueue()).await);
    let report = node.call(&version, &["a", "b"]).await;
    let said = enqueued(&report);
    let [Err(complaint), Ok(EnqueueVerdict::Reject(reason))] = &said[..] else {
        panic!("{report:?}");
    };
    assert_eq!(complaint, "no[31m!");
    assert_eq!((&*reason.code, &*reason.message), ("too-large", "no[31m!"));
}

#[tokio::test]
async fn a_fresh_instance_knows_nothing_and_a_warm_one_remembers() {
    let node = Node::start();
    let fresh = node.version(&COUNTER.enqueue()).await;
    let kept = warm(version(fresh.digest));
    let fresh = Arc::new(fresh);
    for expected in ["A", "B", "C"] {
        assert_eq!(enqueued(&node.call(&fresh, &["x"]).await), [replaced("A")]);
        assert_eq!(enqueued(&node.call(&kept, &["x"]).await), [replaced(expected)]);
    }
    assert_eq!(node.engine.status().instances_warm, 1);

    // Another version is another instance, although the module is the same.
    let other = warm(version(fresh.digest));
    assert_eq!(enqueued(&node.call(&other, &["x"]).await), [replaced("A")]);
}

#[tokio::test]
async fn the_clock_stands_still_and_chance_repeats() {
    let node = Node::start();
    let clock = Guest {
        imports: NOW,
        body: "(local.set $n (call $now))
               (block $same (loop $again
                 (br_if $same (i32.gt_u (local.get $at) (i32.const 900)))
                 (if (i64.ne (call $now) (i64.const 123456)) (then unreachable))
                 (local.set $at (i32.add (local.get $at) (i32.const 1)))
                 (br $again)))",
        ..Guest::default()
    };
    let version = Arc::new(node.version(&clock.enqueue()).await);
    let report = node.call(&version, &["x"]).await;
    assert_eq!(enqueued(&report), [Ok(EnqueueVerdict::Keep)]);
    assert_eq!(report.usage.host_calls, 902);

    let random = Guest {
        imports: RANDOM,
        body: "(i64.store (i32.const 1024) (call $random)) (i64.store (i32.const 1032) (call $random))",
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
               (i32.store offset=16 (local.get $verdict) (i32.const 1024))
               (i32.store offset=20 (local.get $verdict) (i32.const 16))",
        ..Guest::default()
    };
    let version = Arc::new(node.version(&random.enqueue()).await);
    let first = node.call(&version, &["x"]).await;
    let again = node.call(&version, &["x"]).await;
    let other = node.call(&version, &["x", "y"]).await;
    assert_eq!(enqueued(&first), enqueued(&again));
    assert_ne!(enqueued(&first)[0], enqueued(&other)[0]);
    let Ok(EnqueueVerdict::Replace(bytes)) = &enqueued(&first)[0] else {
        panic!()
    };
    assert_ne!(bytes[..8], bytes[8..]);
}

#[tokio::test]
async fn configuration_is_read_and_secrets_are_masked() {
    let node = Node::start();
    // Replaces by the configuration's `region`, and logs the secret `key`.
    let guest = Guest {
        imports: &format!("{CONFIG} {LOG}"),
        fields: r#"(data (i32.const 0) "region") (data (i32.const 16) "key") (data (i32.const 32) "absent")"#,
        body: "(call $get (i32.const 32) (i32.const 6) (i32.const 1024))
               (if (i32.load8_u (i32.const 1024)) (then unreachable))
               (call $secret (i32.const 16) (i32.const 3) (i32.const 1024))
               (call $log (i32.const 3) (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))
               (call $get (i32.const 0) (i32.const 6) (i32.const 1024))",
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
               (i32.store offset=16 (local.get $verdict) (i32.load (i32.const 1028)))
               (i32.store offset=20 (local.get $verdict) (i32.load (i32.const 1032)))",
    };
    let mut version = node.version(&guest.enqueue()).await;
    version.config = Arc::new([("region".into(), r#""eu""#.into())].into());
    version.secrets = Arc::new([("key".into(), "hunter2".into())].into());
    let report = node.call(&Arc::new(version), &["x"]).await;
    assert_eq!(enqueued(&report), [replaced(r#""eu""#)]);
    assert_eq!(
        (report.log[0].level, &*report.log[0].message),
        (LogLevel::Warn, "***")
    );
}

#[tokio::test]
async fn what_an_item_takes_is_sampled_and_counted_as_in_a_dry_run() {
    let node = Node::start();
    let version = Arc::new(node.version(&SHOUT.enqueue()).await);
    let first = node
        .engine
        .rehearse(call(&version, Side::Enqueue, &["one"]))
        .await
        .usage
        .instructions
        .unwrap();
    assert_eq!(node.engine.status().fuel, [], "a dry run is no sample");
    let wanted = (version.namespace.clone(), version.hook.clone());
    for samples in 1..=2 {
        let fuel = loop {
            node.call(&version, &["one", "one and a half"]).await;
            let fuel = node.engine.status().fuel;
            if fuel.iter().any(|(.., fuel)| fuel.samples >= samples) {
                break fuel;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let [(namespace, hook, fuel)] = &fuel[..] else {
            panic!("{fuel:?}");
        };
        assert_eq!((namespace, hook), (&wanted.0, &wanted.1));
        assert_eq!(fuel.instructions, fuel.samples * first, "the first item, alone");
    }
}

#[tokio::test]
async fn a_rehearsal_counts_the_same_instructions_each_time() {
    let node = Node::start();
    let version = Arc::new(node.version(&SHOUT.enqueue()).await);
    let first = node
        .engine
        .rehearse(call(&version, Side::Enqueue, &["one"]))
        .await;
    let again = node
        .engine
        .rehearse(call(&version, Side::Enqueue, &["one"]))
        .await;
    let longer = node
        .engine
        .rehearse(call(&version, Side::Enqueue, &["one and a half"]))
        .await;
    assert_eq!(enqueued(&first), [replaced("ONE")]);
    assert!(first.usage.instructions > Some(0));
    assert_eq!(first.usage.instructions, again.usage.instructions);
    assert!(longer.usage.instructions > first.usage.instructions);
    assert_eq!(node.call(&version, &["one"]).await.usage.instructions, None);
}

#[tokio::test]
async fn who_asked_may_leave() {
    let node = Node::start();
    let kept = warm(node.version(&COUNTER.enqueue()).await);
    let mut left = Box::pin(node.call(&kept, &["x"]));
    // A thread that is awake may have made the call already: then nobody left, and the rest holds all the same.
    let _ = futures_util::poll!(&mut left);
    drop(left);
    // The call that nobody waited for was made, and its instance is in order.
    let mut last = Vec::new();
    for _ in 0..3 {
        last = enqueued(&node.call(&kept, &["x"]).await).to_vec();
    }
    assert!(
        last == [replaced("D")] || last == [replaced("C")] || last == [replaced("B")],
        "{last:?}"
    );
    assert!(node.engine.status().instances_warm >= 1);
}
