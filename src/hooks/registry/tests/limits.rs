//! What a namespace may have.

use super::*;

async fn at(f: &Fixture, id: &str, topic: &str) -> Result<Binding> {
    let mut draft = draft(id, "h", 1);
    draft.topic = topic.parse().unwrap();
    f.registry
        .put_binding(&ns(), draft, Expected::Anything, &ada())
        .await
}

#[tokio::test]
async fn four_bindings_may_meet_in_a_topic() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    for (id, topic) in [
        ("a", "orders"),
        ("b", "ord*"),
        ("c", "*"),
        ("d", "orders.*"),
        ("e", "o*"),
    ] {
        at(&f, id, topic).await.unwrap();
    }
    // `orders` has a, b, c and e; `orders.x` has b, c, d and e; `x` has c alone.
    for topic in ["orders", "orders.x", "orders.*", "o*", "orders*", "*"] {
        let error = at(&f, "f", topic).await.unwrap_err();
        assert!(matches!(error, RegistryError::Limit(_, 4)), "{topic}: {error}");
    }
    at(&f, "f", "other").await.unwrap();
    let mut off = draft("g", "h", 1);
    off.enabled = false;
    f.bind(off).await;
    assert_eq!(f.in_force().len(), 6);
}

#[tokio::test]
async fn other_limits_are_in_force_at_once_where_the_manifest_asks_for_no_less() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.bind(draft("b", "h", 1)).await;
    let before = f.in_force();
    let limits = HookLimits {
        item_ms: 7,
        host_calls: 3,
        ..f.registry.limits().call
    };
    f.registry.set_call_limits(limits);
    assert_eq!(f.registry.limits().call, limits);
    let now = f.in_force();
    assert_eq!(
        (now[0].active.limits.item_ms, now[0].active.limits.host_calls),
        (7, 3)
    );
    // What the chains hold of before is not changed under them.
    assert_ne!(before[0].active.limits.item_ms, 7);
    let version = f.registry.version(&ns(), &name("h"), 1).unwrap();
    assert!(Arc::ptr_eq(&version, &now[0].active));
    // Versions to come are under them too, and those another node adds.
    assert_eq!(f.add("h", "two").await, 2);
    f.registry.reload().await.unwrap();
    let version = f.registry.version(&ns(), &name("h"), 2).unwrap();
    assert_eq!(version.limits.item_ms, 7);
}

#[tokio::test]
async fn the_oldest_unused_version_makes_room() {
    let f = Fixture::new().await;
    f.add("h", "0").await;
    f.bind(draft("b", "h", 1)).await;
    for n in 1..=100 {
        assert_eq!(f.add("h", &n.to_string()).await, n + 1);
    }
    let versions = f.registry.hook(&ns(), &name("h")).unwrap().versions;
    assert_eq!(versions.len(), 100);
    let kept: Vec<_> = versions.iter().rev().take(2).map(|v| v.version).collect();
    assert_eq!(kept, [1, 3]);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let f = Fixture::new().await;
    let add = async |version: NewVersion| {
        let version = NewVersion {
            module: b"m".to_vec(),
            ..version
        };
        let added = f.registry.add_version(&ns(), &name("h"), version, &ada()).await;
        added.unwrap_err().to_string()
    };
    let text = |bytes: usize| Box::from(format!("\"{}\"", "x".repeat(bytes)));
    let config = NewVersion {
        config: [("k".into(), text(64 << 10))].into(),
        ..NewVersion::default()
    };
    assert!(add(config).await.contains("65536 bytes of configuration"));
    let secret = NewVersion {
        secrets: [("k".into(), text(4 << 10))].into(),
        ..NewVersion::default()
    };
    assert!(add(secret).await.contains("4096 bytes in a secret"));
    let secrets = NewVersion {
        secrets: (0..33).map(|n| (n.to_string().into(), text(1))).collect(),
        ..NewVersion::default()
    };
    assert!(add(secrets).await.contains("32 secrets"));
    let not_json = NewVersion {
        config: [("k".into(), "{".into())].into(),
        ..NewVersion::default()
    };
    assert!(add(not_json).await.contains("`k` is not JSON"));
    let note = NewVersion {
        note: Some("\0".to_owned()),
        ..NewVersion::default()
    };
    assert!(add(note).await.contains("null characters"));
    f.add("h", "m").await;
    let test = StoredTest {
        name: name("t"),
        case: "{}".to_owned(),
    };
    let error = f
        .registry
        .put_test(&ns(), &name("h"), test, &ada())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Invalid { field: "case", .. }),
        "{error}"
    );
}
