//! What survives a stop, in good order or not, and what the shard does to order and counts.

use std::time::Duration;

use mqueue::model::{ItemState, SettingsPatch};
use mqueue::queue::{Durability, EnqueueResult, NewItem, SettleStatus, Verb};

use crate::node::{Node, delayed, item, keyed, prioritised, request, somebody, text, topic};

/// So little memory that nearly everything stored is evicted at once.
const TIGHT: &[(&str, &str)] = &[
    ("hot.bytes_max", "1MiB"),
    ("hot.high_water", "0.3"),
    ("hot.low_water", "0.1"),
];

#[tokio::test]
async fn accepted_items_survive_a_crash_and_acked_ones_do_not_return() {
    let node = Node::start().await;
    let t = topic("crash");
    node.enqueue(&t, (0..10).map(|n| item(&n.to_string())).collect())
        .await;
    for delivered in node.dequeue(&t, 3).await {
        node.ack(&delivered).await;
    }
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [7, 0, 0, 0]);
    assert_eq!(node.take(&t, 99).await, ["3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn stored_items_that_were_acked_do_not_return_after_a_crash() {
    let node = Node::start().await;
    let t = topic("stored");
    node.enqueue_stored(&t, (0..10).map(|n| item(&n.to_string())).collect())
        .await;
    let delivered = node.dequeue(&t, 5).await;
    for delivered in &delivered[..3] {
        node.ack(delivered).await;
    }
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [5, 0, 2, 0]);
    assert_eq!(node.ack(&delivered[3]).await, SettleStatus::Ok);
    assert_eq!(node.take(&t, 99).await, ["5", "6", "7", "8", "9"]);
    let node = node.restart().await.crash().await;
    assert_eq!(node.counts(&t), [0, 0, 6, 0]);
    node.clock.advance(30_000);
    assert_eq!(node.take(&t, 99).await, ["4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn leases_attempts_and_nacks_survive_crashes() {
    let node = Node::start().await;
    let t = topic("state");
    node.enqueue(&t, vec![item("held"), item("nacked")]).await;
    let delivered = node.dequeue(&t, 2).await;
    node.nack(&delivered[1], 5_000).await;
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [0, 1, 1, 0]);
    node.clock.advance(5_000);
    let nacked = node.dequeue(&t, 9).await;
    assert_eq!(
        (nacked.len(), nacked[0].attempt, nacked[0].last_error.as_deref()),
        (1, 2, Some("no"))
    );
    assert_eq!(node.ack(&delivered[0]).await, SettleStatus::Ok);
    let node = node.crash().await;
    assert_eq!(node.ack(&nacked[0]).await, SettleStatus::Ok);
    assert_eq!(node.counts(&t), [0, 0, 0, 0]);
}

#[tokio::test]
async fn dead_letters_survive_a_crash_and_a_restart() {
    let node = Node::start().await;
    let t = topic("dead");
    node.enqueue(&t, vec![item("bad"), item("good")]).await;
    let bad = node.dequeue(&t, 1).await.remove(0);
    node.settle(
        &bad,
        Verb::Reject {
            error: Some("broken".into()),
        },
    )
    .await;
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [1, 0, 0, 1]);
    let node = node.restart().await;
    assert_eq!(node.counts(&t), [1, 0, 0, 1]);
    let dead = node
        .queue
        .browse(&t, ItemState::Dead, None, 9)
        .await
        .unwrap()
        .entries;
    assert_eq!(dead[0].last_error.as_deref(), Some("broken"));
    node.clock.advance(1);
    assert_eq!(node.queue.redrive(&t, Default::default()).await.unwrap().count, 1);
    let node = node.crash().await;
    assert_eq!(node.take(&t, 9).await, ["good", "bad"]);
}

#[tokio::test]
async fn idempotency_keys_survive_a_crash_and_a_restart() {
    let node = Node::start().await;
    let t = topic("keys");
    let [id] = node.enqueue(&t, vec![keyed("x", "k")]).await[..] else {
        panic!()
    };
    let again = async |node: &Node| {
        node.queue
            .enqueue(&t, vec![keyed("x", "k")], Durability::Logged, &somebody())
            .await
            .unwrap()
            .results
    };
    let node = node.crash().await;
    assert_eq!(again(&node).await, [EnqueueResult::Duplicate { id }]);
    let node = node.restart().await;
    assert_eq!(again(&node).await, [EnqueueResult::Duplicate { id }]);
    for delivered in node.dequeue(&t, 1).await {
        node.ack(&delivered).await;
    }
    let node = node.restart().await;
    assert_eq!(again(&node).await, [EnqueueResult::Duplicate { id }]);
}

#[tokio::test]
async fn order_holds_across_memory_and_shard() {
    let node = Node::start_with(TIGHT).await;
    let t = topic("cold");
    let payload = "x".repeat(200);
    for chunk in 0..10 {
        let items = (0..1_000).map(|n| {
            let n = chunk * 1_000 + n;
            prioritised(&format!("{n:05}{payload}"), [5, 1, 3][n % 3])
        });
        node.enqueue_stored(&t, items.collect()).await;
    }
    assert_eq!(node.counts(&t), [10_000, 0, 0, 0]);
    node.enqueue(&t, vec![prioritised("urgent", 0)]).await;
    assert_eq!(node.take(&t, 1).await, ["urgent"]);
    let mut last = (0, String::new());
    let mut count = 0;
    loop {
        let batch = node.dequeue(&t, 777).await;
        if batch.is_empty() {
            break;
        }
        for delivered in batch {
            let key = (delivered.item.priority, text(&delivered));
            assert!(key > last, "{} after {}", &key.1[..5], &last.1[..5]);
            last = key;
            count += 1;
            assert_eq!(node.ack(&delivered).await, SettleStatus::Ok);
        }
    }
    assert_eq!((count, node.counts(&t)), (10_000, [0, 0, 1, 0]));
    let node = node.restart().await;
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_that_meet_at_a_cold_topic_all_go_on() {
    const ITEMS: usize = 40_000;
    let node = Node::start().await;
    let t = topic("cold-crowd");
    for _ in 0..ITEMS / 1_000 {
        node.enqueue_stored(&t, (0..1_000).map(|n| item(&n.to_string())).collect())
            .await;
    }
    // Everything is in the shard and nothing in memory: every consumer asks for the same page.
    let node = node.restart().await;
    let consumers = (0..16).map(|_| {
        let (queue, t) = (node.queue.clone(), t.clone());
        tokio::spawn(async move {
            let mut taken = 0;
            loop {
                let delivered = queue.dequeue(request(&t, 700)).await.unwrap();
                if delivered.is_empty() {
                    return taken;
                }
                taken += delivered.len();
            }
        })
    });
    let mut taken = 0;
    for consumer in consumers.collect::<Vec<_>>() {
        let finished = tokio::time::timeout(Duration::from_secs(60), consumer).await;
        taken += finished.expect("a consumer waits for ever").unwrap();
    }
    assert_eq!(taken, ITEMS);
}

#[tokio::test]
async fn cold_scheduled_items_come_up_when_due_in_their_place() {
    let node = Node::start_with(TIGHT).await;
    let t = topic("cold-later");
    let filler = "x".repeat(900);
    let items = (0..1_000).map(|n| delayed(&format!("{n:04}{filler}"), 5, 60_000 + n));
    node.enqueue_stored(&t, items.collect()).await;
    node.enqueue_stored(&t, vec![delayed("urgent", 1, 60_500)]).await;
    assert_eq!(node.counts(&t), [0, 1_001, 0, 0]);
    let node = node.restart().await;
    assert_eq!(node.counts(&t), [0, 1_001, 0, 0]);
    assert!(node.take(&t, 1).await.is_empty());
    node.clock.advance(60_499);
    let first = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(&text(&first)[..4], "0000");
    node.ack(&first).await;
    node.clock.advance(1);
    let urgent = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(text(&urgent), "urgent");
    node.ack(&urgent).await;
    node.clock.advance(60_000);
    let mut left = 0;
    loop {
        let batch = node.dequeue(&t, 100).await;
        if batch.is_empty() {
            break;
        }
        left += batch.len();
    }
    assert_eq!(left, 999);
}

#[tokio::test]
async fn purged_items_are_gone_hot_and_cold_for_good() {
    let node = Node::start_with(TIGHT).await;
    let t = topic("purge");
    let filler = "x".repeat(900);
    node.enqueue_stored(&t, (0..1_000).map(|_| item(&filler)).collect())
        .await;
    node.enqueue(&t, vec![item("hot"), delayed("later", 5, 1_000)])
        .await;
    let held = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(node.queue.purge(&t).await.unwrap(), 1_002);
    assert_eq!(node.ack(&held).await, SettleStatus::LeaseLost);
    node.enqueue(&t, vec![item("after")]).await;
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    let node = node.restart().await;
    assert_eq!(node.take(&t, 9).await, ["after"]);
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_may_appear_again() {
    let node = Node::start().await;
    let t = topic("deleted");
    node.enqueue(&t, vec![item("x"), item("y")]).await;
    let settings = SettingsPatch {
        priority: Some(7),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, settings).await.unwrap();
    assert_eq!(node.queue.delete_topic(&t).await.unwrap(), 2);
    assert!(node.queue.topic(&t).is_err());
    let node = node.crash().await;
    assert!(node.queue.topic(&t).is_err());
    node.enqueue(&t, vec![item("z")]).await;
    let delivered = node.dequeue(&t, 9).await;
    assert_eq!((delivered.len(), delivered[0].item.priority), (1, 100));
}

#[tokio::test]
async fn cancelled_items_are_gone_wherever_they_were() {
    let node = Node::start_with(TIGHT).await;
    let t = topic("cancel");
    let filler = "x".repeat(900);
    let ids = node
        .enqueue(&t, (0..1_000).map(|_| item(&filler)).collect())
        .await;
    node.enqueue_stored(&t, vec![item("last")]).await;
    let held = node.dequeue(&t, 1).await.remove(0);
    assert!(node.queue.cancel(&t, held.item.id).await.is_err());
    for id in [ids[1], ids[999]] {
        node.queue.cancel(&t, id).await.unwrap();
        assert!(node.queue.item(&t, id).await.is_err());
        assert!(node.queue.cancel(&t, id).await.is_err());
    }
    assert_eq!(node.counts(&t), [998, 0, 1, 0]);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [998, 0, 1, 0]);
}

#[tokio::test]
async fn a_drained_node_leaves_nothing_in_the_log() {
    let node = Node::start().await;
    let t = topic("drain");
    node.enqueue(
        &t,
        (0..500)
            .map(|n| NewItem {
                max_attempts: Some(1),
                ..item(&n.to_string())
            })
            .collect(),
    )
    .await;
    for delivered in node.dequeue(&t, 100).await {
        node.nack(&delivered, 0).await;
    }
    let node = node.restart().await;
    assert_eq!(node.counts(&t), [400, 0, 0, 100]);
    assert_eq!(node.queue.discard_dead(&t).await.unwrap(), 100);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [400, 0, 0, 0]);
}
