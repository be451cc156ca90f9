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
mod watch;

use std::path::PathBuf;

pub use auth::AuthConfig;
pub use hooks::{HooksConfig, NamespaceHooksConfig};
pub use hot::HotConfig;
pub use limits::LimitsConfig;
pub use load::{Assignment, Inputs, Origin, load, parse_dotenv};
pub use log::{LogEncoding, LogLevel};
pub use node::NodeConfig;
pub use problem::{ConfigError, Problem};
pub use quotas::QuotasConfig;
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
pub use watch::{FolderWatch, WatchError, folders_of};

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
    /// The files it is made of, or would be if they were there.
    pub files: Vec<PathBuf>,
    /// The configuration file, when it is there.
    pub file: Option<PathBuf>,
}

impl Config {
    /// The keys whose values differ from those of `before`. The text of the file of public keys counts as part of
    /// its key.
    pub fn changes_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = Change<'a>> {
        let other_keys = self.live.auth.jwks != before.live.auth.jwks;
        self.entries.iter().filter_map(move |entry| {
            let old = before.entries.iter().find(|old| old.key == entry.key);
            let differs = old.is_none_or(|old| old.digest != entry.digest);
            let differs = differs || (other_keys && entry.key == "auth.jwks_file");
            differs.then_some(Change { entry, old })
        })
    }
}

/// A key whose value differs between two readings.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The key as it is now.
    pub entry: &'a Entry,
    /// As it was before.
    pub old: Option<&'a Entry>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, secret: &str) -> Config {
        load(&Inputs {
            file: Some(("my.toml".into(), text.into())),
            environment: vec![("JWT_SECRET".into(), secret.into())],
            ..Inputs::default()
        })
        .unwrap()
    }

    #[test]
    fn changes_are_told_by_key_with_what_they_take() {
        let one = with("", "0123456789abcdef0123456789abcdef");
        let two = with(
            "[log]\nlevel = 'warn'\n[hot]\nflush_chunk = 7\n[quotas.namespaces]\na = 5",
            "fedcba9876543210fedcba9876543210",
        );
        let told = |change: Change<'_>| (change.entry.key.clone(), change.entry.is_live());
        let mut changes: Vec<_> = two.changes_since(&one).map(told).collect();
        changes.sort_unstable();
        let expected = [
            ("auth.jwt_secret", true),
            ("hot.flush_chunk", false),
            ("log.level", true),
            ("quotas.namespaces", true),
        ];
        assert_eq!(changes, expected.map(|(key, is_live)| (key.to_owned(), is_live)));
        assert_eq!(one.changes_since(&one).count(), 0);
    }
}
