//! The leases that settled their items lately, so that a repeated ack is told apart from a lost lease.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use hashbrown::HashSet;

use crate::model::{IdHashing, ItemId};

/// How many leases a topic remembers.
const REMEMBERED: usize = 16_384;

/// One hand-out of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HandOut {
    id: ItemId,
    generation: u32,
}

impl Hash for HandOut {
    /// By the id alone: items have few hand-outs, and neighbouring ids stay neighbours.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A bounded memory of settled leases; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct SettledRing {
    order: VecDeque<HandOut>,
    known: HashSet<HandOut, IdHashing>,
}

impl SettledRing {
    pub(super) fn insert(&mut self, id: ItemId, generation: u32) {
        let lease = HandOut { id, generation };
        if !self.known.insert(lease) {
            return;
        }
        self.order.push_back(lease);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: ItemId, generation: u32) -> bool {
        self.known.contains(&HandOut { id, generation })
    }
}
