//! Which shard each slot is in now: read by every request, replaced when slots move.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::Slot;
use crate::shard::SlotMap;

/// The map of slots that all parts of a node share.
#[derive(Debug, Clone)]
pub struct SharedSlots(Arc<ArcSwap<SlotMap>>);

impl SharedSlots {
    /// Begins with `map`.
    pub fn new(map: SlotMap) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(map)))
    }

    /// The shard that `slot` lives in, as an index into the shards.
    pub fn shard_of(&self, slot: Slot) -> usize {
        self.0.load().shard_of(slot)
    }

    /// The map as it is now.
    pub(super) fn now(&self) -> Arc<SlotMap> {
        self.0.load_full()
    }

    pub(super) fn replace(&self, map: SlotMap) {
        self.0.store(Arc::new(map));
    }
}
