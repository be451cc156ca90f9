//! What the log says: the records, each absolute, so that replaying one twice changes nothing.

use crate::clock::Timestamp;
use crate::model::{Item, ItemId, SettleCause, Standing, TopicKey};

/// One record as replay hands it over. Writers encode without building one: see [`FrameBuilder`].
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// Items were accepted into a topic, each with the standing of [`Standing::new`].
    Enqueue {
        /// The topic.
        topic: TopicKey,
        /// The items, in their final form.
        items: Vec<Item>,
    },
    /// Items were handed to consumers.
    Deliver {
        /// The topic.
        topic: TopicKey,
        /// The hand-outs.
        deliveries: Vec<DeliverEntry>,
    },
    /// Items stand differently: nacked, released, extended, dead, redriven or rescheduled.
    Patch {
        /// The topic.
        topic: TopicKey,
        /// The new standings.
        patches: Vec<PatchEntry>,
    },
    /// Items are gone.
    Settle {
        /// The topic.
        topic: TopicKey,
        /// Why.
        cause: SettleCause,
        /// The items.
        ids: Vec<ItemId>,
    },
    /// Everything of a topic up to an id is gone, of what was logged before this record.
    Purge {
        /// The topic.
        topic: TopicKey,
        /// Dead letters when true, live items when false.
        dead: bool,
        /// The last id that goes.
        up_to: ItemId,
    },
}

/// One hand-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverEntry {
    /// The item.
    pub id: ItemId,
    /// Its new generation.
    pub generation: u32,
    /// Its new attempt count.
    pub attempt: u32,
    /// When the lease ends.
    pub lease_expires_at: Timestamp,
}

/// One item's new standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchEntry {
    /// The item.
    pub id: ItemId,
    /// How it stands now.
    pub standing: Standing,
}
