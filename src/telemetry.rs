//! What operators see of a node.

pub mod logs;
pub mod metrics;
