//! Order, due times, leases, and what is in the way of more.

use std::task::Poll;
use std::time::Duration;

use futures_util::poll;

use super::{Fixture, item, lasting, on_every_tier, patched, sized, urgent};
use crate::hot::{Held, More, OverdueWhy, Term, Want};
use crate::model::{ItemId, ItemState, OrderKey};
use crate::wal::Lsn;

on_every_tier!(
    items_go_out_in_order_and_only_once,
    what_is_wanted_is_bounded_by_bytes,
    a_topic_nobody_used_has_nothing,
    a_later_item_is_not_early_and_takes_its_place,
    what_was_taken_carries_its_lease,
    an_ended_lease_brings_the_item_back,
    the_last_ended_lease_is_overdue_and_held,
    an_admitted_item_keeps_its_lease,
    a_passed_time_to_live_is_overdue_once,
    large_overdue_items_are_all_told_once,
    a_leased_item_expires_when_it_comes_back,
    what_is_put_back_stands_as_before,
    a_paused_topic_hands_nothing_out,
    an_arrival_is_signalled,
    lists_show_every_state_in_order,
    lists_show_large_items_to_the_last,
    the_newest_come_first_whatever_their_priority,
    numbers_follow_every_move,
    topics_are_apart,
);

async fn items_go_out_in_order_and_only_once(f: Fixture) {
    f.admit(1, vec![item(3), urgent(4, 9), item(2)]).await;
    f.admit(2, vec![urgent(5, 1)]).await;
    assert_eq!(f.take(2).await, (vec![5, 2], More::Ready));
    assert_eq!(f.take(9).await.0, [3, 4]);
    assert_eq!(f.take(9).await.0, [0; 0]);
}

async fn what_is_wanted_is_bounded_by_bytes(f: Fixture) {
    f.admit(1, (1..=4).map(|id| sized(item(id), 1 << 20)).collect())
        .await;
    for (bytes, expected) in [(1, vec![1]), (1 << 20, vec![2]), ((1 << 20) + 10_000, vec![3, 4])] {
        let want = Want { items: 9, bytes };
        let taken = f.tier.take(&f.topic, want, Term::Own, "tester").await.unwrap();
        let ids: Vec<_> = taken.items.iter().map(|taken| taken.queued.item.id.0).collect();
        assert_eq!(
            (ids, taken.more == More::Ready),
            (expected.clone(), expected != [3, 4])
        );
    }
}

async fn a_topic_nobody_used_has_nothing(f: Fixture) {
    assert_eq!(f.take(1).await, (vec![], More::Nothing(None)));
    assert_eq!(f.numbers(), [0; 4]);
    assert!(f.tier.find(&f.topic, ItemId(1)).await.unwrap().is_none());
    assert!(f.tier.forget(&f.topic).await.unwrap());
}

async fn a_later_item_is_not_early_and_takes_its_place(f: Fixture) {
    let later = f.clock.now().plus_ms(1_000);
    f.admit(
        1,
        vec![item(1), patched(urgent(2, 1), |standing| standing.due = later)],
    )
    .await;
    assert_eq!(f.numbers(), [1, 1, 0, 0]);
    f.clock.advance(999);
    assert_eq!(f.take(9).await.0, [1]);
    f.admit(2, vec![item(3)]).await;
    f.clock.advance(1);
    assert_eq!(f.take(9).await.0, [2, 3]);
}

async fn what_was_taken_carries_its_lease(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    let now = f.clock.now();
    for (term, end_ms) in [(Term::Own, 30_000), (Term::Ms(1_000), 1_000)] {
        let taken = f
            .tier
            .take(&f.topic, Want::items(1), term, "tester")
            .await
            .unwrap()
            .items
            .remove(0);
        let standing = &taken.queued.standing;
        assert_eq!((standing.generation, standing.attempt), (1, 1));
        assert_eq!(standing.lease_expires_at, Some(now.plus_ms(end_ms)));
        assert!(!taken.mark, "the shard knows nothing of it");
    }
}

async fn an_ended_lease_brings_the_item_back(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.take(1).await;
    f.clock.advance(29_999);
    assert_eq!(
        f.take(1).await,
        (vec![], More::Nothing(Some(f.clock.now().plus_ms(1))))
    );
    f.clock.advance(1);
    let again = f.take_one().await;
    assert_eq!(
        (again.queued.standing.generation, again.queued.standing.attempt),
        (2, 2)
    );
    assert_eq!(f.counts().leases_expired, 1);
}

async fn the_last_ended_lease_is_overdue_and_held(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    for _ in 0..3 {
        assert_eq!(f.take(1).await.0, [1]);
        f.clock.advance(30_000);
    }
    let overdue = f.tier.advance().await.remove(0).1;
    assert_eq!(
        (overdue.len(), overdue[0].why),
        (1, OverdueWhy::AttemptsExhausted)
    );
    assert_eq!(f.take(1).await.0, [0; 0]);
    assert_eq!(f.numbers(), [0, 0, 1, 0]);
    // Let go unsaid, as when the log is full, it is overdue again and never goes out once more.
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    let again = f
        .tier
        .take(&f.topic, Want::items(1), Term::Own, "tester")
        .await
        .unwrap();
    assert_eq!((again.items.len(), again.overdue.len()), (0, 1));
}

async fn an_admitted_item_keeps_its_lease(f: Fixture) {
    let end = f.clock.now().plus_ms(500);
    let leased = patched(item(1), |standing| {
        (standing.generation, standing.attempt, standing.lease_expires_at) = (4, 2, Some(end));
    });
    f.admit(1, vec![leased]).await;
    assert_eq!(f.numbers(), [0, 0, 1, 0]);
    f.held_by_lease(1, 4).await;
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    f.clock.advance(500);
    assert_eq!(f.take(1).await.0, [1]);
    // One whose last lease ended unseen must not go out again.
    let ended = patched(item(2), |standing| {
        (standing.generation, standing.attempt, standing.lease_expires_at) = (3, 3, Some(end));
    });
    f.admit(2, vec![ended]).await;
    let taken = f
        .tier
        .take(&f.topic, Want::items(9), Term::Own, "tester")
        .await
        .unwrap();
    assert_eq!((taken.items.len(), taken.overdue.len()), (0, 1));
}

async fn a_passed_time_to_live_is_overdue_once(f: Fixture) {
    f.admit(1, vec![lasting(1, 1_000), item(2)]).await;
    f.clock.advance(1_000);
    let taken = f
        .tier
        .take(&f.topic, Want::items(9), Term::Own, "tester")
        .await
        .unwrap();
    assert_eq!((taken.items.len(), taken.overdue.len()), (1, 1));
    assert_eq!(taken.overdue[0].why, OverdueWhy::Expired);
    assert!(f.tier.advance().await.is_empty());
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    assert_eq!(f.tier.advance().await.len(), 1);
}

async fn large_overdue_items_are_all_told_once(f: Fixture) {
    f.admit(1, (1..=12).map(|id| sized(lasting(id, 1_000), 1 << 20)).collect())
        .await;
    f.admit(2, vec![item(20)]).await;
    f.clock.advance(2_000);
    let mut told = Vec::new();
    let last = loop {
        let taken = f
            .tier
            .take(&f.topic, Want::items(9), Term::Own, "tester")
            .await
            .unwrap();
        told.extend(taken.overdue.iter().map(|overdue| overdue.queued.item.id.0));
        if taken.more != More::Again {
            break taken;
        }
    };
    told.sort_unstable();
    assert_eq!((told, last.items.len()), ((1..=12).collect(), 1));
}

async fn a_leased_item_expires_when_it_comes_back(f: Fixture) {
    f.admit(1, vec![lasting(1, 1_000)]).await;
    f.take(1).await;
    f.clock.advance(1_000);
    assert!(f.tier.advance().await.is_empty());
    f.held_by_lease(1, 1).await;
    f.tier.unhold(&f.topic, &[ItemId(1)]).await;
    f.clock.advance(29_000);
    let overdue = f.tier.advance().await.remove(0).1;
    assert_eq!(overdue[0].why, OverdueWhy::Expired);
}

async fn what_is_put_back_stands_as_before(f: Fixture) {
    f.admit(1, vec![item(1), item(2)]).await;
    f.take(1).await;
    f.tier.untake(&f.topic, &[(ItemId(1), 1)]).await;
    assert_eq!(f.numbers(), [2, 0, 0, 0]);
    let again = f.take_one().await;
    let standing = again.queued.standing;
    assert_eq!(
        (again.queued.item.id.0, standing.attempt, standing.generation),
        (1, 1, 2)
    );
    // What the shard may have seen of it in between is corrected, though no record says so.
    f.flush(1, 9, true).await;
    f.tier.untake(&f.topic, &[(ItemId(1), 2)]).await;
    assert_eq!(f.flush(1, 9, true).await.0, [1]);
}

async fn a_paused_topic_hands_nothing_out(f: Fixture) {
    f.admit(1, vec![item(1)]).await;
    f.tier.set_paused(&f.topic, true).await.unwrap();
    f.admit(2, vec![item(2)]).await;
    assert_eq!(f.take(9).await, (vec![], More::Nothing(None)));
    f.tier.set_paused(&f.topic, false).await.unwrap();
    assert_eq!(f.take(9).await.0, [1, 2]);
}

async fn an_arrival_is_signalled(f: Fixture) {
    let signal = f.tier.signal(&f.topic);
    let waiting = signal.notified();
    tokio::pin!(waiting);
    assert!(poll!(&mut waiting).is_pending());
    f.admit(1, vec![item(1), item(2)]).await;
    assert!(poll!(&mut waiting).is_ready());
    // More is ready than one takes: the next is woken in turn.
    let next = signal.notified();
    tokio::pin!(next);
    assert!(poll!(&mut next).is_pending());
    f.take(1).await;
    assert!(poll!(&mut next).is_ready());
    let returned = signal.notified();
    tokio::pin!(returned);
    assert!(poll!(&mut returned).is_pending());
    f.patch(2, 1, 1, |standing| standing.lease_expires_at = None)
        .await;
    assert!(poll!(&mut returned).is_ready());
}

async fn lists_show_large_items_to_the_last(f: Fixture) {
    f.admit(1, (1..=11).map(|id| sized(item(id), 1 << 20)).collect())
        .await;
    f.take(5).await;
    for (state, expected) in [(ItemState::Leased, 1..=5), (ItemState::Ready, 6..=11)] {
        let views = f.tier.browse(&f.topic, state, OrderKey::MIN, 20).await.unwrap();
        let ids = views.iter().map(|view| view.queued.item.id.0);
        assert!(ids.eq(expected), "{views:?}");
    }
}

async fn lists_show_every_state_in_order(f: Fixture) {
    let later = f.clock.now().plus_ms(1_000);
    let put_off = |queued| patched(queued, |standing| standing.due = later);
    f.admit(1, (1..=5).map(item).collect()).await;
    f.admit(
        2,
        (11..=15).map(|id| put_off(urgent(id, 20 - id as i32))).collect(),
    )
    .await;
    f.take(2).await;
    let list = async |state, from, limit| {
        let views = f.tier.browse(&f.topic, state, from, limit).await.unwrap();
        assert!(views.iter().all(|view| view.state == state));
        views.iter().map(|view| view.queued.item.id.0).collect::<Vec<_>>()
    };
    assert_eq!(list(ItemState::Ready, OrderKey::MIN, 2).await, [3, 4]);
    assert_eq!(list(ItemState::Ready, item(4).key(), 9).await, [4, 5]);
    assert_eq!(list(ItemState::Leased, OrderKey::MIN, 9).await, [1, 2]);
    assert_eq!(list(ItemState::Scheduled, OrderKey::MIN, 2).await, [15, 14]);
    let from = put_off(urgent(13, 7)).key();
    assert_eq!(list(ItemState::Scheduled, from, 9).await, [13, 12, 11]);
    assert_eq!(list(ItemState::Dead, OrderKey::MIN, 9).await, [0; 0]);
}

async fn the_newest_come_first_whatever_their_priority(f: Fixture) {
    let later = f.clock.now().plus_ms(1_000);
    f.admit(1, vec![item(1), item(2), urgent(3, -5), item(4), urgent(5, 7)])
        .await;
    let put_off = |queued| patched(queued, |standing| standing.due = later);
    f.admit(2, vec![put_off(item(6)), put_off(urgent(7, -1))]).await;
    let newest = async |state, limit| {
        let views = f.tier.newest(&f.topic, state, limit).await.unwrap();
        assert!(views.iter().all(|view| view.state == state));
        views.iter().map(|view| view.queued.item.id.0).collect::<Vec<_>>()
    };
    assert_eq!(newest(ItemState::Ready, 3).await, [5, 4, 3]);
    assert_eq!(newest(ItemState::Ready, 9).await, [5, 4, 3, 2, 1]);
    assert_eq!(newest(ItemState::Scheduled, 1).await, [7]);
    f.take(3).await;
    assert_eq!(newest(ItemState::Leased, 2).await, [3, 2]);
    assert_eq!(newest(ItemState::Ready, 9).await, [5, 4]);
    assert_eq!(newest(ItemState::Dead, 9).await, [0; 0]);
}

async fn numbers_follow_every_move(f: Fixture) {
    let later = f.clock.now().plus_ms(40_000);
    f.admit(
        1,
        vec![
            item(1),
            item(2),
            patched(item(3), |standing| standing.due = later),
        ],
    )
    .await;
    assert_eq!(f.counts().oldest_ready_due, Some(f.clock.now()));
    f.take(1).await;
    assert_eq!(f.numbers(), [1, 1, 1, 0]);
    f.held_by_lease(1, 1).await;
    assert_eq!(f.numbers(), [1, 1, 1, 0]);
    f.finish(2, 1, crate::hot::Landing::Gone(crate::model::SettleCause::Acked))
        .await;
    assert_eq!(f.numbers(), [1, 1, 0, 0]);
    f.take(1).await;
    assert_eq!((f.numbers(), f.counts().oldest_ready_due), ([0, 1, 1, 0], None));
    f.clock.advance(40_000);
    f.tier.advance().await;
    assert_eq!(f.numbers(), [2, 0, 0, 0]);
    assert!(f.tier.bytes() > 200);
}

async fn topics_are_apart(f: Fixture) {
    let other = crate::model::TopicKey::parse("n", "st").unwrap();
    f.admit(1, vec![item(1)]).await;
    f.tier.admit(&other, Lsn(2), vec![item(2)]).await;
    f.tier.set_paused(&other, true).await.unwrap();
    assert_eq!(f.take(9).await.0, [1]);
    assert_eq!(f.tier.counts(&other).ready, 1);
    assert!(f.tier.find(&other, ItemId(1)).await.unwrap().is_none());
}

/// A caller may go while its call is under way: then Redis takes, and nobody hears of it.
#[tokio::test]
async fn what_redis_took_for_nobody_is_given_back() {
    let f = Fixture::redis().await;
    f.admit(1, vec![item(1)]).await;
    let seen = async || f.tier.find(&f.topic, ItemId(1)).await.unwrap().unwrap();
    let mut unheard = 0;
    for polls in 0..8 {
        let before = seen().await.queued.standing.generation;
        let mut taken = None;
        {
            let mut taking = f.tier.take(&f.topic, Want::items(1), Term::Own, "tester");
            for _ in 0..polls {
                if let Poll::Ready(answer) = poll!(taking.as_mut()) {
                    taken = Some(answer.unwrap());
                    break;
                }
                // Redis answers this after the take, if that was sent.
                seen().await;
            }
        }
        if let Some(taken) = taken {
            let theirs = (ItemId(1), taken.items[0].queued.standing.generation);
            f.tier.untake(&f.topic, &[theirs]).await;
            continue;
        }
        let is_back = async {
            loop {
                let view = seen().await;
                if view.state == ItemState::Ready {
                    assert_eq!(view.queued.standing.attempt, 0);
                    break view.queued.standing.generation;
                }
                tokio::task::yield_now().await;
            }
        };
        let after = tokio::time::timeout(Duration::from_secs(20), is_back)
            .await
            .unwrap();
        unheard += u32::from(after > before);
    }
    assert!(unheard > 0, "every take was heard of, or never made");
    assert_eq!(f.take(1).await.0, [1]);
}

/// What a taker had not decided on when it ended is there again when it starts.
#[tokio::test]
async fn what_redis_holds_for_a_taker_is_put_back_when_that_begins_again() {
    let f = Fixture::redis().await;
    f.admit(1, vec![item(1), item(2)]).await;
    let taken = f
        .tier
        .take(&f.topic, Want::items(1), Term::Undecided, "tester")
        .await
        .unwrap()
        .items;
    assert_eq!(taken[0].queued.standing.attempt, 1);
    assert!(
        matches!(f.hold(1, Some(1)).await, Held::Lost),
        "nobody has a lease yet"
    );
    assert_eq!(f.numbers(), [1, 0, 1, 0]);
    f.again().await.begin(&[]).await;
    assert_eq!(f.take(9).await.0, [1, 2]);
    assert_eq!(f.held_by_lease(1, 2).await.attempt, 1);
}
