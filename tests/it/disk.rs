//! A disk that fills up or fails, under the whole API in this process: what is refused, what goes on, and
//! what is there afterwards.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mqueue::api::accept::{self, ListenOptions, Stop};
use mqueue::api::{
    self, ApiLimits, ApiState, ConfigChange, ConfigEntry, ConfigFault, Configuration, Reloads,
};
use mqueue::app;
use mqueue::clock::Clock;
use mqueue::config::Config;
use mqueue::telemetry::metrics::Metrics;
use mqueue::tenant::{AuthFailures, AuthPolicy, Authenticator, KeySet, QuotaTable, Quotas, Scope};
use mqueue::wal::disk::SimDisk;
use poem::Route;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client::{Client, Topic};
use crate::node;
use crate::postgres::Postgres;
use crate::server::{SECRET, token};

/// A whole node in this process whose log is on a simulated disk; its stores are real.
struct Simulated {
    disk: SimDisk,
    client: Client,
    queue: mqueue::queue::Queue,
    stop: Stop,
    serving: JoinHandle<()>,
    config: Config,
    dir: TempDir,
    /// Goes last: the queue uses it until its end.
    postgres: Option<Postgres>,
}

/// A configuration that was never read.
struct Unread;

impl Configuration for Unread {
    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }

    fn reloads(&self) -> Reloads {
        Reloads {
            succeeded: 0,
            failed: 0,
            loaded_at: node::START,
            last: None,
            restart_needed: Vec::new(),
        }
    }

    fn reload(&self) -> Result<ConfigChange, Vec<ConfigFault>> {
        Ok(ConfigChange::default())
    }
}

impl Simulated {
    async fn start() -> Self {
        // Small segments, so that a full disk is met soon, and nothing stored unless asked for.
        let set = [
            ("wal.segment_bytes", "1MiB"),
            ("wal.disk_free_bytes_min", "0"),
            ("hot.buffer_ttl", "1h"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let (config, postgres) = node::config(&dir, &set);
        Self::open(SimDisk::new(7), config, dir, postgres).await
    }

    async fn open(disk: SimDisk, config: Config, dir: TempDir, postgres: Option<Postgres>) -> Self {
        let clock = Clock::system();
        let keys = KeySet::default().with_secret(SECRET.as_bytes()).unwrap();
        let quotas = Arc::new(Quotas::new(QuotaTable::default(), clock.clone()));
        let (log, program) = (Arc::new(disk.clone()), Path::new(env!("CARGO_BIN_EXE_mqueue")));
        let secret = SECRET.as_bytes();
        let opened = app::assemble(&config, secret, clock.clone(), log, quotas.clone(), program).await;
        let app::Node { queue, hooks } = opened.unwrap();
        let seen = queue.clone();
        let state = ApiState {
            queue: queue.clone(),
            auth: Arc::new(Authenticator::new(keys, AuthPolicy::default(), clock.clone())),
            failures: AuthFailures::new(clock.clone()),
            hooks: api::HooksState::new(hooks.registry, hooks.engine, 1 << 20),
            quotas,
            metrics: Arc::new(Metrics::new(api::ROUTES, move || api::snapshot(&seen)).unwrap()),
            clock,
            limits: ApiLimits::default(),
            config: Arc::new(Unread),
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let server = accept::bind(ListenOptions::plain(address)).await.unwrap();
        let url = format!("http://{}", server.address());
        let stop = Stop::default();
        let endpoint = api::endpoint(Arc::new(state), Route::new());
        let serving = tokio::spawn(server.serve(endpoint, stop.clone(), Duration::from_secs(5)));
        Self {
            client: Client::new(&url, Some(token(None, &Scope::ALL)), None),
            disk,
            queue,
            stop,
            serving,
            config,
            dir,
            postgres,
        }
    }

    /// Ends the node without storing anything more and starts it again, the disk's faults gone.
    async fn restart(self) -> Self {
        self.stop.now.cancel();
        self.serving.await.unwrap();
        self.queue.halt().await;
        drop(self.queue);
        self.disk.kill();
        self.disk.set_space(u64::MAX);
        Self::open(self.disk, self.config, self.dir, self.postgres).await
    }

    async fn part(&self, name: &str) -> Value {
        // Not ready, the parts are in the detail of the problem.
        let reply = self.client.get("/readyz?verbose").await;
        let parts = reply.json()["parts"].as_array().cloned().unwrap_or_default();
        parts
            .into_iter()
            .find(|part| part["part"] == name)
            .unwrap_or(Value::Null)
    }
}

/// Enqueues until the log has no room; returns how many items were accepted.
async fn fill(topic: &Topic) -> usize {
    let filler = "x".repeat(10_000);
    for accepted in 0..10_000 {
        let body = json!({"items": [{"text": format!("{accepted} {filler}")}]});
        let reply = topic.client.post(&topic.at("enqueue"), body).await;
        if reply.status != 200 {
            let problem = reply.problem(503, "log_full");
            assert!(
                problem["detail"].as_str().unwrap().contains("no room"),
                "{problem}"
            );
            return accepted;
        }
    }
    panic!("the disk never filled up");
}

#[tokio::test]
async fn a_full_disk_stops_enqueues_and_nothing_else() {
    let node = Simulated::start().await;
    let topic = node.client.topic("full");
    topic.enqueue(json!([{"text": "first 0"}])).await;
    node.disk.set_space(node.disk.used_bytes() + (64 << 10));
    let accepted = 1 + fill(&topic).await;
    node.client.get("/readyz").await.problem(503, "not_ready");
    let why = node.client.get("/readyz?verbose").await.problem(503, "not_ready");
    assert!(why["detail"].as_str().unwrap().contains("no room"), "{why}");

    // What is there is still delivered and settled.
    let held = topic.dequeue(3).await;
    assert_eq!(topic.ack(&held[..2]).await, ["ok", "ok"]);
    assert_eq!(
        topic
            .settle("nack", &[json!({"lease_id": held[2]["lease_id"], "delay_ms": 0})])
            .await,
        ["ok"]
    );
    assert_eq!(topic.counts().await, [accepted as u64 - 2, 0, 0, 0]);

    // Nothing is lost and nothing comes back.
    let node = node.restart().await;
    let topic = node.client.topic("full");
    assert_eq!(topic.counts().await, [accepted as u64 - 2, 0, 0, 0]);
    assert_eq!(topic.take(1_000).await.len(), accepted - 2);
}

#[tokio::test]
async fn enqueues_go_on_when_space_returns() {
    let node = Simulated::start().await;
    let topic = node.client.topic("returns");
    node.disk.set_space(node.disk.used_bytes() + (64 << 10));
    let accepted = fill(&topic).await as u64;
    node.disk.set_space(u64::MAX);
    let mut refused = 0;
    while topic
        .client
        .post(&topic.at("enqueue"), json!({"items": [{"text": "after"}]}))
        .await
        .status
        != 200
    {
        refused += 1;
        assert!(refused < 200, "still refused though there is space");
        // Nothing is in this topic: it passes the time between two tries.
        topic
            .client
            .topic("idle")
            .dequeue_as(json!({"wait_ms": 50}))
            .await;
    }
    assert_eq!(node.part("log").await["ok"], true);
    assert_eq!(topic.counts().await, [accepted + 1, 0, 0, 0]);
}

#[tokio::test]
async fn a_failed_sync_stops_acceptance_at_once_and_loses_nothing() {
    let node = Simulated::start().await;
    let topic = node.client.topic("eio");
    topic
        .enqueue(json!([{"text": "a"}, {"text": "b"}, {"text": "c"}]))
        .await;
    let held = topic.dequeue(2).await;
    assert_eq!(topic.ack(&held[..1]).await, ["ok"]);
    node.disk.fail_sync(1);
    let body = json!({"items": [{"text": "unknown"}]});
    let problem = topic
        .client
        .post(&topic.at("enqueue"), body.clone())
        .await
        .problem(503, "log_failed");
    assert!(
        problem["detail"].as_str().unwrap().contains("unknown"),
        "{problem}"
    );
    // The disk would work again; nobody trusts it before a restart.
    for _ in 0..3 {
        topic
            .client
            .post(&topic.at("enqueue"), body.clone())
            .await
            .problem(503, "log_failed");
    }
    topic
        .client
        .post("/v1/ack", json!({"leases": [{"lease_id": held[1]["lease_id"]}]}))
        .await
        .problem(503, "log_failed");
    topic
        .client
        .post(&topic.at("dequeue"), json!({}))
        .await
        .problem(503, "log_failed");
    node.client.get("/readyz").await.problem(503, "not_ready");
    node.client.get("/livez").await.problem(503, "log_failed");

    let node = node.restart().await;
    assert_eq!(node.client.get("/livez").await.status, 200);
    let topic = node.client.topic("eio");
    assert_eq!(topic.ack(&held[1..]).await, ["ok"]);
    let left = topic.take(9).await;
    // The first enqueue that failed may have reached the disk or not; those after it were not even tried.
    assert!(left == ["c"] || left == ["c", "unknown"], "{left:?}");
}

#[tokio::test]
async fn a_failed_write_is_as_good_as_a_failed_sync() {
    let node = Simulated::start().await;
    let topic = node.client.topic("write");
    topic.enqueue(json!([{"text": "kept"}])).await;
    node.disk.fail_write(1);
    topic
        .client
        .post(&topic.at("enqueue"), json!({"items": [{"text": "lost"}]}))
        .await
        .problem(503, "log_failed");
    let node = node.restart().await;
    let left = node.client.topic("write").take(9).await;
    assert!(left == ["kept"] || left == ["kept", "lost"], "{left:?}");
}
