//! The order items leave a topic in.

use serde::{Deserialize, Serialize};

use super::ItemId;
use crate::clock::Timestamp;

/// A place in a topic's delivery order; the smallest key of the eligible items goes out next.
///
/// Strict order is `(priority, due, id)`. The names are wider than that on purpose: a band is what is
/// served strictly before the next, a rank is the order inside it, so that ageing or fairness can be
/// added by computing them differently, without moving stored rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    /// Served strictly in ascending order: the item's priority.
    pub band: i64,
    /// The order inside a band: the instant the item is due, in milliseconds.
    pub rank: i64,
    /// Breaks ties in the order of acceptance.
    pub id: ItemId,
}

impl OrderKey {
    /// Before every other key.
    pub const MIN: Self = Self {
        band: i64::MIN,
        rank: i64::MIN,
        id: ItemId(0),
    };

    /// The strict order: priority, then due time, then id.
    pub fn strict(priority: i32, due: Timestamp, id: ItemId) -> Self {
        Self {
            band: i64::from(priority),
            rank: due.ms(),
            id,
        }
    }

    /// The smallest key after this one.
    pub fn successor(self) -> Self {
        match self.id.0.checked_add(1) {
            Some(id) => Self {
                id: ItemId(id),
                ..self
            },
            None => Self {
                rank: self.rank.saturating_add(1),
                id: ItemId(0),
                ..self
            },
        }
    }
}
