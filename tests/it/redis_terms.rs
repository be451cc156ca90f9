//! What a Redis has to be, and how much it is asked for at once.

use std::time::Duration;

use crate::node::{Node, item, prioritised, request, somebody, topic};
use crate::redis::RedisServer;
use crate::shared::node_on;

use mqueue::model::{ItemState, TopicKey};
use mqueue::queue::{Delivered, Durability, LeaseAction, QueueError, SettleStatus, Verb};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node says that does not start with these settings.
fn refusal(set: &[String]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::server::command(dir.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    for setting in set {
        command.args(["--set", setting]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_redis_that_throws_items_away_is_refused() {
    let redis = RedisServer::start_with(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let said = refusal(&[format!("redis.addrs={}", redis.addr())]);
    assert!(said.contains("maxmemory-policy to noeviction"), "{said}");
}

#[tokio::test]
async fn a_redis_that_is_full_refuses_items_and_hands_out_what_it_has() {
    let redis = RedisServer::start_with(&["--maxmemory", "64mb"]).await;
    let node = node_on(&redis, &[]).await;
    let t = topic("full");
    let large = "x".repeat(250_000);
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < 500, "it is never full");
        let items = vec![item(&large)];
        match node
            .queue
            .enqueue(&t, items, Durability::Logged, &somebody())
            .await
        {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, QueueError::Overloaded), "{refused}");
    for _ in 0..accepted {
        let delivered = next(&node, &t).await;
        node.ack(&delivered).await;
    }
}

#[tokio::test]
async fn no_reply_is_as_large_as_what_a_topic_holds() {
    // A client that is sent more at once is cut off.
    let most = "24mb";
    let redis = RedisServer::start_with(&["--client-output-buffer-limit", "normal", most, "0", "0"]).await;
    let node = node_on(&redis, &[]).await;
    let t = topic("large");
    let large = "x".repeat(250_000);
    let some = || vec![item(&large); 3];
    for _ in 0..83 {
        node.enqueue(&t, some()).await;
    }
    node.enqueue_stored(&t, some()).await;
    let mut listed = (Vec::new(), None);
    loop {
        let page = node
            .queue
            .browse(&t, ItemState::Ready, listed.1, 1_000)
            .await
            .unwrap();
        listed.0.extend(page.entries.iter().map(|view| view.item.id));
        listed.1 = page.next;
        if page.next.is_none() {
            break;
        }
    }
    let newest = node.queue.newest(&t, ItemState::Ready, 1_000).await.unwrap();
    assert!((30..40).contains(&newest.len()), "{}", newest.len());
    let mut leased = Vec::new();
    loop {
        let some = node.dequeue(&t, 1_000).await;
        if some.is_empty() {
            break;
        }
        // As many as fill an answer.
        assert!(
            (30..40).contains(&some.len()) || leased.len() + some.len() == 252,
            "{}",
            some.len()
        );
        leased.extend(some);
    }
    let ids: Vec<_> = leased.iter().map(|delivered| delivered.item.id).collect();
    assert_eq!((ids.len(), &ids), (252, &listed.0));
    let ack = |delivered: &Delivered| LeaseAction {
        lease: node
            .queue
            .open_lease(&delivered.lease.as_ref().unwrap().id)
            .unwrap(),
        verb: Verb::Ack,
    };
    let settled = node.queue.settle(leased.iter().map(ack).collect()).await.unwrap();
    assert!(settled.iter().all(|result| result.status == SettleStatus::Ok));
}

/// The next item, as soon as there is one.
async fn next(node: &Node, t: &TopicKey) -> Delivered {
    let look = async {
        loop {
            if let Ok(mut items) = node.queue.dequeue(request(t, 1)).await
                && let Some(delivered) = items.pop()
            {
                return delivered;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn topics_are_spread_over_several_servers() {
    let servers = [RedisServer::start().await, RedisServer::start().await];
    let addrs = servers.each_ref().map(RedisServer::addr).join(",");
    let node = Node::start_with(&[("redis.addrs", &addrs)]).await;
    for n in 0..20 {
        let t = topic(&format!("spread-{n}"));
        node.enqueue(&t, vec![item("x"), prioritised("y", 1)]).await;
        assert_eq!(node.take(&t, 9).await, ["y", "x"]);
    }
    for server in &servers {
        let redis::Value::Int(keys) = server.command(&["DBSIZE"]).await else {
            panic!("no number")
        };
        assert!(keys > 10, "{keys} keys");
    }
}

#[tokio::test]
async fn a_user_with_a_password_and_few_rights_is_enough() {
    let redis = RedisServer::start().await;
    let let_in = async |rights: &str| {
        let words = ["ACL", "SETUSER", "queue", "reset", "on", ">hunter2"];
        let words: Vec<_> = words.into_iter().chain(rights.split(' ')).collect();
        redis.command(&words).await;
    };
    let rights = "+@read +@write +@scripting +@connection +@pubsub +info ~only:* ~only{* &only:*";
    let_in(rights).await;
    let set = [
        ("redis.addrs", redis.addr()),
        ("redis.username", "queue".into()),
        ("redis.password", "hunter2".into()),
        ("redis.prefix", "only".into()),
    ];
    let said = refusal(&set.each_ref().map(|(key, value)| format!("{key}={value}")));
    assert!(said.contains("grant it +time"), "{said}");
    let_in(&format!("{rights} +time")).await;
    redis.command(&["ACL", "SETUSER", "default", "off"]).await;
    let set: Vec<_> = set.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let node = Node::start_with(&set).await;
    let t = topic("rights");
    node.enqueue(&t, vec![item("x")]).await;
    let delivered = node.dequeue(&t, 1).await.remove(0);
    assert_eq!(node.ack(&delivered).await, SettleStatus::Ok);
}
