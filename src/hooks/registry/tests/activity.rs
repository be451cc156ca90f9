//! Logs, counts, kept failures, and rolling back by itself.

use super::*;
use std::time::Duration;

fn call(f: &Fixture, items: usize) -> Call {
    let version = f.in_force()[0].active.clone();
    call_of(version, items)
}

pub(super) fn call_of(version: Arc<crate::hooks::Version>, items: usize) -> Call {
    Call {
        version,
        side: Side::Enqueue,
        context: Arc::new(HookContext {
            topic: TopicKey::parse("acme", "orders").unwrap(),
            now: Timestamp::ZERO,
            principal: "ada".into(),
            scopes: Arc::new([]),
        }),
        items: (1..=items as u64).map(item).collect(),
        range: 0..items,
        rehearsal: false,
    }
}

fn line(message: &str) -> LogLine {
    LogLine {
        level: LogLevel::Info,
        message: message.into(),
    }
}

async fn bound() -> Fixture {
    let f = Fixture::new().await;
    let version = NewVersion {
        module: b"one".to_vec(),
        manifest: Manifest {
            keep_failures: true,
            ..Manifest::default()
        },
        ..NewVersion::default()
    };
    f.registry
        .add_version(&ns(), &name("h"), version, &ada())
        .await
        .unwrap();
    f.add("h", "two").await;
    f.bind(draft("b", "h", 1)).await;
    f
}

#[tokio::test]
async fn the_last_thousand_lines_are_kept_and_followed() {
    let f = bound().await;
    let mut follower = f.registry.follow(&ns(), &name("h"));
    for n in 0..1_100 {
        let mut told = report(Err(Failure::Trap(String::new())));
        told.log = vec![line(&n.to_string())];
        f.clock.advance(10);
        f.registry.called(&call(&f, 1), &told);
        if n == 0 {
            assert_eq!(&*follower.recv().await.unwrap().message, "0");
        }
    }
    let all = f.registry.log(&ns(), &name("h"), 0, usize::MAX);
    assert_eq!((all.len(), &*all[0].message, all[0].version), (1_000, "100", 1));
    let rest = f.registry.log(&ns(), &name("h"), all[997].seq, 1);
    assert_eq!(rest, all[998..999]);
}

#[tokio::test]
async fn a_hook_that_logs_too_much_loses_lines_and_only_its_own() {
    let f = bound().await;
    let mut told = report(Ok(Verdicts::Enqueue(vec![Ok(EnqueueVerdict::Keep)])));
    told.log = vec![line(&"x".repeat(1_000)); 64];
    f.registry.called(&call(&f, 1), &told);
    let kept = f.registry.log(&ns(), &name("h"), 0, usize::MAX).len();
    assert_eq!(kept, 61);
    assert_eq!(f.registry.stats(&ns(), &name("h"))[0].log_lines_dropped, 3);
    f.clock.advance(1_000);
    f.registry.called(&call(&f, 1), &told);
    assert_eq!(f.registry.log(&ns(), &name("h"), 0, usize::MAX).len(), 122);
}

#[tokio::test]
async fn calls_are_counted_and_rehearsals_are_not() {
    let f = bound().await;
    let mut told = report(Ok(Verdicts::Enqueue(vec![
        Ok(EnqueueVerdict::Keep),
        Err("no".to_owned()),
    ])));
    told.usage.run = Duration::from_micros(100);
    told.usage.host_calls = 3;
    f.registry.called(&call(&f, 2), &told);
    f.registry
        .called(&call(&f, 1), &report(Err(Failure::Timeout(Duration::ZERO))));
    let mut rehearsal = call(&f, 1);
    rehearsal.rehearsal = true;
    f.registry.called(&rehearsal, &told);
    let stats = &f.registry.stats(&ns(), &name("h"))[0];
    assert_eq!(
        (stats.calls, stats.items, stats.timeouts, stats.host_calls),
        (2, 3, 1, 3)
    );
    assert_eq!(stats.verdicts, [("keep", 1), ("error", 1)]);
    assert_eq!(stats.run_p99, Duration::from_micros(128));
}

#[tokio::test]
async fn failed_inputs_are_kept_for_a_day_when_the_manifest_says_so() {
    let f = bound().await;
    let call = call(&f, 120);
    f.registry.failed(&call, call.items(), "broken");
    let kept = f.registry.failures(&ns(), &name("h"));
    assert_eq!(
        (kept.len(), kept[0].id, &*kept[0].detail),
        (100, ItemId(120), "broken")
    );
    assert_eq!(kept[0].payload.as_deref(), Some(&b"hello"[..]));
    f.clock.advance(24 * 3_600 * 1_000);
    assert!(f.registry.failures(&ns(), &name("h")).is_empty());
    let silent = call_of(f.registry.version(&ns(), &name("h"), 2).unwrap(), 1);
    f.registry.failed(&silent, silent.items(), "broken");
    assert!(f.registry.failures(&ns(), &name("h")).is_empty());
}

/// Waits until the binding is what a rollback makes of it.
async fn settled(f: &Fixture, follower: &mut broadcast::Receiver<LogEntry>) -> Binding {
    loop {
        let line = follower.recv().await.unwrap();
        if line.message.contains("rolled back") {
            return f.registry.binding(&ns(), &name("b")).unwrap();
        }
    }
}

#[tokio::test]
async fn an_open_breaker_soon_after_an_activation_rolls_back() {
    let f = bound().await;
    f.registry
        .activate(&ns(), &name("b"), Expected::Anything, activation(2), &ada())
        .await
        .unwrap();
    let mut follower = f.registry.follow(&ns(), &name("h"));
    let in_force = f.in_force()[0].clone();
    f.registry.breaker(&in_force, &in_force.active, true);
    let binding = settled(&f, &mut follower).await;
    assert_eq!((binding.version, binding.previous), (1, None));
    let log = f.audit(&ns(), 0).await;
    let last = log.last().unwrap();
    assert_eq!(
        (last.actor.as_str(), last.action.as_str()),
        ("mqueue", "hook.auto_rollback")
    );
    // Nothing runs it any more.
    assert!(!f.registry.stats(&ns(), &name("h"))[0].breaker_open);
}

#[tokio::test]
async fn an_open_breaker_takes_a_trial_away() {
    let f = bound().await;
    let trial = Activation {
        canary_percent: Some(10),
        ..activation(2)
    };
    f.registry
        .activate(&ns(), &name("b"), Expected::Anything, trial, &ada())
        .await
        .unwrap();
    let mut follower = f.registry.follow(&ns(), &name("h"));
    let in_force = f.in_force()[0].clone();
    f.registry
        .breaker(&in_force, in_force.canary.as_ref().unwrap(), true);
    let binding = settled(&f, &mut follower).await;
    assert_eq!((binding.version, binding.canary), (1, None));
}

#[tokio::test]
async fn after_ten_minutes_or_when_told_not_to_nothing_is_rolled_back() {
    let f = bound().await;
    f.registry
        .activate(&ns(), &name("b"), Expected::Anything, activation(2), &ada())
        .await
        .unwrap();
    let in_force = f.in_force()[0].clone();
    let now = f.clock.now();
    assert!(Registry::on_probation(&in_force, 2, now));
    assert!(!Registry::on_probation(&in_force, 1, now));
    assert!(!Registry::on_probation(&in_force, 2, now.plus_ms(600_000)));
    let mut told_not_to = draft("b", "h", 2);
    told_not_to.auto_rollback = false;
    f.bind(told_not_to).await;
    assert!(!Registry::on_probation(&f.in_force()[0], 2, now));
}
