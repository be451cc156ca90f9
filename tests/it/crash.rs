//! kill -9 at random moments under load, many times, and a proof that no promise was broken.
//!
//! `MQUEUE_CRASH_ROUNDS` sets how many times (20), `MQUEUE_CRASH_SEED` repeats the choices of a run. Killing
//! a process loses nothing that it handed to the kernel: what a loss of power does is tested on the
//! simulated disk of `wal`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mqueue::tenant::Scope;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{Client, lease, list};
use crate::history::{Delivery, Enqueue, Enqueued, History, Settle, Settled, Span, Verb, payload};
use crate::server::{Server, token};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 4;
const TOPICS: [&str; 2] = ["crash-a", "crash-b"];
/// Short, so that what a crash left leased comes back within the run.
const LEASE_MS: u64 = 1_500;

/// What all clients share.
struct World {
    epoch: Instant,
    /// Where the server is, while it is up.
    url: watch::Receiver<Option<String>>,
    producing: AtomicBool,
    consuming: AtomicBool,
    /// Calls that were answered, to see that there is load.
    answered: AtomicU64,
}

impl World {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// A client of the server that is up, now or next.
    async fn client(&self) -> Client {
        let mut url = self.url.clone();
        let url = url.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        Client::new(&url, Some(token(None, &Scope::ALL)), None)
    }
}

/// One client with its own record.
struct Actor {
    world: Arc<World>,
    name: String,
    rng: SmallRng,
    client: Client,
    history: History,
}

impl Actor {
    async fn new(world: Arc<World>, name: String, seed: u64) -> Self {
        Self {
            client: world.client().await,
            rng: SmallRng::seed_from_u64(seed),
            history: History::default(),
            world,
            name,
        }
    }

    fn topic(&mut self) -> &'static str {
        TOPICS[self.rng.random_range(0..TOPICS.len())]
    }

    /// The answer and how long it took to come; none when the server went away meanwhile.
    async fn call(&mut self, path: &str, body: &Value) -> (Span, Option<Value>) {
        let began = self.world.now();
        let request = self.client.request(reqwest::Method::POST, path).json(body);
        let reply = self.client.try_send(request).await;
        let ended = self.world.now();
        let span = Span { began, ended };
        match reply {
            Ok(reply) => {
                self.world.answered.fetch_add(1, Ordering::Relaxed);
                (span, Some(reply.ok()))
            }
            Err(_) => {
                self.client = self.world.client().await;
                (span, None)
            }
        }
    }

    /// Enqueues until told to stop, and repeats what was not answered until it is.
    async fn produce(mut self) -> History {
        let mut number = 0;
        while self.world.producing.load(Ordering::Relaxed) {
            let count = self.rng.random_range(1..=20);
            let topic = self.topic();
            let mut keys = Vec::new();
            let mut items = Vec::new();
            for _ in 0..count {
                number += 1;
                let key = format!("{}-{number}", self.name);
                let delay_ms = if self.rng.random_range(0..4) == 0 {
                    self.rng.random_range(1..400)
                } else {
                    0
                };
                items.push(json!({
                    "text": payload(&key), "idempotency_key": key, "delay_ms": delay_ms,
                    "priority": self.rng.random_range(0..5), "max_attempts": 1_000,
                }));
                keys.push((key, delay_ms));
            }
            let durability = if self.rng.random_range(0..20) == 0 {
                "stored"
            } else {
                "logged"
            };
            let body = json!({"items": items, "durability": durability});
            let path = format!("/v1/namespaces/default/topics/{topic}/enqueue");
            while !self.enqueue(&path, &body, &keys).await {}
        }
        self.history
    }

    async fn enqueue(&mut self, path: &str, body: &Value, keys: &[(String, u64)]) -> bool {
        let (span, answer) = self.call(path, body).await;
        for (index, (key, delay_ms)) in keys.iter().enumerate() {
            let outcome = match &answer {
                None => Enqueued::Unknown,
                Some(answer) => match answer["results"][index]["id"].as_str() {
                    Some(id) => Enqueued::As(id.parse().unwrap()),
                    None => Enqueued::Refused,
                },
            };
            self.history.enqueues.push(Enqueue {
                span,
                key: key.clone(),
                delay_ms: *delay_ms,
                outcome,
            });
        }
        answer.is_some()
    }

    /// Takes, and acks, gives back or forgets what it took, until told to stop.
    async fn consume(mut self) -> History {
        while self.world.consuming.load(Ordering::Relaxed) {
            let max = self.rng.random_range(1..=30);
            let taken = self.take(max, 200).await;
            for part in taken.chunks(10) {
                match self.rng.random_range(0..20) {
                    0 => {}
                    1 => self.settle("nack", part, Verb::GiveBack).await,
                    2 => self.settle("release", part, Verb::GiveBack).await,
                    _ => self.settle("ack", part, Verb::Ack).await,
                }
            }
        }
        self.history
    }

    /// Acks everything until `left` says that nothing is left.
    async fn drain(mut self, left: watch::Receiver<bool>) -> History {
        while *left.borrow() {
            let taken = self.take(100, 200).await;
            if !taken.is_empty() {
                self.settle("ack", &taken, Verb::Ack).await;
            }
        }
        self.history
    }

    async fn take(&mut self, max: usize, wait_ms: u64) -> Vec<Value> {
        let topics = TOPICS.map(|topic| json!({"topic": topic}));
        let body = json!({"topics": topics, "max_total": max, "wait_ms": wait_ms, "lease_ms": LEASE_MS});
        let (span, answer) = self.call("/v1/namespaces/default/dequeue", &body).await;
        let Some(answer) = answer else { return Vec::new() };
        let items = list(&answer["items"]).to_vec();
        self.history.deliveries.extend(items.iter().map(|item| Delivery {
            span,
            id: id(item),
            attempt: item["attempt"].as_u64().unwrap(),
            lease_ms: LEASE_MS,
            payload: item["text"].as_str().unwrap().to_owned(),
        }));
        items
    }

    async fn settle(&mut self, path: &str, taken: &[Value], verb: Verb) {
        let mut leases: Vec<Value> = taken.iter().map(lease).collect();
        if path == "nack" {
            let delay_ms = self.rng.random_range(0..100);
            leases
                .iter_mut()
                .for_each(|lease| lease["delay_ms"] = json!(delay_ms));
        }
        let body = json!({ "leases": leases });
        // Now and then what was not answered is sent again, as a careful client does.
        let tries = if self.rng.random_range(0..2) == 0 { 2 } else { 1 };
        for _ in 0..tries {
            let (span, answer) = self.call(&format!("/v1/{path}"), &body).await;
            for (index, item) in taken.iter().enumerate() {
                let status = answer
                    .as_ref()
                    .map(|answer| answer["results"][index]["status"].clone());
                self.history.settles.push(Settle {
                    span,
                    id: id(item),
                    attempt: item["attempt"].as_u64().unwrap(),
                    verb,
                    outcome: match status.as_ref().map(|status| status.as_str().unwrap()) {
                        None => Settled::Unknown,
                        Some("ok") => Settled::Ok,
                        Some("already_done") => Settled::AlreadyDone,
                        Some("lease_lost") => Settled::LeaseLost,
                        Some(other) => panic!("unknown status {other}"),
                    },
                });
            }
            if answer.is_some() {
                return;
            }
        }
    }
}

fn id(item: &Value) -> u64 {
    item["id"].as_str().unwrap().parse().unwrap()
}

fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
        Err(_) => default,
    }
}

/// Ready, scheduled, leased, dead of all topics together.
async fn counts(client: &Client) -> [u64; 4] {
    let mut sum = [0; 4];
    for topic in TOPICS {
        let counts = client.topic(topic).counts().await;
        sum = std::array::from_fn(|state| sum[state] + counts[state]);
    }
    sum
}

/// Producers and consumers of one server, wherever it is.
pub(crate) struct Load {
    world: Arc<World>,
    place: watch::Sender<Option<String>>,
    producers: Vec<JoinHandle<History>>,
    consumers: Vec<JoinHandle<History>>,
    seed: u64,
}

impl Load {
    /// Begins; `seed` makes the choices.
    pub(crate) async fn start(server: &Server, seed: u64) -> Self {
        let (place, url) = watch::channel(Some(server.url().to_owned()));
        let world = Arc::new(World {
            epoch: Instant::now(),
            url,
            producing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
            answered: AtomicU64::new(0),
        });
        let mut producers = Vec::new();
        for n in 0..PRODUCERS {
            let actor = Actor::new(world.clone(), format!("p{n}"), seed + n).await;
            producers.push(tokio::spawn(actor.produce()));
        }
        let mut consumers = Vec::new();
        for n in 0..CONSUMERS {
            let actor = Actor::new(world.clone(), format!("c{n}"), seed + 100 + n).await;
            consumers.push(tokio::spawn(actor.consume()));
        }
        Self {
            world,
            place,
            producers,
            consumers,
            seed,
        }
    }

    /// How many calls were answered so far.
    pub(crate) fn answered(&self) -> u64 {
        self.world.answered.load(Ordering::Relaxed)
    }

    /// Kills the server and starts it again; returns how long it was away.
    pub(crate) async fn crash(&self, server: &mut Server) -> Duration {
        self.place.send_replace(None);
        let killed = Instant::now();
        server.kill().await;
        server.start_again().await;
        self.place.send_replace(Some(server.url().to_owned()));
        killed.elapsed()
    }

    /// Ends producers and consumers, checks the counts, and acks what is left. No promise was broken.
    pub(crate) async fn finish(self, server: &Server) -> History {
        let mut history = History::default();
        self.world.producing.store(false, Ordering::Relaxed);
        for producer in self.producers {
            history.merge(producer.await.unwrap());
        }
        self.world.consuming.store(false, Ordering::Relaxed);
        for consumer in self.consumers {
            history.merge(consumer.await.unwrap());
        }
        check_counts(&history, counts(&server.client()).await);
        history.merge(drain(&self.world, server, self.seed).await);
        println!(
            "{} accepted, {} acked, {} perhaps acked, {} deliveries, drained after {:?}",
            history.accepted().len(),
            history.acked().len(),
            history.perhaps_acked().len(),
            history.deliveries.len(),
            self.world.epoch.elapsed()
        );
        let violations = history.violations(&BTreeSet::new());
        assert!(
            violations.is_empty(),
            "seed {}: {} violations, first {:?}",
            self.seed,
            violations.len(),
            &violations[..violations.len().min(10)]
        );
        history
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_breaks_no_promise() {
    let rounds = number_from("MQUEUE_CRASH_ROUNDS", 20);
    let seed = number_from("MQUEUE_CRASH_SEED", rand::random::<u32>().into());
    println!("{rounds} rounds, seed {seed}: MQUEUE_CRASH_SEED={seed} repeats the choices");
    let mut rng = SmallRng::seed_from_u64(seed);
    // Little log and a short buffer, so that segments are freed and items stored while it is killed.
    let mut server = Server::setup()
        .set("wal.segment_bytes", "1MiB")
        .set("hot.buffer_ttl", "100ms")
        .start()
        .await;
    let load = Load::start(&server, seed).await;
    let (mut quiet, mut restarting) = (0, Duration::ZERO);
    for _ in 0..rounds {
        let before = load.answered();
        // The moment must be anything but a signal of the server's.
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..500))).await;
        quiet += u64::from(load.answered() == before);
        restarting += load.crash(&mut server).await;
    }
    println!("{rounds} kills, {restarting:?} of it restarting");
    assert!(
        quiet <= rounds / 4,
        "{quiet} of {rounds} kills hit a server without load"
    );
    let accepted = load.finish(&server).await.accepted().len() as u64;
    assert!(accepted >= rounds * 10, "only {accepted} items were accepted");

    // What is acked stays so: nothing is left after one more crash.
    server.kill().await;
    server.start_again().await;
    assert_eq!(counts(&server.client()).await, [0; 4]);
}

/// What the server counts must be what is live by the history, as far as anyone can know.
fn check_counts(history: &History, counts: [u64; 4]) {
    let [ready, scheduled, leased, dead] = counts;
    let live = ready + scheduled + leased;
    let (accepted, acked) = (history.accepted().len() as u64, history.acked());
    // Acks of items whose enqueue was never answered do not count against those that were.
    let acked = acked.intersection(&history.accepted()).count() as u64;
    let unsure = history.perhaps_acked().len() as u64;
    let (least, most) = (
        accepted - acked - unsure,
        accepted - acked + history.perhaps_accepted() as u64,
    );
    assert!(
        (least..=most).contains(&live) && dead == 0,
        "{counts:?} where {least} to {most} are live"
    );
}

/// Acks all that is left, and returns what was done for it.
async fn drain(world: &Arc<World>, server: &Server, seed: u64) -> History {
    let (left, more) = watch::channel(true);
    let mut drainers = Vec::new();
    for n in 0..CONSUMERS {
        let actor = Actor::new(world.clone(), format!("d{n}"), seed + 200 + n).await;
        drainers.push(tokio::spawn(actor.drain(more.clone())));
    }
    let client = server.client();
    let idle = client.topic("idle");
    let began = Instant::now();
    while counts(&client).await != [0; 4] {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?} are left",
            counts(&client).await
        );
        // Nothing is ever in this topic: it only passes the time.
        idle.dequeue_as(json!({"wait_ms": 100})).await;
    }
    left.send_replace(false);
    let mut history = History::default();
    for drainer in drainers {
        history.merge(drainer.await.unwrap());
    }
    history
}
