//! What another node changes, where modules take their time to compile.

use super::quarantine::until;
use super::*;

/// Adds a version of `h` in `namespace` with this module, and binds it.
async fn put(f: &Fixture, namespace: &Namespace, module: &str) {
    let version = NewVersion {
        module: module.into(),
        ..NewVersion::default()
    };
    let added = f
        .registry
        .add_version(namespace, &name("h"), version, &ada())
        .await
        .unwrap();
    let draft = draft("b", "h", added.version.version);
    f.registry
        .put_binding(namespace, draft, Expected::Anything, &ada())
        .await
        .unwrap();
}

fn version_in_force(f: &Fixture, namespace: &Namespace) -> Option<u32> {
    let published = f.published.lock();
    let bound = published.get(namespace)?.first()?;
    Some(bound.active.hook.version)
}

#[tokio::test]
async fn a_module_that_takes_long_or_fails_holds_up_nobody_elses_change() {
    let f = Fixture::new().await;
    let [acme, stuck, broken] = ["acme", "stuck", "broken"].map(|name| name.parse().unwrap());
    for namespace in [&acme, &stuck, &broken] {
        put(&f, namespace, "one").await;
    }
    let other = f.again().await;
    for namespace in [&stuck, &broken, &acme] {
        put(&f, namespace, &format!("two of {namespace}")).await;
        assert_eq!(version_in_force(&f, namespace), Some(2));
    }
    other.registry.catch_up().await.unwrap();
    until(|| version_in_force(&other, &acme) == Some(2)).await;
    // What waits for its module is what it was before, and says so.
    let binding = other.registry.binding(&stuck, &name("b")).unwrap();
    assert_eq!((binding.version, version_in_force(&other, &stuck)), (2, Some(1)));
    assert!(!other.registry.is_ready(&stuck, &binding));
    // What cannot be compiled goes into force all the same: its policy decides, and its owner is told why.
    until(|| version_in_force(&other, &broken) == Some(2)).await;
    let log = other.registry.log(&broken, &name("h"), 0, 10);
    assert!(log[0].message.contains("it is broken"), "{log:?}");
    // A binding that goes does not wait for anything.
    f.registry
        .delete_binding(&stuck, &name("b"), Expected::Anything, &ada())
        .await
        .unwrap();
    other.registry.catch_up().await.unwrap();
    assert_eq!(version_in_force(&other, &stuck), None);
}

#[tokio::test]
async fn a_breaker_is_of_interest_while_its_version_would_run() {
    let f = Fixture::new().await;
    f.add("h", "one").await;
    f.add("h", "two").await;
    f.bind(draft("b", "h", 1)).await;
    let bound = f.in_force()[0].clone();
    f.registry.breaker(&bound, &bound.active, true);
    let is_open = |version: usize| {
        let stats = f.registry.stats(&ns(), &name("h"));
        stats
            .iter()
            .any(|stats| stats.version as usize == version && stats.breaker_open)
    };
    assert!(is_open(1));
    // Now it is only what one could go back to.
    let any = Expected::Anything;
    f.registry
        .activate(&ns(), &name("b"), any, activation(2), &ada())
        .await
        .unwrap();
    assert!(!is_open(1));
    f.registry.rollback(&ns(), &name("b"), any, &ada()).await.unwrap();
    assert!(is_open(1));
}
