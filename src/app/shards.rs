//! Opens the shards, each behind a breaker, and reads which slots are whose.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::StartError;
use crate::clock::Clock;
use crate::config::StorageConfig;
use crate::shard::{
    Breaker, BreakerOptions, Catalog, SeaShard, Shard, ShardError, ShardOptions, Shards, SlotMap,
};

/// The shards in the order of `DATABASE_URLS`, embedded ones when there are none, and the first one's
/// catalog.
pub(super) async fn open_shards(
    storage: &StorageConfig,
    clock: &Clock,
) -> Result<(Shards, Catalog), StartError> {
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
        let breaker = Breaker::new(Arc::new(shard), breaker_options(storage, url), clock.clone());
        shards.push(Arc::new(breaker) as Arc<dyn Shard>);
    }
    match catalog {
        Some(catalog) => Ok((shards, catalog)),
        None => Err(StartError::Setting {
            key: "storage.sqlite_shards",
            detail: "must be at least 1".into(),
        }),
    }
}

fn breaker_options(storage: &StorageConfig, url: &SecretString) -> BreakerOptions {
    // A file that is slow shares its disk with the log: leaving it alone would spare nobody.
    let is_file = url.expose_secret().starts_with("sqlite:");
    BreakerOptions {
        failures: storage.breaker_failures,
        window: storage.breaker_window,
        slow: if is_file {
            storage.statement_timeout * 2
        } else {
            storage.breaker_slow
        },
    }
}

/// The persisted assignment of slots, made on the first start.
pub(super) async fn assigned_slots(catalog: &Catalog, shard_count: usize) -> Result<SlotMap, StartError> {
    let failed = |error: ShardError| StartError::Shard { number: 0, error };
    let owners = catalog.load().await.map_err(failed)?.slots;
    if !owners.is_empty() {
        return Ok(SlotMap::persisted(owners, shard_count)?);
    }
    let slots = SlotMap::initial(shard_count)?;
    catalog.put_slots(slots.owners()).await.map_err(failed)?;
    Ok(slots)
}

/// Refuses to go on when slots have moved since the log was replayed by where they were.
pub(super) async fn check_slots(catalog: &Catalog, replayed: &SlotMap) -> Result<(), StartError> {
    let contents = catalog.slots().await;
    let contents = contents.map_err(|error| StartError::Shard { number: 0, error })?;
    if contents.owners == replayed.owners() {
        return Ok(());
    }
    Err(StartError::io("slots have moved this moment", "start again"))
}
