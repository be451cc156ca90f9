//! Section `[node]`.

use std::time::Duration;

use super::reader::Reader;
use crate::model::NodeId;

/// Which node this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its number, different on every node.
    pub id: NodeId,
    /// How long nobody else may have the number after the node was last heard of.
    pub claim: Duration,
}

impl NodeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let first = NodeId::new(0);
        let number: u16 = reader.integer("node.id", 0..=NodeId::MAX);
        let claim = reader.duration("node.claim", Duration::from_secs(1)..=Duration::from_secs(600));
        match NodeId::new(number).or(first) {
            Some(id) => Self { id, claim },
            None => unreachable!("0 is a node number"),
        }
    }
}
