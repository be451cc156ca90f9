//! Hooks in the catalog, and the log of changes.

use std::sync::Arc;

use super::{Fixture, on_both};
use crate::clock::Timestamp;
use crate::model::{Binding, Digest, HookName, Namespace, Policies, Side};
use crate::shard::{AuditQuery, AuditRow, HookChange, HookContents, HookVersionRow};

on_both!(
    hooks_begin_empty,
    what_is_put_is_loaded,
    a_change_on_an_old_state_changes_nothing,
    a_module_goes_with_its_last_version,
    a_number_outlives_its_version,
    test_cases_are_read_by_hook,
    changes_are_noted_in_order,
);

fn ns(name: &str) -> Namespace {
    name.parse().unwrap()
}

fn hook(name: &str) -> HookName {
    name.parse().unwrap()
}

fn version(namespace: &str, version: u32, digest: u8) -> HookVersionRow {
    HookVersionRow {
        namespace: ns(namespace),
        hook: hook("h"),
        version,
        digest: Digest([digest; 32]),
        module_bytes: 6,
        exports: vec![Side::Enqueue, Side::Dequeue],
        manifest: Default::default(),
        config: Arc::new([("k".into(), "{\"a\":[1]}".into())].into()),
        secrets: Arc::new([("s".into(), "\0é\"".into())].into()),
        note: Some("why".to_owned()),
        from_folder: version == 2,
        created_by: "ada".to_owned(),
        created_at: Timestamp::from_ms(5),
    }
}

fn add(row: &HookVersionRow) -> HookChange {
    HookChange::AddVersion(row.clone(), Arc::from(*b"module"))
}

fn binding(version: u32) -> Binding {
    Binding {
        id: hook("b"),
        topic: "orders.*".parse().unwrap(),
        side: Side::Enqueue,
        position: 1,
        hook: hook("h"),
        version,
        previous: None,
        canary: None,
        shadow: None,
        shadow_percent: 100,
        policies: Policies::default(),
        auto_rollback: true,
        enabled: true,
        activated_at: Timestamp::from_ms(7),
        revision: version.into(),
    }
}

fn noted(namespace: &str, target: &str) -> AuditRow {
    AuditRow {
        at: Timestamp::from_ms(9),
        namespace: Some(ns(namespace)),
        actor: "ada".to_owned(),
        action: "hook.test",
        target: target.to_owned(),
        before: None,
        after: Some("{}".to_owned()),
        request_id: Some("r".to_owned()),
        peer: None,
    }
}

fn of(namespace: &str, after: u64, limit: usize) -> AuditQuery {
    AuditQuery {
        namespace: Some(ns(namespace)),
        after: Some(after),
        limit,
        ..AuditQuery::default()
    }
}

async fn hooks_begin_empty(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    assert_eq!(catalog.hooks().await.unwrap(), HookContents::default());
    assert_eq!(catalog.hooks_generation().await.unwrap(), 0);
    assert_eq!(catalog.module(Digest([1; 32])).await.unwrap(), None);
}

async fn what_is_put_is_loaded(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let versions = [version("a", 1, 1), version("a", 2, 1), version("b", 1, 2)];
    let mut changes: Vec<_> = versions.iter().map(add).collect();
    changes.push(HookChange::PutBinding(ns("a"), binding(1)));
    assert!(catalog.change_hooks(0, &changes, &[]).await.unwrap());
    let put = HookChange::PutBinding(ns("a"), binding(2));
    assert!(catalog.change_hooks(1, &[put], &[]).await.unwrap());
    let loaded = catalog.hooks().await.unwrap();
    assert_eq!(loaded.generation, 2);
    assert_eq!(loaded.versions, versions);
    assert_eq!(loaded.bindings, [(ns("a"), binding(2))]);
    assert_eq!(catalog.module(Digest([2; 32])).await.unwrap().unwrap(), b"module");
    let gone = HookChange::DeleteBinding(ns("a"), hook("b"));
    assert!(catalog.change_hooks(2, &[gone], &[]).await.unwrap());
    assert!(catalog.hooks().await.unwrap().bindings.is_empty());
}

async fn a_change_on_an_old_state_changes_nothing(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    assert!(
        catalog
            .change_hooks(0, &[add(&version("a", 1, 1))], &[])
            .await
            .unwrap()
    );
    let late = [add(&version("a", 2, 2))];
    assert!(
        !catalog
            .change_hooks(0, &late, &[noted("a", "late")])
            .await
            .unwrap()
    );
    assert_eq!(catalog.hooks_generation().await.unwrap(), 1);
    assert_eq!(catalog.hooks().await.unwrap().versions.len(), 1);
    assert!(catalog.audit(&of("a", 0, 10)).await.unwrap().is_empty());
    // Nor does one that fails in the middle.
    let twice = [
        HookChange::PutBinding(ns("a"), binding(1)),
        add(&version("a", 1, 1)),
    ];
    catalog.change_hooks(1, &twice, &[]).await.unwrap_err();
    assert!(catalog.hooks().await.unwrap().bindings.is_empty());
    assert_eq!(catalog.hooks_generation().await.unwrap(), 1);
}

async fn a_module_goes_with_its_last_version(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let shared = Digest([1; 32]);
    let changes = [add(&version("a", 1, 1)), add(&version("b", 1, 1))];
    assert!(catalog.change_hooks(0, &changes, &[]).await.unwrap());
    for (generation, namespace, left) in [(1, "a", true), (2, "b", false)] {
        let gone = HookChange::DeleteVersion(ns(namespace), hook("h"), 1, shared);
        assert!(catalog.change_hooks(generation, &[gone], &[]).await.unwrap());
        assert_eq!(catalog.module(shared).await.unwrap().is_some(), left);
    }
}

async fn a_number_outlives_its_version(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let changes = [add(&version("a", 2, 2)), add(&version("a", 1, 1))];
    assert!(catalog.change_hooks(0, &changes, &[]).await.unwrap());
    let gone = [1, 2]
        .map(|number| HookChange::DeleteVersion(ns("a"), hook("h"), number.into(), Digest([number; 32])));
    assert!(catalog.change_hooks(1, &gone, &[]).await.unwrap());
    let left = catalog.hooks().await.unwrap();
    assert!(left.versions.is_empty());
    assert_eq!(left.last_numbers, [(ns("a"), hook("h"), 2)]);
}

async fn test_cases_are_read_by_hook(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let put = |of: &str, name: &str, case: &str| HookChange::PutTest {
        namespace: ns("a"),
        hook: hook(of),
        name: hook(name),
        case: case.to_owned(),
    };
    let changes = [
        put("h", "t2", "2"),
        put("h", "t1", "0"),
        put("h", "t1", "1"),
        put("other", "t", "3"),
    ];
    assert!(catalog.change_hooks(0, &changes, &[]).await.unwrap());
    let tests = catalog.hook_tests(&ns("a"), &hook("h")).await.unwrap();
    assert_eq!(
        tests,
        [(hook("t1"), "1".to_owned()), (hook("t2"), "2".to_owned())]
    );
    let gone = HookChange::DeleteTest(ns("a"), hook("h"), hook("t1"));
    assert!(catalog.change_hooks(1, &[gone], &[]).await.unwrap());
    let names = catalog.hooks().await.unwrap().tests;
    assert_eq!(
        names,
        [
            (ns("a"), hook("h"), hook("t2")),
            (ns("a"), hook("other"), hook("t"))
        ]
    );
}

async fn changes_are_noted_in_order(fixture: &Fixture) {
    let catalog = fixture.shard.catalog();
    let rows = [noted("a", "1"), noted("b", "2"), noted("a", "3")];
    assert!(catalog.change_hooks(0, &[], &rows).await.unwrap());
    let all = catalog.audit(&of("a", 0, 10)).await.unwrap();
    let told: Vec<_> = all.iter().map(|row| (row.id, row.target.as_str())).collect();
    assert_eq!(told, [(1, "1"), (3, "3")]);
    assert_eq!(
        (all[0].at, all[0].actor.as_str(), all[0].after.as_deref()),
        (Timestamp::from_ms(9), "ada", Some("{}"))
    );
    assert_eq!(catalog.audit(&of("a", 1, 10)).await.unwrap(), all[1..]);
    assert_eq!(catalog.audit(&of("a", 0, 1)).await.unwrap(), all[..1]);
}
