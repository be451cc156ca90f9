//! What a shard is told, in what order, and what the log must keep until it was.

use super::{Fixture, item, on_every_tier, sized};
use crate::hot::Landing;
use crate::model::{ItemId, SettleCause};
use crate::wal::Lsn;

on_every_tier!(
    needs_are_planned_in_the_order_of_the_log,
    a_frame_is_planned_whole,
    large_items_are_planned_to_the_last,
    what_is_settled_before_a_flush_is_never_stored,
    what_was_stored_is_deleted,
    what_may_have_been_stored_is_deleted,
    a_plan_that_failed_is_planned_again_and_reaches_no_further,
    what_is_being_stored_is_still_needed,
    a_change_during_a_flush_is_needed_after_it,
    deletes_bound_how_far_a_plan_reaches,
    deletes_that_failed_keep_their_positions,
    settlements_applied_out_of_order_are_told_in_order,
    a_delivery_of_a_stored_item_is_needed,
    only_what_is_stored_is_evicted,
    the_least_urgent_are_evicted_first,
);

async fn needs_are_planned_in_the_order_of_the_log(f: Fixture) {
    assert_eq!(
        (f.first_need().await, f.flush(9, 9, true).await),
        (None, (vec![], vec![], 9))
    );
    for (lsn, id) in [(3, 1), (1, 2), (2, 3)] {
        f.admit(lsn, vec![item(id)]).await;
    }
    assert_eq!(f.first_need().await, Some(1));
    assert_eq!(f.flush(2, 9, true).await, (vec![2, 3], vec![], 2));
    assert_eq!(f.first_need().await, Some(3));
    assert_eq!(f.flush(5, 9, true).await, (vec![1], vec![], 5));
    assert_eq!(f.first_need().await, None);
}

async fn a_frame_is_planned_whole(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.admit(2, (2..=6).map(item).collect()).await;
    f.admit(3, vec![item(7)]).await;
    assert_eq!(f.flush(3, 3, true).await, (vec![1], vec![], 1));
    assert_eq!(f.flush(3, 3, true).await, (vec![2, 3, 4, 5, 6], vec![], 2));
    assert_eq!(f.flush(3, 3, true).await, (vec![7], vec![], 3));
}

async fn large_items_are_planned_to_the_last(f: Fixture) {
    for lsn in 1..=4 {
        let frame = (0..7).map(|n| sized(item(10 * lsn + n), 1 << 20)).collect();
        f.admit(lsn, frame).await;
    }
    let of_frame = |lsn: u64| (0..7).map(move |n| 10 * lsn + n);
    let three: Vec<_> = (1..=3).flat_map(of_frame).collect();
    assert_eq!(f.flush(3, 1_000, true).await, (three, vec![], 3));
    assert_eq!(f.flush(4, 1_000, true).await, (of_frame(4).collect(), vec![], 4));
    assert_eq!(f.first_need().await, None);
}

async fn what_is_settled_before_a_flush_is_never_stored(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    f.ack(2, 1, 1).await;
    assert_eq!(
        (f.first_need().await, f.tier.pending_deletes(0).await.unwrap()),
        (None, 0)
    );
    assert_eq!(f.flush(2, 9, true).await, (vec![], vec![], 2));
}

async fn what_was_stored_is_deleted(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.flush(1, 9, true).await;
    f.take(1).await;
    f.ack(3, 1, 1).await;
    assert_eq!(
        (f.first_need().await, f.tier.pending_deletes(0).await.unwrap()),
        (Some(3), 1)
    );
    assert!(!f.tier.forget(&f.topic).await.unwrap());
    assert_eq!(f.flush(3, 9, true).await, (vec![], vec![1], 3));
    assert_eq!(
        (f.first_need().await, f.tier.pending_deletes(0).await.unwrap()),
        (None, 0)
    );
    assert!(f.tier.forget(&f.topic).await.unwrap());
}

async fn what_may_have_been_stored_is_deleted(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.take(2).await;
    // Acked while it is being stored, and acked after nobody knows whether it was.
    let plan = f.tier.flush_plan(0, Lsn(1), 9).await.unwrap();
    f.ack(2, 1, 1).await;
    f.tier.flushed(plan, false).await;
    f.ack(3, 2, 1).await;
    assert_eq!(f.flush(3, 9, true).await, (vec![], vec![1, 2], 3));
}

async fn a_plan_that_failed_is_planned_again_and_reaches_no_further(f: Fixture) {
    for n in 1..=4_000 {
        f.admit(n, vec![item(n)]).await;
    }
    let first: Vec<_> = (1..=500).collect();
    for _ in 0..30 {
        assert_eq!(f.flush(4_000, 500, false).await, (first.clone(), vec![], 500));
        assert_eq!(f.first_need().await, Some(1));
    }
    assert_eq!(f.flush(4_000, 500, true).await.2, 500);
    assert_eq!(f.flush(4_000, 500, true).await.0[0], 501);
}

async fn what_is_being_stored_is_still_needed(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.flush(1, 9, true).await;
    f.take(1).await;
    f.ack(2, 1, 1).await;
    f.admit(3, vec![item(2)]).await;
    let plan = f.tier.flush_plan(0, Lsn(3), 9).await.unwrap();
    assert_eq!(f.first_need().await, Some(2));
    f.tier.flushed(plan, true).await;
    assert_eq!(f.first_need().await, None);
}

async fn a_change_during_a_flush_is_needed_after_it(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    for stored in [false, true] {
        let plan = f.tier.flush_plan(0, Lsn(1), 9).await.unwrap();
        assert_eq!(plan.upserts.len(), 1);
        let end = f.clock.now().plus_ms(60_000);
        f.patch(5, 1, 1, |standing| standing.lease_expires_at = Some(end))
            .await;
        f.tier.flushed(plan, stored).await;
        assert_eq!(f.first_need().await, Some(if stored { 5 } else { 1 }));
    }
    assert_eq!(f.flush(9, 9, true).await.0, [1]);
}

async fn deletes_bound_how_far_a_plan_reaches(f: Fixture) {
    let ids: Vec<_> = (1..=20).collect();
    f.admit(1, ids.iter().map(|id| item(*id)).collect()).await;
    f.flush(1, 99, true).await;
    f.take(20).await;
    for id in ids {
        f.ack(100 + id, id, 1).await;
    }
    f.admit(200, vec![item(30)]).await;
    // Four deletes for every item that may be stored.
    let (upserts, deletes, reached) = f.flush(300, 2, true).await;
    assert_eq!((upserts.len(), deletes.len(), reached), (0, 8, 108));
    assert_eq!(f.flush(300, 2, true).await.2, 116);
    assert_eq!(f.flush(300, 2, true).await, (vec![30], vec![17, 18, 19, 20], 300));
}

async fn deletes_that_failed_keep_their_positions(f: Fixture) {
    f.admit(1, (1..=9).map(item).collect()).await;
    f.flush(1, 99, true).await;
    f.take(9).await;
    for id in 1..=9 {
        f.ack(10 + id, id, 1).await;
    }
    for _ in 0..3 {
        assert_eq!(f.flush(99, 1, false).await, (vec![], vec![1, 2, 3, 4], 14));
        assert_eq!(f.first_need().await, Some(11));
    }
    assert_eq!(f.flush(99, 9, true).await.1.len(), 9);
}

async fn settlements_applied_out_of_order_are_told_in_order(f: Fixture) {
    f.admit(1, vec![item(1), item(2), item(3)]).await;
    f.flush(1, 9, true).await;
    f.take(3).await;
    for id in [1, 2, 3] {
        f.held_by_lease(id, 1).await;
    }
    for (lsn, id) in [(12, 1), (10, 2), (11, 3)] {
        f.finish(lsn, id, Landing::Gone(SettleCause::Acked)).await;
    }
    assert_eq!(f.first_need().await, Some(10));
    let plan = f.tier.flush_plan(0, Lsn(99), 9).await.unwrap();
    let deletes: Vec<_> = plan.deletes.iter().map(|(_, id)| id.0).collect();
    assert_eq!(deletes, [2, 3, 1]);
    f.tier.flushed(plan, true).await;
}

async fn a_delivery_of_a_stored_item_is_needed(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.flush(1, 9, true).await;
    let taken = f.take_one().await;
    assert!(taken.mark);
    f.tier.delivered(&f.topic, Lsn(4), &[ItemId(1)]).await;
    assert_eq!(f.first_need().await, Some(4));
    let plan = f.tier.flush_plan(0, Lsn(4), 9).await.unwrap();
    assert_eq!(plan.upserts[0].1.standing, taken.queued.standing);
    f.tier.flushed(plan, true).await;
    assert_eq!(f.first_need().await, None);
}

async fn only_what_is_stored_is_evicted(f: Fixture) {
    f.admit(1, vec![item(1), item(2), item(3)]).await;
    assert_eq!(f.tier.evict(usize::MAX).await, 0);
    f.flush(1, 9, true).await;
    f.take(1).await;
    f.held(2).await;
    let before = f.tier.bytes();
    let freed = f.tier.evict(usize::MAX).await;
    assert_eq!((freed, f.tier.bytes()), (before / 3, before - before / 3));
    assert!(f.tier.find(&f.topic, ItemId(3)).await.unwrap().is_none());
    assert_eq!(f.numbers(), [1, 0, 2, 0]);
}

async fn the_least_urgent_are_evicted_first(f: Fixture) {
    f.admit(1, (1..=10).map(item).collect()).await;
    f.flush(1, 99, true).await;
    let bytes = f.tier.bytes();
    f.tier.evict(bytes / 2).await;
    for id in 1..=10 {
        assert_eq!(
            f.tier.find(&f.topic, ItemId(id)).await.unwrap().is_some(),
            id <= 5
        );
    }
    assert_eq!(f.numbers(), [10, 0, 0, 0]);
}
