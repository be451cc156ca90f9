//! MQueue: a multi-tenant priority message queue that its tenants program with sandboxed hooks.

pub mod clock;
pub mod model;
pub mod shard;
pub mod tenant;
pub mod wal;
