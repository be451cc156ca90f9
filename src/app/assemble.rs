//! Puts a node's queue together: shards, catalog, slots, log, memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use secrecy::SecretString;

use super::{HookParts, StartError};
use crate::clock::Clock;
use crate::config::{Config, LiveConfig, StorageConfig};
use crate::hot::{MemoryOptions, MemoryTier};
use crate::model::{IdGenerator, ItemId, LeaseKey};
use crate::queue::{ItemLimits, LiveLimits, Parts, Queue, QueueLimits, Recovered, Replay};
use crate::shard::{Catalog, SeaShard, Shard, ShardError, ShardOptions, Shards, SlotMap};
use crate::tenant::Quotas;
use crate::wal::disk::Disk;
use crate::wal::{Wal, WalOptions};

/// Ready items a topic keeps in memory while more are in the shard.
const PREFETCH_ITEMS: u64 = 4_000;
/// Most items read from a shard in one statement.
const REFILL_ITEMS: usize = 2_000;

/// A node's parts that requests go to.
#[derive(Clone)]
pub struct Node {
    /// The queue.
    pub queue: Queue,
    /// What the queue's hooks are made of.
    pub hooks: HookParts,
}

/// Opens everything `config` names, replays the log, and starts the queue. `secret` is what lease ids and
/// compiled hooks are authenticated with; `quotas` say what namespaces may do; `program` is this binary, which
/// compiles hooks in a child process.
pub async fn assemble(
    config: &Config,
    secret: &[u8],
    clock: Clock,
    disk: Arc<dyn Disk>,
    quotas: Arc<Quotas>,
    program: &Path,
) -> Result<Node, StartError> {
    if !config.start.redis.addrs.is_empty() {
        let detail = "a shared Redis hot tier is not supported in this version; leave REDIS_ADDRS empty";
        return Err(StartError::Setting {
            key: "redis.addrs",
            detail: detail.into(),
        });
    }
    let node = config.start.node.id;
    let (shards, catalog) = open_shards(&config.start.storage).await?;
    let hooks = HookParts::start(config, secret, program, &clock, &catalog, quotas.clone()).await?;
    let slots = assigned_slots(&catalog, shards.len()).await?;
    let mut progress = Vec::with_capacity(shards.len());
    for (number, shard) in shards.iter().enumerate() {
        progress.push(
            shard
                .progress(node)
                .await
                .map_err(|error| StartError::Shard { number, error })?,
        );
    }
    let high_water = Arc::new(AtomicU64::new(0));
    let replay = Replay::new(progress, slots.clone());
    let (wal, recovered) = open_log(config, disk, high_water.clone(), clock.clone(), replay).await?;
    let floor = ItemId(high_water.load(Ordering::Relaxed));
    let ids = Arc::new(IdGenerator::new(node, clock.clone(), floor, high_water));
    let shard_of = slots.clone();
    let hot = MemoryTier::new(MemoryOptions {
        clock: clock.clone(),
        shard_of: Box::new(move |slot| shard_of.shard_of(slot) as u16),
        prefetch_items: PREFETCH_ITEMS,
    });
    let parts = Parts {
        clock,
        node,
        ids,
        lease_key: LeaseKey::derive(secret),
        wal,
        hot: Arc::new(hot),
        shards,
        slots,
        catalog,
        defaults: config.live.topics.defaults.clone(),
        limits: limits(config),
        hooks: hooks.chains.clone(),
        quotas,
    };
    let queue = Queue::start(parts, recovered).await?;
    Ok(Node { queue, hooks })
}

/// The limits of `live`, for the start and for every change.
pub(super) fn live_limits(live: &LiveConfig) -> LiveLimits {
    LiveLimits {
        items: ItemLimits {
            payload_bytes_max: live.limits.payload_bytes_max,
            batch_items_max: live.limits.batch_items_max,
        },
        topics_per_namespace_max: live.topics.per_namespace_max,
    }
}

fn limits(config: &Config) -> QueueLimits {
    let hot = &config.start.hot;
    QueueLimits {
        live: live_limits(&config.live),
        hot_bytes_max: hot.bytes_max as usize,
        hot_bytes_high: (hot.bytes_max as f64 * hot.high_water) as usize,
        hot_bytes_low: (hot.bytes_max as f64 * hot.low_water) as usize,
        buffer_ttl_ms: hot.buffer_ttl.as_millis() as i64,
        wal_bytes_soft: config.start.wal.bytes_max / 2,
        flush_items: hot.flush_chunk,
        refill_items: REFILL_ITEMS,
    }
}

/// The shards in the order of `DATABASE_URLS`, embedded ones when there are none, and the first one's
/// catalog.
async fn open_shards(storage: &StorageConfig) -> Result<(Shards, Catalog), StartError> {
    std::fs::create_dir_all(&storage.data_dir)
        .map_err(|error| StartError::io(format!("cannot make {}", storage.data_dir.display()), error))?;
    let embedded = |number: u16| {
        let path = storage.data_dir.join(format!("shard-{number}.db"));
        SecretString::from(format!("sqlite://{}?mode=rwc", path.display()))
    };
    let urls = match storage.database_urls.as_slice() {
        [] => (0..storage.sqlite_shards).map(embedded).collect(),
        urls => urls.to_vec(),
    };
    let options = ShardOptions {
        postgres_connections: storage.pool_connections_max,
        statement_timeout: storage.statement_timeout,
        connect_timeout: storage.acquire_timeout,
        ..ShardOptions::default()
    };
    let mut shards: Shards = Vec::with_capacity(urls.len());
    let mut catalog = None;
    for (number, url) in urls.iter().enumerate() {
        let shard = SeaShard::open(url, &options)
            .await
            .map_err(|error| StartError::Shard { number, error })?;
        catalog.get_or_insert_with(|| shard.catalog());
        shards.push(Arc::new(shard) as Arc<dyn Shard>);
    }
    match catalog {
        Some(catalog) => Ok((shards, catalog)),
        None => Err(StartError::Setting {
            key: "storage.sqlite_shards",
            detail: "must be at least 1".into(),
        }),
    }
}

/// The persisted assignment of slots, made on the first start.
async fn assigned_slots(catalog: &Catalog, shard_count: usize) -> Result<SlotMap, StartError> {
    let failed = |error: ShardError| StartError::Shard { number: 0, error };
    let owners = catalog.load().await.map_err(failed)?.slots;
    if !owners.is_empty() {
        return Ok(SlotMap::persisted(owners, shard_count)?);
    }
    let slots = SlotMap::initial(shard_count)?;
    catalog.put_slots(slots.owners()).await.map_err(failed)?;
    Ok(slots)
}

/// Opens and replays the log on a thread of its own: reading a large one takes seconds.
async fn open_log(
    config: &Config,
    disk: Arc<dyn Disk>,
    high_water: Arc<AtomicU64>,
    clock: Clock,
    mut replay: Replay,
) -> Result<(Wal, Recovered), StartError> {
    let wal = &config.start.wal;
    let dir = wal.folder(&config.start.storage);
    let options = WalOptions {
        segment_bytes: wal.segment_bytes,
        bytes_max: wal.bytes_max,
        spare_segments: wal.spare_segments,
        pending_bytes_max: wal.pending_bytes_max,
        disk_free_bytes_min: wal.disk_free_bytes_min,
        ..WalOptions::new(dir, config.start.node.id)
    };
    let open = move || {
        let began = clock.monotonic();
        let mut visit = |lsn, record| replay.visit(lsn, record);
        let wal = Wal::open(options, disk, high_water, &mut visit)?;
        let recovered = replay.finish();
        tracing::info!(
            records = recovered.records(),
            live_items = recovered.live(),
            replay_ms = clock.monotonic().0 - began.0,
            "the log is replayed"
        );
        Ok((wal, recovered))
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened,
        Err(error) => Err(StartError::io("cannot replay the log", error)),
    }
}
