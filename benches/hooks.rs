//! How fast the hook engine makes calls: fresh and kept instances, one item and a hundred of 256 bytes.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mqueue::clock::{Clock, Stopwatch, Timestamp};
use mqueue::hooks::engine::{CpuQuotas, Engine, EngineOptions, ModuleSource};
use mqueue::hooks::{Call, HookContext, HookItem, Runner, Version};
use mqueue::model::{
    CpuRate, Digest, HookLimits, HookRef, InstanceMode, Item, ItemId, Manifest, PayloadKind, Side, TopicKey,
};

const PAYLOAD_BYTES: usize = 256;

/// Answers with the first byte of each payload: reads every item, gives little back.
const ITEM: &str = "(i32.store8 offset=8 (local.get $verdict) (i32.const 1))
    (i32.store offset=16 (local.get $verdict) (i32.load offset=60 (local.get $item)))
    (i32.store offset=20 (local.get $verdict) (i32.load offset=64 (local.get $item)))";

struct Nothing;

#[async_trait]
impl ModuleSource for Nothing {
    async fn module(&self, _: Digest) -> Option<Vec<u8>> {
        None
    }
}

fn call(digest: Digest, instance: InstanceMode, count: u64) -> Call {
    let items: Arc<[HookItem]> = (1..=count)
        .map(|id| HookItem {
            item: Arc::new(Item {
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
            }),
            attempt: 0,
            hops: 0,
        })
        .collect();
    Call {
        version: Arc::new(Version {
            namespace: "bench".parse().expect("a namespace"),
            hook: HookRef {
                hook: "echo".parse().expect("a hook"),
                version: 1,
            },
            digest,
            manifest: Manifest {
                instance,
                ..Manifest::default()
            },
            limits: HookLimits::default(),
            config: Arc::default(),
            secrets: Arc::default(),
            quarantined: false,
        }),
        side: Side::Enqueue,
        context: Arc::new(HookContext {
            topic: TopicKey::parse("bench", "orders").expect("a topic"),
            now: Timestamp::from_ms(1),
            principal: "producer".into(),
            scopes: Arc::new(["enqueue".into()]),
        }),
        range: 0..items.len(),
        items,
        rehearsal: false,
    }
}

/// Makes `calls` calls from `tasks` tasks.
async fn run(engine: &Arc<Engine>, call: &Call, calls: u64, tasks: u64) {
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let (engine, call) = (engine.clone(), call.clone());
            let calls = calls / tasks + u64::from(task < calls % tasks);
            tokio::spawn(async move {
                for _ in 0..calls {
                    engine.call(call.clone()).await.outcome.expect("verdicts");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task");
    }
}

fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory for the cache");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_mqueue"));
    let options = EngineOptions {
        cpu: CpuQuotas::new(|_| CpuRate {
            per_second: Duration::from_secs(1_000),
            burst: Duration::from_secs(1_000),
        }),
        ..EngineOptions::new(dir.path().join("cache"), [1; 32], program)
    };
    let _entered = runtime.enter();
    let engine = Engine::start(options, Clock::system(), Arc::new(Nothing)).expect("an engine");
    let text = include_str!("../plugins/fixtures/template.wat").replace("(;ITEM;)", ITEM);
    let namespace = "bench".parse().expect("a namespace");
    let prepared = runtime
        .block_on(engine.prepare(text.as_bytes(), &namespace))
        .expect("a module");

    let mut group = criterion.benchmark_group("hook");
    group
        .sample_size(20)
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500));
    for (mode, name) in [(InstanceMode::Fresh, "fresh"), (InstanceMode::Warm, "warm")] {
        for count in [1, 100] {
            let call = call(prepared.digest, mode, count);
            for tasks in [1, 64] {
                group.throughput(Throughput::Elements(count));
                group.bench_function(format!("{name}/{count} items/{tasks} callers"), |bencher| {
                    bencher.iter_custom(|calls| {
                        let watch = Stopwatch::start();
                        runtime.block_on(run(&engine, &call, calls, tasks));
                        watch.elapsed()
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
