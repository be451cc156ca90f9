//! Versions that run into their limits again and again.

use super::activity::call_of;
use super::*;
use crate::model::{Ceiling, Policy};

fn tripped() -> Report {
    Report {
        usage: Usage {
            ceiling: Some(Ceiling::Stack),
            ..Usage::default()
        },
        ..report(Err(Failure::Trap("call stack exhausted".into())))
    }
}

/// Lets what runs beside the test go on until `is_done`.
pub(super) async fn until(is_done: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if is_done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not come about");
}

#[tokio::test]
async fn a_hundred_trips_put_a_version_in_quarantine_until_its_owner_acknowledges_it() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    let policies = Policies::all(Policy::Closed);
    f.bind(BindingDraft {
        policies,
        ..draft("b", "h", 1)
    })
    .await;
    let version = f.in_force()[0].active.clone();
    let call = call_of(version.clone(), 1);
    for _ in 0..99 {
        f.registry.called(&call, &tripped());
    }
    // Failures of other kinds count towards nothing here.
    f.registry
        .called(&call, &report(Err(Failure::Trap("unreachable".into()))));
    tokio::task::yield_now().await;
    assert!(!f.in_force()[0].active.quarantined);
    f.registry.called(&call, &tripped());
    until(|| f.in_force()[0].active.quarantined).await;
    assert!(f.in_force()[0].withheld_by(ItemId(1)).is_some());
    let view = |f: &Fixture| f.registry.version_view(&ns(), &name("h"), 1).unwrap();
    let quarantine = view(&f).quarantine.unwrap();
    assert_eq!((quarantine.ceiling, quarantine.trips), (Ceiling::Stack, 100));
    let binding = f.registry.binding(&ns(), &name("b")).unwrap();
    assert_eq!(f.registry.quarantined(&ns(), &binding), [1]);
    let stats = &f.registry.stats(&ns(), &name("h"))[0];
    assert!(stats.quarantined && stats.ceiling_trips == 100);

    // Other nodes, and this one after a restart, do not run it either, and it passes no gate.
    let other = f.again().await;
    assert!(other.in_force()[0].active.quarantined && view(&other).quarantine.is_some());
    let refused = f
        .registry
        .put_binding(&ns(), draft("c", "h", 1), Expected::Absent, &ada())
        .await;
    assert!(matches!(&refused, Err(RegistryError::Gate(why)) if why[0].contains("quarantine")));

    let seen = other
        .registry
        .acknowledge(&ns(), &name("h"), 1, &ada())
        .await
        .unwrap();
    assert_eq!(seen.quarantine, None);
    f.registry.catch_up().await.unwrap();
    assert!(!f.in_force()[0].active.quarantined);
    let again = f.registry.acknowledge(&ns(), &name("h"), 1, &ada()).await;
    assert!(matches!(again, Err(RegistryError::Nothing(_))));
    // It is counted anew.
    f.registry
        .called(&call_of(f.in_force()[0].active.clone(), 1), &tripped());
    tokio::task::yield_now().await;
    assert!(!f.in_force()[0].active.quarantined);
    let log = f.audit(&ns(), 0).await;
    let told: Vec<_> = log
        .iter()
        .map(|e| (e.actor.as_str(), e.action.as_str()))
        .collect();
    assert_eq!(
        told[2..],
        [("mqueue", "hook.quarantine"), ("ada", "hook.acknowledge")]
    );
}

#[tokio::test]
async fn a_quarantine_goes_with_its_version() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    f.bind(draft("b", "h", 1)).await;
    let call = call_of(f.in_force()[0].active.clone(), 1);
    for _ in 0..100 {
        f.registry.called(&call, &tripped());
    }
    until(|| f.in_force()[0].active.quarantined).await;
    f.registry
        .delete_binding(&ns(), &name("b"), Expected::Anything, &ada())
        .await
        .unwrap();
    f.registry
        .delete_version(&ns(), &name("h"), 1, &ada())
        .await
        .unwrap();
    let contents = f.registry.catalog.hooks().await.unwrap();
    assert_eq!((contents.versions.len(), contents.quarantines), (1, vec![]));
}
