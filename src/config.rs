//! Configuration: flags, then environment, then `.env`, then `mqueue.toml`, then compiled-in defaults.
//!
//! `mqueue.toml` at the root of the repository holds every key with its default and is compiled in, so
//! that the documentation cannot disagree with the program. What is read splits in two from the start:
//! [`StartConfig`] is fixed for the life of the process, [`LiveConfig`] may be swapped while it runs.

mod auth;
mod exposure;
mod hooks;
mod hot;
mod limits;
mod load;
mod log;
mod node;
mod problem;
mod quotas;
mod reader;
mod redis;
mod secret;
mod server;
mod size;
mod source;
mod storage;
mod topics;
mod traces;
mod variables;
mod wal;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use auth::AuthConfig;
pub use hooks::HooksConfig;
pub use hot::HotConfig;
pub use limits::LimitsConfig;
pub use load::{Assignment, Inputs, load, parse_dotenv};
pub use log::{LogEncoding, LogLevel};
pub use node::NodeConfig;
pub use problem::{ConfigError, Problem};
pub use quotas::{Quota, QuotasConfig};
pub use reader::Entry;
pub use redis::RedisConfig;
pub use secret::JwtSecret;
pub use server::{ServerConfig, TlsFiles};
pub use size::ByteSize;
pub use source::Source;
pub use storage::StorageConfig;
pub use topics::TopicsConfig;
pub use traces::TracingConfig;
pub use wal::WalConfig;

/// The compiled-in defaults: the commented file at the root of the repository.
pub const DEFAULTS: &str = include_str!("../mqueue.toml");

/// The whole configuration, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is fixed for the life of the process.
    pub start: StartConfig,
    /// What may change while the process runs.
    pub live: LiveConfig,
    /// Every key with its value as text and where it came from; secrets are masked.
    pub entries: Vec<Entry>,
    /// What is allowed but deserves a line in the log.
    pub warnings: Vec<String>,
}

/// What is fixed for the life of the process.
#[derive(Debug, Clone)]
pub struct StartConfig {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[storage]`.
    pub storage: StorageConfig,
    /// Section `[wal]`.
    pub wal: WalConfig,
    /// Section `[hot]`.
    pub hot: HotConfig,
    /// Section `[node]`.
    pub node: NodeConfig,
    /// Section `[redis]`.
    pub redis: RedisConfig,
    /// Section `[hooks]`.
    pub hooks: HooksConfig,
    /// Section `[tracing]`.
    pub tracing: TracingConfig,
    /// `log.encoding`.
    pub log_encoding: LogEncoding,
}

/// What may change while the process runs.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// Section `[auth]`.
    pub auth: AuthConfig,
    /// Section `[topics]`.
    pub topics: TopicsConfig,
    /// Section `[limits]`.
    pub limits: LimitsConfig,
    /// Section `[quotas]`.
    pub quotas: QuotasConfig,
    /// `log.level`.
    pub log_level: LogLevel,
}

/// The live configuration in force; clones see each other's swaps.
#[derive(Debug, Clone)]
pub struct Live(Arc<ArcSwap<LiveConfig>>);

impl Live {
    /// A handle on `config`.
    pub fn new(config: LiveConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    /// The configuration in force now; hold it for one request, not for longer.
    pub fn load(&self) -> arc_swap::Guard<Arc<LiveConfig>> {
        self.0.load()
    }

    /// Puts `config` in force for everything that loads from now on.
    pub fn store(&self, config: LiveConfig) {
        self.0.store(Arc::new(config));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_seen_by_every_clone_and_not_by_what_was_loaded_before() {
        let config = load(&Inputs::default()).unwrap();
        let live = Live::new(config.live.clone());
        let other = live.clone();
        let before = other.load();
        let mut changed = config.live;
        changed.limits.batch_items_max = 7;
        live.store(changed);
        assert_eq!(before.limits.batch_items_max, 1_000);
        assert_eq!(other.load().limits.batch_items_max, 7);
    }
}
