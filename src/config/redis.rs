//! Section `[redis]`.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::reader::Reader;

/// The Redis that nodes share.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Its addresses; empty means that the hot tier is this node's memory.
    pub addrs: Vec<String>,
    /// Its user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// File with the authority of its certificates.
    pub tls_ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// How long the rate of all nodes is waited for.
    pub rate_timeout: Duration,
}

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            addrs: reader.list("redis.addrs"),
            username: reader.text("redis.username"),
            password: reader.secret("redis.password"),
            tls_ca_file: reader.path("redis.tls_ca_file"),
            prefix: reader.text("redis.prefix").unwrap_or_default(),
            timeout: reader.duration(
                "redis.timeout",
                Duration::from_millis(50)..=Duration::from_secs(1),
            ),
            rate_timeout: reader.duration(
                "redis.rate_timeout",
                Duration::from_millis(1)..=Duration::from_secs(10),
            ),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if config.prefix.is_empty() || config.prefix.len() > 64 || !config.prefix.bytes().all(is_plain) {
            reader.problem(
                "redis.prefix",
                "must be 1 to 64 letters, digits, dots, hyphens or underscores",
            );
        }
        if let Some(Err(error)) = config.tls_ca_file.as_ref().map(std::fs::File::open) {
            reader.problem("redis.tls_ca_file", format!("cannot be read: {error}"));
        }
        config
    }
}
