//! What operators see of a node.

pub mod catalogue;
mod duration_metrics;
mod hook_metrics;
pub mod logs;
pub mod metrics;
mod node_metrics;
mod operation_metrics;
mod quota_metrics;
mod shard_metrics;
mod topic_metrics;
pub mod traces;
