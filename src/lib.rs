//! MQueue: a multi-tenant priority message queue that its tenants program with sandboxed hooks.

pub mod clock;
pub mod hot;
pub mod model;
pub mod queue;
pub mod shard;
pub mod wal;
