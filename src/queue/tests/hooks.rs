//! What hooks say, put in force: on the way in and on the way out, over crashes, purges and hang-ups.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::node::{Node, item, request, somebody, topic};
use super::script::{hook, keep, shaped, text, why};
use crate::hooks::{DequeueOutcome, EnqueueOutcome, HookItem, Shaped};
use crate::model::{DeadReason, Delivery, ItemState, SettingsPatch, TopicKey};
use crate::model::{Quota, Rate};
use crate::queue::{Durability, EnqueueResult, HookReason, NewItem, Redrive, SettleStatus};
use crate::tenant::QuotaTable;

fn keyed(text: &str, key: &str) -> NewItem {
    NewItem {
        idempotency_key: Some(key.into()),
        ..item(text)
    }
}

async fn enqueue(node: &Node, topic: &TopicKey, items: Vec<NewItem>) -> Vec<EnqueueResult> {
    let enqueued = node
        .queue
        .enqueue(topic, items, Durability::Logged, &somebody())
        .await;
    enqueued.unwrap().results
}

fn split(asked: &HookItem, parts: Vec<Shaped>) -> EnqueueOutcome {
    EnqueueOutcome::Split(asked.item.clone(), parts)
}

fn reason(code: &str) -> Box<HookReason> {
    Box::new(HookReason {
        by: hook(),
        reason: why(code),
    })
}

async fn texts(node: &Node, topic: &TopicKey) -> Vec<String> {
    let mut texts: Vec<_> = node
        .dequeue(topic, 100)
        .await
        .iter()
        .map(|d| text(&d.item))
        .collect();
    texts.sort();
    texts
}

/// Two topics that are in different shards.
fn apart(node: &Node) -> (TopicKey, TopicKey) {
    let here = topic("t");
    let shard = node.queue.core.shard_number(&here);
    let there = (0..).map(|n| topic(&format!("other-{n}")));
    let mut there = there.filter(|topic| node.queue.core.shard_number(topic) != shard);
    (here, there.next().unwrap())
}

#[tokio::test]
async fn every_verdict_on_the_way_in_is_put_in_force_and_outlives_a_crash() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.hooks.inward(&t, |asked| match &*text(&asked.item) {
        "edit" => EnqueueOutcome::Store(shaped(&asked.item, "edited", None)),
        "filter" => EnqueueOutcome::Filtered(hook(), why("spam")),
        "reject" => EnqueueOutcome::Rejected(hook(), why("schema")),
        "bury" => EnqueueOutcome::DeadLetter(asked.item.clone(), hook(), why("poison")),
        "fail" => EnqueueOutcome::Failed {
            by: hook(),
            detail: "because".into(),
            retry_after_ms: None,
        },
        _ => keep(asked),
    });
    let words = ["keep", "edit", "filter", "reject", "bury", "fail"];
    let results = enqueue(&node, &t, words.map(item).to_vec()).await;
    assert!(matches!(results[0], EnqueueResult::Accepted { .. }));
    assert!(matches!(results[1], EnqueueResult::Accepted { .. }));
    assert!(matches!(&results[2], EnqueueResult::Filtered { why, .. } if *why == reason("spam")));
    assert_eq!(results[3], EnqueueResult::HookRejected(reason("schema")));
    let EnqueueResult::DeadLettered { id: buried, .. } = results[4] else {
        panic!("{:?}", results[4]);
    };
    assert_eq!(results[5].refusal(), Some(("hook_failed", "because")));
    assert_eq!(node.counts(&t), [2, 0, 0, 1]);
    let asked = node.hooks.count();
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [2, 0, 0, 1]);
    assert!(node.flush().await);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [2, 0, 0, 1]);
    let view = node.queue.item(&t, buried).await.unwrap();
    assert_eq!(
        (view.state, view.dead.unwrap().reason),
        (ItemState::Dead, DeadReason::Hook)
    );
    assert_eq!(view.last_error.as_deref(), Some("poison: because"));
    assert_eq!(texts(&node, &t).await, ["edited", "keep"]);
    assert_eq!(node.hooks.count(), asked, "replay runs no hook");
}

#[tokio::test]
async fn hooks_are_told_who_asks_and_see_the_item_as_it_will_be() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.hooks.inward(&t, keep);
    let id = node.enqueue(&t, vec![item("x")]).await.remove(0);
    let context = node.hooks.context.lock().clone().unwrap();
    assert_eq!((&*context.principal, &*context.scopes[1]), ("test", "see:all"));
    let asked = node.hooks.asked.lock();
    assert_eq!(
        (asked[0].2.item.id, asked[0].2.item.priority, asked[0].2.attempt),
        (id, 100, 0)
    );
}

#[tokio::test]
async fn a_key_stays_with_what_is_stored_and_is_given_back_with_what_is_not() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.hooks.inward(&t, |asked| match &*text(&asked.item) {
        "split" => split(
            asked,
            vec![shaped(&asked.item, "a", None), shaped(&asked.item, "b", None)],
        ),
        "edit" => EnqueueOutcome::Store(shaped(&asked.item, "edited", None)),
        _ => EnqueueOutcome::Filtered(hook(), why("spam")),
    });
    let batch = || {
        vec![
            keyed("split", "k1"),
            keyed("edit", "k2"),
            keyed("filter", "k3"),
            keyed("edit", "k2"),
        ]
    };
    let results = enqueue(&node, &t, batch()).await;
    let (EnqueueResult::Split { ids }, EnqueueResult::Accepted { id }) = (&results[0], &results[1]) else {
        panic!("{results:?}");
    };
    assert_eq!(results[3], EnqueueResult::Duplicate { id: *id });
    let check = |again: Vec<EnqueueResult>| {
        assert_eq!(again[0], EnqueueResult::Duplicate { id: ids[0] });
        assert_eq!(again[1], EnqueueResult::Duplicate { id: *id });
        assert!(matches!(again[2], EnqueueResult::Filtered { .. }));
    };
    check(enqueue(&node, &t, batch()).await);
    // What was sent counts, not what hooks made of it; over crashes too, with and without the shard.
    let node = node.crash().await;
    check(enqueue(&node, &t, batch()).await);
    assert!(node.flush().await);
    let node = node.crash().await;
    check(enqueue(&node, &t, batch()).await);
    assert_eq!(texts(&node, &t).await, ["a", "b", "edited"]);
}

#[tokio::test]
async fn a_routed_item_runs_through_the_target_s_hooks_and_lands_in_its_shard() {
    let node = Node::start(2, 100).await;
    let (t, other) = apart(&node);
    let target = other.topic().to_string();
    node.hooks.inward(&t, move |asked| {
        let part = |payload, route| shaped(&asked.item, payload, route);
        let parts = [
            ("here", None),
            ("there", Some(&*target)),
            ("there too", Some(&*target)),
        ];
        split(asked, parts.map(|(payload, route)| part(payload, route)).to_vec())
    });
    node.hooks.inward(&other, |asked| match &*text(&asked.item) {
        "there too" => EnqueueOutcome::Filtered(hook(), why("spam")),
        _ => keep(asked),
    });
    let results = enqueue(&node, &t, vec![keyed("x", "k")]).await;
    let EnqueueResult::Split { ids } = &results[0] else {
        panic!("{results:?}");
    };
    assert_eq!(ids.len(), 2);
    let hops: Vec<_> = node
        .hooks
        .asked
        .lock()
        .iter()
        .map(|(_, _, asked)| asked.hops)
        .collect();
    assert_eq!(hops, [0, 1, 1]);
    let node = node.crash().await;
    let again = enqueue(&node, &t, vec![keyed("x", "k")]).await;
    assert_eq!(again, [EnqueueResult::Duplicate { id: ids[0] }]);
    assert!(node.flush().await);
    assert_eq!((node.rows(&t), node.rows(&other)), (1, 1));
    assert_eq!(texts(&node, &t).await, ["here"]);
    assert_eq!(texts(&node, &other).await, ["there"]);
}

#[tokio::test]
async fn a_loop_of_routes_ends() {
    let (node, a, b) = (Node::start(1, 100).await, topic("a"), topic("b"));
    node.hooks.inward(&a, |asked| {
        EnqueueOutcome::Store(shaped(&asked.item, "x", Some("b")))
    });
    node.hooks.inward(&b, |asked| {
        EnqueueOutcome::Store(shaped(&asked.item, "x", Some("a")))
    });
    let results = enqueue(&node, &a, vec![item("x")]).await;
    assert_eq!(results[0].refusal().unwrap().0, "hook_overloaded");
    assert_eq!(node.counts(&a), [0; 4]);
}

/// Every namespace may enqueue five items a minute.
fn five_a_minute(node: &Node) {
    let five = NonZeroU32::new(5).unwrap();
    node.quotas.configure(QuotaTable {
        default: Quota {
            rate: Some(Rate::per_minute(five)),
            ..Quota::default()
        },
        ..QuotaTable::default()
    });
}

#[tokio::test]
async fn what_a_split_adds_is_taken_from_the_quota_and_bounded() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    five_a_minute(&node);
    node.hooks.inward(&t, |asked| {
        let parts: usize = text(&asked.item).parse().unwrap();
        split(asked, vec![shaped(&asked.item, "x", None); parts])
    });
    // Nine do not fit, and take nothing: what came behind them would find the quota used up.
    let results = enqueue(&node, &t, vec![item("9"), item("4"), item("1001")]).await;
    assert_eq!(results[0].refusal().unwrap().0, "quota_exceeded");
    assert!(matches!(&results[1], EnqueueResult::Split { ids } if ids.len() == 4));
    assert_eq!(results[2].refusal().unwrap().0, "too_many_parts");
    assert_eq!(node.counts(&t), [4, 0, 0, 0]);
}

#[tokio::test]
async fn a_redrive_through_a_hook_that_splits_keeps_what_the_quota_or_the_frame_has_no_room_for() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    five_a_minute(&node);
    node.hooks.inward(&t, |asked| {
        EnqueueOutcome::DeadLetter(asked.item.clone(), hook(), why("poison"))
    });
    let results = enqueue(&node, &t, vec![item("9"), item("4"), item("1001")]).await;
    assert!(
        results
            .iter()
            .all(|result| matches!(result, EnqueueResult::DeadLettered { .. }))
    );
    node.hooks.inward(&t, |asked| {
        let parts: usize = text(&asked.item).parse().unwrap();
        split(asked, vec![shaped(&asked.item, "x", None); parts])
    });
    let redrive = Redrive {
        hook: Some(hook()),
        ..Redrive::default()
    };
    let redriven = node.queue.redrive(&t, redrive).await.unwrap();
    assert_eq!((redriven.count, redriven.kept), (1, 2));
    assert_eq!(node.counts(&t), [4, 0, 0, 2]);
}

#[tokio::test]
async fn a_part_that_becomes_a_dead_letter_takes_the_whole_item_along() {
    let (node, a) = (Node::start(1, 100).await, topic("a"));
    node.hooks.inward(&a, |asked| {
        let parts =
            ["stays", "goes"].map(|payload| shaped(&asked.item, payload, (payload == "goes").then_some("b")));
        split(asked, parts.to_vec())
    });
    node.hooks.inward(&topic("b"), |asked| {
        EnqueueOutcome::DeadLetter(asked.item.clone(), hook(), why("poison"))
    });
    let results = enqueue(&node, &a, vec![keyed("whole", "k")]).await;
    let EnqueueResult::DeadLettered { id, .. } = results[0] else {
        panic!("{results:?}");
    };
    assert_eq!(node.counts(&a), [0, 0, 0, 1]);
    assert_eq!(text(&node.queue.item(&a, id).await.unwrap().item), "whole");
    let node = node.crash().await;
    assert_eq!(text(&node.queue.item(&a, id).await.unwrap().item), "whole");
}

#[tokio::test]
async fn an_item_whose_hook_ran_during_a_purge_outlives_it_everywhere() {
    let (node, t) = (Arc::new(Node::start(1, 100).await), topic("t"));
    node.enqueue(&t, vec![item("old")]).await;
    node.hooks.inward(&t, keep);
    let gate = Arc::new(Semaphore::new(0));
    *node.hooks.gate.lock() = Some(gate.clone());
    let (work, to) = (node.clone(), t.clone());
    let running = tokio::spawn(async move { enqueue(&work, &to, vec![keyed("new", "k")]).await });
    while node.hooks.count() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.queue.purge(&t).await.unwrap(), 1);
    gate.add_permits(100);
    let results = running.await.unwrap();
    let Ok(node) = Arc::try_unwrap(node) else {
        panic!("nobody else has it");
    };
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    assert!(node.flush().await);
    node.evict().await;
    let node = node.crash().await;
    let again = enqueue(&node, &t, vec![keyed("new", "k")]).await;
    let EnqueueResult::Accepted { id } = results[0] else {
        panic!("{results:?}");
    };
    assert_eq!(again, [EnqueueResult::Duplicate { id }]);
    assert_eq!(texts(&node, &t).await, ["new"]);
}

#[tokio::test]
async fn every_verdict_on_the_way_out_is_put_in_force_and_outlives_a_crash() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.hooks.outward(&t, |asked| match &*text(&asked.item) {
        "view" => DequeueOutcome::Deliver(shaped(&asked.item, "viewed", None).item),
        "defer" => DequeueOutcome::Defer(hook(), 5_000),
        "filter" => DequeueOutcome::Filtered(hook(), why("spam")),
        "bury" => DequeueOutcome::DeadLetter(hook(), why("poison")),
        _ => DequeueOutcome::Deliver(asked.item.clone()),
    });
    let words = ["view", "defer", "filter", "bury", "as it is"];
    let ids = node.enqueue(&t, words.map(item).to_vec()).await;
    assert!(node.flush().await);
    let delivered = node.dequeue(&t, 10).await;
    let seen: Vec<_> = delivered.iter().map(|d| (text(&d.item), d.attempt)).collect();
    assert_eq!(seen, [("viewed".to_owned(), 1), ("as it is".to_owned(), 1)]);
    assert_eq!(node.counts(&t), [0, 1, 2, 1]);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [0, 1, 2, 1]);
    assert_eq!(node.ack(&delivered[0]).await, SettleStatus::Ok);
    let dead = node.queue.item(&t, ids[3]).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Hook);
    assert_eq!(dead.last_error.as_deref(), Some("poison: because (h@3)"));
    assert_eq!((dead.attempt, text(&dead.item)), (0, "bury".to_owned()));
    assert!(node.queue.item(&t, ids[2]).await.is_err());
    // Nothing of the deferral was counted, and the stored item is as it was.
    node.advance(5_000).await;
    let deferred = node.queue.item(&t, ids[1]).await.unwrap();
    assert_eq!((deferred.state, deferred.attempt), (ItemState::Ready, 0));
    let view = node.queue.item(&t, ids[4]).await.unwrap();
    assert_eq!((view.state, view.item.extra.is_none()), (ItemState::Leased, true));
}

#[tokio::test]
async fn what_hooks_filter_keeps_nobody_from_what_comes_behind() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.hooks.outward(&t, |asked| match &*text(&asked.item) {
        "filter" => DequeueOutcome::Filtered(hook(), why("spam")),
        _ => DequeueOutcome::Deliver(asked.item.clone()),
    });
    node.enqueue(&t, vec![item("filter"), item("filter"), item("x")])
        .await;
    assert_eq!(text(&node.dequeue(&t, 1).await[0].item), "x");
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
}

#[tokio::test]
async fn five_failures_in_a_row_make_a_dead_letter_and_overload_makes_none() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    let fails = |overloaded| {
        move |_: &crate::hooks::HookItem| DequeueOutcome::Failed {
            by: hook(),
            detail: "because".into(),
            overloaded,
        }
    };
    let id = node.enqueue(&t, vec![item("x")]).await.remove(0);
    for (overloaded, rounds) in [(true, 7), (false, 5)] {
        node.hooks.outward(&t, fails(overloaded));
        for _ in 0..rounds {
            assert_eq!(node.counts(&t), [1, 0, 0, 0]);
            assert!(node.dequeue(&t, 1).await.is_empty());
            node.advance(3_600_000).await;
        }
    }
    let dead = node.queue.item(&t, id).await.unwrap();
    assert_eq!(dead.dead.unwrap().reason, DeadReason::Hook);
    assert_eq!(dead.last_error.as_deref(), Some("hook_failed: because (h@3)"));
}

#[tokio::test]
async fn a_lease_begins_when_the_hooks_are_done() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    let clock = node.clock.clone();
    node.hooks.outward(&t, move |asked| {
        clock.advance(900);
        DequeueOutcome::Deliver(asked.item.clone())
    });
    node.enqueue(&t, vec![item("x")]).await;
    let asked = node.clock.now();
    let mut short = request(&t, 1);
    short.lease_ms = Some(1_000);
    let delivered = node.queue.dequeue(short).await.unwrap().remove(0);
    let lease = delivered.lease.as_ref().unwrap();
    assert_eq!(lease.expires_at, asked.plus_ms(1_900));
    node.advance(999).await;
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
    node.advance(1).await;
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
}

#[tokio::test]
async fn a_consumer_that_hangs_up_while_hooks_run_costs_no_attempt() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.enqueue(&t, vec![item("x")]).await;
    node.hooks
        .outward(&t, |asked| DequeueOutcome::Deliver(asked.item.clone()));
    let gate = Arc::new(Semaphore::new(0));
    *node.hooks.gate.lock() = Some(gate.clone());
    let mut waiting = Box::pin(node.queue.dequeue(request(&t, 1)));
    while node.hooks.count() == 0 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
    }
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
    drop(waiting);
    gate.add_permits(100);
    while node.counts(&t) != [1, 0, 0, 0] {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.dequeue(&t, 1).await[0].attempt, 1);
}

#[tokio::test]
async fn at_most_once_topics_and_repeated_requests_show_views_too() {
    let (node, t) = (Node::start(1, 100).await, topic("t"));
    node.enqueue(&t, vec![item("x")]).await;
    node.hooks.outward(&t, |asked| match &*text(&asked.item) {
        "filter" => DequeueOutcome::Filtered(hook(), why("spam")),
        _ => DequeueOutcome::Deliver(shaped(&asked.item, "view", None).item),
    });
    let mut retried = request(&t, 1);
    retried.request_id = Some("r".into());
    let first = node.queue.dequeue(retried.clone()).await.unwrap();
    let again = node.queue.dequeue(retried).await.unwrap();
    assert_eq!(first, again);
    assert_eq!((text(&again[0].item), node.hooks.count()), ("view".to_owned(), 2));

    let once = SettingsPatch {
        delivery: Some(Delivery::AtMostOnce),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, once).await.unwrap();
    node.enqueue(&t, vec![item("filter"), item("y")]).await;
    let delivered = node.dequeue(&t, 2).await;
    assert_eq!(
        (text(&delivered[0].item), delivered[0].lease.is_none()),
        ("view".to_owned(), true)
    );
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
    assert_eq!(node.crash().await.counts(&t), [0, 0, 1, 0]);
}
