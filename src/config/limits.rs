//! Section `[limits]`.

use super::reader::Reader;
use crate::model::limits;

/// How much one request may carry; the hard limits are in [`crate::model::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Largest payload of one item, in bytes.
    pub payload_bytes_max: usize,
    /// Most items in one request.
    pub batch_items_max: usize,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let payload_max = limits::PAYLOAD_BYTES_MAX as u64;
        let body_max = limits::BODY_BYTES_MAX as u64;
        Self {
            payload_bytes_max: reader.bytes("limits.payload_bytes_max", 1..=payload_max) as usize,
            batch_items_max: reader.integer("limits.batch_items_max", 1..=limits::BATCH_ITEMS_MAX),
            body_bytes_max: reader.bytes("limits.body_bytes_max", 1_024..=body_max) as usize,
        }
    }
}
