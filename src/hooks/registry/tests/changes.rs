//! Versions, bindings, the gate, and what other nodes see of them.

use super::*;

#[tokio::test]
async fn versions_are_numbered_and_the_same_upload_is_not_stored_twice() {
    let f = Fixture::new().await;
    assert_eq!(f.add("h", "one").await, 1);
    assert_eq!(f.add("h", "two").await, 2);
    let version = NewVersion {
        module: b"two".to_vec(),
        ..NewVersion::default()
    };
    let again = f
        .registry
        .add_version(&ns(), &name("h"), version, &ada())
        .await
        .unwrap();
    assert!(!again.created);
    assert_eq!(again.version.version, 2);
    let view = f.registry.hook(&ns(), &name("h")).unwrap();
    assert_eq!(
        view.versions.iter().map(|v| v.version).collect::<Vec<_>>(),
        [2, 1]
    );
    let digest = view.versions[1].digest;
    assert_eq!(f.registry.module(digest).await.unwrap().unwrap(), b"one");
}

#[tokio::test]
async fn a_refused_upload_leaves_nothing() {
    let f = Fixture::new().await;
    let version = NewVersion {
        module: b"bad".to_vec(),
        ..NewVersion::default()
    };
    let error = f
        .registry
        .add_version(&ns(), &name("h"), version, &ada())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Upload(UploadError::Malformed(_))),
        "{error}"
    );
    assert!(f.registry.list(&ns()).is_empty());
    assert!(f.audit(&ns(), 0).await.is_empty());
}

#[tokio::test]
async fn bindings_are_published_and_change_under_their_revision() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    let made = f.bind(draft("b", "h", 1)).await;
    assert_eq!(f.in_force()[0].active.hook.version, 1);
    let stale = Expected::Revision(made.revision + 1);
    let error = f
        .registry
        .activate(&ns(), &name("b"), stale, activation(2), &ada())
        .await;
    assert!(matches!(error, Err(RegistryError::Stale { current }) if current == Some(made.revision)));
    let absent = f
        .registry
        .put_binding(&ns(), draft("b", "h", 2), Expected::Absent, &ada())
        .await;
    assert!(matches!(absent, Err(RegistryError::Stale { .. })));
    let met = Expected::Revision(made.revision);
    let active = f
        .registry
        .activate(&ns(), &name("b"), met, activation(2), &ada())
        .await
        .unwrap();
    assert_eq!((active.version, active.previous), (2, Some(1)));
    assert!(active.revision > made.revision);
    assert_eq!(f.in_force()[0].previous.as_ref().unwrap().hook.version, 1);
    let back = f
        .registry
        .rollback(&ns(), &name("b"), Expected::Anything, &ada())
        .await
        .unwrap();
    assert_eq!((back.version, back.previous), (1, None));
    let nowhere = f
        .registry
        .rollback(&ns(), &name("b"), Expected::Anything, &ada())
        .await;
    assert!(matches!(nowhere, Err(RegistryError::Nothing(_))));
    f.registry
        .delete_binding(&ns(), &name("b"), Expected::Anything, &ada())
        .await
        .unwrap();
    assert!(f.in_force().is_empty());
}

#[tokio::test]
async fn a_trial_is_promoted_or_taken_away() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    f.bind(draft("b", "h", 1)).await;
    let trial = Activation {
        canary_percent: Some(5),
        ..activation(2)
    };
    let id = name("b");
    let any = Expected::Anything;
    let tried = f.registry.activate(&ns(), &id, any, trial, &ada()).await.unwrap();
    assert_eq!(
        tried.canary,
        Some(Canary {
            version: 2,
            percent: 5
        })
    );
    assert_eq!(f.in_force()[0].canary.as_ref().unwrap().hook.version, 2);
    let back = f.registry.rollback(&ns(), &id, any, &ada()).await.unwrap();
    assert_eq!((back.version, back.canary), (1, None));
    f.registry.activate(&ns(), &id, any, trial, &ada()).await.unwrap();
    let promoted = f.registry.promote(&ns(), &id, any, &ada()).await.unwrap();
    assert_eq!(
        (promoted.version, promoted.previous, promoted.canary),
        (2, Some(1), None)
    );
    assert!(f.registry.promote(&ns(), &id, any, &ada()).await.is_err());
}

#[tokio::test]
async fn a_version_in_use_stays() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    f.bind(draft("b", "h", 1)).await;
    f.registry
        .activate(&ns(), &name("b"), Expected::Anything, activation(2), &ada())
        .await
        .unwrap();
    for version in [1, 2] {
        let error = f
            .registry
            .delete_version(&ns(), &name("h"), version, &ada())
            .await
            .unwrap_err();
        assert!(matches!(error, RegistryError::Bound(ids) if ids == [name("b")]));
    }
    f.registry
        .delete_binding(&ns(), &name("b"), Expected::Anything, &ada())
        .await
        .unwrap();
    for version in [1, 2] {
        let digest = f.registry.version(&ns(), &name("h"), version).unwrap().digest;
        f.registry
            .delete_version(&ns(), &name("h"), version, &ada())
            .await
            .unwrap();
        assert_eq!(f.registry.module(digest).await.unwrap(), None);
    }
    assert!(f.registry.hook(&ns(), &name("h")).is_none());
}

#[tokio::test]
async fn a_number_never_comes_again() {
    let f = Fixture::new().await;
    let delete = async |f: &Fixture, version| {
        f.registry
            .delete_version(&ns(), &name("h"), version, &ada())
            .await
            .unwrap();
    };
    f.add("h", "one").await;
    assert_eq!(f.add("h", "two").await, 2);
    delete(&f, 2).await;
    assert_eq!(f.add("h", "two").await, 3);
    // Nor when the hook went with its last version, nor after a restart.
    delete(&f, 1).await;
    delete(&f, 3).await;
    assert_eq!(f.again().await.add("h", "one").await, 4);
    f.registry.catch_up().await.unwrap();
    assert_eq!(f.add("h", "two").await, 5);
    assert_eq!(f.add("other", "one").await, 1);
}

#[tokio::test]
async fn the_gate_runs_the_tests_and_wants_the_export() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "reject two").await;
    let case = r#"{"name":"passes","side":"enqueue","item":{"text":"x"},"expect":{"verdict":"keep"}}"#;
    let test = StoredTest {
        name: name("t"),
        case: case.to_owned(),
    };
    assert!(
        f.registry
            .put_test(&ns(), &name("h"), test, &ada())
            .await
            .unwrap()
    );
    f.bind(draft("b", "h", 1)).await;
    let any = Expected::Anything;
    let error = f
        .registry
        .activate(&ns(), &name("b"), any, activation(2), &ada())
        .await
        .unwrap_err();
    let RegistryError::Gate(lines) = &error else {
        panic!("{error}")
    };
    assert!(lines[0].contains("passes"), "{lines:?}");
    let forced = Activation {
        force: true,
        ..activation(2)
    };
    f.registry
        .activate(&ns(), &name("b"), any, forced, &ada())
        .await
        .unwrap();
    let mut wrong_side = draft("c", "h", 1);
    wrong_side.side = Side::Dequeue;
    let error = f
        .registry
        .put_binding(&ns(), wrong_side, any, &ada())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("dequeue"), "{error}");
}

#[tokio::test]
async fn every_change_is_noted_with_who_made_it() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.bind(draft("b", "h", 1)).await;
    let log = f.audit(&ns(), 0).await;
    let told: Vec<_> = log
        .iter()
        .map(|e| (e.actor.as_str(), e.action.as_str(), e.target.as_str()))
        .collect();
    assert_eq!(
        told,
        [("ada", "hook.version.add", "h@1"), ("ada", "binding.put", "b")]
    );
    assert_eq!(
        (log[0].request_id.as_deref(), log[0].peer.as_deref()),
        (Some("r-1"), Some("192.0.2.7"))
    );
    assert!(log[1].before.is_none() && log[1].after.as_ref().unwrap().contains("\"orders\""));
    let rest = f.audit(&ns(), log[0].id).await;
    assert_eq!(rest, log[1..]);
    assert!(f.audit(&"other".parse().unwrap(), 0).await.is_empty());
}

#[tokio::test]
async fn secrets_are_neither_shown_nor_noted() {
    let f = Fixture::new().await;
    let version = NewVersion {
        module: b"one".to_vec(),
        secrets: [("key".into(), "\"hunter2\"".into())].into(),
        ..NewVersion::default()
    };
    let added = f
        .registry
        .add_version(&ns(), &name("h"), version, &ada())
        .await
        .unwrap();
    assert_eq!(added.version.secrets, [Box::from("key")]);
    let log = f.audit(&ns(), 0).await;
    assert!(!format!("{log:?}{added:?}").contains("hunter2"));
    let secrets = &f.registry.version(&ns(), &name("h"), 1).unwrap().secrets;
    assert_eq!(&*secrets["key"], "\"hunter2\"");
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.bind(draft("b", "h", 1)).await;
    let after = f.again().await;
    assert_eq!(after.registry.bindings(&ns()), f.registry.bindings(&ns()));
    assert_eq!(after.in_force()[0].active.digest, f.in_force()[0].active.digest);
    let digest = after.in_force()[0].active.digest;
    after.registry.warm_up().await;
    assert!(after.registry.hook(&ns(), &name("h")).unwrap().versions[0].ready);
    assert_eq!(after.registry.module(digest).await.unwrap().unwrap(), b"one");
}

#[tokio::test]
async fn two_nodes_over_one_catalog_agree() {
    let f = Fixture::new().await;
    let other = f.again().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    let made = f.bind(draft("b", "h", 1)).await;
    assert!(other.registry.catch_up().await.unwrap());
    assert!(!other.registry.catch_up().await.unwrap());
    assert_eq!(other.registry.binding(&ns(), &name("b")), Some(made.clone()));
    // Both change the same revision: one wins, the other is told, though it had not seen it yet.
    let met = Expected::Revision(made.revision);
    other
        .registry
        .activate(&ns(), &name("b"), met, activation(2), &ada())
        .await
        .unwrap();
    let late = f.registry.delete_binding(&ns(), &name("b"), met, &ada()).await;
    assert!(matches!(late, Err(RegistryError::Stale { .. })), "{late:?}");
    assert_eq!(f.in_force()[0].active.hook.version, 2);
}

#[tokio::test]
async fn what_did_not_change_is_published_as_the_very_same() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.bind(draft("a", "h", 1)).await;
    let before = f.in_force();
    f.bind(draft("b", "h", 1)).await;
    assert!(Arc::ptr_eq(&before[0], &f.in_force()[0]));
    let other = f.again().await;
    other.bind(draft("c", "h", 1)).await;
    f.registry.catch_up().await.unwrap();
    assert!(Arc::ptr_eq(&before[0], &f.in_force()[0]));
    assert_eq!(f.in_force().len(), 3);
}

#[tokio::test]
async fn no_version_passes_the_gate_by_as_a_shadow_that_is_on_trial_too() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "reject").await;
    let case = r#"{"side":"enqueue","item":{"text":"x"},"expect":{"verdict":"keep"}}"#;
    let test = StoredTest {
        name: name("keeps"),
        case: case.to_owned(),
    };
    f.registry
        .put_test(&ns(), &name("h"), test, &ada())
        .await
        .unwrap();
    let shadowed = BindingDraft {
        shadow: Some(2),
        ..draft("b", "h", 1)
    };
    f.bind(shadowed.clone()).await;
    let tried = BindingDraft {
        canary: Some(Canary {
            version: 2,
            percent: 50,
        }),
        ..shadowed
    };
    let error = f
        .registry
        .put_binding(&ns(), tried, Expected::Anything, &ada())
        .await
        .unwrap_err();
    let RegistryError::Gate(reasons) = &error else {
        panic!("{error}");
    };
    assert!(reasons[0].starts_with("test `keeps`"), "{reasons:?}");
}
