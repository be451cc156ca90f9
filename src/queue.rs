//! The pipeline: one file per use case, each a story in order, over the log, the hot tier and the shards.
//!
//! Every use case keeps one rule: nothing is answered before its record is durable, and nothing is applied
//! in memory before that either, except taking an item away from others.

mod activity;
mod admission;
mod audit;
mod browse;
mod cluster;
mod core;
mod dead;
mod dequeue;
mod dequeue_hooks;
mod enqueue;
mod enqueue_hooks;
mod error;
mod explain;
mod flusher;
mod follow;
mod health;
mod history;
mod idempotency;
mod moves;
mod operate;
mod operation_counts;
mod operations;
mod overdue;
mod prefetcher;
mod quotas;
mod reaper;
mod receipts;
mod recovery;
mod request;
mod settings;
mod settle;
mod shards;
mod slots;
mod supervise;
mod sweep;
mod tenure;
mod topics;
mod traces;
mod transition;
mod uncancelled;

#[cfg(test)]
mod tests;

pub use crate::shard::{AuditQuery, AuditRecord, OperationRow};
pub use activity::{Activity, WorkDone};
pub use admission::ItemLimits;
pub use audit::Act;
pub use cluster::*;
pub use core::{LiveLimits, Parts, Queue, QueueLimits};
pub use enqueue::Checked;
pub use error::QueueError;
pub use explain::{Ahead, Explanation, WhyNot};
pub use history::{EVERY_MS as HISTORY_EVERY_MS, Moment};
pub use operation_counts::OperationNumbers;
pub use quotas::QuotaState;
pub use recovery::{Recovered, Replay};
pub use request::*;
pub use settings::Expectation;
pub use slots::SharedSlots;
pub use tenure::Tenure;

pub use crate::shard::Circuit;
