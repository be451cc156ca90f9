//! What is told of shards and nodes, and asked of them.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::shard::Circuit;

/// A shard as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardView {
    /// Its place in `DATABASE_URLS`, from 0.
    pub shard: u16,
    /// Whether calls of it are made.
    pub state: Circuit,
    /// Why the last call that failed did, while calls do not go well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How many times it was left alone since the node started.
    pub openings: u64,
    /// How many calls failed at once since the node started.
    pub refused: u64,
    /// How many slots it holds.
    pub slots: u32,
    /// How many topics.
    pub topics: u64,
    /// How many items of these topics there are, in memory or stored.
    pub items: u64,
}

/// A node as the catalog knows it. Instants are by the clock of the catalog's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeView {
    /// Its number.
    pub node: u16,
    /// `running`; `stopped` when it gave its number back; `missing` when it was not heard of for too long.
    pub state: &'static str,
    /// Whether it is the node that tells.
    pub this: bool,
    /// Where it listens, as it is configured.
    pub address: String,
    /// The version it runs.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heard_at: Timestamp,
    /// How long ago that is, in milliseconds.
    pub silent_ms: i64,
}

/// Which slots are to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveRequest {
    /// So many that every shard holds the same number.
    Balance,
    /// Some of one shard to another.
    Some {
        /// The shard they are in.
        from: u16,
        /// The shard they go to.
        to: u16,
        /// How many.
        slots: u32,
    },
}

/// Slots that are, or would be, moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PlannedMove {
    /// The shard they are in.
    pub from: u16,
    /// The shard they go to.
    pub to: u16,
    /// How many.
    pub slots: u32,
}

/// Slots on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MovingView {
    /// The shard they come from.
    pub from: u16,
    /// The shard they go to.
    pub to: u16,
    /// `planned`, `copying`, `changing_over` or `clearing`.
    pub state: &'static str,
    /// How many.
    pub slots: u32,
}

/// All slots on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MovesView {
    /// By their shards and how far they are.
    pub moves: Vec<MovingView>,
    /// What the moves wait for, as far as this node knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}
