//! Two nodes over one Redis and two PostgreSQL shards, under load, while everything they stand on fails in turn,
//! and a proof that no promise was broken.
//!
//! `MQUEUE_CLUSTER_ROUNDS` sets how many faults there are (12), `MQUEUE_CRASH_SEED` repeats the choices of a run.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;

use crate::actors::{Actors, Tolerated, World, counts, number_from};
use crate::growth::moved;
use crate::history::{History, Violation};
use crate::postgres::Postgres;
use crate::proxy::{Link, Proxy};
use crate::redis::RedisServer;
use crate::server::Server;
use crate::shards::until;

const NODES: usize = 2;
const SHARDS: usize = 2;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A node is killed and comes back.
    Kill(usize),
    /// A node stands still for a while.
    Pause(usize),
    /// A shard cannot be reached for a while.
    CutShard(usize, Link),
    /// Redis stands still for a while.
    PauseRedis,
    /// A node cannot reach Redis for a while.
    CutRedis(usize, Link),
    /// Redis forgets everything.
    Forget,
    /// Redis is killed and comes back empty.
    KillRedis,
    /// Redis is killed and comes back as it was a while before.
    OldRedis,
    /// Both nodes are killed while a shard is away.
    KillAll,
    /// Slots go from a shard to the other one.
    Move(usize),
}

struct Cluster {
    postgres: Postgres,
    redis: RedisServer,
    /// One in front of Redis for each node.
    to_redis: Vec<Proxy>,
    nodes: Vec<Server>,
    places: Vec<watch::Sender<Option<String>>>,
}

impl Cluster {
    async fn start() -> Self {
        let (postgres, redis) = (Postgres::shards(SHARDS).await, RedisServer::start().await);
        let (mut nodes, mut to_redis) = (Vec::new(), Vec::new());
        for number in 0..NODES {
            let proxy = Proxy::start(&redis.addr()).await;
            let node = Server::setup()
                .set("node.id", &(number + 1).to_string())
                .set("storage.database_urls", &postgres.urls())
                .set("storage.pool_connections_max", "4")
                .set("storage.statement_timeout", "3s")
                .set("redis.addrs", &proxy.address())
                .set("wal.segment_bytes", "1MiB")
                .set("hot.buffer_ttl", "100ms");
            nodes.push(node.start().await);
            to_redis.push(proxy);
        }
        let places = nodes
            .iter()
            .map(|node| watch::Sender::new(Some(node.url().to_owned())))
            .collect();
        Self {
            postgres,
            redis,
            to_redis,
            nodes,
            places,
        }
    }

    async fn suffer(&mut self, fault: Fault, time: Duration) {
        match fault {
            Fault::Kill(node) => {
                self.kill(node).await;
                tokio::time::sleep(time).await;
                self.restart(node).await;
            }
            Fault::Pause(node) => {
                self.nodes[node].signal(Signal::STOP);
                tokio::time::sleep(time).await;
                self.nodes[node].signal(Signal::CONT);
            }
            Fault::CutShard(shard, link) => {
                self.postgres.proxies[shard].set(link);
                tokio::time::sleep(time).await;
                self.postgres.proxies[shard].set(Link::Up);
            }
            Fault::PauseRedis => {
                self.redis.signal(Signal::STOP);
                tokio::time::sleep(time).await;
                self.redis.signal(Signal::CONT);
            }
            Fault::CutRedis(node, link) => {
                self.to_redis[node].set(link);
                tokio::time::sleep(time).await;
                self.to_redis[node].set(Link::Up);
            }
            Fault::Forget => drop(self.redis.command(&["FLUSHALL"]).await),
            Fault::KillRedis => {
                self.redis.kill();
                tokio::time::sleep(time).await;
                self.redis.start_again().await;
            }
            Fault::OldRedis => {
                self.redis.command(&["SAVE"]).await;
                tokio::time::sleep(time).await;
                self.redis.kill();
                self.redis.start_from_snapshot().await;
            }
            Fault::Move(from) => self.move_slots(from).await,
            Fault::KillAll => {
                self.postgres.proxies[0].set(Link::Cut);
                tokio::time::sleep(time).await;
                for node in 0..NODES {
                    self.kill(node).await;
                }
                self.postgres.proxies[0].set(Link::Up);
                for node in 0..NODES {
                    self.restart(node).await;
                }
            }
        }
    }

    /// Orders some slots to move, when the ones ordered before are through.
    async fn move_slots(&self, from: usize) {
        let client = self.nodes[0].client();
        moved(&client).await;
        let order = json!({ "from": from, "to": 1 - from, "slots": 256 });
        client.post("/v1/shards/moves", order).await.ok();
    }

    /// Waits until no shard has anything left: what is stored there and was never handed out, nobody knows of.
    async fn is_empty(&self) {
        for shard in 0..SHARDS {
            let rows = "SELECT COUNT(*) FROM items";
            until(async || (self.postgres.number(shard, rows).await == 0).then_some(())).await;
        }
    }

    async fn kill(&mut self, node: usize) {
        self.places[node].send_replace(None);
        self.nodes[node].kill().await;
    }

    async fn restart(&mut self, node: usize) {
        self.nodes[node].start_again().await;
        self.places[node].send_replace(Some(self.nodes[node].url().to_owned()));
    }
}

/// Puts a cluster under load through `rounds` faults of `kinds`, and returns the history of its clients once all of
/// it works again and nothing is left in it; and the cluster, whose logs tell more when the history is a bad one.
async fn history_of(rounds: u64, kinds: &[Fault]) -> (u64, History, Cluster) {
    let seed = number_from("MQUEUE_CRASH_SEED", rand::random::<u32>().into());
    println!("{rounds} faults, seed {seed}: MQUEUE_CRASH_SEED={seed} repeats the choices");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = Cluster::start().await;
    let places = cluster.places.iter().map(watch::Sender::subscribe).collect();
    let world = World::new(places, Tolerated::Absence);
    let mut actors = Actors::start(&world, seed).await;
    for _ in 0..rounds {
        world.flows().await;
        // The moment must be anything but a signal of the cluster's.
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..1_000))).await;
        let fault = kinds[rng.random_range(0..kinds.len())];
        let time = Duration::from_millis(rng.random_range(100..2_500));
        println!("{:?}: {fault:?} for {time:?}", world.age());
        cluster.suffer(fault, time).await;
    }
    let mut history = actors.stop().await;
    history.merge(actors.drain(&cluster.nodes[0].client()).await);
    println!(
        "{} accepted, {} acked, {} perhaps acked, {} deliveries, drained after {:?}",
        history.accepted().len(),
        history.acked().len(),
        history.perhaps_acked().len(),
        history.deliveries.len(),
        world.age()
    );
    assert!(history.accepted().len() as u64 >= rounds * 10);
    moved(&cluster.nodes[0].client()).await;
    cluster.is_empty().await;
    // What is acked stays so, on every node and after one more crash of all.
    cluster.suffer(Fault::KillAll, Duration::ZERO).await;
    for node in &cluster.nodes {
        assert_eq!(counts(&node.client()).await, [0; 4]);
    }
    (seed, history, cluster)
}

/// Through `rounds` faults of `kinds` no promise is broken but those of which README says it: `window`.
async fn check(rounds: u64, kinds: &[Fault], window: impl Fn(&&Violation) -> bool) {
    let (seed, history, _cluster) = history_of(rounds, kinds).await;
    let found = history.violations(&BTreeSet::new());
    let (in_window, broken): (Vec<_>, Vec<_>) = found.iter().partition(window);
    println!("{} deliveries in the window that README states", in_window.len());
    assert!(
        broken.is_empty(),
        "seed {seed}: {} violations, first {:?}",
        broken.len(),
        &broken[..broken.len().min(10)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_pauses_and_cuts_break_no_promise() {
    let kinds = [
        Fault::Kill(0),
        Fault::Kill(1),
        Fault::Pause(0),
        Fault::Pause(1),
        Fault::CutShard(0, Link::Cut),
        Fault::CutShard(1, Link::Blackhole),
        Fault::PauseRedis,
        Fault::CutRedis(0, Link::Cut),
        Fault::CutRedis(1, Link::Blackhole),
        Fault::KillAll,
    ];
    check(number_from("MQUEUE_CLUSTER_ROUNDS", 12), &kinds, |_| false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_meanwhile_break_no_promise() {
    let kinds = [
        Fault::Move(0),
        Fault::Move(1),
        Fault::Kill(1),
        Fault::Pause(0),
        Fault::CutShard(1, Link::Cut),
    ];
    check(number_from("MQUEUE_CLUSTER_ROUNDS", 12) / 2, &kinds, |_| false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgets_loses_nothing_that_was_acknowledged() {
    let kinds = [
        Fault::Forget,
        Fault::KillRedis,
        Fault::OldRedis,
        Fault::Kill(1),
        Fault::CutShard(0, Link::Cut),
    ];
    // Leases, attempts and acks of what no shard held yet were only in its memory: README says so.
    let window = |violation: &&Violation| {
        matches!(
            violation,
            Violation::AfterAck { .. }
                | Violation::TwoLeases { .. }
                | Violation::StaleAck { .. }
                | Violation::Attempts { .. }
        )
    };
    check(number_from("MQUEUE_CLUSTER_ROUNDS", 12), &kinds, window).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_restarted_one_after_the_other_are_missed_by_nobody() {
    let seed = number_from("MQUEUE_CRASH_SEED", rand::random::<u32>().into());
    let mut cluster = Cluster::start().await;
    let places = cluster.places.iter().map(watch::Sender::subscribe).collect();
    // Whoever asks a node that stops is told so, or not answered, and asks the other one.
    let world = World::new(places, Tolerated::Stop);
    let mut actors = Actors::start(&world, seed).await;
    for node in (0..NODES).chain(0..NODES) {
        world.flows().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.places[node].send_replace(None);
        let status = cluster.nodes[node].terminate().await;
        assert!(status.success(), "{status}");
        cluster.restart(node).await;
    }
    world.flows().await;
    let mut history = actors.stop().await;
    history.merge(actors.drain(&cluster.nodes[0].client()).await);
    assert!(history.accepted().len() > 100);
    assert_eq!(history.violations(&BTreeSet::new()), [], "seed {seed}");
    assert_eq!(history.out_of_order(), [], "seed {seed}");
}
