//! What may come between the steps of a request: other requests, a flush, the end of its caller, a crash.

use std::sync::Arc;

use futures_util::poll;

use super::node::{Node, item, request, somebody, topic};
use super::shard::Fault;
use crate::hot::HoldRequest;
use crate::model::{Delivery, ItemState, LeaseRef, SettingsPatch, TopicKey};
use crate::queue::{
    DequeueRequest, Durability, EnqueueResult, LeaseAction, NewItem, QueueError, Redrive, SettleStatus, Verb,
};
use crate::wal::Lsn;
use crate::wal::disk::SimDisk;

/// Lets every other task run until it waits.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn named(shard: u16, node: &Node) -> TopicKey {
    let on_shard = |key: &TopicKey| node.queue.core.shard_number(key) == shard;
    (0..).map(|n| topic(&format!("t{n}"))).find(on_shard).unwrap()
}

#[tokio::test]
async fn an_acked_item_does_not_return_when_the_answer_to_its_checkpoint_was_lost() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x")]).await;
    node.shard(&t).state.lock().fault = Some(Fault::AnswerLost);
    assert!(!node.flush().await);
    assert_eq!(node.rows(&t), 1);
    let delivered = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(node.ack(&delivered).await, SettleStatus::Ok);
    assert!(node.flush().await);
    assert_eq!(node.rows(&t), 0);
    let node = node.crash().await;
    assert!(node.dequeue(&t, 1).await.is_empty());
}

#[tokio::test]
async fn deletes_flushed_right_after_a_start_do_not_take_progress_back() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("acked"), item("left")]).await;
    assert!(node.flush().await);
    let node = node.crash().await;
    let delivered = node.dequeue(&t, 1).await.remove(0);
    node.ack(&delivered).await;
    // So soon nothing but the delete is due: everything else may wait for the time to live of the buffer.
    node.advance(1_000).await;
    assert!(node.flush_shard(0, Lsn(0)).await);
    assert_eq!(node.rows(&t), 1);
    let node = node.crash().await;
    assert_eq!((node.counts(&t), node.rows(&t)), ([1, 0, 0, 0], 1));
}

#[tokio::test]
async fn deletes_flushed_after_a_lost_answer_do_not_take_progress_back() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("acked"), item("left")]).await;
    node.shard(&t).state.lock().fault = Some(Fault::AnswerLost);
    assert!(!node.flush().await);
    let delivered = node.dequeue(&t, 1).await.remove(0);
    node.ack(&delivered).await;
    node.advance(1_000).await;
    assert!(node.flush_shard(0, Lsn(0)).await);
    let node = node.crash().await;
    assert_eq!((node.counts(&t), node.rows(&t)), ([1, 0, 0, 0], 1));
}

#[tokio::test]
async fn a_checkpoint_under_way_keeps_its_records_in_the_log() {
    let node = Node::start(2, 100).await;
    let (slow, fast) = (named(0, &node), named(1, &node));
    node.enqueue(&slow, vec![item("x")]).await;
    let needed = node.queue.core.hot.first_need(0).await.unwrap();
    node.shards[0].storing.close();
    let core = node.queue.core.clone();
    let storing = tokio::spawn(async move { core.flush_once(0, core.wal.applied_lsn()).await });
    node.shards[0].storing.reached().await;
    // Another shard's flusher frees the log meanwhile.
    node.enqueue(&fast, vec![item("y")]).await;
    assert!(node.flush_shard(1, node.queue.core.wal.applied_lsn()).await);
    assert_eq!(node.queue.core.hot.first_need(0).await.unwrap(), needed);
    node.shards[0].storing.open();
    storing.await.unwrap().unwrap();
    assert_eq!(node.queue.core.hot.first_need(0).await.unwrap(), None);
}

#[tokio::test]
async fn an_item_acked_while_it_is_read_by_its_id_does_not_return() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let id = node.enqueue(&t, vec![item("x")]).await.remove(0);
    assert!(node.flush().await);
    node.evict().await;
    // A stale ack reads the row, and is slow to go on with it.
    node.shards[0].fetched.close();
    let stale = LeaseRef {
        topic: t.clone(),
        id,
        generation: 77,
    };
    let stale = vec![LeaseAction {
        lease: stale,
        verb: Verb::Ack,
    }];
    let queue = node.queue.clone();
    let settling = tokio::spawn(async move { queue.settle(stale).await.unwrap() });
    node.shards[0].fetched.reached().await;
    let node = Arc::new(node);
    let (consumer, from) = (node.clone(), t.clone());
    let consuming = tokio::spawn(async move {
        let delivered = consumer.dequeue(&from, 1).await.remove(0);
        assert_eq!(consumer.ack(&delivered).await, SettleStatus::Ok);
        assert!(consumer.flush().await);
    });
    let_others_run().await;
    node.shards[0].fetched.open();
    assert_eq!(settling.await.unwrap()[0].status, SettleStatus::LeaseLost);
    consuming.await.unwrap();
    assert_eq!((node.counts(&t), node.rows(&t)), ([0; 4], 0));
    assert!(node.dequeue(&t, 1).await.is_empty());
}

#[tokio::test]
async fn an_ack_beside_a_heartbeat_waits_for_it() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x")]).await;
    let delivered = node.dequeue(&t, 1).await.remove(0);
    // The heartbeat has the item and waits for the disk.
    let generation = Some(1);
    let id = delivered.item.id;
    let hot = &node.queue.core.hot;
    hot.hold(&t, &[HoldRequest { id, generation }]).await.unwrap();
    let ack = node.settle(&delivered, Verb::Ack);
    tokio::pin!(ack);
    assert!(poll!(&mut ack).is_pending());
    hot.unhold(&t, &[id]).await;
    assert_eq!(ack.await, SettleStatus::Ok);
}

#[tokio::test]
async fn two_settlements_of_the_same_leases_do_not_wait_for_each_other() {
    let node = Node::start(2, 100).await;
    let (a, b) = (named(0, &node), named(1, &node));
    let mut delivered = Vec::new();
    for t in [&a, &b] {
        node.enqueue(t, vec![item("x")]).await;
        delivered.extend(node.dequeue(t, 1).await);
    }
    let extend = |d| node.action(d, Verb::Extend { lease_ms: None });
    let forth: Vec<_> = delivered.iter().map(extend).collect();
    let back: Vec<_> = forth.iter().rev().cloned().collect();
    for _ in 0..50 {
        let (one, other) = tokio::join!(node.queue.settle(forth.clone()), node.queue.settle(back.clone()));
        let all = one.unwrap().into_iter().chain(other.unwrap());
        assert!(all.into_iter().all(|result| result.status == SettleStatus::Ok));
    }
}

#[tokio::test]
async fn what_was_taken_for_a_consumer_that_hung_up_is_put_back_uncounted() {
    let node = Node::start(1, 100).await;
    let (first, second) = (topic("first"), topic("second"));
    for t in [&first, &second] {
        node.enqueue(t, vec![item("x")]).await;
    }
    assert!(node.flush().await);
    let core = &node.queue.core;
    core.hot.evict(usize::MAX).await;
    core.refill(&core.topic(&first).unwrap()).await.unwrap();
    // Somebody else is reading the second topic's cold part.
    let handle = core.topic(&second).unwrap();
    let reading = handle.refill.lock().await;
    let both = DequeueRequest {
        topics: vec![(first.clone(), 1), (second.clone(), 1)],
        max_total: 2,
        ..request(&first, 1)
    };
    {
        let dequeue = node.queue.dequeue(both);
        tokio::pin!(dequeue);
        assert!(poll!(&mut dequeue).is_pending());
        assert_eq!(node.counts(&first), [0, 0, 1, 0]);
    }
    let_others_run().await;
    drop(reading);
    assert_eq!(node.counts(&first), [1, 0, 0, 0]);
    assert_eq!(node.dequeue(&first, 1).await[0].attempt, 1);
}

#[tokio::test]
async fn a_topic_whose_shard_is_down_keeps_no_other_waiting() {
    let node = Node::start(2, 100).await;
    let (broken, sound) = (named(0, &node), named(1, &node));
    for t in [&broken, &sound] {
        node.enqueue(t, vec![item("x"), item("y")]).await;
    }
    assert!(node.flush().await);
    node.evict().await;
    node.shards[0].state.lock().down = true;
    let both = DequeueRequest {
        topics: vec![(broken.clone(), 5), (sound.clone(), 1)],
        max_total: 6,
        ..request(&broken, 5)
    };
    let delivered = node.queue.dequeue(both).await.unwrap();
    assert_eq!((delivered.len(), &delivered[0].topic), (1, &sound));
    let alone = node.queue.dequeue(request(&broken, 1)).await;
    assert!(matches!(alone, Err(QueueError::ShardUnavailable(_))));
    node.shards[0].state.lock().down = false;
    assert_eq!(node.dequeue(&broken, 5).await.len(), 2);
}

#[tokio::test]
async fn a_retried_dequeue_shows_what_is_still_held() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x"), item("y")]).await;
    let retried = DequeueRequest {
        request_id: Some("r".into()),
        ..request(&t, 2)
    };
    let delivered = node.queue.dequeue(retried.clone()).await.unwrap();
    node.ack(&delivered[0]).await;
    let lease_ms = Some(60_000);
    node.settle(&delivered[1], Verb::Extend { lease_ms }).await;
    let again = node.queue.dequeue(retried).await.unwrap();
    assert_eq!((again.len(), again[0].attempt), (1, 1));
    let lease = again[0].lease.as_ref().unwrap();
    assert_eq!(lease.expires_at, node.clock.now().plus_ms(60_000));
    assert_eq!(node.ack(&again[0]).await, SettleStatus::Ok);
}

#[tokio::test]
async fn an_item_whose_last_lease_ended_while_the_node_was_down_is_dead() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let last = NewItem {
        max_attempts: Some(1),
        ..item("x")
    };
    node.enqueue(&t, vec![last.clone()]).await;
    node.dequeue(&t, 1).await;
    let node = node.crash_for(60_000).await;
    assert!(node.dequeue(&t, 1).await.is_empty());
    assert_eq!(node.counts(&t), [0, 0, 0, 1]);
    // The same for one that is only in the shard.
    node.enqueue(&t, vec![last]).await;
    node.dequeue(&t, 1).await;
    assert!(node.flush().await);
    let node = node.crash_for(60_000).await;
    assert!(node.dequeue(&t, 1).await.is_empty());
    assert_eq!(node.counts(&t), [0, 0, 0, 2]);
}

#[tokio::test]
async fn a_shard_that_outlived_the_log_hears_of_the_new_one() {
    let mut node = Node::start(1, 100).await;
    let t = topic("t");
    for n in 0..20 {
        node.enqueue(&t, vec![item(&format!("old {n}"))]).await;
    }
    assert!(node.flush().await);
    node.disk = SimDisk::new(2);
    node.shards[0].state.lock().log_was_lost = true;
    let node = node.crash().await;
    node.enqueue(&t, vec![item("new")]).await;
    let node = node.crash().await;
    assert_eq!(node.counts(&t), [21, 0, 0, 0]);
}

#[tokio::test]
async fn an_item_that_came_in_while_its_topic_was_deleted_is_there() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x")]).await;
    // A producer that got hold of the topic before.
    let handle = node.queue.core.topic(&t).unwrap();
    let pending = node.queue.delete_topic(&t);
    tokio::pin!(pending);
    let deleting = async {
        loop {
            tokio::select! {
                deleted = &mut pending => return deleted.unwrap(),
                () = let_others_run() => assert!(node.flush().await),
            }
        }
    };
    assert_eq!(deleting.await, 1);
    assert!(node.queue.topic(&t).is_err());
    let mut frame = crate::wal::FrameBuilder::new();
    let id = node.queue.core.ids.next(1).next().unwrap();
    let late = crate::queue::admission::complete(item("late"), id, &handle.settings(), node.clock.now());
    frame.enqueue(&t, [&late].into_iter());
    let (lsn, applying) = node.queue.core.log(frame).await.unwrap();
    let late = crate::model::QueuedItem::accepted(late);
    node.queue.core.admit(&handle, lsn, vec![late]).await;
    drop(applying);
    assert_eq!(node.counts(&t), [1, 0, 0, 0]);
    assert_eq!(node.dequeue(&t, 1).await.len(), 1);
}

#[tokio::test]
async fn any_number_of_overdue_items_is_buried() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let short = NewItem {
        ttl_ms: Some(1_000),
        ..item("x")
    };
    for _ in 0..3 {
        node.enqueue(&t, vec![short.clone(); 1_000]).await;
    }
    let frames = node.queue.wal_status().frames;
    node.advance(1_000).await;
    assert_eq!(node.counts(&t), [0; 4]);
    assert!(node.queue.wal_status().frames >= frames + 3);
}

#[tokio::test]
async fn a_dead_letter_whose_time_to_live_passed_comes_back_for_good() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let settings = SettingsPatch {
        on_expiry: Some(crate::model::ExpiryAction::Dead),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, settings).await.unwrap();
    let short = NewItem {
        ttl_ms: Some(1_000),
        ..item("x")
    };
    let old = node.enqueue(&t, vec![short]).await.remove(0);
    node.advance(5_000).await;
    assert_eq!(node.counts(&t), [0, 0, 0, 1]);
    assert_eq!(node.queue.redrive(&t, Redrive::default()).await.unwrap().count, 1);
    node.advance(999).await;
    let delivered = node.dequeue(&t, 1).await;
    assert!(delivered[0].item.id > old && delivered[0].attempt == 1);
}

#[tokio::test]
async fn a_redrive_passes_no_dead_letter_over_while_memory_is_cleared() {
    let node = Node::start(1, 2_000).await;
    let t = topic("t");
    for _ in 0..3 {
        node.enqueue(&t, vec![item("x"); 1_000]).await;
        for delivered in node.dequeue(&t, 1_000).await {
            node.settle(&delivered, Verb::Reject { error: None }).await;
        }
    }
    assert!(node.flush().await);
    let clearing = async {
        loop {
            node.evict().await;
            node.flush().await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        redriven = node.queue.redrive(&t, Redrive::default()) => assert_eq!(redriven.unwrap().count, 3_000),
        () = clearing => {}
    }
    assert_eq!(node.counts(&t)[3], 0);
}

#[tokio::test]
async fn a_list_goes_on_where_the_shard_shows_what_is_gone() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    node.enqueue(&t, vec![item("x"); 30]).await;
    assert!(node.flush().await);
    // Acked, and still in the shard.
    for delivered in node.dequeue(&t, 20).await {
        node.ack(&delivered).await;
    }
    node.evict().await;
    let (mut seen, mut from) = (0, None);
    loop {
        let page = node.queue.browse(&t, ItemState::Ready, from, 4).await.unwrap();
        seen += page.entries.len();
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, 10);
}

#[tokio::test]
async fn an_at_most_once_item_is_nobody_elses_while_its_delivery_is_logged() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let settings = SettingsPatch {
        delivery: Some(Delivery::AtMostOnce),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, settings).await.unwrap();
    node.enqueue(&t, vec![item("x")]).await;
    let dequeue = node.queue.dequeue(request(&t, 1));
    tokio::pin!(dequeue);
    assert!(
        poll!(&mut dequeue).is_pending(),
        "the disk answers from another thread"
    );
    node.advance(60_000).await;
    assert!(node.dequeue(&t, 1).await.is_empty());
    assert_eq!(dequeue.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_used_twice_in_a_batch_is_asked_for_once() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let keyed = |text| NewItem {
        idempotency_key: Some("k".into()),
        ..item(text)
    };
    let batch = vec![keyed("a"), keyed("a"), keyed("b")];
    let enqueued = node
        .queue
        .enqueue(&t, batch, Durability::Logged, &somebody())
        .await
        .unwrap();
    let [first, second, third] = &enqueued.results[..] else {
        panic!()
    };
    let EnqueueResult::Accepted { id } = *first else {
        panic!()
    };
    assert_eq!(*second, EnqueueResult::Duplicate { id });
    assert!(matches!(third, EnqueueResult::Rejected { .. }));
}

#[tokio::test]
async fn the_newest_are_found_wherever_they_are() {
    let node = Node::start(1, 100).await;
    let t = topic("t");
    let ranked = |text: &str, priority| NewItem {
        priority: Some(priority),
        ..item(text)
    };
    let cold = (1..=40).map(|n| ranked(&format!("cold {n}"), n % 4));
    let mut ids = node.enqueue(&t, cold.collect()).await;
    assert!(node.flush().await);
    node.evict().await;
    ids.extend(node.enqueue(&t, vec![ranked("hot", 9), ranked("hot", 0)]).await);
    // Stored and still in memory: they are there once.
    assert!(node.flush().await);
    ids.reverse();
    let newest = async |state, limit| {
        let views = node.queue.newest(&t, state, limit).await.unwrap();
        views.into_iter().map(|view| view.item.id).collect::<Vec<_>>()
    };
    assert_eq!(newest(ItemState::Ready, 1).await, ids[..1]);
    assert_eq!(newest(ItemState::Ready, 20).await, ids[..20]);
    assert_eq!(newest(ItemState::Ready, 100).await, ids);
    // What was taken from the cold part is passed over, however much of it there is.
    let taken = node.dequeue(&t, 30).await;
    let taken: Vec<_> = taken.iter().map(|delivered| delivered.item.id).collect();
    ids.retain(|id| !taken.contains(id));
    assert_eq!(newest(ItemState::Ready, 5).await, ids[..5]);
}
