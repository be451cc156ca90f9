//! Two tenants side by side: one does its worst, the other must not notice.

use std::time::Duration;

use hdrhistogram::Histogram;
use mqueue::clock::Stopwatch;
use mqueue::tenant::Scope;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, lease, list};
use crate::server::{Server, token};

/// Rounds of enqueue, dequeue and ack that are measured.
const ROUNDS: u64 = 300;
/// What the flooding tenant may enqueue in a minute.
const QUOTA: u64 = 600;
/// Longer than any request takes, however busy the machine is.
const GENEROUS: Duration = Duration::from_secs(10);

/// The quiet tenant's time for each request, in microseconds. Every one must succeed.
async fn quiet_rounds(client: &Client) -> Histogram<u64> {
    let mut times = Histogram::new(3).unwrap();
    let path = |verb: &str| format!("/v1/namespaces/quiet/topics/t/{verb}");
    for _ in 0..ROUNDS {
        let mut timed = async |path: String, body| {
            let began = Stopwatch::start();
            let answer = client.post(&path, body).await.ok();
            times.record(began.elapsed().as_micros() as u64).unwrap();
            answer
        };
        let enqueued = timed(path("enqueue"), json!({"items": [{"text": "x"}]})).await;
        assert_eq!(enqueued["results"][0]["status"], "accepted");
        let held = timed(path("dequeue"), json!({"max": 1, "wait_ms": 5_000})).await;
        let leases: Vec<_> = list(&held["items"]).iter().map(lease).collect();
        assert_eq!(leases.len(), 1);
        let acked = timed("/v1/ack".to_owned(), json!({ "leases": leases })).await;
        assert_eq!(acked["results"][0]["status"], "ok");
    }
    times
}

/// What the loud tenant got and was refused.
#[derive(Debug, Default)]
struct Got {
    offered: u64,
    accepted: u64,
    refused: u64,
    others: u64,
}

/// Enqueues in batches of `QUOTA / 6` into ever new topics until it is stopped.
async fn flood(client: Client, number: usize, stop: CancellationToken) -> Got {
    let items = json!({"items": vec![json!({"text": "flood"}); (QUOTA / 6) as usize]});
    let mut got = Got::default();
    let mut n = 0_u64;
    while !stop.is_cancelled() {
        n += 1;
        let path = format!("/v1/namespaces/loud/topics/f{number}-{n}/enqueue");
        let reply = client.post(&path, items.clone()).await;
        let accepted = reply.json()["results"].as_array().map_or(0, |results| {
            results
                .iter()
                .filter(|result| result["status"] == "accepted")
                .count() as u64
        });
        got.offered += QUOTA / 6;
        got.accepted += accepted;
        match reply.status {
            200 => {}
            429 | 503 => got.refused += 1,
            409 => got.others += 1,
            other => panic!("{other}: {}", reply.text),
        }
    }
    got
}

/// Sends bad tokens and huge headers until it is stopped; returns how many, and how many tokens were braked.
async fn rattle(server_url: String, from: std::net::IpAddr, stop: CancellationToken) -> (u64, u64) {
    let bad = Client::new(&server_url, Some("eyXX.garbage.signature".into()), Some(from));
    let huge = "h".repeat(48 << 10);
    let (mut count, mut braked) = (0, 0);
    while !stop.is_cancelled() {
        let reply = bad.get("/v1/namespaces/quiet").await;
        assert!(matches!(reply.status, 401 | 429), "{}", reply.text);
        braked += u64::from(reply.status == 429);
        let request = bad
            .request(reqwest::Method::GET, "/v1/namespaces/quiet")
            .header("x-huge", &huge);
        // The server may hang up on it.
        if let Ok(reply) = bad.try_send(request).await {
            assert!((400..500).contains(&reply.status), "{}", reply.text);
        }
        count += 2;
    }
    (count, braked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_tenant_costs_the_other_no_request() {
    let server = Server::setup()
        .set("quotas.namespaces", &format!("loud:{QUOTA}"))
        .set("topics.per_namespace_max", "200")
        .start()
        .await;
    let quiet = server.client_with(Some(token(Some(&["quiet"]), &Scope::ALL)));
    quiet_rounds(&quiet).await;
    let alone = quiet_rounds(&quiet).await;

    let stop = CancellationToken::new();
    let loud = server.client_with(Some(token(Some(&["loud"]), &Scope::ALL)));
    let floods: Vec<_> = (0..4)
        .map(|n| tokio::spawn(flood(loud.clone(), n, stop.clone())))
        .collect();
    let rattles: Vec<_> = (1..3_u8)
        .map(|n| {
            let from = std::net::IpAddr::from([127, 0, 2, n]);
            tokio::spawn(rattle(server.url().to_owned(), from, stop.clone()))
        })
        .collect();
    let began = Stopwatch::start();
    let beside = quiet_rounds(&quiet).await;
    // As long as it takes for a hundred times the quota of a minute's share to be refused.
    while began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let lasted = began.elapsed();
    stop.cancel();
    let mut got = Got::default();
    for flood in floods {
        let part = flood.await.unwrap();
        got.offered += part.offered;
        got.accepted += part.accepted;
        got.refused += part.refused;
        got.others += part.others;
    }
    let (mut rattled, mut braked) = (0, 0);
    for rattle in rattles {
        let (count, slowed) = rattle.await.unwrap();
        rattled += count;
        braked += slowed;
    }
    let p99 = |times: &Histogram<u64>| Duration::from_micros(times.value_at_quantile(0.99));
    println!(
        "p99 alone {:?}, beside the flood {:?}; the flood in {lasted:?}: {got:?}, {rattled} bad requests",
        p99(&alone),
        p99(&beside)
    );
    assert!(p99(&beside) < GENEROUS);
    assert!(
        got.refused > 0 && braked > 0,
        "{got:?}, {braked} of {rattled} braked"
    );
    let hundredfold = 100 * QUOTA * lasted.as_millis() as u64 / 60_000;
    assert!(
        got.offered >= hundredfold,
        "{got:?} in {lasted:?}, not {hundredfold}"
    );
    let allowed = QUOTA + QUOTA * (lasted.as_secs() + 1) / 60;
    assert!(got.accepted <= allowed + allowed / 20, "{got:?} in {lasted:?}");
    // Its own work is not held up by anything but its quota.
    loud.get("/v1/namespaces/loud/quota").await.ok();
}
