//! Incarnations: how a node notices that Redis lost its memory.
//!
//! There is a text in Redis that is as old as what Redis remembers: one on a server, one for every slot in a
//! cluster, where slots may be on any server. It ends in the name of the process that Redis is, so that a text that was
//! read back from a disk, or that a replica has, is known for what it is: what is beside it may be older than what nodes
//! were told. Every call says which text it expects; a call that finds another, or none, or one of another process,
//! changes nothing, and the node begins anew with the slots it is for: it says what of them is cold and reads its log
//! back into them.

use parking_lot::RwLock;

use crate::model::{SLOT_COUNT, Slot};

/// What this node knows of a slot in Redis.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotState {
    /// Its incarnation; none when it is not known or was lost.
    pub(super) incarnation: Option<Vec<u8>>,
    /// Whether this node's log is read back into it.
    pub(super) is_known: bool,
    /// Whether every node's log is: as far as was asked, it may be so when this says no.
    pub(super) has_all_keys: bool,
}

impl SlotState {
    /// Whether nobody has said yet what of the slot is cold.
    pub(super) fn is_fresh(&self) -> bool {
        self.incarnation
            .as_deref()
            .is_some_and(|text| text.starts_with(b"N"))
    }

    /// Whether calls may be made.
    fn is_ready(&self) -> bool {
        self.incarnation
            .as_deref()
            .is_some_and(|text| text.starts_with(b"R"))
    }
}

/// All slots.
#[derive(Debug)]
pub(super) struct SlotStates(RwLock<Vec<SlotState>>);

impl SlotStates {
    pub(super) fn new() -> Self {
        Self(RwLock::new(vec![SlotState::default(); usize::from(SLOT_COUNT)]))
    }

    pub(super) fn get(&self, slot: Slot) -> SlotState {
        self.0.read()[usize::from(slot.0)].clone()
    }

    /// The incarnation of a slot to which calls may be made; with `fresh`, also while nobody else may.
    pub(super) fn incarnation(&self, slot: Slot, fresh: bool) -> Option<Vec<u8>> {
        let states = self.0.read();
        let state = &states[usize::from(slot.0)];
        if fresh || state.is_ready() {
            state.incarnation.clone()
        } else {
            None
        }
    }

    pub(super) fn set(&self, slot: Slot, state: SlotState) {
        self.0.write()[usize::from(slot.0)] = state;
    }

    pub(super) fn has_all_keys(&self, slot: Slot) -> bool {
        self.0.read()[usize::from(slot.0)].has_all_keys
    }

    /// Notes that calls with `incarnation` are refused; false when that was known.
    pub(super) fn lose(&self, incarnation: &[u8]) -> bool {
        let mut states = self.0.write();
        let lost = states
            .iter_mut()
            .filter(|state| state.incarnation.as_deref() == Some(incarnation));
        lost.map(|state| *state = SlotState::default()).count() > 0
    }

    /// Notes that what has `incarnation` has every key.
    pub(super) fn note_all_keys(&self, incarnation: &[u8]) {
        let mut states = self.0.write();
        for state in states.iter_mut() {
            state.has_all_keys |= state.incarnation.as_deref() == Some(incarnation);
        }
    }

    /// Slots of which `wanted` is true.
    pub(super) fn which(&self, wanted: impl Fn(&SlotState) -> bool) -> Vec<Slot> {
        let states = self.0.read();
        let numbered = states.iter().enumerate();
        numbered
            .filter(|(_, state)| wanted(state))
            .map(|(number, _)| Slot(number as u16))
            .collect()
    }
}
