//! The faults found in the code this project began from, as far as one node can have them.
//!
//! | fault | what fails on it |
//! |---|---|
//! | 1: the server renews the leases of dead consumers | `it::delivery::an_ended_lease_brings_the_item_back_and_refuses_its_holder` |
//! | 2: nothing is flushed unless quotas are configured | [`seed_fault_2_nothing_configured_still_flushes`] |
//! | 3: two consumers get the same items | `it::delivery::two_consumers_never_share_an_item` |
//! | 4: what is enqueued during a flush is lost, and order turned around | [`seed_fault_4_a_flush_loses_and_reorders_nothing`] |
//! | 5: memory first, log second | [`seed_fault_5_what_the_log_refused_was_never_there`] |
//! | 6: one sync an item, no checksum, a torn line stops the start | `wal::tests`, all of `crash` and `corruption` |
//! | 7: replay brings acked items back | `it::durability::stored_items_that_were_acked_do_not_return_after_a_crash`, `property` |
//! | 8: log files are deleted before their items are stored | `races::a_checkpoint_under_way_keeps_its_records_in_the_log` |
//! | 9: a repeated idempotency key overwrites the item | [`seed_fault_9_a_repeated_key_leaves_the_item_alone`] |
//! | 10: a key's scope is the namespace | `it::delivery::an_idempotency_key_makes_one_item_per_topic` |
//! | 11: a topic stalls with 150 items in flight | [`seed_fault_11_leases_do_not_stall_a_topic`] |
//! | 12: an item is in the ready list twice | `it::delivery::two_consumers_never_share_an_item`, `property` |
//! | 13: an ack needs no lease | `it::delivery::an_ended_lease_brings_the_item_back_and_refuses_its_holder` |
//! | 14: attempts are counted at a nack only | `it::delivery::an_item_that_kills_its_worker_dies_after_its_attempts` |
//! | 15: who is over a limit cannot nack | [`seed_fault_15_who_may_not_enqueue_may_settle`], `wal::tests::limits` |
//! | 16: quotas are counted after the answer | `tenant::quota` |
//! | 17: slots are hashed without a separator | `model::name` |
//! | 18: the schema cannot be applied | `shard::conformance` |
//! | 19: one breaker for all shards | [`seed_fault_19_a_shard_that_is_down_stops_no_other`] |
//! | 20: HTTP | `api::tests`, `it::http` |
//! | 21: time to live is never read | `it::delivery::an_expired_item_is_dropped_or_kept_as_the_topic_says` |
//! | 22: ids repeat when the clock goes back | `model::id` |

use super::node::{Node, item, somebody, topic};
use crate::model::TopicKey;
use crate::queue::{Durability, EnqueueResult, NewItem, QueueError, SettleStatus, Verb};

#[tokio::test]
async fn seed_fault_2_nothing_configured_still_flushes() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x")]).await;
    let core = &node.queue.core;
    for (ms, stored) in [(0, 0), (4_999, 0), (1, 1)] {
        node.clock.advance(ms);
        core.flush[0].kick();
        core.clone().flush_tick(0).await;
        assert_eq!(node.rows(&t), stored);
    }
}

#[tokio::test]
async fn seed_fault_4_a_flush_loses_and_reorders_nothing() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("a"), item("b")]).await;
    node.shards[0].storing.close();
    let core = node.queue.core.clone();
    let storing = tokio::spawn(async move { core.flush_once(0, core.wal.applied_lsn()).await });
    node.shards[0].storing.reached().await;
    node.enqueue(&t, vec![item("c")]).await;
    let first = node.dequeue(&t, 1).await.remove(0);
    node.settle(&first, Verb::Release { delay_ms: None }).await;
    node.shards[0].storing.open();
    storing.await.unwrap().unwrap();
    assert!(node.flush().await);
    node.evict().await;
    let node = node.crash().await;
    let texts: Vec<_> = node.dequeue(&t, 9).await;
    let texts: Vec<_> = texts
        .iter()
        .map(|delivered| &delivered.item.payload[..])
        .collect();
    assert_eq!(texts, [b"a", b"b", b"c"]);
}

#[tokio::test]
async fn seed_fault_5_what_the_log_refused_was_never_there() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("before")]).await;
    node.disk.fail_sync(1);
    let refused = node
        .queue
        .enqueue(&t, vec![item("x")], Durability::Logged, &somebody())
        .await;
    assert!(matches!(refused, Err(QueueError::LogFailed)));
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    assert!(!node.queue.health().ready);
}

#[tokio::test]
async fn seed_fault_9_a_repeated_key_leaves_the_item_alone() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let keyed = |priority| NewItem {
        priority: Some(priority),
        idempotency_key: Some("k".into()),
        ..item("x")
    };
    let id = node.enqueue(&t, vec![keyed(5)]).await.remove(0);
    let held = node.dequeue(&t, 1).await.remove(0);
    assert!(node.flush().await);
    let again = node
        .queue
        .enqueue(&t, vec![keyed(1)], Durability::Logged, &somebody())
        .await;
    assert_eq!(again.unwrap().results, [EnqueueResult::Duplicate { id }]);
    assert!(node.flush().await);
    assert_eq!(node.counts(&t), [0, 0, 1, 0]);
    assert_eq!(node.ack(&held).await, SettleStatus::Ok);
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [0; 4]);
}

#[tokio::test]
async fn seed_fault_11_leases_do_not_stall_a_topic() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    for _ in 0..3 {
        node.enqueue(&t, vec![item("x"); 1_000]).await;
    }
    assert!(node.flush().await);
    node.evict().await;
    for taken in 1..=30 {
        assert_eq!(node.dequeue(&t, 100).await.len(), 100);
        assert_eq!(node.counts(&t), [3_000 - 100 * taken, 0, 100 * taken, 0]);
    }
}

#[tokio::test]
async fn seed_fault_15_who_may_not_enqueue_may_settle() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x"), item("y")]).await;
    let held = node.dequeue(&t, 2).await;
    node.queue.begin_shutdown();
    let refused = node
        .queue
        .enqueue(&t, vec![item("z")], Durability::Logged, &somebody())
        .await;
    assert!(matches!(refused, Err(QueueError::ShuttingDown)));
    let nack = Verb::Nack {
        delay_ms: None,
        error: None,
    };
    assert_eq!(node.settle(&held[0], nack).await, SettleStatus::Ok);
    assert_eq!(node.ack(&held[1]).await, SettleStatus::Ok);
}

#[tokio::test]
async fn seed_fault_19_a_shard_that_is_down_stops_no_other() {
    let node = Node::start(2, 100).await;
    let on = |shard| {
        let on_shard = |key: &TopicKey| node.queue.core.shard_number(key) == shard;
        (0..).map(|n| topic(&format!("t{n}"))).find(on_shard).unwrap()
    };
    let topics = [on(0), on(1)];
    node.shards[0].state.lock().down = true;
    for t in &topics {
        node.enqueue(t, vec![item("x")]).await;
    }
    let core = &node.queue.core;
    let up_to = core.wal.applied_lsn();
    assert!(!node.flush_shard(0, up_to).await);
    assert!(node.flush_shard(1, up_to).await);
    assert_eq!((node.rows(&topics[0]), node.rows(&topics[1])), (0, 1));
    for t in &topics {
        let delivered = node.dequeue(t, 1).await.remove(0);
        assert_eq!(node.ack(&delivered).await, SettleStatus::Ok);
    }
    node.shards[0].state.lock().down = false;
    assert!(node.flush().await);
    assert_eq!((node.rows(&topics[0]), node.rows(&topics[1])), (0, 0));
}
