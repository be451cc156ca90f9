//! MQueue: a multi-tenant priority message queue that its tenants program with sandboxed hooks.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod hooks;
pub mod hot;
pub mod model;
pub mod queue;
pub mod shard;
pub mod telemetry;
pub mod tenant;
pub mod wal;
