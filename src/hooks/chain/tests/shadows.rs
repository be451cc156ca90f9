//! Versions that run on copies.

use super::*;

fn shadowed(percent: u8) -> Bound {
    let mut shadowed = bound("h", Side::Enqueue, Policies::default());
    shadowed.shadow = Some(version("h", 2));
    shadowed.binding.shadow_percent = percent;
    shadowed
}

impl Bench {
    /// What was compared, once so much was.
    async fn compared(&self, count: usize) -> Vec<String> {
        while self.seen.of("compared").len() < count {
            tokio::task::yield_now().await;
        }
        self.seen.of("compared")
    }
}

#[tokio::test]
async fn a_shadow_is_compared_and_changes_nothing() {
    let bench = Bench::new(vec![shadowed(100)]);
    let outcomes = bench.enqueue(&["x", "keep", "drop", "err"]).await;
    assert_eq!(words(&outcomes[0]), "store x+h@1");
    assert_eq!(
        bench.compared(4).await,
        [
            "compared Different replace replace",
            "compared Same",
            "compared Same",
            "compared Failed error error"
        ]
    );
}

#[tokio::test]
async fn what_the_queue_would_refuse_is_a_failure_of_a_shadow_too() {
    let bench = Bench::new(vec![shadowed(100)]);
    bench.enqueue(&["nowhere"]).await;
    assert_eq!(bench.compared(1).await, ["compared Failed error error"]);
}

#[tokio::test]
async fn a_shadow_runs_on_a_sample() {
    let bench = Bench::new(vec![shadowed(1)]);
    bench.enqueue(&["x"; 5_000]).await;
    let compared = bench.compared(25).await.len();
    let calls = bench.runner.0.lock().clone();
    assert_eq!(calls.len(), 2, "one call with the sample: {calls:?}");
    assert!((25..100).contains(&calls[1].1), "{calls:?}");
    assert_eq!(compared, calls[1].1);
}

#[tokio::test]
async fn a_shadow_that_is_not_run_is_compared_with_nothing() {
    let bench = Bench::new(vec![shadowed(100)]);
    bench.enqueue(&["busy"]).await;
    while bench.runner.0.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    bench.enqueue(&["x"]).await;
    assert_eq!(bench.compared(1).await, ["compared Different replace replace"]);
    let mut held = shadowed(100);
    let mut second = Arc::into_inner(version("h", 2)).unwrap();
    second.quarantined = true;
    held.shadow = Some(Arc::new(second));
    assert!(!held.is_shadowed(ItemId(7)));
}
