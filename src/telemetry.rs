//! What operators see of a node.

pub mod catalogue;
mod duration_metrics;
mod hook_metrics;
pub mod logs;
pub mod metrics;
