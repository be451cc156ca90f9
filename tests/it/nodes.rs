//! Node numbers: one process's at a time, whatever becomes of that process.

use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::list;
use crate::postgres::Postgres;
use crate::server::{Server, Setup, command};
use crate::shards::until;

fn setup(postgres: &Postgres, id: &str, claim: &str) -> Setup {
    Server::setup()
        .set("storage.database_urls", &postgres.urls())
        .set("storage.pool_connections_max", "4")
        .set("node.id", id)
        .set("node.claim", claim)
}

/// A node with the number `id` that is expected to end by itself.
async fn attempt(postgres: &Postgres, id: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--database-urls",
        &postgres.urls(),
    ]);
    command.args(["--set", &format!("node.id={id}")]);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    output.expect("it goes on").unwrap().unwrap()
}

async fn states(server: &Server) -> Vec<(u64, String, bool)> {
    let answer = server.client().get("/v1/nodes").await.ok();
    let state = |node: &Value| {
        let state = node["state"].as_str().unwrap().to_owned();
        (
            node["node"].as_u64().unwrap(),
            state,
            node["this"].as_bool().unwrap(),
        )
    };
    list(&answer["nodes"]).iter().map(state).collect()
}

// Commands block a thread, and the proxy must go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_with_the_same_number_is_told_what_to_change() {
    let postgres = Postgres::shards(1).await;
    let mut first = setup(&postgres, "7", "30s").start().await;
    let refused = attempt(&postgres, "7").await;
    assert_eq!(refused.status.code(), Some(78), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("node.id 7 is held by") && said.contains("MQUEUE_NODE_ID"),
        "{said}"
    );
    let other = setup(&postgres, "8", "30s").start().await;
    let running = |number: u64, this| (number, "running".to_owned(), this);
    assert_eq!(states(&other).await, [running(7, false), running(8, true)]);
    // Whoever has the same data may have the number at once, and so may anybody once it was given back.
    first.kill().await;
    first.start_again().await;
    assert!(first.terminate().await.success());
    assert_eq!(states(&other).await[0], (7, "stopped".to_owned(), false));
    let successor = setup(&postgres, "7", "30s").start().await;
    assert_eq!(states(&successor).await, [running(7, true), running(8, false)]);
    let shown = successor.command(&["nodes"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("running") && shown.contains("silent_ms"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_node_that_was_stopped_for_too_long_does_nothing_more() {
    let postgres = Postgres::shards(1).await;
    let mut zombie = setup(&postgres, "7", "2s").start().await;
    let topic = zombie.client().topic("t");
    topic.enqueue(json!([{"text": "a"}, {"text": "b"}])).await;
    let held = topic.dequeue(1).await;
    zombie.signal(Signal::STOP);
    until(async || {
        let sql =
            "SELECT COUNT(*) FROM nodes WHERE expires_at <= EXTRACT(EPOCH FROM clock_timestamp()) * 1000";
        (postgres.number(0, sql).await == 1).then_some(())
    })
    .await;
    let successor = setup(&postgres, "7", "2s").start().await;
    successor
        .client()
        .topic("t")
        .enqueue(json!([{"text": "c"}]))
        .await;
    zombie.signal(Signal::CONT);
    // It finds out before it answers anything.
    let client = topic.client.clone();
    for (path, body) in [
        (
            "/v1/ack".to_owned(),
            json!({"leases": [crate::client::lease(&held[0])]}),
        ),
        (topic.at("enqueue"), json!({"items": [{"text": "d"}]})),
        (topic.at("dequeue"), json!({})),
    ] {
        let request = client.request(reqwest::Method::POST, &path).json(&body);
        if let Ok(reply) = client.try_send(request).await {
            reply.problem(503, "shutting_down");
        }
    }
    assert_eq!(zombie.ended().await.code(), Some(78));
    let said = zombie.log().text();
    assert!(said.contains("node.id 7 is held by"), "{said}");
    assert_eq!(states(&successor).await, [(7, "running".to_owned(), true)]);
}
