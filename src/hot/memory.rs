//! The hot tier in this process's memory, bounded in bytes.
//!
//! One short critical section per call under the topic's own lock; nothing in here waits.

mod browse;
mod cold;
mod evict;
mod flush;
mod holdings;
mod keys;
mod ordered;
mod purge;
mod settle;
mod settled;
mod tier;
mod timers;
mod topic;

pub use tier::{MemoryOptions, MemoryTier};
