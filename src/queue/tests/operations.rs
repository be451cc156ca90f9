//! Operations that do not come to their end where they began: another node takes them over, or the shard goes away.

use std::collections::BTreeSet;

use super::node::{Node, item, topic};
use super::script::text;
use crate::model::{Author, ItemFilter, ItemState, NodeId, OperationState, Progress, TopicKey, Work};
use crate::queue::{OperationRow, Verb};
use crate::shard::{Ending, Told};

/// Fills `topic` with `count` dead letters that only the shard has.
async fn bury(node: &Node, topic: &TopicKey, count: usize) {
    let items = (0..count).map(|n| item(&n.to_string())).collect();
    node.enqueue(topic, items).await;
    let reject = Verb::Reject { error: None };
    let actions = node.dequeue(topic, count).await;
    let actions = actions.iter().map(|taken| node.action(taken, reject.clone()));
    node.queue.settle(actions.collect()).await.unwrap();
    assert!(node.flush().await);
    node.evict().await;
    assert_eq!(node.counts(topic), [0, 0, 0, count as u64]);
}

async fn order(node: &Node, topic: &TopicKey, work: Work, dry_run: bool) -> u64 {
    let row = node
        .queue
        .order(topic.namespace(), work, dry_run, &Author::server())
        .await;
    row.unwrap().id
}

/// Lets the node look for work until the operation has ended.
async fn ended(node: &Node, topic: &TopicKey, id: u64) -> OperationRow {
    for _ in 0..60 {
        node.queue.core.clone().operate_tick().await;
        let row = node.queue.operation(topic.namespace(), id).await.unwrap();
        if row.state.is_end() {
            return row;
        }
    }
    panic!("it does not end");
}

#[tokio::test]
async fn a_dry_run_that_another_node_takes_over_counts_everything_once() {
    let node = Node::start(1, 1_000).await;
    let t = topic("t");
    bury(&node, &t, 30).await;
    let work = Work::Cancel {
        topic: t.topic().clone(),
        states: vec![ItemState::Dead],
        filter: ItemFilter::default(),
        limit: None,
        rate_per_s: None,
    };
    let id = order(&node, &t, work, true).await;
    let (catalog, other) = (&node.queue.core.catalog, NodeId::new(2).unwrap());
    let alive_until = node.clock.now().plus_ms(30_000);
    let claim = catalog
        .claim_operation(other, node.clock.now(), alive_until)
        .await;
    let claimed = claim.unwrap().unwrap();
    let held_by = (claimed.row.id, claimed.fence);
    let progress = Progress {
        total: 30,
        looked: 20,
        done: 0,
    };
    let told = catalog.report_operation(held_by, progress, alive_until).await;
    assert_eq!(told.unwrap(), Told::GoOn);
    // Whoever says that he is at it is left at it.
    node.queue.core.clone().operate_tick().await;
    let row = node.queue.operation(t.namespace(), id).await.unwrap();
    assert_eq!((row.state, row.progress), (OperationState::Running, progress));

    node.clock.advance(30_001);
    let row = ended(&node, &t, id).await;
    assert_eq!(row.state, OperationState::Succeeded, "{row:?}");
    let whole = Progress {
        total: 30,
        looked: 30,
        done: 0,
    };
    let outcome = row.outcome.unwrap();
    assert_eq!(
        (row.progress, outcome.count, outcome.examples.len()),
        (whole, 30, 10)
    );
    assert_eq!(node.counts(&t), [0, 0, 0, 30]);
    // The first one has no say any more.
    let told = catalog.report_operation(held_by, progress, alive_until).await;
    assert_eq!(told.unwrap(), Told::Lost);
    let ending = Ending {
        state: OperationState::Failed,
        progress,
        error: None,
        outcome: None,
    };
    let has_ended = catalog.end_operation(held_by, &ending, node.clock.now()).await;
    assert!(!has_ended.unwrap());
}

#[tokio::test]
async fn a_redrive_whose_shard_goes_away_says_how_far_it_came_and_can_be_ordered_again() {
    let node = Node::start(1, 1_000).await;
    let t = topic("t");
    bury(&node, &t, 300).await;
    let redrive = |rate_per_s| Work::Redrive {
        topic: t.topic().clone(),
        filter: ItemFilter::default(),
        to_topic: None,
        limit: None,
        rate_per_s,
        hook: None,
    };
    let id = order(&node, &t, redrive(Some(100)), false).await;
    node.queue.core.clone().operate_tick().await;
    // It rests for a second after each hundred.
    while node.counts(&t)[0] == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    node.shard(&t).state.lock().down = true;
    let failed = ended(&node, &t, id).await;
    assert_eq!(failed.state, OperationState::Failed, "{failed:?}");
    assert!(failed.error.unwrap().contains("shard is unavailable"));
    let done = failed.progress.done;
    assert!((100..300).contains(&done), "{done}");
    assert_eq!(node.counts(&t), [done, 0, 0, 300 - done]);

    node.shard(&t).state.lock().down = false;
    let id = order(&node, &t, redrive(None), false).await;
    let row = ended(&node, &t, id).await;
    assert_eq!(
        (row.state, row.progress.done),
        (OperationState::Succeeded, 300 - done)
    );
    let mut seen = BTreeSet::new();
    for delivered in node.dequeue(&t, 1_000).await {
        assert!(seen.insert(text(&delivered.item)), "it came back twice");
    }
    assert_eq!(seen.len(), 300);
}
