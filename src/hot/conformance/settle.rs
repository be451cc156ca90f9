//! Holding, letting go, finishing.

use std::task::Poll;
use std::time::Duration;

use futures_util::poll;

use super::{Fixture, item, on_every_tier, patched};
use crate::hot::{Held, HoldRequest, Landing, Term, Want};
use crate::model::{DeadReason, Death, ItemId, ItemState, SettleCause};

on_every_tier!(
    a_lease_holds_its_item_and_no_other_does,
    a_settled_lease_is_done_and_an_ended_one_is_lost,
    a_lease_that_is_being_settled_is_busy,
    an_unheld_lease_goes_on_where_it_was,
    an_item_without_a_lease_is_held_by_nobodys_name,
    an_extended_lease_is_still_the_same,
    a_nacked_item_waits_and_keeps_its_standing,
    a_dead_item_waits_for_nobody,
    what_is_purged_while_held_stays_gone,
    repeated_acks_are_remembered_past_many_heartbeats,
);

/// A caller may go while its call is under way: then Redis holds, and nobody hears of it.
#[tokio::test]
async fn what_redis_held_for_nobody_is_let_go() {
    let f = Fixture::redis().await;
    f.admit(1, vec![item(1)]).await;
    let seen = async || f.tier.find(&f.topic, ItemId(1)).await.unwrap().unwrap().state;
    let request = HoldRequest {
        id: ItemId(1),
        generation: None,
    };
    let mut unheard = 0;
    for polls in 0..8 {
        let mut is_held = false;
        {
            let requests = [request];
            let mut holding = f.tier.hold(&f.topic, &requests);
            for _ in 0..polls {
                if let Poll::Ready(answer) = poll!(holding.as_mut()) {
                    is_held = matches!(answer.unwrap()[0], Held::Yes(_));
                    assert!(is_held);
                    break;
                }
                // Redis answers this after the hold, if that was sent.
                seen().await;
            }
        }
        if is_held {
            f.tier.unhold(&f.topic, &[ItemId(1)]).await;
            continue;
        }
        unheard += u32::from(seen().await == ItemState::Leased);
        let is_let_go = async {
            while seen().await != ItemState::Ready {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_let_go)
            .await
            .unwrap();
        f.held(1).await;
        f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    }
    assert!(unheard > 0, "every hold was heard of, or never made");
    // Somebody else's is not let go with it.
    f.held(1).await;
    assert_eq!(seen().await, ItemState::Leased);
}

async fn a_lease_holds_its_item_and_no_other_does(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    assert!(matches!(f.hold(1, Some(0)).await, Held::Lost));
    f.take(1).await;
    for generation in [Some(0), Some(2), None] {
        assert!(matches!(f.hold(1, generation).await, Held::Lost));
    }
    assert!(matches!(f.hold(2, Some(1)).await, Held::Unknown));
    f.held_by_lease(1, 1).await;
}

async fn a_settled_lease_is_done_and_an_ended_one_is_lost(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.take(2).await;
    f.ack(2, 1, 1).await;
    assert!(matches!(f.hold(1, Some(1)).await, Held::AlreadyDone));
    assert!(matches!(f.hold(1, Some(2)).await, Held::Unknown));
    f.clock.advance(30_000);
    assert!(matches!(f.hold(2, Some(1)).await, Held::Lost));
}

async fn a_lease_that_is_being_settled_is_busy(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    f.held_by_lease(1, 1).await;
    let Held::Busy(decided) = f.hold(1, Some(1)).await else {
        panic!("held twice")
    };
    assert!(matches!(f.hold(1, None).await, Held::Lost));
    assert!(matches!(f.hold(1, Some(2)).await, Held::Lost));
    let waiting = decided.notified();
    tokio::pin!(waiting);
    assert!(poll!(&mut waiting).is_pending());
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    assert!(poll!(&mut waiting).is_ready());
    f.held_by_lease(1, 1).await;
}

async fn an_unheld_lease_goes_on_where_it_was(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    f.clock.advance(10_000);
    f.held_by_lease(1, 1).await;
    f.clock.advance(19_999);
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    f.held_by_lease(1, 1).await;
    f.clock.advance(1);
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    assert_eq!(f.take(1).await.0, [1]);
}

async fn an_item_without_a_lease_is_held_by_nobodys_name(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    let requests = [1, 2, 3].map(|id| HoldRequest {
        id: ItemId(id),
        generation: None,
    });
    let held = f.tier.hold(&f.topic, &requests).await.unwrap();
    assert!(matches!(&held[..], [Held::Yes(_), Held::Yes(_), Held::Unknown]));
    assert_eq!(f.take(9).await.0, [0; 0]);
    f.tier.unhold(&f.topic, &[ItemId(2)]).await;
    f.finish(2, 1, Landing::Gone(SettleCause::Cancelled)).await;
    assert_eq!(f.take(9).await.0, [2]);
    assert!(matches!(f.hold(1, Some(1)).await, Held::Unknown));
}

async fn an_extended_lease_is_still_the_same(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    let end = f.clock.now().plus_ms(60_000);
    f.patch(2, 1, 1, |standing| standing.lease_expires_at = Some(end))
        .await;
    f.clock.advance(59_999);
    assert_eq!(f.take(1).await.0, [0; 0]);
    f.ack(3, 1, 1).await;
    assert_eq!(f.numbers(), [0; 4]);
}

async fn a_nacked_item_waits_and_keeps_its_standing(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.take(1).await;
    let due = f.clock.now().plus_ms(100);
    f.patch(2, 1, 1, |standing| {
        (standing.due, standing.lease_expires_at) = (due, None);
        standing.last_error = Some("no".into());
    })
    .await;
    assert_eq!(f.numbers(), [1, 1, 0, 0]);
    f.clock.advance(100);
    let taken = f
        .tier
        .take(&f.topic, Want::items(9), Term::Own, "tester")
        .await
        .unwrap()
        .items;
    let standing = &taken[1].queued.standing;
    assert_eq!(
        (taken[1].queued.item.id.0, standing.attempt, standing.due),
        (1, 2, due)
    );
    assert_eq!(standing.last_error.as_deref(), Some("no"));
}

async fn a_dead_item_waits_for_nobody(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    let at = f.clock.now();
    let reason = DeadReason::Rejected;
    f.patch(2, 1, 1, |standing| {
        (standing.dead, standing.lease_expires_at) = (Some(Death { reason, at }), None);
    })
    .await;
    f.clock.advance(3_600_000);
    assert_eq!((f.take(1).await.0, f.numbers()), (vec![], [0, 0, 0, 1]));
    let dead = f.held(1).await;
    let revived = patched(dead, |standing| (standing.dead, standing.attempt) = (None, 0));
    f.finish(3, 1, Landing::Standing(revived.standing)).await;
    assert_eq!((f.take(1).await.0, f.numbers()), (vec![1], [0, 0, 1, 0]));
}

async fn what_is_purged_while_held_stays_gone(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    let standing = f.held_by_lease(1, 1).await;
    assert_eq!(
        f.tier.purge(&f.topic, crate::wal::Lsn(2), false, ItemId(9)).await,
        1
    );
    f.finish(3, 1, Landing::Standing(standing)).await;
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    assert_eq!((f.numbers(), f.tier.bytes()), ([0; 4], 0));
}

/// Who holds it may not have heard that he does, and nobody but him could settle it.
#[tokio::test]
async fn a_lease_that_redis_holds_for_nobody_goes_on() {
    let f = Fixture::redis().await;
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    f.held_by_lease(1, 1).await;
    f.clock.advance(14_999);
    f.tier.advance().await;
    assert!(matches!(f.hold(1, Some(1)).await, Held::Busy(_)));
    f.clock.advance(1);
    f.tier.advance().await;
    f.ack(2, 1, 1).await;
    assert_eq!(f.numbers(), [0; 4]);
}

async fn repeated_acks_are_remembered_past_many_heartbeats(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.take(2).await;
    f.ack(2, 1, 1).await;
    for beat in 0..20_000 {
        let end = f.clock.now().plus_ms(30_000);
        f.patch(3 + beat, 2, 1, |standing| standing.lease_expires_at = Some(end))
            .await;
    }
    assert!(matches!(f.hold(1, Some(1)).await, Held::AlreadyDone));
}
