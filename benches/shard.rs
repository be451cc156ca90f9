//! What a shard on SQLite costs: storing, paging and deleting in bulk.
#![expect(
    clippy::expect_used,
    reason = "a benchmark that cannot run has nothing to report"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mqueue::clock::Timestamp;
use mqueue::model::{Item, ItemId, NodeId, OrderKey, PayloadKind, QueuedItem, TopicKey};
use mqueue::shard::{Checkpoint, PageOf, SeaShard, Shard, ShardOptions};
use mqueue::wal::Lsn;
use tokio::runtime::Runtime;

const BATCH: u64 = 4_000;
const PAGE: usize = 1_000;
const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// An item with 256 bytes of payload; every second one is due in an hour.
fn item(id: u64) -> QueuedItem {
    let due = NOW.plus_ms(if id.is_multiple_of(2) { -1_000 } else { 3_600_000 });
    QueuedItem::accepted(Item {
        id: ItemId(id),
        priority: (id / 2 % 5) as i32,
        lease_ms: 30_000,
        max_attempts: 10,
        kind: PayloadKind::Bytes,
        enqueued_at: NOW.plus_ms(-1_000),
        deliver_after: due,
        expires_at: None,
        payload: [7; 256].into(),
        extra: None,
    })
}

fn topics() -> Vec<TopicKey> {
    let topic = |n| TopicKey::parse("bench", &format!("topic-{n}"));
    (0..10).map(topic).collect::<Result<_, _>>().unwrap_or_default()
}

/// A checkpoint that stores the items numbered from `first`.
fn storing(topics: &[TopicKey], first: u64) -> Checkpoint {
    let stored = |id: u64| (topics[(id / 100) as usize % topics.len()].clone(), item(id));
    Checkpoint {
        upserts: (first..first + BATCH).map(stored).collect(),
        ..empty()
    }
}

fn empty() -> Checkpoint {
    Checkpoint::at(NodeId::new(1).expect("a node"), Lsn(1))
}

fn shard(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the database");
    let runtime = Runtime::new().expect("a runtime");
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("shard.db").display());
    let shard = runtime
        .block_on(SeaShard::open(&url.into(), &ShardOptions::default()))
        .expect("a shard");
    let apply = |checkpoint: Checkpoint| runtime.block_on(shard.checkpoint(&checkpoint)).expect("stored");
    let topics = topics();
    let mut next = 1;
    let mut take = || {
        next += BATCH;
        next - BATCH
    };
    // A backlog of 200,000, so that the indexes have their depth.
    (0..50).for_each(|_| apply(storing(&topics, take())));

    let mut group = criterion.benchmark_group("shard");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(4))
        .throughput(Throughput::Elements(BATCH));
    group.bench_function("checkpoint_4000_upserts", |bencher| {
        bencher.iter_batched(|| storing(&topics, take()), apply, BatchSize::PerIteration);
    });
    group.bench_function("checkpoint_4000_deletes", |bencher| {
        let stored_to_delete = || {
            let first = take();
            apply(storing(&topics, first));
            Checkpoint {
                deletes: (first..first + BATCH).map(ItemId).collect(),
                ..empty()
            }
        };
        bencher.iter_batched(stored_to_delete, apply, BatchSize::PerIteration);
    });
    group.throughput(Throughput::Elements(PAGE as u64));
    for (name, of) in [
        ("page_1000_due_half_later", PageOf::Due(NOW)),
        ("page_1000_due_all", PageOf::Due(Timestamp::MAX)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let page = shard.page(&topics[0], of, OrderKey::MIN, PAGE);
                black_box(runtime.block_on(page)).expect("a page")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, shard);
criterion_main!(benches);
