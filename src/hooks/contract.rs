//! What the queue asks of hooks.

use std::sync::Arc;

use async_trait::async_trait;

use super::Bound;
use crate::clock::Timestamp;
use crate::model::{HookRef, Item, Namespace, Side, TopicKey, TopicName};

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

/// What a chain of enqueue hooks decided about one item. Edits are checked: what comes out keeps the limits
/// that items have.
#[derive(Debug, Clone)]
pub enum EnqueueOutcome {
    /// Store it.
    Store(Shaped),
    /// Store these in its place, at least one.
    Split(Vec<Shaped>),
    /// Tell the producer yes, and store nothing.
    Filtered(HookRef, Reason),
    /// Refuse it.
    Rejected(HookRef, Reason),
    /// Store it as a dead letter.
    DeadLetter(Arc<Item>, HookRef, Reason),
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

    /// Runs items on their way in through `chain`; one outcome each, in order. A dropped future loses the
    /// outcomes; the call under way ends on its thread.
    async fn on_enqueue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Vec<HookItem>,
    ) -> Vec<EnqueueOutcome>;

    /// Runs items on their way out through `chain`; one outcome each, in order.
    async fn on_dequeue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Vec<HookItem>,
    ) -> Vec<DequeueOutcome>;
}
