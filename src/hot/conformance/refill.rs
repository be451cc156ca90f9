//! What is only in the shard: the floor under it, and how it comes up.

use std::time::Duration;

use super::{Fixture, item, on_every_tier, patched, urgent};
use crate::hot::{More, RefillPage};
use crate::model::{ItemId, OrderKey, QueuedItem};
use crate::shard::StoredCounts;
use crate::wal::Lsn;

on_every_tier!(
    nothing_goes_out_before_something_cold,
    a_page_comes_up_and_moves_the_floor,
    cold_items_that_become_due_are_looked_for,
    what_is_hot_or_gone_is_not_adopted,
    what_was_deleted_during_a_read_is_not_adopted,
    nothing_is_evicted_while_somebody_reads,
    what_is_counted_at_the_start_is_cold,
    what_falls_due_while_it_is_told_is_found,
    a_reader_that_did_not_hear_that_it_may_read_begins_again,
    topics_that_run_low_want_a_refill,
);

/// Reads as the prefetcher would, from `rows`, at most `limit` at a time.
async fn refill(f: &Fixture, rows: &[QueuedItem], limit: usize) {
    if let Some(span) = f.tier.refill_begin(&f.topic).await.unwrap() {
        let place = |queued: &QueuedItem| (queued.standing.due, queued.item.id);
        let due = rows
            .iter()
            .filter(|row| place(row) > span.after && row.standing.due <= span.until);
        let later = rows
            .iter()
            .map(|row| row.standing.due)
            .filter(|due| *due > span.until);
        let passed = (span.until, ItemId(i64::MAX as u64));
        f.tier
            .refill_due(&f.topic, due.cloned().collect(), passed, later.min())
            .await
            .unwrap();
    }
    let page = f
        .tier
        .refill_page(&f.topic)
        .await
        .unwrap()
        .map(|RefillPage { from, due_by }| {
            let mut page: Vec<_> = rows.to_vec();
            page.retain(|row| row.key() >= from && row.standing.due <= due_by);
            page.sort_by_key(QueuedItem::key);
            page.truncate(limit);
            let whole = page.len() < limit;
            (page, whole)
        });
    f.tier.refill_end(&f.topic, page).await;
}

async fn nothing_goes_out_before_something_cold(f: Fixture) {
    f.cool(1, vec![item(5)]).await;
    f.admit(2, vec![urgent(6, 9), urgent(7, 1)]).await;
    assert_eq!(f.take(9).await, (vec![7], More::Cold));
    refill(&f, &[item(5)], 9).await;
    assert_eq!(f.take(9).await.0, [5, 6]);
}

async fn a_page_comes_up_and_moves_the_floor(f: Fixture) {
    let rows: Vec<_> = (1..=5).map(item).collect();
    f.cool(1, rows.clone()).await;
    assert_eq!((f.numbers(), f.tier.bytes()), ([5, 0, 0, 0], 0));
    let mut taken = Vec::new();
    for _ in 0..3 {
        assert_eq!(f.take(9).await, (vec![], More::Cold));
        refill(&f, &rows, 2).await;
        taken.extend(f.take(2).await.0);
    }
    assert_eq!(taken, [1, 2, 3, 4, 5]);
    assert_eq!(f.take(9).await.0, [0; 0]);
    assert_eq!(f.numbers(), [0, 0, 5, 0]);
}

async fn cold_items_that_become_due_are_looked_for(f: Fixture) {
    let due = f.clock.now().plus_ms(1_000);
    let later = patched(urgent(1, 1), |standing| standing.due = due);
    f.cool(1, vec![later.clone()]).await;
    f.admit(2, vec![item(2)]).await;
    assert_eq!(f.numbers(), [1, 1, 0, 0]);
    f.clock.advance(999);
    assert_eq!(f.take(9).await, (vec![2], More::Nothing(Some(due))));
    f.admit(3, vec![item(3)]).await;
    f.clock.advance(1);
    assert_eq!(f.take(9).await, (vec![], More::Cold));
    refill(&f, &[later], 9).await;
    assert_eq!(f.take(9).await.0, [1, 3]);
    assert_eq!(f.numbers(), [0, 0, 3, 0]);
}

async fn what_is_hot_or_gone_is_not_adopted(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.flush(1, 9, true).await;
    f.take(2).await;
    f.ack(2, 2, 1).await;
    // The shard shows both as they were, and a third one twice.
    f.tier.refill_begin(&f.topic).await.unwrap();
    f.tier
        .adopt(&f.topic, vec![item(1), item(2), item(3), item(3)])
        .await
        .unwrap();
    f.tier.refill_end(&f.topic, None).await;
    assert_eq!((f.take(9).await.0, f.numbers()), (vec![3], [0, 0, 2, 0]));
    let cold = f
        .tier
        .only_cold(&f.topic, vec![item(1), item(2), item(4)])
        .await
        .unwrap();
    assert_eq!(cold, [item(4)]);
}

async fn what_was_deleted_during_a_read_is_not_adopted(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.flush(1, 9, true).await;
    f.take(1).await;
    f.tier.refill_begin(&f.topic).await.unwrap();
    f.ack(2, 1, 1).await;
    f.flush(2, 9, true).await;
    f.tier.adopt(&f.topic, vec![item(1)]).await.unwrap();
    f.tier.refill_end(&f.topic, Some((vec![item(1)], true))).await;
    assert_eq!((f.take(9).await.0, f.numbers()), (vec![], [0; 4]));
}

async fn nothing_is_evicted_while_somebody_reads(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.flush(1, 9, true).await;
    f.tier.refill_begin(&f.topic).await.unwrap();
    assert_eq!(f.tier.evict(usize::MAX).await, 0);
    assert!(!f.tier.forget(&f.topic).await.unwrap());
    f.tier.refill_end(&f.topic, None).await;
    assert!(f.tier.evict(usize::MAX).await > 0);
}

async fn what_is_counted_at_the_start_is_cold(f: Fixture) {
    let count = StoredCounts {
        topic: f.topic.clone(),
        due: 3,
        later: 2,
        dead: 1,
    };
    let f = f.anew().await;
    f.begin(&[count]).await;
    assert_eq!(f.numbers(), [3, 2, 0, 1]);
    assert_eq!(f.take(1).await.1, More::Cold);
    let page = f.tier.refill_page(&f.topic).await.unwrap();
    assert_eq!(page.map(|page| page.from), Some(OrderKey::MIN));
}

async fn what_falls_due_while_it_is_told_is_found(f: Fixture) {
    let f = f.anew().await;
    let counted = f.clock.now();
    let between = patched(item(1), |standing| standing.due = counted.plus_ms(500));
    let count = StoredCounts {
        topic: f.topic.clone(),
        due: 0,
        later: 1,
        dead: 0,
    };
    f.tier.claim().await.unwrap();
    f.clock.advance(1_000);
    f.tier.set_stored(&[count], counted).await.unwrap();
    f.tier.ready().await.unwrap();
    f.tier.known().await.unwrap();
    assert_eq!(f.take(1).await.1, More::Cold);
    refill(&f, &[between], 9).await;
    assert_eq!(f.take(1).await.0, [1]);
}

async fn a_reader_that_did_not_hear_that_it_may_read_begins_again(f: Fixture) {
    f.cool(1, vec![item(1)]).await;
    f.tier.refill_begin(&f.topic).await.unwrap();
    let again = tokio::time::timeout(Duration::from_secs(20), f.tier.refill_begin(&f.topic));
    again.await.expect("it waits for itself").unwrap();
    f.tier.refill_end(&f.topic, Some((vec![item(1)], true))).await;
    assert_eq!(f.take(9).await.0, [1]);
}

async fn topics_that_run_low_want_a_refill(f: Fixture) {
    assert_eq!(f.tier.wanting_refill().await, []);
    f.cool(1, (1..=30).map(item).collect()).await;
    assert!(f.tier.wanting_refill().await.contains(&f.topic));
    refill(&f, &(1..=30).map(item).collect::<Vec<_>>(), 20).await;
    assert_eq!(f.tier.wanting_refill().await, []);
    f.take(15).await;
    assert!(f.tier.wanting_refill().await.contains(&f.topic));
    f.tier
        .admit(&f.topic, Lsn(2), (40..=50).map(item).collect())
        .await;
    assert_eq!(f.tier.wanting_refill().await, []);
}
