//! Hard limits that no configuration lifts; the configurable ones live in [`crate::config`].

/// Longest namespace, topic or hook name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Largest payload that configuration may allow, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Most items in one enqueue, dequeue or settle call.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// How many bytes of items are enough for one answer: the item that fills them is its last.
pub const ANSWER_BYTES: usize = 8 << 20;
/// Most headers on one item.
pub const HEADERS_MAX: usize = 64;
/// Largest sum of an item's header names and values, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// Longest error text kept on an item, in bytes; longer ones are cut.
pub const ERROR_BYTES_MAX: usize = 2 << 10;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Shortest lease, in milliseconds.
pub const LEASE_MS_MIN: u32 = 1_000;
/// Longest lease, in milliseconds.
pub const LEASE_MS_MAX: u32 = 12 * 3_600 * 1_000;
/// Longest wait of a long poll, in milliseconds.
pub const WAIT_MS_MAX: u32 = 20_000;
/// Most attempts a topic or an item may ask for.
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Longest `ttl_ms`, `delay_ms` or window: ten years, in milliseconds.
pub const DURATION_MS_MAX: i64 = 3_653 * 86_400 * 1_000;
/// Most topics in one multi-topic dequeue.
pub const DEQUEUE_TOPICS_MAX: usize = 100;
/// Longest `request_id` of a dequeue, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
