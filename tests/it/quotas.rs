//! Quotas over HTTP: rate, stored bytes, leases and hook time, from the configuration and set while it runs.

use mqueue::tenant::Scope;
use serde_json::{Value, json};

use crate::client::{Client, Topic, lease, list};
use crate::guests::Guest;
use crate::hook_client::{Hooks, Side};
use crate::hook_verdicts::{TEXTS, reason};
use crate::server::{Server, token};

/// Ten items of 1,000 bytes each, which count 1,256.
fn ten() -> Value {
    json!(vec![json!({"text": "x".repeat(1_000)}); 10])
}

async fn statuses(topic: &Topic, items: Value) -> Vec<String> {
    let answer = topic
        .client
        .post(&topic.at("enqueue"), json!({ "items": items }))
        .await;
    let answer = answer.json();
    let status = |result: &Value| result["status"].as_str().unwrap().to_owned();
    list(&answer["results"]).iter().map(status).collect()
}

fn accepted(statuses: &[String]) -> usize {
    statuses.iter().filter(|status| *status == "accepted").count()
}

async fn quota(client: &Client) -> Value {
    client.get("/v1/namespaces/default/quota").await.ok()
}

/// The bytes that the namespace holds.
async fn stored(client: &Client) -> u64 {
    quota(client).await["stored_bytes"].as_u64().unwrap()
}

#[tokio::test]
async fn a_namespace_holds_as_many_bytes_as_it_may() {
    let set = "{ stored_bytes = '6KB' }";
    let file = format!("[quotas.namespaces]\ndefault = {set}\n");
    let mut server = Server::setup().file(&file).start().await;
    let topic = server.client().topic("t");
    let first = statuses(&topic, ten()).await;
    assert_eq!(accepted(&first), 4, "{first:?}");
    assert!(
        first[..4].iter().all(|status| status == "accepted"),
        "the first items fit"
    );
    let refused = topic
        .client
        .post(&topic.at("enqueue"), json!({ "items": ten() }))
        .await;
    let problem = refused.problem(429, "quota_exceeded");
    assert!(
        problem["detail"].as_str().unwrap().contains("as many bytes"),
        "{problem}"
    );
    assert_eq!(list(&problem["results"]).len(), 10);
    assert!(
        refused.header("ratelimit").contains("\"stored\";r=976"),
        "{:?}",
        refused.headers
    );
    assert!(refused.header("ratelimit-policy").contains("\"stored\";q=6000"));
    let seen = quota(&topic.client).await;
    assert_eq!(
        (&seen["stored_bytes"], &seen["stored_bytes_max"]),
        (&json!(5_024), &json!(6_000))
    );

    // Room comes back as items are done with, wherever they were, and a restart forgets nothing.
    let held = topic.dequeue(2).await;
    assert_eq!(topic.ack(&held).await, ["ok", "ok"]);
    assert_eq!(quota(&topic.client).await["stored_bytes"], 2_512);
    topic
        .client
        .post(
            &topic.at("enqueue"),
            json!({"items": [{"text": "stored"}], "durability": "stored"}),
        )
        .await
        .ok();
    server.terminate().await;
    server.start_again().await;
    let topic = server.client().topic("t");
    // What the shard has is measured by its average, to a byte for each item.
    assert!(stored(&topic.client).await.abs_diff(2_512 + 262) <= 3);
    assert_eq!(accepted(&statuses(&topic, ten()).await), 2);
    // Dead letters count until they are discarded.
    let held = topic.dequeue(5).await;
    assert_eq!(
        topic
            .settle("reject", &held.iter().map(lease).collect::<Vec<_>>())
            .await
            .len(),
        5
    );
    assert!(stored(&topic.client).await.abs_diff(4 * 1_256 + 262) <= 3);
    topic.client.delete(&topic.at("dead")).await.ok();
    assert_eq!(quota(&topic.client).await["stored_bytes"], 0);
    assert_eq!(accepted(&statuses(&topic, ten()).await), 4);
}

#[tokio::test]
async fn consumers_get_no_more_leases_than_the_namespace_may_have() {
    let server = Server::setup().set("quotas.default_leases", "5").start().await;
    let (a, b) = (server.client().topic("a"), server.client().topic("b"));
    a.enqueue(ten()).await;
    b.enqueue(ten()).await;
    // However many ask at the same moment.
    let asks = (0..8).map(|n| {
        let topic = if n % 2 == 0 { a.clone() } else { b.clone() };
        tokio::spawn(async move { topic.dequeue(3).await })
    });
    let mut held = Vec::new();
    for ask in asks.collect::<Vec<_>>() {
        held.extend(ask.await.unwrap());
    }
    // Some may find the place taken of one that gets nothing in the end; nobody gets more.
    held.extend(a.dequeue(5).await);
    assert_eq!(held.len(), 5);
    let none = a.client.post(&a.at("dequeue"), json!({"max": 3})).await.ok();
    assert_eq!(none, json!({"items": [], "limited_by": "leases"}));
    let then = json!({"namespace": "default", "topic": "a", "max": 3});
    let ack = json!({"leases": [], "then_dequeue": then});
    let none = a.client.post("/v1/ack", ack).await.ok();
    assert_eq!(none, json!({"results": [], "items": [], "limited_by": "leases"}));
    let classic = "/dequeue?namespace=default&topic=a&limit=3";
    let none = a.client.get(classic).await;
    assert_eq!(none.header("x-limited-by"), "leases");
    assert_eq!(none.ok(), json!([]));
    let seen = quota(&a.client).await;
    assert_eq!((&seen["leases"], &seen["leases_max"]), (&json!(5), &json!(5)));

    // A long poll waits and gets what a settlement makes room for.
    let waiting = {
        let a = a.clone();
        tokio::spawn(async move {
            a.client
                .post(&a.at("dequeue"), json!({"max": 4, "wait_ms": 20_000}))
                .await
        })
    };
    assert_eq!(a.settle("extend", &[lease(&held[4])]).await, ["ok"]);
    assert_eq!(a.ack(&held[..2]).await, ["ok", "ok"]);
    let answer = waiting.await.unwrap().ok();
    assert!((1..=2).contains(&list(&answer["items"]).len()), "{answer}");
    assert_eq!(
        answer["limited_by"],
        if list(&answer["items"]).len() == 2 {
            json!("leases")
        } else {
            Value::Null
        }
    );
    // Without a quota in the way a dequeue says nothing of one.
    assert_eq!(a.ack(&held[2..]).await, ["ok"; 3]);
    let one = b.client.post(&b.at("dequeue"), json!({"max": 1})).await.ok();
    assert!(one.get("limited_by").is_none(), "{one}");
    let then = json!({"namespace": "default", "topic": "a", "max": 1});
    let ack = json!({"leases": [], "then_dequeue": then});
    let more = b.client.post("/v1/ack", ack).await.ok();
    assert_eq!((list(&more["items"]).len(), more.get("limited_by")), (1, None));
    let one = a.client.get("/dequeue?namespace=default&topic=a&limit=1").await;
    assert_eq!(one.header("x-limited-by"), "");
    assert_eq!(list(&one.ok()).len(), 1);
}

#[tokio::test]
async fn the_log_tells_the_trace_of_a_refused_request() {
    let server = Server::setup()
        .set("quotas.namespaces", "default:1:1")
        .set("log.level", "debug")
        .start()
        .await;
    let topic = server.client().topic("t");
    assert_eq!(accepted(&statuses(&topic, ten()).await), 1);
    let request = topic.client.request(reqwest::Method::POST, &topic.at("enqueue"));
    let request = request.json(&json!({ "items": ten() }));
    let traced = request.header(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    topic.client.send(traced).await.problem(429, "quota_exceeded");
    let line = server.log();
    let line = line.wait_for(|line| (line["message"] == "request refused").then(|| line.clone()));
    assert_eq!(line.await["trace_id"], "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn a_batch_that_is_refused_whole_spends_nothing() {
    let server = Server::setup()
        .set("quotas.namespaces", "default:60:4")
        .start()
        .await;
    let topic = server.client().topic("t");
    // The last one is wrong, be it within the quota or over it.
    for count in [2, 9] {
        let mut items = vec![json!({"text": "x"}); count];
        items.push(json!({"text": "x", "ttl_ms": -1}));
        topic
            .client
            .post(&topic.at("enqueue"), json!({ "items": items }))
            .await
            .problem(422, "invalid_field");
    }
    assert_eq!(quota(&topic.client).await["remaining"], 4);
    assert_eq!(accepted(&statuses(&topic, ten()).await), 4);
}

#[tokio::test]
async fn what_stored_nothing_is_not_spent() {
    // Whatever comes back of a rate comes back too late to be seen here.
    for rate in ["default:50", "default:1:50"] {
        let server = Server::setup()
            .set("quotas.namespaces", rate)
            .set("redis.rate_timeout", "5s")
            .start()
            .await;
        let client = server.client();
        let topic = client.topic("t");
        let left = async || quota(&client).await["remaining"].clone();
        let keyed: Vec<_> = (0..10)
            .map(|n| json!({"text": "x", "idempotency_key": n.to_string()}))
            .collect();
        assert_eq!(accepted(&statuses(&topic, json!(keyed)).await), 10);
        // What is there already is not enqueued again.
        let again = client.post(&topic.at("enqueue"), json!({ "items": keyed })).await;
        assert!(
            again.header("ratelimit").contains("\"enqueue\";r=40"),
            "{:?}",
            again.headers
        );
        assert_eq!(left().await, 40);
        // A hook that fails and lets nothing through is nobody's item; what a hook refuses is its tenant's.
        let hooks = Hooks::of(&client, "default");
        let broken = Guest {
            item: "(unreachable)",
            ..Guest::default()
        };
        hooks.put("h", Side::Enqueue, broken, json!({})).await;
        topic
            .client
            .post(&topic.at("enqueue"), json!({ "items": ten() }))
            .await
            .any_problem();
        assert_eq!(left().await, 40);
        let refuses = reason(5);
        let refuses = Guest {
            fields: TEXTS,
            item: &refuses,
            ..Guest::default()
        };
        hooks.put("h", Side::Enqueue, refuses, json!({})).await;
        topic
            .client
            .post(&topic.at("enqueue"), json!({ "items": ten() }))
            .await
            .any_problem();
        assert_eq!(left().await, 30);
    }
}

/// Asks for `count` new topics, all at the same moment and of each client in turn; returns how many were made.
pub(crate) async fn topics_made(clients: &[Client], count: usize) -> usize {
    let asks = (0..count).map(|n| {
        let topic = clients[n % clients.len()].topic(&format!("t{n}"));
        tokio::spawn(async move {
            let items = json!({"items": [{"text": "x"}]});
            topic.client.post(&topic.at("enqueue"), items).await.status
        })
    });
    let mut made = 0;
    for ask in asks.collect::<Vec<_>>() {
        match ask.await.unwrap() {
            200 => made += 1,
            409 => {}
            other => panic!("{other}"),
        }
    }
    made
}

#[tokio::test]
async fn a_flood_of_new_topics_makes_no_more_than_there_may_be() {
    let server = Server::setup()
        .set("topics.per_namespace_max", "50")
        .start()
        .await;
    let client = server.client();
    let made = topics_made(std::slice::from_ref(&client), 200).await;
    let page = client.get("/v1/namespaces/default/topics?limit=1000").await.ok();
    assert_eq!((made, list(&page["topics"]).len()), (50, 50));
}

#[tokio::test]
async fn an_operator_sets_a_quota_that_outlives_reloads_and_restarts() {
    let mut server = Server::setup()
        .set("quotas.namespaces", "default:60:4")
        .start()
        .await;
    let client = server.client();
    let topic = client.topic("t");
    assert_eq!(accepted(&statuses(&topic, ten()).await), 4);
    let own = json!({"per_minute": 60, "burst": 7, "leases": 2, "hook_cpu_ms_per_s": 50});
    let seen = client.put("/v1/namespaces/default/quota", own.clone()).await.ok();
    assert_eq!((&seen["own"], &seen["hook_cpu_ms_per_s"]), (&own, &json!(50)));
    // What was spent stays spent.
    assert_eq!(accepted(&statuses(&topic, ten()).await), 3);
    client.post("/v1/config/reload", json!({})).await.ok();
    assert_eq!(quota(&client).await["own"], own);
    assert_eq!(topic.dequeue(10).await.len(), 2);
    let numbers = client.get("/metrics").await.text;
    let limit = r#"mqueue_quota_limit{namespace="default",quota="leases"} 2"#;
    assert!(
        numbers.lines().any(|line| line == limit),
        "{limit} is missing in\n{numbers}"
    );
    let used = r#"mqueue_quota_used{namespace="default",quota="leases"} 2"#;
    assert!(
        numbers.lines().any(|line| line == used),
        "{used} is missing in\n{numbers}"
    );

    server.terminate().await;
    server.start_again().await;
    let client = server.client();
    assert_eq!(quota(&client).await["own"], own);
    let audit = client.get("/v1/namespaces/default/audit").await.ok();
    let put = list(&audit["entries"])
        .iter()
        .find(|entry| entry["action"] == "quota.put");
    assert_eq!(
        put.map(|entry| (&entry["actor"], &entry["after"])),
        Some((&json!("tester"), &own))
    );
    let seen = client.delete("/v1/namespaces/default/quota").await.ok();
    assert_eq!(
        (seen.get("own"), &seen["burst"], seen.get("leases_max")),
        (None, &json!(4), None)
    );
    for (wrong, field) in [
        (json!({"burst": 0}), "burst"),
        (json!({"hook_cpu_burst_ms": 0}), "hook_cpu_burst_ms"),
    ] {
        let problem = client
            .put("/v1/namespaces/default/quota", wrong)
            .await
            .problem(422, "invalid_field");
        assert_eq!(problem["errors"][0]["field"], field);
    }
    client
        .put("/v1/namespaces/default/quota", json!({"items": 5}))
        .await
        .problem(400, "malformed_body");
}

#[tokio::test]
async fn over_every_quota_items_can_still_be_settled() {
    let file =
        "[quotas.namespaces]\ndefault = { per_minute = 1, burst = 4, stored_bytes = '6KB', leases = 4 }\n";
    let server = Server::setup().file(file).start().await;
    let topic = server.client().topic("t");
    assert_eq!(accepted(&statuses(&topic, ten()).await), 4);
    let held = topic.dequeue(4).await;
    topic
        .client
        .post(&topic.at("enqueue"), json!({ "items": ten() }))
        .await
        .problem(429, "quota_exceeded");
    let one = |index: usize| vec![lease(&held[index])];
    assert_eq!(topic.settle("extend", &one(0)).await, ["ok"]);
    assert_eq!(topic.settle("nack", &one(1)).await, ["ok"]);
    assert_eq!(topic.settle("release", &one(2)).await, ["ok"]);
    assert_eq!(topic.settle("ack", &one(3)).await, ["ok"]);
    assert_eq!(topic.settle("reject", &one(0)).await, ["ok"]);
    let other = server.client_with(Some(token(Some(&["other"]), &Scope::ALL)));
    let path = "/v1/namespaces/other/topics/t/enqueue";
    other.post(path, json!({ "items": ten() })).await.ok();
}

#[tokio::test]
async fn a_quota_set_on_one_node_reaches_the_others() {
    let one = Server::start().await;
    let two = one.peer("2").start().await;
    let own = json!({"leases": 3});
    one.client()
        .put("/v1/namespaces/default/quota", own.clone())
        .await
        .ok();
    let client = two.client();
    for _ in 0..600 {
        if quota(&client).await["own"] == own {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the other node does not know it: {}", quota(&client).await);
}

#[tokio::test]
async fn hooks_of_one_namespace_can_be_given_less_time() {
    let server = Server::start().await;
    let client = server.client();
    let slow = Guest {
        body: "(loop $l (br $l))",
        ..Guest::default()
    };
    client
        .put(
            "/v1/namespaces/short/quota",
            json!({"hook_cpu_ms_per_s": 1, "hook_cpu_burst_ms": 1}),
        )
        .await
        .ok();
    for (namespace, is_short) in [("short", true), ("long", false)] {
        let hooks = Hooks::of(&client, namespace);
        hooks.put("h", Side::Enqueue, slow, json!({})).await;
        // The first call takes more than is saved up, and what it owes has to come back before the next. It is
        // booked a moment after its answer.
        let mut told = false;
        for _ in 0..4 {
            let reply = hooks.enqueue("t", json!([{"text": "x"}])).await;
            told |= reply
                .any_problem()
                .to_string()
                .contains("used up its processor time");
        }
        assert_eq!(told, is_short, "{namespace}");
    }
}
