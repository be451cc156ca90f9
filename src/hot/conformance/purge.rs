//! Purges, hot and cold, told to the shard or not yet.

use super::{Fixture, item, lasting, on_every_tier, patched, urgent};
use crate::hot::More;
use crate::model::{DeadReason, Death, ItemId, SettleCause};
use crate::wal::Lsn;

on_every_tier!(
    a_purge_takes_the_live_and_leaves_the_dead,
    a_purge_is_told_to_the_shard,
    a_purge_ends_at_its_id,
    what_stays_stays_where_it_was,
    an_item_admitted_after_the_purge_behind_it_is_gone,
    what_the_shard_still_shows_is_gone,
    a_second_purge_is_not_stored_with_the_first,
    a_cold_item_behind_the_purge_is_found,
    a_topic_with_something_to_tell_is_not_forgotten,
);

async fn a_purge_takes_the_live_and_leaves_the_dead(f: Fixture) {
    f.admit(1, vec![item(1), item(2), item(3)]).await;
    f.take(2).await;
    let at = f.clock.now();
    let reason = DeadReason::Rejected;
    f.patch(2, 1, 1, |standing| {
        (standing.dead, standing.lease_expires_at) = (Some(Death { reason, at }), None);
    })
    .await;
    assert_eq!(f.tier.purge(&f.topic, Lsn(3), false, ItemId(9)).await, 2);
    assert_eq!(f.numbers(), [0, 0, 0, 1]);
    assert_eq!(f.tier.purge(&f.topic, Lsn(4), true, ItemId(9)).await, 1);
    assert_eq!((f.numbers(), f.tier.bytes()), ([0; 4], 0));
}

async fn a_purge_is_told_to_the_shard(f: Fixture) {
    f.cool(1, vec![item(1)]).await;
    f.tier.purge(&f.topic, Lsn(2), false, ItemId(9)).await;
    assert_eq!(f.first_need().await, Some(2));
    for stored in [false, true] {
        let plan = f.tier.flush_plan(0, Lsn(2), 9).await.unwrap();
        assert_eq!((plan.purges.len(), plan.purges[0].1.up_to), (1, ItemId(9)));
        f.tier.flushed(plan, stored).await;
    }
    assert_eq!(f.first_need().await, None);
}

async fn a_purge_ends_at_its_id(f: Fixture) {
    f.admit(1, vec![item(1), item(2), item(3)]).await;
    assert_eq!(f.tier.purge(&f.topic, Lsn(2), false, ItemId(2)).await, 2);
    assert_eq!(f.take(9).await.0, [3]);
}

async fn what_stays_stays_where_it_was(f: Fixture) {
    let later = f.clock.now().plus_ms(1_000);
    f.admit(1, vec![item(1), item(2), item(3)]).await;
    f.admit(2, vec![lasting(4, 500), urgent(5, 1), item(6)]).await;
    f.admit(
        3,
        vec![item(7), patched(item(8), |standing| standing.due = later)],
    )
    .await;
    assert_eq!(f.take(2).await.0, [5, 1]);
    let expires_at = f.held(6).await.item.expires_at;
    assert_eq!(expires_at, None);
    assert_eq!(f.tier.purge(&f.topic, Lsn(4), false, ItemId(3)).await, 3);
    assert_eq!(f.numbers(), [2, 1, 2, 0]);
    // What was not stored is still wanting, and is stored once.
    assert_eq!(f.first_need().await, Some(2));
    let (mut upserts, deletes, _) = f.flush(4, 99, true).await;
    upserts.sort_unstable();
    assert_eq!((upserts, deletes), (vec![4, 5, 6, 7, 8], vec![]));
    assert_eq!(f.first_need().await, None);
    // The lease, the held one, the time to live and the delay go on as they were.
    f.ack(5, 5, 1).await;
    f.tier.unhold(&f.topic, &[ItemId(6)]).await;
    f.clock.advance(1_000);
    let overdue = f.tier.advance().await;
    assert_eq!(overdue[0].1[0].queued.item.id, ItemId(4));
    f.finish(6, 4, crate::hot::Landing::Gone(SettleCause::Expired))
        .await;
    assert_eq!(f.take(9).await.0, [6, 7, 8]);
    for id in [6, 7, 8] {
        f.ack(7, id, 1).await;
    }
    assert_eq!((f.numbers(), f.tier.bytes()), ([0; 4], 0));
}

async fn an_item_admitted_after_the_purge_behind_it_is_gone(f: Fixture) {
    f.tier.purge(&f.topic, Lsn(5), false, ItemId(9)).await;
    // Logged before the purge, applied after it; and logged after it, with an id from before.
    f.admit(4, vec![item(1)]).await;
    f.admit(6, vec![item(2)]).await;
    assert_eq!((f.take(9).await.0, f.numbers()), (vec![2], [0, 0, 1, 0]));
}

async fn what_the_shard_still_shows_is_gone(f: Fixture) {
    f.cool(1, vec![item(1)]).await;
    f.admit(2, vec![item(2)]).await;
    f.flush(2, 9, true).await;
    assert_eq!(f.tier.purge(&f.topic, Lsn(3), false, ItemId(9)).await, 2);
    assert_eq!(f.take(9).await, (vec![], More::Nothing(None)));
    assert_eq!(
        f.tier
            .only_cold(&f.topic, vec![item(1), item(2), item(10)])
            .await
            .unwrap(),
        [item(10)]
    );
    f.tier.refill_begin(&f.topic).await.unwrap();
    f.flush(3, 9, true).await;
    // A page that was read before the shard heard of it.
    f.tier.adopt(&f.topic, vec![item(1), item(2)]).await.unwrap();
    f.tier.refill_end(&f.topic, None).await;
    assert_eq!(f.numbers(), [0; 4]);
}

async fn a_second_purge_is_not_stored_with_the_first(f: Fixture) {
    f.cool(1, vec![item(1)]).await;
    f.tier.purge(&f.topic, Lsn(2), false, ItemId(1)).await;
    f.cool(3, vec![item(2)]).await;
    f.admit(4, vec![item(3)]).await;
    f.flush(4, 9, true).await;
    let plan = f.tier.flush_plan(0, Lsn(4), 9).await.unwrap();
    f.tier.purge(&f.topic, Lsn(5), false, ItemId(9)).await;
    f.tier.flushed(plan, true).await;
    assert_eq!(
        f.tier.only_cold(&f.topic, vec![item(2), item(3)]).await.unwrap(),
        []
    );
    // The same when a purge was on its way already.
    f.tier.purge(&f.topic, Lsn(6), false, ItemId(10)).await;
    let plan = f.tier.flush_plan(0, Lsn(6), 9).await.unwrap();
    f.tier.purge(&f.topic, Lsn(7), false, ItemId(20)).await;
    f.tier.flushed(plan, true).await;
    assert_eq!(f.tier.only_cold(&f.topic, vec![item(15)]).await.unwrap(), []);
}

async fn a_cold_item_behind_the_purge_is_found(f: Fixture) {
    let later = f.clock.now().plus_ms(1_000);
    f.cool(
        1,
        vec![
            item(1),
            item(5),
            patched(item(6), |standing| standing.due = later),
        ],
    )
    .await;
    f.tier.purge(&f.topic, Lsn(2), false, ItemId(2)).await;
    assert_eq!(f.take(9).await.1, More::Cold);
}

async fn a_topic_with_something_to_tell_is_not_forgotten(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    assert!(!f.tier.forget(&f.topic).await.unwrap());
    f.tier.purge(&f.topic, Lsn(2), false, ItemId(9)).await;
    assert!(!f.tier.forget(&f.topic).await.unwrap());
    f.flush(2, 9, true).await;
    assert!(f.tier.forget(&f.topic).await.unwrap());
    f.admit(3, vec![item(11)]).await;
    assert_eq!((f.take(9).await.0, f.tier.bytes() > 0), (vec![11], true));
}
