//! Section `[redis]`.

use secrecy::SecretString;

use super::reader::Reader;

/// The Redis that nodes share.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// Its addresses; empty means that the hot tier is this node's memory.
    pub addrs: Vec<String>,
    /// Its password.
    pub password: Option<SecretString>,
}

impl RedisConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            addrs: reader.list("redis.addrs"),
            password: reader.secret("redis.password"),
        };
        if !config.addrs.is_empty() {
            reader.problem(
                "redis.addrs",
                "a hot tier shared through Redis is not supported in this version; leave it empty to keep \
                 the hot tier in this node's memory",
            );
        }
        config
    }
}
