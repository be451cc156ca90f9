//! Order, leases and attempts at the moment of delivery.

use std::collections::HashSet;

use mqueue::model::{DeadReason, Delivery, ExpiryAction, ItemFilter, ItemState, SettingsPatch};
use mqueue::queue::{Durability, EnqueueResult, NewItem, Redrive, SettleStatus, Verb};

use crate::node::{Node, delayed, item, keyed, prioritised, request, somebody, text, topic};
use crate::shards::until;
use crate::stores::Stores;

#[tokio::test]
async fn items_leave_by_priority_then_due_time_then_id() {
    let node = Node::start().await;
    let t = topic("order");
    node.enqueue(
        &t,
        vec![prioritised("b1", 5), prioritised("c", 9), prioritised("b2", 5)],
    )
    .await;
    node.enqueue(&t, vec![prioritised("a", i32::MIN), prioritised("z", i32::MAX)])
        .await;
    let earlier = NewItem {
        deliver_after: Some(node.clock.now().plus_ms(-60_000)),
        ..prioritised("b0", 5)
    };
    node.enqueue(&t, vec![earlier]).await;
    assert_eq!(node.take(&t, 10).await, ["a", "b0", "b1", "b2", "c", "z"]);
}

#[tokio::test]
async fn an_urgent_item_overtakes_everything_not_handed_out() {
    let node = Node::start().await;
    let t = topic("urgent");
    node.enqueue(&t, (0..100).map(|n| prioritised(&n.to_string(), 50)).collect())
        .await;
    assert_eq!(node.take(&t, 1).await, ["0"]);
    node.enqueue(&t, vec![prioritised("now", 1)]).await;
    assert_eq!(node.take(&t, 2).await, ["now", "1"]);
}

#[tokio::test]
async fn a_delayed_item_is_never_early_and_takes_its_place_when_due() {
    let node = Node::start().await;
    let t = topic("delayed");
    node.enqueue(
        &t,
        vec![
            delayed("later", 1, 1_000),
            prioritised("first", 5),
            prioritised("second", 5),
        ],
    )
    .await;
    assert_eq!(node.counts(&t), [2, 1, 0, 0]);
    assert_eq!(node.take(&t, 1).await, ["first"]);
    node.clock.advance(999);
    assert_eq!(
        node.queue
            .browse(&t, ItemState::Scheduled, None, 9)
            .await
            .unwrap()
            .entries
            .len(),
        1
    );
    node.clock.advance(1);
    assert_eq!(node.take(&t, 5).await, ["later", "second"]);
}

#[tokio::test]
async fn a_nacked_item_keeps_its_priority() {
    let node = Node::start().await;
    let t = topic("nack");
    node.enqueue(&t, vec![prioritised("urgent", 1), prioritised("other", 5)])
        .await;
    let first = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(node.nack(&first, 100).await, SettleStatus::Ok);
    node.clock.advance(100);
    let again = node.dequeue(&t, 2).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["urgent", "other"]);
    assert_eq!(
        (again[0].attempt, again[0].last_error.as_deref()),
        (2, Some("no"))
    );
}

#[tokio::test]
async fn an_ended_lease_brings_the_item_back_and_refuses_its_holder() {
    let node = Node::start().await;
    let t = topic("lease");
    node.enqueue(&t, vec![item("x")]).await;
    let first = node.dequeue(&t, 1).await.remove(0);
    node.clock.advance(29_999);
    assert!(node.take(&t, 1).await.is_empty());
    node.clock.advance(1);
    let second = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(second.attempt, 2);
    for verb in [
        Verb::Ack,
        Verb::Nack {
            delay_ms: None,
            error: None,
        },
        Verb::Extend { lease_ms: None },
    ] {
        assert_eq!(node.settle(&first, verb).await, SettleStatus::LeaseLost);
    }
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
    assert_eq!(node.ack(&second).await, SettleStatus::Ok);
    assert_eq!(node.ack(&second).await, SettleStatus::AlreadyDone);
    assert_eq!(node.counts(&t), [0, 0, 0, 0]);
}

#[tokio::test]
async fn a_stepped_wall_clock_cuts_no_lease_short() {
    if Stores::of_this_test().redis {
        // Nodes have no other clock in common.
        return;
    }
    let node = Node::start().await;
    let t = topic("stepped");
    node.enqueue(&t, vec![item("x")]).await;
    let first = node.dequeue(&t, 1).await.remove(0);
    node.clock.step_wall(3_600_000);
    assert!(node.take(&t, 1).await.is_empty());
    assert_eq!(node.ack(&first).await, SettleStatus::Ok);
}

#[tokio::test]
async fn an_extended_lease_lasts() {
    let node = Node::start().await;
    let t = topic("extend");
    node.enqueue(&t, vec![item("x")]).await;
    let first = node.dequeue(&t, 1).await.remove(0);
    node.clock.advance(20_000);
    assert_eq!(
        node.settle(
            &first,
            Verb::Extend {
                lease_ms: Some(60_000)
            }
        )
        .await,
        SettleStatus::Ok
    );
    node.clock.advance(59_000);
    assert!(node.take(&t, 1).await.is_empty());
    assert_eq!(node.ack(&first).await, SettleStatus::Ok);
}

#[tokio::test]
async fn an_item_that_kills_its_worker_dies_after_its_attempts() {
    let node = Node::start().await;
    let t = topic("poison");
    node.enqueue(
        &t,
        vec![NewItem {
            max_attempts: Some(3),
            ..item("poison")
        }],
    )
    .await;
    for attempt in 1..=3 {
        assert_eq!(node.dequeue(&t, 1).await.remove(0).attempt, attempt);
        node.clock.advance(30_000);
    }
    assert!(node.take(&t, 1).await.is_empty());
    // Whoever saw first that the last lease ended, the node itself or this take, may be about to log it yet.
    let dead = until(async || {
        let page = node.queue.browse(&t, ItemState::Dead, None, 9).await.unwrap();
        (!page.entries.is_empty()).then_some(page.entries)
    })
    .await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].dead.unwrap().reason, DeadReason::AttemptsExhausted);
    assert_eq!(node.counts(&t), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_release_counts_no_attempt_and_keeps_the_place() {
    let node = Node::start().await;
    let t = topic("release");
    node.enqueue(&t, vec![item("one"), item("two")]).await;
    let one = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(
        node.settle(&one, Verb::Release { delay_ms: None }).await,
        SettleStatus::Ok
    );
    assert_eq!(node.ack(&one).await, SettleStatus::AlreadyDone);
    let again = node.dequeue(&t, 2).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(again[0].attempt, 1);
}

#[tokio::test]
async fn rejected_items_come_back_only_by_redrive() {
    let node = Node::start().await;
    let t = topic("reject");
    node.enqueue(&t, vec![item("bad"), item("worse")]).await;
    for delivered in node.dequeue(&t, 2).await {
        let error = Some(format!("{} luck", text(&delivered)).into());
        assert_eq!(
            node.settle(&delivered, Verb::Reject { error }).await,
            SettleStatus::Ok
        );
    }
    let only_bad = Redrive {
        filter: ItemFilter {
            error_contains: Some("bad".into()),
            ..ItemFilter::default()
        },
        ..Redrive::default()
    };
    let dry = node
        .queue
        .redrive(
            &t,
            Redrive {
                dry_run: true,
                ..only_bad.clone()
            },
        )
        .await
        .unwrap();
    assert_eq!((dry.count, node.counts(&t)), (1, [0, 0, 0, 2]));
    assert_eq!(node.queue.redrive(&t, only_bad).await.unwrap().count, 1);
    let back = node.dequeue(&t, 5).await;
    assert_eq!(
        (text(&back[0]), back[0].attempt, back.len()),
        ("bad".into(), 1, 1)
    );
    let elsewhere = topic("elsewhere");
    let moved = Redrive {
        to_topic: Some(elsewhere.clone()),
        ..Redrive::default()
    };
    assert_eq!(node.queue.redrive(&t, moved).await.unwrap().count, 1);
    assert_eq!(node.take(&elsewhere, 5).await, ["worse"]);
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
}

#[tokio::test]
async fn an_expired_item_is_dropped_or_kept_as_the_topic_says() {
    let node = Node::start().await;
    let (dropping, keeping) = (topic("dropping"), topic("keeping"));
    let settings = SettingsPatch {
        on_expiry: Some(ExpiryAction::Dead),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&keeping, settings).await.unwrap();
    for t in [&dropping, &keeping] {
        node.enqueue(
            t,
            vec![NewItem {
                ttl_ms: Some(1_000),
                ..item("x")
            }],
        )
        .await;
    }
    node.clock.advance(1_000);
    for t in [&dropping, &keeping] {
        assert!(node.take(t, 1).await.is_empty());
    }
    // The node looks for what has expired by itself too: it may have begun with an item when the consumer comes.
    until(async || (node.counts(&dropping) == [0, 0, 0, 0]).then_some(())).await;
    until(async || (node.counts(&keeping) == [0, 0, 0, 1]).then_some(())).await;
    assert_eq!(node.queue.stats(&dropping).unwrap().totals.expired, 1);
}

#[tokio::test]
async fn an_at_most_once_delivery_is_the_ack() {
    let node = Node::start().await;
    let t = topic("once");
    let settings = SettingsPatch {
        delivery: Some(Delivery::AtMostOnce),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, settings).await.unwrap();
    node.enqueue(&t, vec![item("x")]).await;
    assert_eq!(node.dequeue(&t, 1).await.remove(0).lease, None);
    node.clock.advance(3_600_000);
    assert!(node.take(&t, 1).await.is_empty());
    let node = node.crash().await;
    assert!(node.take(&t, 1).await.is_empty());
    assert_eq!(node.counts(&t), [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_idempotency_key_makes_one_item_per_topic() {
    let node = Node::start().await;
    let (a, b) = (topic("a"), topic("b"));
    let enqueue = async |t, text: &str| {
        let enqueued = node
            .queue
            .enqueue(t, vec![keyed(text, "k")], Durability::Logged, &somebody())
            .await
            .unwrap();
        enqueued.results.into_iter().next().unwrap()
    };
    let EnqueueResult::Accepted { id } = enqueue(&a, "x").await else {
        panic!()
    };
    assert_eq!(enqueue(&a, "x").await, EnqueueResult::Duplicate { id });
    assert!(matches!(
        enqueue(&a, "y").await,
        EnqueueResult::Rejected {
            code: "idempotency_conflict",
            ..
        }
    ));
    assert!(matches!(enqueue(&b, "x").await, EnqueueResult::Accepted { .. }));
    assert_eq!(node.take(&a, 9).await, ["x"]);
    node.clock.advance(600_000);
    assert!(matches!(enqueue(&a, "x").await, EnqueueResult::Accepted { .. }));
}

#[tokio::test]
async fn repeats_within_one_batch_are_one_item() {
    let node = Node::start().await;
    let t = topic("batch");
    let items = vec![keyed("x", "k"), keyed("x", "k"), keyed("y", "k"), item("z")];
    let results = node
        .queue
        .enqueue(&t, items, Durability::Logged, &somebody())
        .await
        .unwrap()
        .results;
    let EnqueueResult::Accepted { id } = results[0] else {
        panic!()
    };
    assert_eq!(results[1], EnqueueResult::Duplicate { id });
    assert!(matches!(results[2], EnqueueResult::Rejected { .. }));
    assert!(matches!(results[3], EnqueueResult::Accepted { .. }));
    assert_eq!(node.counts(&t), [2, 0, 0, 0]);
}

#[tokio::test]
async fn concurrent_repeats_are_one_item() {
    let node = Node::start().await;
    let t = topic("race");
    let attempts = (0..32).map(|_| {
        let (queue, t) = (node.queue.clone(), t.clone());
        tokio::spawn(async move {
            let items = vec![keyed("x", "one"), keyed("y", "two")];
            queue
                .enqueue(&t, items, Durability::Logged, &somebody())
                .await
                .unwrap()
                .results
        })
    });
    let mut accepted = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        let results = attempt.await.unwrap();
        accepted += results
            .iter()
            .filter(|r| matches!(r, EnqueueResult::Accepted { .. }))
            .count();
    }
    assert_eq!((accepted, node.counts(&t)), (2, [2, 0, 0, 0]));
}

#[tokio::test]
async fn a_repeated_request_id_returns_the_same_batch() {
    let node = Node::start().await;
    let t = topic("retry");
    node.enqueue(&t, vec![item("one"), item("two"), item("three")])
        .await;
    let mut retry = request(&t, 2);
    retry.request_id = Some("r1".into());
    let first = node.queue.dequeue(retry.clone()).await.unwrap();
    let again = node.queue.dequeue(retry.clone()).await.unwrap();
    assert_eq!(first, again);
    node.ack(&first[0]).await;
    assert_eq!(node.queue.dequeue(retry.clone()).await.unwrap(), first[1..]);
    node.ack(&first[1]).await;
    assert_eq!(
        node.queue
            .dequeue(retry)
            .await
            .unwrap()
            .iter()
            .map(text)
            .collect::<Vec<_>>(),
        ["three"]
    );
}

#[tokio::test]
async fn a_waiting_consumer_is_woken_by_an_enqueue() {
    let node = Node::start().await;
    let t = topic("wait");
    for known in [false, true] {
        let (queue, mut wait) = (node.queue.clone(), request(&t, 1));
        wait.wait_ms = 20_000;
        let waiting = tokio::spawn(async move { queue.dequeue(wait).await.unwrap() });
        tokio::task::yield_now().await;
        node.enqueue(&t, vec![item("x")]).await;
        let delivered = waiting.await.unwrap();
        assert_eq!(delivered.len(), 1, "topic known before: {known}");
        node.ack(&delivered[0]).await;
    }
}

#[tokio::test]
async fn several_topics_are_served_in_the_order_asked() {
    let node = Node::start().await;
    let (a, b) = (topic("ma"), topic("mb"));
    node.enqueue(&a, vec![item("a1"), item("a2")]).await;
    node.enqueue(&b, vec![item("b1"), item("b2")]).await;
    let mut both = request(&b, 1);
    both.topics.push((a.clone(), 5));
    both.max_total = 2;
    let delivered = node.queue.dequeue(both).await.unwrap();
    assert_eq!(delivered.iter().map(text).collect::<Vec<_>>(), ["b1", "a1"]);
}

#[tokio::test]
async fn a_paused_topic_delivers_nothing_and_accepts_everything() {
    let node = Node::start().await;
    let t = topic("paused");
    node.enqueue(&t, vec![item("x")]).await;
    node.queue.pause(&t, true).await.unwrap();
    node.enqueue(&t, vec![item("y")]).await;
    assert!(node.take(&t, 9).await.is_empty());
    let node = node.crash().await;
    assert!(node.take(&t, 9).await.is_empty());
    node.queue.pause(&t, false).await.unwrap();
    assert_eq!(node.take(&t, 9).await, ["x", "y"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_never_share_an_item() {
    const ITEMS: usize = 100_000;
    let node = Node::start_with(&[("wal.segment_bytes", "64MiB")]).await;
    let t = topic("shared");
    for chunk in 0..ITEMS / 1_000 {
        node.enqueue(
            &t,
            (0..1_000)
                .map(|n| item(&format!("{}", chunk * 1_000 + n)))
                .collect(),
        )
        .await;
    }
    let consumers = (0..64).map(|_| {
        let (queue, t) = (node.queue.clone(), t.clone());
        tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let delivered = queue.dequeue(request(&t, 37)).await.unwrap();
                if delivered.is_empty() {
                    return seen;
                }
                seen.extend(delivered.into_iter().map(|d| d.item.id));
            }
        })
    });
    let mut all = HashSet::new();
    let mut count = 0;
    for consumer in consumers.collect::<Vec<_>>() {
        let seen = consumer.await.unwrap();
        count += seen.len();
        all.extend(seen);
    }
    assert_eq!((count, all.len()), (ITEMS, ITEMS));
}
