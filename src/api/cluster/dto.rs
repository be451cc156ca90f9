//! The documented bodies of the routes about nodes.

use poem_openapi::{Enum, Object};

use super::super::dto::Instant;

/// How a node is.
#[derive(Enum)]
#[oai(rename_all = "snake_case")]
pub(in super::super) enum NodeState {
    /// It holds its number.
    Running,
    /// It gave its number back.
    Stopped,
    /// It was not heard of for too long: its number is free.
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

/// The nodes that were heard of within a week.
#[derive(Object)]
pub(in super::super) struct NodeList {
    /// By number.
    nodes: Vec<ClusterNode>,
}
