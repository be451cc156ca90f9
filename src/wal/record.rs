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
    /// Idempotency keys name items whose own record does not tell: hooks changed them, or sent them to other
    /// topics.
    Keys {
        /// The topic in which the keys count.
        topic: TopicKey,
        /// The keys.
        keys: Vec<KeyEntry>,
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

/// One idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEntry {
    /// The first 16 bytes of the key's BLAKE3 hash, little-endian.
    pub key_hash: u128,
    /// A hash of what the producer sent under it.
    pub body_hash: u64,
    /// The item that it names.
    pub id: ItemId,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// One item's new standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchEntry {
    /// The item.
    pub id: ItemId,
    /// How it stands now.
    pub standing: Standing,
}
