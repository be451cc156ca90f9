//! Items that go to one of two versions.

use super::*;

fn on_trial(percent: u8) -> Bench {
    let mut tried = bound("h", Side::Enqueue, Policies::default());
    tried.binding.canary = Some(Canary { version: 2, percent });
    tried.canary = Some(version("h", 2));
    Bench::new(vec![tried])
}

#[tokio::test]
async fn a_canary_gets_its_share_and_keeps_it() {
    let bench = on_trial(25);
    let first = all(&bench.enqueue(&["x"; 1_000]).await);
    assert_eq!(all(&bench.enqueue(&["x"; 1_000]).await), first);
    let share = first.iter().filter(|word| *word == "store x+h@2").count();
    assert!((200..300).contains(&share), "{share}");
    assert_eq!(bench.runner.0.lock().len(), 4, "one call for each version");
}

#[tokio::test]
async fn what_both_versions_keep_stays_in_order() {
    let bench = on_trial(50);
    let ids: Vec<u64> = (1..=20).collect();
    let outcomes = bench.enqueue(&["keep"; 20]).await;
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            EnqueueOutcome::Store(shaped) => shaped.item.id.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ids);
    assert_eq!(bench.runner.0.lock().len(), 2, "one call for each version");
}
