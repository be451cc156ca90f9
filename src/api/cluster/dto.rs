//! The documented bodies of the routes about nodes and shards.

use poem_openapi::{Enum, Object};

use super::super::dto::{Instant, ShardEvent};

/// How a node is.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(in super::super) enum NodeState {
    /// It holds its number.
    Running,
    /// It gave its number back.
    Stopped,
    /// It was not heard of for too long: its number is free, and its log may have items that no shard has.
    Missing,
}

/// A node. Instants are by the clock of the catalog's database.
#[derive(Object)]
pub(in super::super) struct ClusterNode {
    /// Its number.
    node: u16,
    /// How it is.
    state: NodeState,
    /// Whether it is the node that answers.
    this: bool,
    /// Where it listens, as it is configured.
    address: String,
    /// The version it runs.
    version: String,
    /// When it started.
    started_at: Instant,
    /// When it was last heard of.
    heard_at: Instant,
    /// How long ago that is, in milliseconds.
    silent_ms: u64,
}

/// The nodes; not those that gave their number back more than a week ago.
#[derive(Object)]
pub(in super::super) struct NodeList {
    /// By number.
    nodes: Vec<ClusterNode>,
}

/// How far slots on their way are.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(in super::super) enum MoveState {
    /// They are to be moved.
    Planned,
    /// They are copied; nothing is stored in their shards meanwhile.
    Copying,
    /// They belong to their new shard, and every node learns of it.
    ChangingOver,
    /// What their old shard has of them is removed.
    Clearing,
}

/// Slots on their way.
#[derive(Object)]
pub(in super::super) struct MovingSlots {
    /// The shard they come from.
    from: u16,
    /// The shard they go to.
    to: u16,
    /// How far they are.
    state: MoveState,
    /// How many.
    slots: u32,
}

/// The shards, and slots on their way between them.
#[derive(Object)]
pub(in super::super) struct ShardList {
    /// In the order of `DATABASE_URLS`.
    shards: Vec<ShardEvent>,
    /// By their shards and how far they are.
    moves: Vec<MovingSlots>,
    /// What the moves wait for, as far as this node knows.
    waits_for: Option<String>,
}

/// Which slots to move: either `balance`, or all of `from`, `to` and `slots`.
#[derive(Object)]
pub(in super::super) struct MoveRequest {
    /// The shard they are in.
    from: Option<u16>,
    /// The shard they go to.
    to: Option<u16>,
    /// How many.
    slots: Option<u32>,
    /// So many that every shard holds the same number.
    #[oai(default)]
    balance: bool,
    /// Change nothing; tell what would be moved.
    #[oai(default)]
    dry_run: bool,
}

/// Slots that are, or would be, moved.
#[derive(Object)]
pub(in super::super) struct PlannedMove {
    /// The shard they are in.
    from: u16,
    /// The shard they go to.
    to: u16,
    /// How many.
    slots: u32,
}

/// What is moved.
#[derive(Object)]
pub(in super::super) struct MovePlan {
    /// Whether it was only asked.
    dry_run: bool,
    /// From where to where.
    moves: Vec<PlannedMove>,
}
