//! Two nodes over one PostgreSQL: what is changed on one is in force on the other.

use mqueue::tenant::Scope;
use serde_json::json;

use crate::client::{Client, list};
use crate::postgres::Postgres;
use crate::server::{Server, token};
use crate::shards::until;

async fn pair(postgres: &Postgres) -> (Server, Server) {
    let node = async |id: &str| {
        Server::setup()
            .set("storage.database_urls", &postgres.urls())
            .set("storage.pool_connections_max", "4")
            .set("node.id", id)
            .start()
            .await
    };
    (node("1").await, node("2").await)
}

/// Waits until `path` shows `value` in `field`.
async fn shows(client: &Client, path: &str, field: &str, value: serde_json::Value) {
    until(async || {
        let reply = client.get(path).await;
        let is = reply.status == 200 && reply.json().pointer(field) == Some(&value);
        is.then_some(())
    })
    .await;
}

#[tokio::test]
async fn changes_of_topics_reach_the_other_node() {
    let postgres = Postgres::shards(1).await;
    let (one, two) = pair(&postgres).await;
    let (here, there) = (one.client(), two.client());
    let topic = here.topic("t");
    topic.enqueue(json!([{"text": "a"}])).await;
    shows(&there, &topic.path, "/paused", json!(false)).await;
    // Two nodes change two parts of one row.
    here.put(&topic.path, json!({"priority": 7})).await.ok();
    shows(&there, &topic.path, "/effective/priority", json!(7)).await;
    there.post(&topic.at("pause"), json!({})).await.ok();
    shows(&here, &topic.path, "/paused", json!(true)).await;
    shows(&here, &topic.path, "/effective/priority", json!(7)).await;
    assert_eq!(topic.take(1).await, Vec::<String>::new());
    there.post(&topic.at("resume"), json!({})).await.ok();
    shows(&here, &topic.path, "/paused", json!(false)).await;
    assert_eq!(topic.take(1).await, ["a"]);
    // A namespace's settings are under its topics' own.
    here.put("/v1/namespaces/default", json!({"max_attempts": 3}))
        .await
        .ok();
    shows(&there, &topic.path, "/effective/max_attempts", json!(3)).await;
    here.delete(&format!("{}?confirm=t", topic.path)).await.ok();
    until(async || (there.get(&topic.path).await.status == 404).then_some(())).await;
    // A namespace that is gone is gone everywhere, also where it was deleted.
    here.delete("/v1/namespaces/default?confirm=default").await;
    there
        .put("/v1/namespaces/other", json!({"priority": 1}))
        .await
        .ok();
    for node in [&here, &there] {
        until(async || {
            let told = node.get("/v1/namespaces").await.ok();
            let names: Vec<_> = list(&told["namespaces"])
                .iter()
                .map(|one| one["namespace"].clone())
                .collect();
            (names == ["other"]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn of_two_changes_of_the_same_settings_on_two_nodes_one_is_refused() {
    let postgres = Postgres::shards(1).await;
    let (one, two) = pair(&postgres).await;
    let (here, there) = (one.client(), two.client());
    let path = "/v1/namespaces/default/topics/t";
    for resource in [path, "/v1/namespaces/default"] {
        here.put(resource, json!({"priority": 0})).await.ok();
        until(async || (there.get(resource).await.status == 200).then_some(())).await;
        // As soon as a node has made the change, no other makes one to what was before, seen or not.
        for round in 1..=10 {
            let seen = here.get(resource).await.header("etag").to_owned();
            let change = async |client: &Client, priority: i32| {
                let body = json!({"priority": priority});
                client.put_if(resource, ("if-match", &seen), body).await.status
            };
            let both = tokio::join!(change(&here, 10 * round), change(&there, 10 * round + 1));
            assert!([(200, 412), (412, 200)].contains(&both), "{both:?} of {resource}");
            assert_eq!(change(&there, 5).await, 412);
            let winner = json!(10 * round + i32::from(both.1 == 200));
            until(async || {
                (here
                    .get(resource)
                    .await
                    .text
                    .contains(&format!("\"priority\":{winner}")))
                .then_some(())
            })
            .await;
        }
    }
}

// Commands block a thread, and the proxy must go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_reach_the_other_node() {
    let postgres = Postgres::shards(1).await;
    let (one, two) = pair(&postgres).await;
    let module = "plugins/examples/size";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    for line in [
        vec!["hooks", "push", &format!("{root}{module}")],
        vec!["hooks", "bind", "size", "--topic", "*"],
    ] {
        let done = one.command(&line).output().unwrap();
        assert!(done.status.success(), "{line:?}: {done:?}");
    }
    let there = two.client_with(Some(token(Some(&["default"]), &Scope::ALL)));
    shows(
        &there,
        "/v1/namespaces/default/bindings",
        "/bindings/0/ready",
        json!(true),
    )
    .await;
    let huge = json!({"items": [{"text": "x".repeat(200_000)}]});
    // Its module is compiled here, and so it is in force.
    let answer = there.post("/v1/namespaces/default/topics/t/enqueue", huge).await;
    answer.problem(422, "hook_rejected");
}
