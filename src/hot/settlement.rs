//! What is asked of items that are held for a settlement, and where they go.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::{ItemId, QueuedItem, SettleCause, Standing};
use crate::wal::PatchEntry;

/// What [`HotTier::hold`](super::HotTier::hold) found.
#[derive(Debug, Clone)]
pub enum Held {
    /// The item, which nobody has a lease on, is held for the caller until [`HotTier::finish`](super::HotTier::finish)
    /// or [`HotTier::unhold`](super::HotTier::unhold).
    Yes(QueuedItem),
    /// The item is held so by its lease.
    Leased(HeldLease),
    /// This very lease settled its item a short while ago.
    AlreadyDone,
    /// The lease is good, but another settlement of it is under way: ask again when notified.
    Busy(Arc<Notify>),
    /// The lease is not the item's current one, or it ended.
    Lost,
    /// The item is not hot; it may be cold.
    Unknown,
}

/// What settling a lease takes to know of its item; the rest may be large, and elsewhere.
#[derive(Debug, Clone)]
pub struct HeldLease {
    /// The item.
    pub id: ItemId,
    /// See [`Item::lease_ms`](crate::model::Item::lease_ms).
    pub lease_ms: u32,
    /// See [`Item::max_attempts`](crate::model::Item::max_attempts).
    pub max_attempts: u32,
    /// How it stands.
    pub standing: Standing,
}

/// Which item to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldRequest {
    /// The item.
    pub id: ItemId,
    /// Its current lease must be this generation's ([`Held::Leased`]); none holds an item that is not leased, dead or
    /// alive ([`Held::Yes`]).
    pub generation: Option<u32>,
}

/// Where a held item goes.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The item.
    pub id: ItemId,
    /// Its destination.
    pub to: Landing,
}

impl Finish {
    /// The item is gone for good.
    pub fn gone(id: ItemId, cause: SettleCause) -> Self {
        Self {
            id,
            to: Landing::Gone(cause),
        }
    }
}

impl From<PatchEntry> for Finish {
    /// The item stands as the log says.
    fn from(patch: PatchEntry) -> Self {
        Self {
            id: patch.id,
            to: Landing::Standing(patch.standing),
        }
    }
}

/// A destination.
#[derive(Debug, Clone)]
pub enum Landing {
    /// Out of the queue for good.
    Gone(SettleCause),
    /// It stands like this: leased, waiting or dead.
    Standing(Standing),
}
