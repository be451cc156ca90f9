//! Puts a node's queue together: shards, catalog, slots, log, memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::follow::follow;
use super::nodes;
use super::rates::RedisRates;
use super::shards::{assigned_slots, check_slots, open_shards};
use super::{HookParts, StartError};
use crate::clock::Clock;
use crate::config::{Config, LiveConfig};
use crate::hot::{HotTier, MemoryOptions, MemoryTier, RedisError, RedisOptions, RedisTier};
use crate::model::{IdGenerator, ItemId, LeaseKey};
use crate::queue::{ItemLimits, LiveLimits, Parts, Queue, QueueLimits, Recovered, Replay, SharedSlots};
use crate::tenant::Quotas;
use crate::wal::disk::Disk;
use crate::wal::{Wal, WalOpenError, WalOptions, inspect};

/// Ready items a topic keeps in memory while more are in the shard.
const PREFETCH_ITEMS: u64 = 4_000;
/// Most items read from a shard in one statement.
const REFILL_ITEMS: usize = 2_000;

/// A node that does not renew its claim for so many of its times is away: others store what it left in Redis.
const SILENCE_CLAIMS: u32 = 3;

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
    let claim = nodes::claim_of(config)?;
    let node = claim.node;
    let (shards, catalog) = open_shards(&config.start.storage, &clock).await?;
    nodes::check_is_free(claim, &catalog).await?;
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
    let replay = Replay::new(progress.clone(), slots.clone());
    let replay = if config.start.redis.addrs.is_empty() {
        replay
    } else {
        replay.into_shared_tier()
    };
    let (wal, recovered) = open_log(config, disk, high_water.clone(), clock.clone(), replay).await?;
    let tenure = nodes::take(claim, config, &clock, &catalog, &shards, &progress).await?;
    check_slots(&catalog, &slots).await?;
    let floor = ItemId(high_water.load(Ordering::Relaxed));
    let ids = Arc::new(IdGenerator::new(node, clock.clone(), floor, high_water));
    let slots = SharedSlots::new(slots);
    let hot = hot_tier(config, &clock, &slots, &wal, &quotas).await?;
    let parts = Parts {
        clock,
        tenure,
        ids,
        lease_key: LeaseKey::derive(secret),
        wal,
        hot,
        shards,
        slots,
        catalog: catalog.clone(),
        defaults: config.live.topics.defaults.clone(),
        limits: limits(config),
        hooks: hooks.chains.clone(),
        quotas,
    };
    let queue = Queue::start(parts, recovered).await?;
    follow(catalog, queue.clone(), hooks.registry.clone());
    Ok(Node { queue, hooks })
}

/// The Redis that nodes share, or this node's memory.
async fn hot_tier(
    config: &Config,
    clock: &Clock,
    slots: &SharedSlots,
    wal: &Wal,
    quotas: &Quotas,
) -> Result<Arc<dyn HotTier>, StartError> {
    let (clock, slots, wal) = (clock.clone(), slots.clone(), wal.clone());
    let shard_of = Box::new(move |slot| slots.shard_of(slot) as u16);
    let redis = &config.start.redis;
    if redis.addrs.is_empty() {
        return Ok(Arc::new(MemoryTier::new(MemoryOptions {
            clock,
            shard_of,
            prefetch_items: PREFETCH_ITEMS,
        })));
    }
    let ca = match &redis.tls_ca_file {
        Some(file) => Some(
            std::fs::read(file)
                .map_err(|error| StartError::io(format!("cannot read {}", file.display()), error))?,
        ),
        None => None,
    };
    let options = RedisOptions {
        addrs: redis.addrs.clone(),
        username: redis.username.clone(),
        password: redis.password.clone(),
        ca,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
        rate_timeout: redis.rate_timeout,
        clock,
        node: config.start.node.id,
        silence: config.start.node.claim * SILENCE_CLAIMS,
        shard_of,
        prefetch_items: PREFETCH_ITEMS,
        applied: Box::new(move || wal.applied_lsn()),
    };
    match RedisTier::open(options).await {
        Ok(tier) => {
            quotas.share(Arc::new(RedisRates(tier.clone())));
            Ok(tier)
        }
        Err(RedisError::Setting(detail)) => Err(StartError::Setting {
            key: "redis.addrs",
            detail,
        }),
        Err(RedisError::Unavailable(why)) => Err(StartError::io("cannot use the Redis of REDIS_ADDRS", why)),
    }
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
    let quarantine = wal.quarantine;
    let open = move || {
        if quarantine {
            set_damage_aside(&*disk, &options.dir)?;
        }
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

/// Makes the log in `dir` readable, if there is one that is not. Damaged files are kept as they were.
///
/// # Errors
/// When the log is in use or the disk refuses. Damage that cannot be repaired is left for opening to refuse.
fn set_damage_aside(disk: &dyn Disk, dir: &Path) -> Result<(), StartError> {
    let report = match inspect::repair(disk, dir) {
        Err(WalOpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(());
        }
        report => report?,
    };
    let kept_in = report.backup.as_deref().unwrap_or("-");
    for step in &report.steps {
        let lost = step
            .lost
            .map_or_else(|| "nothing".to_owned(), |loss| loss.to_string());
        let problem = &step.problem;
        tracing::error!(%problem, %lost, kept_in, "the log was damaged and is repaired");
    }
    Ok(())
}
