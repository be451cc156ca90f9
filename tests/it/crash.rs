//! kill -9 at random moments under load, many times, and a proof that no promise was broken.
//!
//! `MQUEUE_CRASH_ROUNDS` sets how many times (20), `MQUEUE_CRASH_SEED` repeats the choices of a run. Killing
//! a process loses nothing that it handed to the kernel: what a loss of power does is tested on the
//! simulated disk of `wal`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::actors::{Actors, Tolerated, World, counts, number_from};
use crate::client::Client;
use crate::guests::Guest;
use crate::history::History;
use crate::hook_client::{Hooks, Side};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_breaks_no_promise() {
    break_down(number_from("MQUEUE_CRASH_ROUNDS", 20), false).await;
}

/// The same while hooks shape each item on its way in and look at it on its way out: a kill falls between hook and
/// log, and between log and answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_while_hooks_run_breaks_no_promise() {
    break_down(number_from("MQUEUE_CRASH_ROUNDS", 20).div_ceil(2), true).await;
}

/// What the hook that is bound makes of every priority.
const HOOKED_PRIORITY: i32 = 3;

/// Binds a hook that gives each item another priority, and one that looks at each that goes out.
async fn bind_hooks(client: &Client) {
    let hooks = Hooks::of(client, "default");
    let urgent = Guest {
        item: "(i32.store8 offset=8 (local.get $verdict) (i32.const 2))
            (i32.store8 offset=40 (local.get $verdict) (i32.const 1))
            (i32.store offset=44 (local.get $verdict) (i32.const 3))",
        ..Guest::default()
    };
    hooks.put("urgent", Side::Enqueue, urgent, json!({})).await;
    hooks
        .put("look", Side::Dequeue, Guest::default(), json!({}))
        .await;
}

/// Producers and consumers of one server, wherever it is.
pub(crate) struct Load {
    world: Arc<World>,
    place: watch::Sender<Option<String>>,
    actors: Actors,
    seed: u64,
}

impl Load {
    /// Begins; `seed` makes the choices.
    pub(crate) async fn start(server: &Server, seed: u64) -> Self {
        let (place, url) = watch::channel(Some(server.url().to_owned()));
        let world = World::new(vec![url], Tolerated::Nothing);
        let actors = Actors::start(&world, seed).await;
        Self {
            world,
            place,
            actors,
            seed,
        }
    }

    /// Waits until calls are answered.
    pub(crate) async fn flows(&self) {
        self.world.flows().await;
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
    pub(crate) async fn finish(mut self, server: &Server) -> History {
        let mut history = self.actors.stop().await;
        check_counts(&history, counts(&server.client()).await);
        history.merge(self.actors.drain(&server.client()).await);
        println!(
            "{} accepted, {} acked, {} perhaps acked, {} deliveries, drained after {:?}",
            history.accepted().len(),
            history.acked().len(),
            history.perhaps_acked().len(),
            history.deliveries.len(),
            self.world.age()
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

/// Kills a server under load `rounds` times, and checks the history of all its clients.
async fn break_down(rounds: u64, with_hooks: bool) {
    let seed = number_from("MQUEUE_CRASH_SEED", rand::random::<u32>().into());
    println!("{rounds} rounds, seed {seed}: MQUEUE_CRASH_SEED={seed} repeats the choices");
    let mut rng = SmallRng::seed_from_u64(seed);
    // Little log and a short buffer, so that segments are freed and items stored while it is killed.
    let mut server = Server::setup()
        .set("wal.segment_bytes", "1MiB")
        .set("hot.buffer_ttl", "100ms")
        .start()
        .await;
    if with_hooks {
        bind_hooks(&server.client()).await;
    }
    let load = Load::start(&server, seed).await;
    let mut restarting = Duration::ZERO;
    for _ in 0..rounds {
        // A server without load is not worth a kill. From then on the moment must be anything but a signal of the
        // server's.
        load.flows().await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..500))).await;
        restarting += load.crash(&mut server).await;
    }
    println!("{rounds} kills, {restarting:?} of it restarting");
    let mut history = load.finish(&server).await;
    if with_hooks {
        // Their producers do not know of it.
        for enqueue in &mut history.enqueues {
            enqueue.priority = HOOKED_PRIORITY;
        }
    }
    let found = history.out_of_order();
    assert!(
        found.is_empty(),
        "seed {seed}: {} out of order, first {:?}",
        found.len(),
        found[0]
    );
    let accepted = history.accepted().len() as u64;
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
