//! Changes of what is in force, amid calls and where a node does not hear of them, against real servers.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::text;
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::postgres::Postgres;
use crate::proxy::{Link, Proxy};
use crate::server::Server;
use crate::shards::until;

/// Makes every payload this letter.
fn saying(side: Side, letter: &str) -> String {
    let fields = format!(r#"(data (i32.const 64) "{letter}")"#);
    side.wat(&Guest {
        fields: &fields,
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
            (i32.store offset=16 (local.get $verdict) (i32.const 64))
            (i32.store offset=20 (local.get $verdict) (i32.const 1))",
        ..Guest::default()
    })
}

/// Everything in a topic; each item must be what one version makes of it, and that version's.
async fn versions(hooks: &Hooks, topic: &str) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let items = hooks.dequeue(topic).await;
        if items.is_empty() {
            return all;
        }
        for item in &items {
            assert_eq!(item["hook_version"], format!("h@{}", text(item)), "{item}");
            all.push(text(item));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_a_rollback_amid_a_trial_and_a_delete_amid_calls_lose_nothing() {
    let server = Server::start().await;
    let hooks = Hooks::of(&server.client(), "default");
    for letter in ["1", "2"] {
        hooks.push("h", saying(Side::Enqueue, letter)).await;
    }
    let trial = json!({"canary": {"version": 2, "percent": 50}});
    hooks.bind("h", 1, Side::Enqueue, trial).await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn({
        let hooks = hooks.clone();
        async move {
            let batch: Vec<Value> = (0..20).map(|_| json!({"text": "x"})).collect();
            let mut sent = 0;
            while stopped.try_recv().is_err() {
                hooks.enqueue("amid", json!(batch)).await.ok();
                sent += batch.len();
            }
            sent
        }
    });
    let second = hooks.at("hooks/h/versions/2");
    until(async || {
        let stats = hooks.client.get(&hooks.at("hooks/h/stats")).await.ok();
        let on_trial = stats["versions"]
            .as_array()?
            .iter()
            .find(|stats| stats["version"] == 2)?;
        (on_trial["items"].as_u64()? > 50).then_some(())
    })
    .await;
    hooks.client.delete(&second).await.problem(409, "version_in_use");
    let path = hooks.at("bindings/h/rollback");
    let request = hooks.client.request(Method::POST, &path).header("if-match", "*");
    hooks.client.send(request).await.ok();
    // Whatever runs still runs to its end; nothing new does.
    hooks.client.delete(&second).await.ok();
    hooks.enqueue("after", json!([{"text": "x"}])).await.ok();
    stop.send(()).unwrap();
    let sent = load.await.unwrap();
    let seen = versions(&hooks, "amid").await;
    assert_eq!(seen.len(), sent);
    assert!(seen.iter().any(|version| version == "1") && seen.iter().any(|version| version == "2"));
    assert_eq!(versions(&hooks, "after").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d6_a_node_that_does_not_hear_of_a_change_goes_on_and_catches_up() {
    let mut postgres = Postgres::bare(1);
    let direct = postgres.urls();
    let server = direct.split(['@', '/']).nth(3).unwrap().to_owned();
    postgres.proxies.push(Proxy::start(&server).await);
    let node = async |id: &str, urls: &str| {
        Server::setup()
            .set("storage.database_urls", urls)
            .set("storage.pool_connections_max", "4")
            .set("node.id", id)
            .start()
            .await
    };
    let (one, two) = (node("1", &direct).await, node("2", &postgres.urls()).await);
    let (here, there) = (
        Hooks::of(&one.client(), "default"),
        Hooks::of(&two.client(), "default"),
    );
    for letter in ["1", "2"] {
        here.push("h", saying(Side::Dequeue, letter)).await;
    }
    here.bind("h", 1, Side::Dequeue, json!({})).await;
    let is_in_force = async |version: u64| {
        let path = there.at("bindings/h");
        until(async || {
            let reply = there.client.get(&path).await;
            let is =
                reply.status == 200 && reply.json()["version"] == version && reply.json()["ready"] == true;
            is.then_some(())
        })
        .await;
    };
    is_in_force(1).await;
    let four: Vec<Value> = (0..4).map(|_| json!({"text": "x"})).collect();
    there.enqueue("t", json!(four)).await.ok();
    let topic = there.client.topic("t");
    postgres.proxies[0].set(Link::Cut);
    here.bind("h", 2, Side::Dequeue, json!({})).await;
    let shown = |items: Vec<Value>| items.iter().map(text).collect::<Vec<_>>();
    assert_eq!(shown(topic.dequeue(2).await), ["1", "1"]);
    postgres.proxies[0].set(Link::Up);
    is_in_force(2).await;
    assert_eq!(shown(topic.dequeue(2).await), ["2", "2"]);
}
