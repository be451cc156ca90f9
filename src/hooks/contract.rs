//! What the queue asks of hooks.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::Bound;
use crate::clock::Timestamp;
use crate::model::{HookRef, Item, ItemId, Namespace, Side, TopicKey, TopicName};

/// What is the same for every item of a run.
#[derive(Debug, Clone)]
pub struct HookContext {
    /// The topic.
    pub topic: TopicKey,
    /// The time, frozen for the run.
    pub now: Timestamp,
    /// Who asks: the token's subject.
    pub principal: Arc<str>,
    /// The words of the token's scope.
    pub scopes: Arc<[Box<str>]>,
}

/// An item as hooks see it.
#[derive(Debug, Clone)]
pub struct HookItem {
    /// The item, complete: on enqueue it has its id and its defaults.
    pub item: Arc<Item>,
    /// Which delivery this is, from 1; 0 on enqueue.
    pub attempt: u32,
    /// How many times hooks have routed it.
    pub hops: u32,
}

/// Why a hook dropped, refused or buried an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// For machines: 1 to 64 of a-z, 0-9, `_` and `-`.
    pub code: Box<str>,
    /// For people, at most 1 KiB, without control characters.
    pub message: Box<str>,
}

/// An item as a chain left it.
#[derive(Debug, Clone)]
pub struct Shaped {
    /// The item; the one that went in when nothing touched it. Its `extra.hook_version` names the hook that
    /// last changed it. Items beyond the first of a split have no id of their own yet: theirs is the
    /// original's.
    pub item: Arc<Item>,
    /// Where a hook sent it, when not to the topic of the run: that topic's hooks have yet to run.
    pub route: Option<TopicName>,
}

/// How much hooks may still make of the items of one request, over all its runs. It is asked before anything is
/// made, so that what a split would be never has to be held.
#[derive(Debug)]
pub struct Room(Mutex<Left>);

#[derive(Debug)]
struct Left {
    items: usize,
    bytes: usize,
}

/// What takes the place of one item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// How many items.
    pub(super) parts: usize,
    /// Their bytes, all together.
    pub(super) bytes: usize,
    /// The bytes of what they are made of.
    pub(super) instead: usize,
}

impl Room {
    /// Room for `items` and `bytes`, of which the items of `request` take theirs.
    pub fn beside<'a>(items: usize, bytes: usize, request: impl Iterator<Item = &'a Item>) -> Self {
        let mut left = Left { items, bytes };
        for item in request {
            left.items = left.items.saturating_sub(1);
            left.bytes = left.bytes.saturating_sub(bytes_of(item));
        }
        Self(Mutex::new(left))
    }

    /// Takes the room for `making`; `false` when there is not enough, and nothing is taken.
    pub(super) fn take(&self, making: Making) -> bool {
        let mut left = self.0.lock();
        let items = (left.items + 1).checked_sub(making.parts);
        let bytes = (left.bytes + making.instead).checked_sub(making.bytes);
        match (items, bytes) {
            (Some(items), Some(bytes)) => {
                *left = Left { items, bytes };
                true
            }
            _ => false,
        }
    }

    /// Gives the room for `making` back: it came to nothing.
    pub(super) fn give_back(&self, making: Making) {
        let mut left = self.0.lock();
        left.items = (left.items + making.parts).saturating_sub(1);
        left.bytes = (left.bytes + making.bytes).saturating_sub(making.instead);
    }
}

/// The bytes of an item, as a [`Room`] counts them.
pub(super) fn bytes_of(item: &Item) -> usize {
    usize::try_from(item.stored_bytes()).unwrap_or(usize::MAX)
}

/// What a chain of enqueue hooks decided about one item. Edits are checked: what comes out keeps the limits
/// that items have.
#[derive(Debug, Clone)]
pub enum EnqueueOutcome {
    /// Store it.
    Store(Shaped),
    /// Store these, at least one, in the place of the item as it was when it was first split.
    Split(Arc<Item>, Vec<Shaped>),
    /// Tell the producer yes, and store nothing.
    Filtered(HookRef, Reason),
    /// Refuse it.
    Rejected(HookRef, Reason),
    /// Store it as a dead letter: as it was when it was split, when it was.
    DeadLetter(Arc<Item>, HookRef, Reason),
    /// Refuse it: what hooks make of the request is more than its [`Room`] has.
    NoRoom,
    /// A hook failed and its policy lets nothing through.
    Failed {
        /// The hook.
        by: HookRef,
        /// What happened, for the producer.
        detail: String,
        /// When trying again makes sense, in milliseconds: the hook was not run for lack of resources.
        retry_after_ms: Option<u64>,
    },
}

impl EnqueueOutcome {
    /// `item` is stored as it is.
    pub fn kept(item: Arc<Item>) -> Self {
        Self::Store(Shaped { item, route: None })
    }
}

/// What a chain of dequeue hooks decided about one item.
#[derive(Debug, Clone)]
pub enum DequeueOutcome {
    /// Hand out this view of it; what is stored stays.
    Deliver(Arc<Item>),
    /// Make it ready again after so many milliseconds, without counting the attempt.
    Defer(HookRef, u32),
    /// Acknowledge it, unseen.
    Filtered(HookRef, Reason),
    /// Make it a dead letter.
    DeadLetter(HookRef, Reason),
    /// A hook failed and its policy lets nothing through: defer it with a backoff, without counting the
    /// attempt; a dead letter when that happened five times.
    Failed {
        /// The hook.
        by: HookRef,
        /// What happened.
        detail: String,
        /// The hook was not run for lack of resources: that is not the item's fault.
        overloaded: bool,
    },
}

/// What a chain decided about the items of one run.
#[derive(Debug, Clone)]
pub enum Decided<T> {
    /// All of them pass as they are.
    Kept,
    /// One outcome each, in order.
    Each(Vec<T>),
}

impl<T> Decided<T> {
    /// One outcome for each of `items`, which are those of the run; `kept` makes that of an item that passes as it is.
    pub fn one_each(self, items: &[HookItem], kept: impl Fn(Arc<Item>) -> T) -> Vec<T> {
        match self {
            Self::Each(outcomes) => outcomes,
            Self::Kept => items.iter().map(|asked| kept(asked.item.clone())).collect(),
        }
    }
}

/// The hooks bound to a topic on one side, in the order they run.
#[derive(Debug, Clone)]
pub struct Chain(pub Arc<[Arc<Bound>]>);

/// What the queue asks of hooks.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// The chain of `topic` on `side`; nothing, at the cost of a load and a compare, when nothing is bound.
    fn chain(&self, topic: &TopicKey, side: Side) -> Option<Chain>;

    /// A chain of one version of a hook on the enqueue side, whether it is bound to anything or not; nothing
    /// when there is no such version. What it fails on does not pass.
    fn named(&self, namespace: &Namespace, hook: &HookRef) -> Option<Chain>;

    /// The first hook of the chain of `topic` on `side` that would not let `item` pass now because its breaker is open,
    /// and how long it is left alone yet, in milliseconds.
    fn resting(&self, topic: &TopicKey, side: Side, item: ItemId) -> Option<(HookRef, i64)>;

    /// Runs items on their way in through `chain`. What hooks make of them takes of `room`. A dropped future loses the
    /// outcomes; the call under way ends on its thread.
    async fn on_enqueue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
        room: &Room,
    ) -> Decided<EnqueueOutcome>;

    /// Runs items on their way out through `chain`.
    async fn on_dequeue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
    ) -> Decided<DequeueOutcome>;
}
