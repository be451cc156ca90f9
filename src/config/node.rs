//! Section `[node]`.

use super::reader::Reader;
use crate::model::NodeId;

/// Which node this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its number, different on every node.
    pub id: NodeId,
}

impl NodeConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let first = NodeId::new(0);
        let number: u16 = reader.integer("node.id", 0..=NodeId::MAX);
        match NodeId::new(number).or(first) {
            Some(id) => Self { id },
            None => unreachable!("0 is a node number"),
        }
    }
}
