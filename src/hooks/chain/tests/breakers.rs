//! What a breaker keeps from running, and what is told of it.

use super::*;

#[tokio::test]
async fn an_open_breaker_keeps_a_version_from_running_until_a_probe_is_well() {
    let bench = Bench::new(vec![bound("h", Side::Enqueue, Policies::default())]);
    for _ in 0..20 {
        bench.enqueue(&["trap"]).await;
    }
    assert_eq!(bench.seen.of("breaker"), ["breaker h@1 true"]);
    let calls = bench.runner.0.lock().len();
    assert_eq!(
        all(&bench.enqueue(&["x", "y"]).await),
        ["failed h@1 Some(1000)"; 2]
    );
    assert_eq!(bench.runner.0.lock().len(), calls);
    assert_eq!(bench.seen.of("skipped"), ["skipped h@1 2"]);
    assert!(bench.chains.breakers(&"default".parse().unwrap())[0].open);
    bench.clock.advance(1_000);
    assert_eq!(all(&bench.enqueue(&["x"]).await), ["store x+h@1"]);
    assert_eq!(
        bench.seen.of("breaker"),
        ["breaker h@1 true", "breaker h@1 false"]
    );
}

#[tokio::test]
async fn the_breaker_of_a_version_that_is_bound_no_more_is_told_to_be_gone() {
    let bench = Bench::new(vec![bound("h", Side::Enqueue, Policies::default())]);
    for _ in 0..20 {
        bench.enqueue(&["trap"]).await;
    }
    let mut other = bound("h", Side::Enqueue, Policies::default());
    other.active = version("h", 2);
    bench
        .chains
        .replace(&"default".parse().unwrap(), vec![Arc::new(other)]);
    assert_eq!(bench.seen.of("breaker"), ["breaker h@1 true", "breaker h@1 gone"]);
}

#[tokio::test]
async fn a_version_in_quarantine_is_not_run_and_its_policy_applies() {
    let held = |policy| {
        let mut held = bound("h", Side::Enqueue, Policies::all(policy));
        let mut active = Arc::into_inner(version("h", 1)).unwrap();
        active.quarantined = true;
        held.active = Arc::new(active);
        held.previous = Some(version("h", 9));
        held
    };
    for (policy, outcome, withheld) in [
        (Policy::Closed, "failed h@1 Some(60000)", true),
        (Policy::Open, "store x", false),
        (Policy::RetryPrevious, "store x+h@9", false),
    ] {
        let held = held(policy);
        assert_eq!(held.withheld_by(ItemId(1)).is_some(), withheld, "{policy:?}");
        let bench = Bench::new(vec![held]);
        assert_eq!(all(&bench.enqueue(&["x"]).await), [outcome], "{policy:?}");
        assert_eq!(bench.seen.of("skipped"), ["skipped h@1 1"]);
        assert!(bench.seen.of("called h@1").is_empty());
    }
}
