//! Hooks that do as a test says.

use std::sync::Arc;

use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::hooks::{
    Chain, Decided, DequeueOutcome, EnqueueOutcome, HookContext, HookItem, Hooks, Reason, Room, Shaped,
};
use crate::model::{HookRef, Item, ItemId, Namespace, Side, TopicKey};

type Inward = Arc<dyn Fn(&HookItem) -> EnqueueOutcome + Send + Sync>;
type Outward = Arc<dyn Fn(&HookItem) -> DequeueOutcome + Send + Sync>;

/// What hooks say in each topic; a topic without a script has no hooks.
#[derive(Default)]
pub(super) struct Script {
    inward: Mutex<HashMap<TopicKey, Inward>>,
    outward: Mutex<HashMap<TopicKey, Outward>>,
    /// What they were asked: topic, side and payload.
    pub(super) asked: Mutex<Vec<(TopicKey, Side, HookItem)>>,
    /// Who asked last.
    pub(super) context: Mutex<Option<HookContext>>,
    /// When set, every run takes a permit before it answers.
    pub(super) gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Script {
    pub(super) fn inward(
        &self,
        topic: &TopicKey,
        says: impl Fn(&HookItem) -> EnqueueOutcome + Send + Sync + 'static,
    ) {
        self.inward.lock().insert(topic.clone(), Arc::new(says));
    }

    pub(super) fn outward(
        &self,
        topic: &TopicKey,
        says: impl Fn(&HookItem) -> DequeueOutcome + Send + Sync + 'static,
    ) {
        self.outward.lock().insert(topic.clone(), Arc::new(says));
    }

    /// How many items hooks were asked about.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().len()
    }

    async fn ask(&self, context: HookContext, side: Side, items: &[HookItem]) {
        let asked = items
            .iter()
            .map(|item| (context.topic.clone(), side, item.clone()));
        self.asked.lock().extend(asked);
        *self.context.lock() = Some(context);
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl Hooks for Script {
    fn chain(&self, topic: &TopicKey, side: Side) -> Option<Chain> {
        let bound = match side {
            Side::Enqueue => self.inward.lock().contains_key(topic),
            Side::Dequeue => self.outward.lock().contains_key(topic),
        };
        bound.then(|| Chain([].into()))
    }

    fn named(&self, _: &Namespace, asked: &HookRef) -> Option<Chain> {
        (*asked == hook()).then(|| Chain([].into()))
    }

    fn resting(&self, _: &TopicKey, _: Side, _: ItemId) -> Option<(HookRef, i64)> {
        None
    }

    async fn on_enqueue(
        &self,
        _: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
        _: &Room,
    ) -> Decided<EnqueueOutcome> {
        let says = self.inward.lock()[&context.topic].clone();
        self.ask(context, Side::Enqueue, &items).await;
        let outcomes: Vec<_> = items.iter().map(|item| says(item)).collect();
        let is_kept = |(item, outcome): (&HookItem, &EnqueueOutcome)| match outcome {
            EnqueueOutcome::Store(shaped) => shaped.route.is_none() && Arc::ptr_eq(&shaped.item, &item.item),
            _ => false,
        };
        match items.iter().zip(&outcomes).all(is_kept) {
            true => Decided::Kept,
            false => Decided::Each(outcomes),
        }
    }

    async fn on_dequeue(
        &self,
        _: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
    ) -> Decided<DequeueOutcome> {
        let says = self.outward.lock()[&context.topic].clone();
        self.ask(context, Side::Dequeue, &items).await;
        Decided::Each(items.iter().map(|item| says(item)).collect())
    }
}

/// The hook that all scripts speak for.
pub(super) fn hook() -> HookRef {
    HookRef {
        hook: "h".parse().unwrap(),
        version: 3,
    }
}

pub(super) fn why(code: &str) -> Reason {
    Reason {
        code: code.into(),
        message: "because".into(),
    }
}

/// `item` as a hook left it, with another payload.
pub(super) fn shaped(item: &Item, payload: &str, route: Option<&str>) -> Shaped {
    let mut item = item.clone();
    item.payload = payload.as_bytes().into();
    item.extra.get_or_insert_default().hook_version = Some(hook().to_string().into());
    Shaped {
        item: Arc::new(item),
        route: route.map(|topic| topic.parse().unwrap()),
    }
}

/// The item as it came.
pub(super) fn keep(item: &HookItem) -> EnqueueOutcome {
    EnqueueOutcome::Store(Shaped {
        item: item.item.clone(),
        route: None,
    })
}

/// The text of an item's payload.
pub(super) fn text(item: &Item) -> String {
    String::from_utf8(item.payload.to_vec()).unwrap()
}
