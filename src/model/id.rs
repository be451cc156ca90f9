//! Snowflake ids: 41 bits of milliseconds, 10 bits of node, 12 bits of sequence.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::{Clock, Timestamp};

/// The instant Snowflake ids count from, 2024-01-01T00:00:00Z; 41 bits of milliseconds last until 2093.
const EPOCH_MS: i64 = 1_704_067_200_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

/// An item's id: unique in the cluster and ordered by acceptance on its node.
///
/// JSON carries it as a decimal string, because numbers above 2^53 do not survive JavaScript; numbers
/// are accepted on input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ItemId(pub u64);

impl ItemId {
    /// The instant at which the id was made.
    pub fn made_at(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> (NODE_BITS + SEQUENCE_BITS)) as i64 + EPOCH_MS)
    }

    /// The largest id that any node makes at `instant`.
    pub fn last_made_at(instant: Timestamp) -> Self {
        let ms = (instant.ms() - EPOCH_MS).max(0) as u64;
        let low = (1 << (NODE_BITS + SEQUENCE_BITS)) - 1;
        Self((ms << (NODE_BITS + SEQUENCE_BITS)) | low)
    }
}

/// A text that is not an item id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a decimal number below 2^63")]
pub struct IdParseError;

impl FromStr for ItemId {
    type Err = IdParseError;
    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let id: u64 = text.parse().map_err(|_| IdParseError)?;
        if digits && id <= i64::MAX as u64 {
            Ok(Self(id))
        } else {
            Err(IdParseError)
        }
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for ItemId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ItemId;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an item id, as a decimal string or a number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ItemId, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<ItemId, E> {
                if id <= i64::MAX as u64 {
                    Ok(ItemId(id))
                } else {
                    Err(E::custom(IdParseError))
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A node's number in the cluster, 0 to 1,023; it is part of every id the node makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(u16);

impl NodeId {
    /// The largest node number.
    pub const MAX: u16 = (1 << NODE_BITS) - 1;

    /// The node numbered `number`, or nothing above [`NodeId::MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The node's number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Makes ids that grow strictly, whatever the clock does.
///
/// When the clock stands still or goes back, the generator runs ahead of it by borrowing from the
/// milliseconds to come, so it neither waits nor repeats itself.
#[derive(Debug)]
pub struct IdGenerator {
    node: NodeId,
    clock: Clock,
    /// Milliseconds since the epoch and the sequence within them, as one number: `ms << 12 | sequence`.
    last: Mutex<u64>,
    /// The highest id made so far, for whoever writes it down.
    high_water: Arc<AtomicU64>,
}

impl IdGenerator {
    /// A generator for `node` whose ids are all above `floor`, the highest id the node is known to have
    /// used before. It keeps `high_water` at the highest id it made.
    pub fn new(node: NodeId, clock: Clock, floor: ItemId, high_water: Arc<AtomicU64>) -> Self {
        Self {
            node,
            clock,
            last: Mutex::new(ticks_of(floor)),
            high_water,
        }
    }

    /// Never makes an id at or below `floor` again.
    pub fn raise_floor(&self, floor: ItemId) {
        let mut last = self.last.lock();
        *last = (*last).max(ticks_of(floor));
    }

    /// The next `count` ids in ascending order.
    pub fn next(&self, count: usize) -> impl ExactSizeIterator<Item = ItemId> + use<> {
        let now_ms = (self.clock.now().ms() - EPOCH_MS).max(0) as u64;
        let first = {
            let mut last = self.last.lock();
            let first = (*last + 1).max(now_ms << SEQUENCE_BITS);
            *last = first + count.saturating_sub(1) as u64;
            self.high_water
                .fetch_max(id_of(*last, self.node).0, Ordering::Relaxed);
            first
        };
        let node = self.node;
        (0..count).map(move |i| id_of(first + i as u64, node))
    }
}

fn ticks_of(id: ItemId) -> u64 {
    let ms = id.0 >> (NODE_BITS + SEQUENCE_BITS);
    (ms << SEQUENCE_BITS) | (id.0 & SEQUENCE_MAX)
}

fn id_of(ticks: u64, node: NodeId) -> ItemId {
    let ms = ticks >> SEQUENCE_BITS;
    ItemId(
        (ms << (NODE_BITS + SEQUENCE_BITS)) | (u64::from(node.0) << SEQUENCE_BITS) | (ticks & SEQUENCE_MAX),
    )
}

/// Builds hashers for tables keyed by [`ItemId`] alone.
///
/// Ids made one after the other get neighbouring places: whoever goes through a topic in order goes through
/// memory in order. Only this server makes ids, so nobody can choose colliding ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHashing;

/// See [`IdHashing`].
#[derive(Debug, Clone, Copy, Default)]
pub struct IdHasher(u64);

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(SPREAD);
        }
    }

    fn write_u64(&mut self, id: u64) {
        // Tables find a place by the low bits and tell keys apart by the top seven.
        self.0 = (ticks_of(ItemId(id)) & !TOP_SEVEN) | (id.wrapping_mul(SPREAD) & TOP_SEVEN);
    }
}

/// 2^64 divided by the golden ratio: multiplying by it spreads low bits over high ones.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const TOP_SEVEN: u64 = 0xfe << 56;

#[cfg(test)]
mod tests {
    use super::*;

    fn generator(clock: &Clock) -> IdGenerator {
        IdGenerator::new(NodeId::new(7).unwrap(), clock.clone(), ItemId(0), Arc::default())
    }

    #[test]
    fn ids_grow_while_the_clock_goes_back() {
        let clock = Clock::manual(Timestamp::from_ms(EPOCH_MS + 1_000_000));
        let ids = generator(&clock);
        let mut last = ItemId(0);
        for round in 0..10_000 {
            if round == 5_000 {
                clock.step_wall(-3_600_000);
            }
            for id in ids.next(3) {
                assert!(id > last);
                last = id;
            }
        }
    }

    #[test]
    fn a_restart_with_the_clock_set_back_repeats_no_id() {
        let clock = Clock::manual(Timestamp::from_ms(EPOCH_MS + 10_000_000));
        let before = generator(&clock);
        let last = before.next(100).last().unwrap();
        clock.step_wall(-3_600_000);
        let floor = ItemId(before.high_water.load(Ordering::Relaxed));
        assert_eq!(floor, last);
        let after = IdGenerator::new(NodeId::new(7).unwrap(), clock, floor, Arc::default());
        assert!(after.next(1).next().unwrap() > last);
    }

    #[test]
    fn neighbouring_ids_hash_to_neighbouring_places() {
        let clock = Clock::manual(Timestamp::from_ms(EPOCH_MS + 1_000_000));
        let ids: Vec<_> = generator(&clock).next(10_000).collect();
        let places: Vec<_> = ids.iter().map(|id| IdHashing.hash_one(id) & !TOP_SEVEN).collect();
        assert!(places.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let tags: std::collections::HashSet<_> = ids.iter().map(|id| IdHashing.hash_one(id) >> 57).collect();
        assert!(tags.len() > 100);
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let clock = Clock::manual(Timestamp::from_ms(EPOCH_MS + 123_456));
        assert_eq!(generator(&clock).next(1).next().unwrap().made_at(), clock.now());
    }

    #[test]
    fn the_last_id_of_an_instant_is_between_those_of_it_and_of_the_next() {
        let clock = Clock::manual(Timestamp::from_ms(EPOCH_MS + 123_456));
        let ids = generator(&clock);
        let last = ItemId::last_made_at(clock.now());
        assert!(ids.next(4_000).all(|id| id <= last));
        assert_eq!(last.made_at(), clock.now());
        clock.advance(1);
        assert!(ids.next(1).next().unwrap() > last);
    }

    #[test]
    fn json_carries_ids_as_strings_and_accepts_numbers() {
        let id = ItemId(9_007_199_254_740_993);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"9007199254740993\"");
        for text in ["\"9007199254740993\"", "9007199254740993"] {
            assert_eq!(serde_json::from_str::<ItemId>(text).unwrap(), id);
        }
        for bad in [
            "\"\"",
            "\"+5\"",
            "\"9223372036854775808\"",
            "9223372036854775808",
            "-1",
            "1.5",
            "null",
        ] {
            assert!(serde_json::from_str::<ItemId>(bad).is_err(), "{bad}");
        }
    }
}
