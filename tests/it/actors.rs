//! Producers and consumers that load one node or several, write down all they do and hear, and go on through
//! whatever happens to the nodes meanwhile.

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

use crate::client::{Client, Reply, lease, list};
use crate::history::{Delivery, Enqueue, Enqueued, History, Settle, Settled, Span, Verb, payload};
use crate::server::token;

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 4;
pub(crate) const TOPICS: [&str; 2] = ["crash-a", "crash-b"];
/// Short, so that what a crash left leased comes back within the run.
const LEASE_MS: u64 = 1_500;

/// Which answers are no fault: the client asks again, perhaps another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tolerated {
    /// Only those that say that something was done.
    Nothing,
    /// Also that the node is stopping.
    Stop,
    /// Also that what nodes stand on is away.
    Absence,
}

impl Tolerated {
    fn is(self, reply: &Reply) -> bool {
        match self {
            Self::Nothing => false,
            Self::Stop => reply.status == 503 && reply.json()["code"] == "shutting_down",
            Self::Absence => reply.status >= 500,
        }
    }
}

/// What all clients share.
pub(crate) struct World {
    epoch: Instant,
    /// Where each node is, while it is up.
    nodes: Vec<watch::Receiver<Option<String>>>,
    tolerated: Tolerated,
    producing: AtomicBool,
    consuming: AtomicBool,
    /// Calls that were answered, to see that there is load.
    answered: AtomicU64,
}

impl World {
    /// A world of these nodes.
    pub(crate) fn new(nodes: Vec<watch::Receiver<Option<String>>>, tolerated: Tolerated) -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            nodes,
            tolerated,
            producing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
            answered: AtomicU64::new(0),
        })
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_micros() as u64
    }

    /// Time since the beginning.
    pub(crate) fn age(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Waits until a call is answered.
    pub(crate) async fn flows(&self) {
        let began = Instant::now();
        let before = self.answered.load(Ordering::Relaxed);
        while self.answered.load(Ordering::Relaxed) == before {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "no call is answered any more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A client of some node that is up, now or next.
    async fn client(&self, rng: &mut SmallRng) -> Client {
        let first = rng.random_range(0..self.nodes.len());
        loop {
            let from_first = (first..self.nodes.len()).chain(0..first);
            let up = from_first
                .into_iter()
                .find_map(|node| self.nodes[node].borrow().clone());
            match up {
                Some(url) => return Client::new(&url, Some(token(None, &Scope::ALL)), None),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// The clients of a world.
pub(crate) struct Actors {
    world: Arc<World>,
    seed: u64,
    producers: Vec<JoinHandle<History>>,
    consumers: Vec<JoinHandle<History>>,
}

impl Actors {
    /// Lets them loose; `seed` makes their choices.
    pub(crate) async fn start(world: &Arc<World>, seed: u64) -> Self {
        let mut actors = Self {
            world: world.clone(),
            seed,
            producers: Vec::new(),
            consumers: Vec::new(),
        };
        for n in 0..PRODUCERS {
            let actor = Actor::new(world.clone(), format!("p{n}"), seed + n).await;
            actors.producers.push(tokio::spawn(actor.produce()));
        }
        for n in 0..CONSUMERS {
            let actor = Actor::new(world.clone(), format!("c{n}"), seed + 100 + n).await;
            actors.consumers.push(tokio::spawn(actor.consume()));
        }
        actors
    }

    /// Stops them; what they did and heard.
    pub(crate) async fn stop(&mut self) -> History {
        let mut history = History::default();
        self.world.producing.store(false, Ordering::Relaxed);
        for producer in self.producers.drain(..) {
            history.merge(producer.await.unwrap());
        }
        self.world.consuming.store(false, Ordering::Relaxed);
        for consumer in self.consumers.drain(..) {
            history.merge(consumer.await.unwrap());
        }
        history
    }

    /// Acks all that is left, as `client` counts it, and returns what was done for it.
    pub(crate) async fn drain(&self, client: &Client) -> History {
        let (left, more) = watch::channel(true);
        let mut drainers = Vec::new();
        for n in 0..CONSUMERS {
            let actor = Actor::new(self.world.clone(), format!("d{n}"), self.seed + 200 + n).await;
            drainers.push(tokio::spawn(actor.drain(more.clone())));
        }
        let idle = client.topic("idle");
        let began = Instant::now();
        while counts(client).await != [0; 4] {
            // Longer than what a node left held, reserved or unread stays so.
            assert!(
                began.elapsed() < Duration::from_secs(150),
                "{:?} are left: {}",
                counts(client).await,
                stuck(client).await
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
}

/// Ready, scheduled, leased, dead of all topics together.
pub(crate) async fn counts(client: &Client) -> [u64; 4] {
    let mut sum = [0; 4];
    for topic in TOPICS {
        let counts = client.topic(topic).counts().await;
        sum = std::array::from_fn(|state| sum[state] + counts[state]);
    }
    sum
}

/// What is told of some item that is left.
async fn stuck(client: &Client) -> String {
    let mut told = String::new();
    for topic in TOPICS.map(|topic| client.topic(topic)) {
        for state in ["ready", "scheduled", "leased", "dead"] {
            let items = client
                .get(&topic.at(&format!("items?state={state}&limit=1")))
                .await;
            if let Some(id) = items.json()["items"][0]["id"].as_str() {
                told += &client.get(&topic.at(&format!("items/{id}/explain"))).await.text;
            }
        }
    }
    told
}

/// The number in an environment variable, or `default`.
pub(crate) fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")),
        Err(_) => default,
    }
}

/// An item on its way.
struct Sent {
    topic: &'static str,
    key: String,
    priority: i32,
    delay_ms: u64,
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
        let mut rng = SmallRng::seed_from_u64(seed);
        Self {
            client: world.client(&mut rng).await,
            rng,
            history: History::default(),
            world,
            name,
        }
    }

    fn topic(&mut self) -> &'static str {
        TOPICS[self.rng.random_range(0..TOPICS.len())]
    }

    /// The answer and how long it took to come; none when the server, or something behind it, went away meanwhile.
    async fn call(&mut self, path: &str, body: &Value) -> (Span, Option<Value>) {
        let began = self.world.now();
        let request = self.client.request(reqwest::Method::POST, path).json(body);
        let reply = self.client.try_send(request).await;
        let ended = self.world.now();
        let span = Span { began, ended };
        match reply {
            Ok(reply) if self.world.tolerated.is(&reply) => {
                // What was not done for sure, and what may have been, are the same to a careful client.
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.client = self.world.client(&mut self.rng).await;
                (span, None)
            }
            Ok(reply) => {
                self.world.answered.fetch_add(1, Ordering::Relaxed);
                (span, Some(reply.ok()))
            }
            Err(_) => {
                self.client = self.world.client(&mut self.rng).await;
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
            let mut sent = Vec::new();
            let mut items = Vec::new();
            for _ in 0..count {
                number += 1;
                let key = format!("{}-{number}", self.name);
                let delay_ms = if self.rng.random_range(0..4) == 0 {
                    self.rng.random_range(1..400)
                } else {
                    0
                };
                let priority = self.rng.random_range(0..5);
                items.push(json!({
                    "text": payload(&key), "idempotency_key": key, "delay_ms": delay_ms,
                    "priority": priority, "max_attempts": 1_000,
                }));
                sent.push(Sent {
                    topic,
                    key,
                    priority,
                    delay_ms,
                });
            }
            let durability = if self.rng.random_range(0..20) == 0 {
                "stored"
            } else {
                "logged"
            };
            let body = json!({"items": items, "durability": durability});
            let path = format!("/v1/namespaces/default/topics/{topic}/enqueue");
            while !self.enqueue(&path, &body, &sent).await {}
        }
        self.history
    }

    async fn enqueue(&mut self, path: &str, body: &Value, items: &[Sent]) -> bool {
        let (span, answer) = self.call(path, body).await;
        for (index, sent) in items.iter().enumerate() {
            let outcome = match &answer {
                None => Enqueued::Unknown,
                Some(answer) => match answer["results"][index]["id"].as_str() {
                    Some(id) => Enqueued::As(id.parse().unwrap()),
                    None => Enqueued::Refused,
                },
            };
            self.history.enqueues.push(Enqueue {
                span,
                topic: sent.topic,
                key: sent.key.clone(),
                priority: sent.priority,
                delay_ms: sent.delay_ms,
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
        let Some(answer) = answer else {
            self.history.unheard.push(span);
            return Vec::new();
        };
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
