//! The same stories with the hot tier in Redis; see `is_on_redis` of `node.rs`.

#[path = "http/consuming.rs"]
mod consuming;
#[path = "crash.rs"]
mod crash;
#[path = "http/dead.rs"]
mod dead;
#[path = "delivery.rs"]
mod delivery;
#[path = "durability.rs"]
mod durability;
#[path = "lifecycle.rs"]
mod lifecycle;
