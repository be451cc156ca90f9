//! The same stories with the hot tier in Redis and the shard in PostgreSQL; see `stores.rs`.

#[path = "http/audit.rs"]
mod audit;
#[path = "authorisation.rs"]
mod authorisation;
#[path = "bad_input.rs"]
mod bad_input;
#[path = "http/classic.rs"]
mod classic;
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
#[path = "http/events.rs"]
mod events;
#[path = "http/explain.rs"]
mod explain;
#[path = "hook_faults.rs"]
mod hook_faults;
#[path = "hook_verdicts.rs"]
mod hook_verdicts;
#[path = "hooks.rs"]
mod hooks;
#[path = "hostile_tenant.rs"]
mod hostile_tenant;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "live_config.rs"]
mod live_config;
#[path = "http/namespaces.rs"]
mod namespaces;
#[path = "http/operating.rs"]
mod operating;
#[path = "http/operations.rs"]
mod operations;
#[path = "http/producing.rs"]
mod producing;
#[path = "quotas.rs"]
mod quotas;
#[path = "http/repair.rs"]
mod repair;
#[path = "shutdown.rs"]
mod shutdown;
#[path = "http/topics.rs"]
mod topics;
#[path = "traces.rs"]
mod traces;
