//! What items weigh in memory.

use crate::model::Item;

/// What [`item_bytes`] counts for an item without payload, headers or other extras.
pub const FIXED_BYTES: usize = 360;

/// The bytes an item takes in memory beside its payload: its parts, its places in maps and queues.
pub fn item_bytes(item: &Item) -> usize {
    let extra = item.extra.as_deref().map_or(0, |extra| {
        let text = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
        let headers: usize = extra
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 48)
            .sum();
        128 + headers + text(&extra.content_type) + text(&extra.idempotency_key) + text(&extra.hook_version)
    });
    FIXED_BYTES + item.payload.len() + extra
}
