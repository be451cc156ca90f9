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

    /// How many slots `shard` owns.
    pub fn owned_by(&self, shard: u16) -> usize {
        self.owners.iter().filter(|owner| **owner == shard).count()
    }

    /// `count` slots of `from`, the last ones, on their way to `to`: slot, source, target.
    pub fn moving(&self, from: u16, to: u16, count: usize) -> Vec<(u16, u16, u16)> {
        let owned = (0..).zip(&self.owners).filter(|(_, owner)| **owner == from);
        let owned: Vec<u16> = owned.map(|(slot, _)| slot).collect();
        let taken = owned.iter().rev().take(count);
        taken.map(|&slot| (slot, from, to)).collect()
    }

    /// The fewest moves after which each of `shard_count` shards owns as many slots as any other, give or take
    /// one: slot, source, target.
    pub fn balancing(&self, shard_count: usize) -> Vec<(u16, u16, u16)> {
        let mut held: Vec<usize> = (0..shard_count as u16)
            .map(|shard| self.owned_by(shard))
            .collect();
        let (least, more) = (
            usize::from(SLOT_COUNT) / shard_count,
            usize::from(SLOT_COUNT) % shard_count,
        );
        // Those that hold most keep the odd slots.
        let mut order: Vec<usize> = (0..shard_count).collect();
        order.sort_by_key(|&shard| std::cmp::Reverse(held[shard]));
        let mut share = vec![least; shard_count];
        order.iter().take(more).for_each(|&shard| share[shard] += 1);
        let mut moves = Vec::new();
        for from in 0..shard_count {
            let mut spare = self.moving(from as u16, 0, held[from].saturating_sub(share[from]));
            for to in 0..shard_count {
                while held[to] < share[to] {
                    let Some((slot, ..)) = spare.pop() else { break };
                    held[to] += 1;
                    moves.push((slot, from as u16, to as u16));
                }
            }
        }
        moves
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
    fn balancing_moves_no_more_than_it_must() {
        for (before, after) in [(1, 2), (2, 3), (3, 7), (4, 4)] {
            let old = SlotMap::initial(before).unwrap();
            let mut owners = old.owners().to_vec();
            let moves = old.balancing(after);
            for &(slot, from, to) in &moves {
                assert_eq!(owners[usize::from(slot)], from);
                owners[usize::from(slot)] = to;
            }
            let new = SlotMap::persisted(owners, after).unwrap();
            let held: Vec<_> = (0..after as u16).map(|shard| new.owned_by(shard)).collect();
            let (min, max) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            assert!(max - min <= 1, "{before} to {after}: {held:?}");
            let fair = 4_096 * (after - before) / after;
            assert!(
                moves.len().abs_diff(fair) <= after,
                "{before} to {after}: {}",
                moves.len()
            );
        }
        let two = SlotMap::initial(2).unwrap();
        assert_eq!(two.moving(0, 1, 2), [(2_047, 0, 1), (2_046, 0, 1)]);
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
