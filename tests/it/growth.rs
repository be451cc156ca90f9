//! A database is added to a running cluster, and slots move to it while everything goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use mqueue::model::TopicKey;
use serde_json::{Value, json};

use crate::client::{Client, list};
use crate::crash::Load;
use crate::postgres::Postgres;
use crate::server::Server;
use crate::shards::until;

/// The first of the last slots, which move first.
const LAST: u16 = 3_584;

/// How many slots each shard holds, and how many are on their way.
async fn slots(client: &Client) -> (Vec<u64>, usize) {
    let answer = client.get("/v1/shards").await.ok();
    let held = |shard: &Value| shard["slots"].as_u64().unwrap();
    let held = list(&answer["shards"]).iter().map(held).collect();
    (held, list(&answer["moves"]).len())
}

/// Waits until no slots are on their way.
pub(crate) async fn moved(client: &Client) {
    until(async || {
        let request = client.request(reqwest::Method::GET, "/v1/shards");
        let reply = client
            .try_send(request)
            .await
            .ok()
            .filter(|reply| reply.status == 200)?;
        list(&reply.json()["moves"]).is_empty().then_some(())
    })
    .await;
}

/// A node over the first of `postgres` alone, that was stopped with a backlog in it and started with all of them.
async fn grown(postgres: &Postgres) -> (Server, BTreeMap<String, Vec<String>>) {
    let mut server = Server::setup()
        .set("storage.database_urls", &postgres.url(0))
        .set("storage.pool_connections_max", "4")
        .set("hot.buffer_ttl", "100ms")
        .start()
        .await;
    let client = server.client();
    let mut backlog = BTreeMap::new();
    let names = || (0..).map(|n| format!("backlog-{n}"));
    let in_last = |name: &String| TopicKey::parse("default", name).unwrap().slot().0 >= LAST;
    for name in names().take(15).chain(names().skip(15).filter(in_last).take(5)) {
        let texts: Vec<String> = (0..20).map(|i| format!("{name} {i:02}")).collect();
        let items: Vec<_> = texts.iter().map(|text| json!({ "text": text })).collect();
        let body = json!({"items": items, "durability": "stored"});
        let answer = client.post(&client.topic(&name).at("enqueue"), body).await.ok();
        assert_eq!(answer["durability"], "stored");
        backlog.insert(name, texts);
    }
    assert!(server.terminate().await.success());
    server.set("storage.database_urls", &postgres.urls());
    server.start_again().await;
    assert_eq!(slots(&server.client()).await, (vec![4_096, 0], 0));
    (server, backlog)
}

/// The backlog is there, in order, and the last slots are in the second shard and nowhere else.
async fn check(postgres: &Postgres, client: &Client, backlog: &BTreeMap<String, Vec<String>>) {
    for (name, texts) in backlog {
        assert_eq!(client.topic(name).take(100).await, *texts, "{name}");
    }
    for (shard, elsewhere) in [(0, ">="), (1, "<")] {
        let sql = format!("SELECT COUNT(*) FROM items WHERE slot {elsewhere} {LAST}");
        assert_eq!(postgres.number(shard, &sql).await, 0, "shard {shard}");
    }
    let sql = "SELECT COUNT(*) FROM items WHERE topic LIKE 'backlog-%'";
    assert!(postgres.number(1, sql).await > 0, "no topic moved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_load_and_nothing_is_lost() {
    let seed = rand::random::<u32>().into();
    let postgres = Postgres::shards(2).await;
    let (mut server, backlog) = grown(&postgres).await;
    let load = Load::start(&server, seed).await;
    let command = |line: &[&str]| {
        let done = server.command(line).output().unwrap();
        assert!(done.status.success(), "{line:?}: {done:?}");
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let plan = command(&["shards", "balance", "--dry-run", "--output", "json"]);
    assert_eq!(plan["moves"], json!([{"from": 0, "to": 1, "slots": 2_048}]));
    let some = [
        "shards", "move", "--from", "0", "--to", "1", "--slots", "512", "--output", "json",
    ];
    assert_eq!(
        command(&some)["moves"],
        json!([{"from": 0, "to": 1, "slots": 512}])
    );
    // Twice in the middle of it the node goes down hard; whoever is back goes on.
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        load.crash(&mut server).await;
    }
    let client = server.client();
    moved(&client).await;
    assert_eq!(slots(&client).await, (vec![3_584, 512], 0));
    load.finish(&server).await;
    check(&postgres, &client, &backlog).await;
    let shown = server.command(&["shards"]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("3584"),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_is_waited_for_until_it_is_forgotten() {
    let postgres = Postgres::shards(2).await;
    let (server, backlog) = grown(&postgres).await;
    let mut other = Server::setup()
        .set("storage.database_urls", &postgres.urls())
        .set("storage.pool_connections_max", "4")
        .set("node.id", "2")
        .set("node.claim", "5s")
        .start()
        .await;
    let client = server.client();
    other.client().topic("else").enqueue(json!([{"text": "a"}])).await;
    other.kill().await;
    until(async || {
        let nodes = client.get("/v1/nodes").await.ok();
        (nodes["nodes"][1]["state"] == "missing").then_some(())
    })
    .await;
    let plan = json!({"from": 0, "to": 1, "slots": 4_096 - LAST});
    client.post("/v1/shards/moves", plan).await.ok();
    until(async || {
        let shards = client.get("/v1/shards").await.ok();
        let waits = shards["waits_for"].as_str()?.to_owned();
        waits.contains("node 2 is away").then_some(())
    })
    .await;
    // It comes back: with both running, the slots move.
    other.start_again().await;
    moved(&client).await;
    assert_eq!(slots(&client).await, (vec![3_584, 512], 0));
    assert_eq!(slots(&other.client()).await.0, [3_584, 512]);
    assert_eq!(other.client().topic("else").take(1).await, ["a"]);
    check(&postgres, &client, &backlog).await;
    // Only who is away is forgotten.
    client.delete("/v1/nodes/2").await.problem(409, "conflict");
    other.kill().await;
    until(async || (client.delete("/v1/nodes/2").await.status == 200).then_some(())).await;
    assert_eq!(list(&client.get("/v1/nodes").await.ok()["nodes"]).len(), 1);
    // What was done to the whole of it is in the log of changes.
    let log = client.get("/v1/audit?since=2000-01-01T00:00:00Z").await.ok();
    let acts: Vec<_> = list(&log["entries"])
        .iter()
        .map(|entry| {
            (
                entry["action"].as_str().unwrap(),
                entry["target"].as_str().unwrap(),
            )
        })
        .filter(|(action, _)| ["slots.move", "node.forget"].contains(action))
        .collect();
    assert_eq!(acts, [("slots.move", "shards"), ("node.forget", "node 2")]);
}
