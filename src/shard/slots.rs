//! Which shard each slot lives in.

use crate::model::{SLOT_COUNT, Slot};

/// Why an assignment of slots to shards cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// There is nothing to assign slots to.
    #[error("at least one shard is needed")]
    NoShard,
    /// There are more shards than slots.
    #[error("there are {0} shards, and at most {SLOT_COUNT} can own slots")]
    TooManyShards(usize),
    /// The persisted assignment does not cover every slot exactly once.
    #[error("the slot table has {0} entries instead of {SLOT_COUNT}")]
    Incomplete(usize),
    /// A shard that owns slots is not configured: its backlog would be out of reach.
    #[error(
        "slot {slot} belongs to shard {owner}, but only {shard_count} are configured; \
         keep every database that owns slots, in the same order"
    )]
    OwnerMissing {
        /// The first such slot.
        slot: u16,
        /// Its owner, counted from 0.
        owner: u16,
        /// How many shards are configured.
        shard_count: usize,
    },
}

/// The assignment of every slot to a shard, by the shard's place in `DATABASE_URLS`.
///
/// It is persisted at the first start and from then on only changed by moving slots: computing it from the
/// number of shards would strand backlogs whenever a shard is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    owners: Vec<u16>,
}

impl SlotMap {
    /// The assignment of a first start: contiguous ranges whose sizes differ by at most one.
    pub fn initial(shard_count: usize) -> Result<Self, SlotError> {
        match shard_count {
            0 => return Err(SlotError::NoShard),
            _ if shard_count > usize::from(SLOT_COUNT) => return Err(SlotError::TooManyShards(shard_count)),
            _ => {}
        }
        let owner = |slot| (usize::from(slot) * shard_count / usize::from(SLOT_COUNT)) as u16;
        Ok(Self {
            owners: (0..SLOT_COUNT).map(owner).collect(),
        })
    }

    /// The persisted assignment `owners` on `shard_count` shards. Shards that were added own nothing until
    /// slots are moved to them; a shard that owns slots must still be there.
    pub fn persisted(owners: Vec<u16>, shard_count: usize) -> Result<Self, SlotError> {
        if owners.len() != usize::from(SLOT_COUNT) {
            return Err(SlotError::Incomplete(owners.len()));
        }
        Self { owners }.extend_to(shard_count)
    }

    /// The same assignment with `shard_count` shards configured; see [`SlotMap::persisted`].
    pub fn extend_to(self, shard_count: usize) -> Result<Self, SlotError> {
        if shard_count == 0 {
            return Err(SlotError::NoShard);
        }
        match (0..)
            .zip(&self.owners)
            .find(|&(_, &owner)| usize::from(owner) >= shard_count)
        {
            Some((slot, &owner)) => Err(SlotError::OwnerMissing {
                slot,
                owner,
                shard_count,
            }),
            None => Ok(self),
        }
    }

    /// The shard that `slot` lives in, as an index into the shards.
    pub fn shard_of(&self, slot: Slot) -> usize {
        usize::from(self.owners[usize::from(slot.0 % SLOT_COUNT)])
    }

    /// Every slot's owner, in slot order: what the catalog persists.
    pub fn owners(&self) -> &[u16] {
        &self.owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_assignment_is_even_and_contiguous() {
        for shard_count in [1, 2, 3, 7, 4_096] {
            let map = SlotMap::initial(shard_count).unwrap();
            assert!(map.owners().is_sorted());
            let mut sizes = vec![0usize; shard_count];
            map.owners()
                .iter()
                .for_each(|&owner| sizes[usize::from(owner)] += 1);
            let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            assert!(max - min <= 1, "{shard_count} shards: {min} to {max} slots");
        }
    }

    #[test]
    fn adding_a_shard_moves_nothing() {
        let two = SlotMap::initial(2).unwrap();
        let three = SlotMap::persisted(two.owners().to_vec(), 3).unwrap();
        assert_eq!(three, two);
        assert_eq!((three.shard_of(Slot(0)), three.shard_of(Slot(4_095))), (0, 1));
    }

    #[test]
    fn a_missing_owner_is_refused() {
        let two = SlotMap::initial(2).unwrap();
        assert_eq!(
            two.extend_to(1),
            Err(SlotError::OwnerMissing {
                slot: 2_048,
                owner: 1,
                shard_count: 1
            })
        );
    }

    #[test]
    fn unusable_assignments_are_refused() {
        assert_eq!(SlotMap::initial(0), Err(SlotError::NoShard));
        assert_eq!(SlotMap::initial(4_097), Err(SlotError::TooManyShards(4_097)));
        assert_eq!(SlotMap::persisted(vec![0; 5], 1), Err(SlotError::Incomplete(5)));
    }
}
