//! The leases that settled their items lately, so that a repeated ack is told apart from a lost lease.

use std::collections::VecDeque;

use hashbrown::HashSet;

use crate::model::ItemId;

/// How many leases a topic remembers.
const REMEMBERED: usize = 16_384;

/// A bounded memory of settled leases; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct SettledRing {
    order: VecDeque<(ItemId, u32)>,
    known: HashSet<(ItemId, u32), foldhash::fast::RandomState>,
}

impl SettledRing {
    pub(super) fn insert(&mut self, id: ItemId, generation: u32) {
        if !self.known.insert((id, generation)) {
            return;
        }
        self.order.push_back((id, generation));
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, id: ItemId, generation: u32) -> bool {
        self.known.contains(&(id, generation))
    }
}
