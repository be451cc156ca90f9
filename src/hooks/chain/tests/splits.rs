//! What splits may become, and what becomes of their parts.

use super::*;

fn in_a_row(hooks: &[&str]) -> Vec<Bound> {
    let place = |(position, hook): (usize, &&str)| {
        let mut bound = bound(hook, Side::Enqueue, Policies::default());
        bound.binding.position = position as u16;
        bound
    };
    hooks.iter().enumerate().map(place).collect()
}

#[tokio::test]
async fn splits_of_splits_are_refused_before_their_parts_are_made() {
    let bench = Bench::new(in_a_row(&["a", "b", "c", "d"]));
    // In number: 16, 256, and then 4,096.
    assert_eq!(
        all(&bench.enqueue(&["fan", "keep"]).await),
        ["no room", "store keep"]
    );
    let sizes: Vec<_> = bench.runner.0.lock().iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes, [2, 17, 257, 1]);
    assert!(bench.seen.of("failed").is_empty(), "it is not the hook's fault");
    // In bytes: sixteen times 60,000 fit into a mebibyte, and not once more.
    let bench = Bench::new(in_a_row(&["a", "b"]));
    let large = format!("fan{}", "x".repeat(60_000));
    assert_eq!(
        all(&bench.enqueue(&[&large, &large]).await),
        ["no room", "no room"]
    );
    let sizes: Vec<_> = bench.runner.0.lock().iter().map(|(_, size)| *size).collect();
    assert_eq!(sizes, [2, 16]);
}

#[tokio::test]
async fn a_part_that_becomes_a_dead_letter_takes_the_whole_along_as_it_was_when_it_was_split() {
    let bench = Bench::new(in_a_row(&["a", "b"]));
    let outcomes = bench.enqueue(&["halve"]).await;
    assert_eq!(all(&outcomes), ["dead halve b@1 poison"]);
}
