//! A constant backlog that is filled at one end and emptied at the other: what a page of it costs at the start
//! and at the end, while millions of dead rows pass by.
//!
//! `cargo run --release --example churn -- DATABASE_URL [ITEMS] [BACKLOG]`; the database, or its parameter
//! `schema`, should be empty.
#![expect(
    clippy::expect_used,
    reason = "a measurement that cannot run has nothing to report"
)]
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::time::Duration;

use mqueue::clock::{Stopwatch, Timestamp};
use mqueue::model::{Item, ItemId, NodeId, OrderKey, PayloadKind, QueuedItem, TopicKey};
use mqueue::shard::{Checkpoint, PageOf, SeaShard, Shard, ShardOptions};
use mqueue::wal::Lsn;

const BATCH: u64 = 1_000;
/// How many rounds a line of the report is about.
const ROUNDS: u64 = 250;
const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// An item with 256 bytes of payload, one of five priorities.
fn item(id: u64) -> QueuedItem {
    QueuedItem::accepted(Item {
        id: ItemId(id),
        priority: (id % 5) as i32,
        lease_ms: 30_000,
        max_attempts: 10,
        kind: PayloadKind::Bytes,
        enqueued_at: NOW,
        deliver_after: NOW,
        expires_at: None,
        payload: [7; 256].into(),
        extra: None,
    })
}

struct Churn {
    shard: SeaShard,
    topic: TopicKey,
    next: u64,
    pages: Vec<Duration>,
    checkpoints: Vec<Duration>,
}

impl Churn {
    /// Stores a batch, and deletes `gone` in the same checkpoint.
    async fn store(&mut self, gone: Vec<ItemId>) {
        let ids = self.next..self.next + BATCH;
        self.next += BATCH;
        let node = NodeId::new(1).expect("a node");
        let mut checkpoint = Checkpoint::at(node, Lsn(self.next));
        checkpoint.upserts = ids.map(|id| (self.topic.clone(), item(id))).collect();
        checkpoint.deletes = gone;
        let watch = Stopwatch::start();
        self.shard.checkpoint(&checkpoint).await.expect("stored");
        self.checkpoints.push(watch.elapsed());
    }

    /// Reads the first page, as a consumer would, and replaces what was on it.
    async fn round(&mut self) {
        let watch = Stopwatch::start();
        let page = self
            .shard
            .page(&self.topic, PageOf::Due(NOW), OrderKey::MIN, BATCH as usize)
            .await
            .expect("a page");
        self.pages.push(watch.elapsed());
        self.store(page.iter().map(|queued| queued.item.id).collect())
            .await;
    }
}

fn median_ms(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: f64| {
        let place = (times.len() as f64 * share) as usize;
        times.get(place).copied().unwrap_or_default().as_secs_f64() * 1_000.0
    };
    (at(0.5), at(0.99))
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the address of an empty database");
    let mut number = |default: u64| {
        let given = arguments.next();
        given.map_or(default, |text| text.parse().expect("a number"))
    };
    let (items, backlog) = (number(5_000_000), number(100_000));
    let shard = SeaShard::open(&url.into(), &ShardOptions::default())
        .await
        .expect("a shard");
    let mut churn = Churn {
        shard,
        topic: TopicKey::parse("bench", "churn").expect("a topic"),
        next: 1,
        pages: Vec::new(),
        checkpoints: Vec::new(),
    };
    while churn.next <= backlog {
        churn.store(vec![]).await;
    }
    println!("items passed | page of {BATCH}: median, p99 ms | checkpoint: median, p99 ms");
    let rounds = items.saturating_sub(backlog) / BATCH;
    for round in 1..=rounds {
        churn.round().await;
        if round % ROUNDS == 0 || round == rounds {
            let (page, page_p99) = median_ms(&mut churn.pages);
            let (stored, stored_p99) = median_ms(&mut churn.checkpoints);
            println!(
                "{:>12} | {page:>8.2} {page_p99:>8.2} | {stored:>8.2} {stored_p99:>8.2}",
                round * BATCH
            );
            churn.pages.clear();
            churn.checkpoints.clear();
        }
    }
}
