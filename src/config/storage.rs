//! Section `[storage]`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// Where the node keeps what must survive.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// Folder of everything this node keeps.
    pub data_dir: PathBuf,
    /// Shards in their fixed order; empty means embedded SQLite files in the data directory. The URLs may
    /// hold passwords.
    pub database_urls: Vec<SecretString>,
    /// Number of embedded SQLite files when no URLs are given.
    pub sqlite_shards: u16,
    /// Longest time for one SQL statement.
    pub statement_timeout: Duration,
    /// Longest time for getting a connection.
    pub acquire_timeout: Duration,
    /// Open connections to each PostgreSQL shard.
    pub pool_connections_max: u32,
    /// Fewest calls of a shard that fail before it is left alone.
    pub breaker_failures: u32,
    /// How long a failed call counts.
    pub breaker_window: Duration,
    /// How long a call of a PostgreSQL shard may take before it counts as failed.
    pub breaker_slow: Duration,
}

impl StorageConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let timeout = Duration::from_millis(100)..=Duration::from_secs(600);
        let data_dir = reader.path("storage.data_dir");
        let urls = reader.list("storage.database_urls");
        if data_dir.is_none() {
            reader.problem("storage.data_dir", "must name a folder");
        }
        let known = |url: &&String| {
            ["postgres://", "postgresql://", "sqlite:"]
                .iter()
                .any(|scheme| url.starts_with(scheme))
        };
        if urls.iter().any(|url| !known(&url)) {
            reader.problem(
                "storage.database_urls",
                "every URL must begin with postgres:// or sqlite://",
            );
        }
        let distinct: std::collections::BTreeSet<_> = urls.iter().collect();
        if distinct.len() != urls.len() {
            reader.problem(
                "storage.database_urls",
                "a database can be only one shard; drop the repeated URL",
            );
        }
        Self {
            data_dir: data_dir.unwrap_or_default(),
            database_urls: urls.into_iter().map(SecretString::from).collect(),
            sqlite_shards: reader.integer("storage.sqlite_shards", 1..=64),
            statement_timeout: reader.duration("storage.statement_timeout", timeout.clone()),
            acquire_timeout: reader.duration("storage.acquire_timeout", timeout),
            pool_connections_max: reader.integer("storage.pool_connections_max", 1..=1_000),
            breaker_failures: reader.integer("storage.breaker_failures", 1..=1_000),
            breaker_window: reader.duration(
                "storage.breaker_window",
                Duration::from_secs(1)..=Duration::from_secs(600),
            ),
            breaker_slow: reader.duration(
                "storage.breaker_slow",
                Duration::from_millis(50)..=Duration::from_secs(60),
            ),
        }
    }
}
