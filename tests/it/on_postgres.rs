//! The stories that reach the shard, told with the hot tier in memory and the shard in PostgreSQL.

#[path = "http/consuming.rs"]
mod consuming;
#[path = "crash.rs"]
mod crash;
#[path = "http/dead.rs"]
mod dead;
#[path = "durability.rs"]
mod durability;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "http/namespaces.rs"]
mod namespaces;
#[path = "http/operations.rs"]
mod operations;
#[path = "http/repair.rs"]
mod repair;
#[path = "http/topics.rs"]
mod topics;
