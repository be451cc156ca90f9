//! Slots move from shard to shard: whatever is in them, and whenever the node ends meanwhile.

use std::collections::BTreeMap;

use super::node::{Node, item, topic};
use crate::model::{ItemState, TopicKey};
use crate::queue::{MoveRequest, NewItem, QueueError, Verb};

const SLOTS: u32 = 64;

/// Topics in the slots that are moved first, and one beside them.
fn topics() -> (Vec<TopicKey>, TopicKey) {
    let names = || (0..).map(|n| topic(&format!("t{n}")));
    let moved = 2_048 - SLOTS as u16..2_048;
    let in_moved = names().filter(|key| moved.contains(&key.slot().0));
    let beside = names().find(|key| key.slot().0 < moved.start);
    (in_moved.take(4).collect(), beside.unwrap())
}

/// Fills a topic with items in every state; returns what is left to be delivered, in order.
async fn fill(node: &Node, topic: &TopicKey) -> Vec<String> {
    let numbered = |from: usize, to: usize| (from..to).map(|n| item(&format!("{n}"))).collect::<Vec<_>>();
    node.enqueue(topic, numbered(0, 6)).await;
    let keyed = NewItem {
        idempotency_key: Some("k".into()),
        ..item("6")
    };
    node.enqueue(topic, vec![keyed]).await;
    assert!(node.flush().await);
    // Stored and then acked, dead, or given back; and some that no shard has seen.
    for (text, verb) in [
        ("0", Verb::Ack),
        ("1", Verb::Reject { error: None }),
        ("2", Verb::Release { delay_ms: None }),
    ] {
        let taken = node.dequeue(topic, 1).await.remove(0);
        assert_eq!(&*taken.item.payload, text.as_bytes());
        node.settle(&taken, verb).await;
    }
    node.enqueue(topic, numbered(7, 10)).await;
    (2..10).map(|n| n.to_string()).collect()
}

async fn check(node: &Node, left: &BTreeMap<TopicKey, Vec<String>>) {
    for (topic, left) in left {
        let dead = node.queue.browse(topic, ItemState::Dead, None, 10).await.unwrap();
        assert_eq!(dead.entries.len(), 1, "{topic}");
        let again = NewItem {
            idempotency_key: Some("k".into()),
            ..item("6")
        };
        assert!(
            node.is_duplicate(topic, again).await,
            "{topic} has forgotten a key"
        );
        let taken = node.dequeue(topic, 100).await;
        let texts: Vec<_> = taken
            .iter()
            .map(|taken| String::from_utf8(taken.item.payload.to_vec()).unwrap())
            .collect();
        assert_eq!(texts, *left, "{topic}");
    }
}

/// Plans to move the slots, and goes so many steps.
async fn begin(node: &Node, steps: usize) {
    let request = MoveRequest::Some {
        from: 0,
        to: 1,
        slots: SLOTS,
    };
    node.queue.move_slots(request, false).await.unwrap();
    for _ in 0..steps {
        node.queue.core.move_on().await.unwrap();
    }
}

/// Goes on until nothing is on its way; returns how many steps it took.
async fn finish(node: &Node) -> usize {
    let mut steps = 0;
    loop {
        node.queue.core.move_on().await.unwrap();
        if node.queue.core.moves_pending() == 0 {
            return steps;
        }
        steps += 1;
        assert!(steps < 100, "it goes on for ever: {:?}", node.queue.moves().await);
    }
}

#[tokio::test]
async fn a_crash_at_any_step_loses_nothing_and_the_move_goes_on() {
    let (moved, beside) = topics();
    let mut crash_after = 0;
    loop {
        let mut node = Node::start(2, 100).await;
        let mut left = BTreeMap::new();
        for topic in moved.iter().chain([&beside]) {
            left.insert(topic.clone(), fill(&node, topic).await);
        }
        begin(&node, crash_after).await;
        let before = node.queue.core.moves_pending();
        // What goes on meanwhile is in the log, and nowhere else yet.
        for (topic, left) in &mut left {
            node.enqueue(topic, vec![item("late")]).await;
            left.push("late".into());
            let taken = node.dequeue(topic, 1).await;
            node.settle(&taken[0], Verb::Ack).await;
            left.remove(0);
        }
        node = node.crash().await;
        finish(&node).await;
        assert_eq!(node.queue.shard_of(&moved[0]).shard, 1);
        assert_eq!(node.queue.shard_of(&beside).shard, 0);
        assert!(node.flush().await);
        for topic in &moved {
            let rows = |shard: usize| {
                let state = node.shards[shard].state.lock();
                state.rows.values().filter(|(key, _)| key == topic).count()
            };
            assert_eq!(
                (rows(0), rows(1)),
                (0, left[topic].len() + 1),
                "after {crash_after} steps"
            );
        }
        // And by the log and the shards alone.
        let node = node.crash().await;
        check(&node, &left).await;
        if before == 0 {
            return;
        }
        crash_after += 1;
    }
}

#[tokio::test]
async fn storing_waits_while_slots_are_copied_and_nothing_else_does() {
    let (moved, _) = topics();
    let node = Node::start(2, 100).await;
    begin(&node, 1).await;
    let flush = node.queue.core.flush[0].storing();
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(50), flush)
            .await
            .is_err()
    );
    node.enqueue(&moved[0], vec![item("x")]).await;
    assert_eq!(node.dequeue(&moved[0], 1).await.len(), 1);
    finish(&node).await;
    drop(node.queue.core.flush[0].storing().await);
}

#[tokio::test]
async fn moves_that_make_no_sense_are_refused() {
    let node = Node::start(2, 100).await;
    let some = |from, to, slots| MoveRequest::Some { from, to, slots };
    for (request, field) in [
        (some(0, 2, 1), "to"),
        (some(7, 1, 1), "from"),
        (some(0, 0, 1), "to"),
        (some(0, 1, 0), "slots"),
        (some(0, 1, 2_049), "slots"),
    ] {
        match node.queue.move_slots(request, true).await {
            Err(QueueError::Invalid { field: named, .. }) => assert_eq!(named, field, "{request:?}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    assert_eq!(
        node.queue.move_slots(MoveRequest::Balance, false).await.unwrap(),
        []
    );
    begin(&node, 0).await;
    let again = node.queue.move_slots(some(1, 0, 5), false).await;
    assert!(matches!(again, Err(QueueError::Conflict(_))), "{again:?}");
}
