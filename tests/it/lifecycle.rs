//! Limits, settings and the node's own coming and going.

use mqueue::model::{Namespace, NamespaceSettings, SettingsPatch};
use mqueue::queue::{Durability, Expectation, QueueError};

use crate::node::{Node, item, request, somebody, topic};

#[tokio::test]
async fn settings_come_from_topic_then_namespace_then_configuration() {
    let node = Node::start_with(&[("topics.max_attempts", "4"), ("topics.priority", "50")]).await;
    let t = topic("settings");
    let namespace: Namespace = "default".parse().unwrap();
    let settings = NamespaceSettings {
        topics: SettingsPatch {
            priority: Some(60),
            lease_ms: Some(5_000),
            ..SettingsPatch::default()
        },
        ..NamespaceSettings::default()
    };
    let put = node
        .queue
        .put_namespace(&namespace, settings, Expectation::Whatever);
    put.await.unwrap();
    let patch = SettingsPatch {
        priority: Some(70),
        ..SettingsPatch::default()
    };
    node.queue.put_topic(&t, patch).await.unwrap();
    let node = node.crash().await;
    node.enqueue(&t, vec![item("x")]).await;
    let delivered = node.dequeue(&t, 1).await.remove(0);
    let item = &delivered.item;
    assert_eq!((item.priority, item.lease_ms, item.max_attempts), (70, 5_000, 4));
}

#[tokio::test]
async fn a_namespace_has_only_so_many_topics() {
    let node = Node::start_with(&[("topics.per_namespace_max", "2")]).await;
    for name in ["a", "b"] {
        node.enqueue(&topic(name), vec![item("x")]).await;
    }
    let third = node
        .queue
        .enqueue(&topic("c"), vec![item("x")], Durability::Logged, &somebody())
        .await;
    assert!(matches!(third, Err(QueueError::TooManyTopics(2))));
    node.enqueue(&topic("a"), vec![item("x")]).await;
}

#[tokio::test]
async fn a_stopping_node_answers_its_waiting_consumers() {
    let node = Node::start().await;
    let t = topic("stopping");
    node.enqueue(&t, vec![item("x")]).await;
    node.dequeue(&t, 1).await;
    let (queue, mut wait) = (node.queue.clone(), request(&t, 1));
    wait.wait_ms = 20_000;
    let waiting = tokio::spawn(async move { queue.dequeue(wait).await });
    tokio::task::yield_now().await;
    node.queue.begin_shutdown();
    assert!(waiting.await.unwrap().is_ok_and(|items| items.is_empty()));
    let refused = node
        .queue
        .enqueue(&t, vec![item("y")], Durability::Logged, &somebody())
        .await;
    assert!(matches!(refused, Err(QueueError::ShuttingDown)));
}

#[tokio::test]
async fn a_second_node_on_the_same_log_is_refused() {
    let node = Node::start().await;
    let error = node.open_twin().await.err().unwrap();
    assert_eq!(error.exit_code(), 78, "{error}");
}
