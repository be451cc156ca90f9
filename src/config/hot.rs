//! Section `[hot]`.

use std::time::Duration;

use super::reader::Reader;

/// The hot tier: items in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HotConfig {
    /// Memory for items, in bytes.
    pub bytes_max: u64,
    /// How long an accepted item may stay out of its shard.
    pub buffer_ttl: Duration,
    /// Items written to a shard in one statement.
    pub flush_chunk: usize,
    /// Share of `bytes_max` at which stored items begin to leave memory.
    pub high_water: f64,
    /// Share of `bytes_max` at which items begin to be stored early.
    pub low_water: f64,
}

impl HotConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let config = Self {
            bytes_max: reader.bytes("hot.bytes_max", 1 << 20..=1 << 40),
            buffer_ttl: reader.duration("hot.buffer_ttl", Duration::ZERO..=Duration::from_secs(24 * 3_600)),
            flush_chunk: reader.integer("hot.flush_chunk", 1..=10_000),
            high_water: reader.number("hot.high_water", 0.1..=0.95),
            low_water: reader.number("hot.low_water", 0.0..=0.9),
        };
        if config.low_water >= config.high_water {
            reader.problem("hot.low_water", "must be below hot.high_water");
        }
        config
    }
}
