//! What every hook keeps as it is, of which nothing is written down item by item.

use super::*;
use crate::hooks::Decided;

fn two_hooks(side: Side) -> Bench {
    Bench::new(
        ["a", "b"]
            .map(|hook| bound(hook, side, Policies::default()))
            .into(),
    )
}

async fn on_enqueue(bench: &Bench, payloads: &[&str]) -> Decided<EnqueueOutcome> {
    let chain = bench.chains.chain(&topic(), Side::Enqueue).unwrap();
    let asked = items(payloads);
    let room = Room::beside(1_000, 1 << 20, asked.iter().map(|asked| &*asked.item));
    bench
        .chains
        .on_enqueue(&chain, context(), asked.into(), &room)
        .await
}

#[tokio::test]
async fn what_all_hooks_keep_passes_as_a_whole() {
    let bench = two_hooks(Side::Enqueue);
    assert!(matches!(on_enqueue(&bench, &["keep"; 2]).await, Decided::Kept));
    assert_eq!(
        *bench.runner.0.lock(),
        [("a@1".to_owned(), 2), ("b@1".to_owned(), 2)]
    );
    // Nobody is asked about nothing.
    assert!(matches!(on_enqueue(&bench, &[]).await, Decided::Kept));
    assert_eq!(bench.runner.0.lock().len(), 2);
    let bench = two_hooks(Side::Dequeue);
    let chain = bench.chains.chain(&topic(), Side::Dequeue).unwrap();
    let asked = items(&["keep"; 2]).into();
    let said = bench.chains.on_dequeue(&chain, context(), asked).await;
    assert!(matches!(said, Decided::Kept));
}

#[tokio::test]
async fn one_item_that_is_not_kept_makes_them_all_be_looked_at() {
    let bench = two_hooks(Side::Enqueue);
    let outcomes = match on_enqueue(&bench, &["keep", "x", "keep"]).await {
        Decided::Each(outcomes) => outcomes,
        Decided::Kept => panic!("something was said of one"),
    };
    assert_eq!(all(&outcomes), ["store keep", "store x+a@1+b@1", "store keep"]);
}

#[tokio::test]
async fn a_shadow_is_compared_with_what_was_kept() {
    let mut shadowed = bound("h", Side::Enqueue, Policies::default());
    shadowed.shadow = Some(version("h", 2));
    let bench = Bench::new(vec![shadowed]);
    assert_eq!(all(&bench.enqueue(&["keep"; 3]).await), ["store keep"; 3]);
    for _ in 0..1_000 {
        if bench.seen.of("compared").len() == 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.seen.of("compared"), ["compared Same"; 3]);
}
