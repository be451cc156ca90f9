//! How fast the log takes frames from many callers, and how fast it is read back.
//!
//! `MQUEUE_BENCH_DIR` names a directory on the disk to be measured; without it the system's temporary one is.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mqueue::clock::Timestamp;
use mqueue::model::{Item, ItemId, NodeId, PayloadKind, TopicKey};
use mqueue::wal::disk::RealDisk;
use mqueue::wal::{FrameBuilder, Lsn, Record, Wal, WalError, WalOptions};
use tempfile::TempDir;

const TASKS: u64 = 64;
const PAYLOAD_BYTES: usize = 256;

fn log_dir() -> TempDir {
    let parent = std::env::var_os("MQUEUE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).expect("a directory for the log")
}

fn open(dir: &TempDir, visit: &mut dyn FnMut(Lsn, Record)) -> Wal {
    let node = NodeId::new(1).expect("a node");
    let options = WalOptions {
        disk_free_bytes_min: 0,
        ..WalOptions::new(dir.path(), node)
    };
    Wal::open(options, Arc::new(RealDisk::new()), Arc::default(), visit).expect("a log")
}

fn items(count: usize) -> Vec<Item> {
    (1..=count as u64)
        .map(|id| Item {
            id: ItemId(id),
            priority: 100,
            lease_ms: 30_000,
            max_attempts: 10,
            kind: PayloadKind::Bytes,
            enqueued_at: Timestamp::from_ms(1),
            deliver_after: Timestamp::from_ms(1),
            expires_at: None,
            payload: vec![id as u8; PAYLOAD_BYTES].into(),
            extra: None,
        })
        .collect()
}

/// Appends `frames` frames of `batch` items from all tasks at once, freeing what is applied as it goes.
async fn append(wal: &Wal, frames: u64, batch: Arc<Vec<Item>>) {
    let topic = TopicKey::parse("bench", "orders").expect("a topic");
    let left = Arc::new(AtomicU64::new(frames));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (wal, batch, topic, left) = (wal.clone(), batch.clone(), topic.clone(), left.clone());
            tokio::spawn(async move {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let mut frame = FrameBuilder::new();
                    frame.enqueue(&topic, batch.iter());
                    let pending = match wal.append(frame) {
                        Err(WalError::Full) => {
                            left.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            continue;
                        }
                        other => other.expect("a frame in the log"),
                    };
                    drop(pending.durable().await.expect("a durable frame"));
                    if wal.oldest_segment_end().is_some() {
                        wal.free_up_to(wal.applied_lsn());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task that ends");
    }
}

fn bench_append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    for (name, batch, frames) in [("singles", 1, 100_000_u64), ("batches of 100", 100, 10_000)] {
        let dir = log_dir();
        let wal = open(&dir, &mut |_, _| {});
        let batch = Arc::new(items(batch));
        let mut group = criterion.benchmark_group("append, 64 tasks");
        configure(&mut group, frames * batch.len() as u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(append(&wal, frames, batch.clone())));
        });
        group.finish();
        let status = wal.status();
        let mean = status
            .sync_time
            .checked_div(status.syncs as u32)
            .unwrap_or_default();
        eprintln!(
            "{name}: {} frames, {} syncs of {mean:?} on average",
            status.frames, status.syncs
        );
    }
}

fn bench_replay(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    for (name, batch, frames) in [("singles", 1, 500_000_u64), ("batches of 100", 100, 5_000)] {
        let dir = log_dir();
        let wal = open(&dir, &mut |_, _| {});
        let batch = items(batch);
        let topic = TopicKey::parse("bench", "orders").expect("a topic");
        for _ in 0..frames {
            let mut frame = FrameBuilder::new();
            frame.enqueue(&topic, batch.iter());
            let pending = wal.append(frame).expect("a frame in the log");
            if pending.lsn().0.is_multiple_of(100) {
                drop(runtime.block_on(pending.durable()).expect("a durable frame"));
            }
        }
        wal.close();
        let mut group = criterion.benchmark_group("replay");
        configure(&mut group, frames * batch.len() as u64);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut read = 0;
                let wal = open(&dir, &mut |_, record| {
                    if let Record::Enqueue { items, .. } = record {
                        read += items.len() as u64;
                    }
                });
                assert_eq!(read, frames * batch.len() as u64);
                wal.close();
            });
        });
        group.finish();
    }
}

fn configure(group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>, items: u64) {
    group
        .throughput(Throughput::Elements(items))
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5));
}

fn benches(criterion: &mut Criterion) {
    bench_append(criterion);
    bench_replay(criterion);
}

criterion_group!(all, benches);
criterion_main!(all);
