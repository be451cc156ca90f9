//! Chains: the hooks bound to a topic, run one after the other.
//!
//! What one hook makes of an item is what the next one gets. A chain is found once for a run and holds its
//! versions until the run ends, so that every item is seen by exactly one version of each hook whatever is
//! activated meanwhile.

mod ask;
mod breaker;
mod check;
mod dequeue;
mod enqueue;
mod shadow;
mod table;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    Bound, Chain, Decided, DequeueOutcome, EnqueueOutcome, HookContext, HookItem, Hooks, Observer, Room,
    Runner, Verdicts, Version,
};
use crate::clock::Clock;
use crate::model::{Binding, HookRef, ItemId, Namespace, Policies, Policy, Side, TopicKey, TopicPattern};
use ask::{Direction as _, Run};
use breaker::Breakers;
use dequeue::Outward;
use enqueue::Inward;
use table::HookTable;

pub use breaker::BreakerState;

/// Shadows under way at once; what comes while all are busy is not compared.
const SHADOWS_MAX: usize = 4;

/// Finds a version of a hook, bound or not.
pub type Versions = Box<dyn Fn(&Namespace, &HookRef) -> Option<Arc<Version>> + Send + Sync>;

/// The bindings in force, and what runs items through them.
pub struct Chains {
    runner: Arc<dyn Runner>,
    observer: Arc<dyn Observer>,
    clock: Clock,
    payload_bytes_max: AtomicUsize,
    table: HookTable,
    breakers: Mutex<Breakers>,
    shadows: Arc<Semaphore>,
    versions: OnceLock<Versions>,
}

impl std::fmt::Debug for Chains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chains").finish_non_exhaustive()
    }
}

impl Chains {
    /// Chains with nothing bound. A hook may make no payload larger than `payload_bytes_max`.
    pub fn new(
        runner: Arc<dyn Runner>,
        observer: Arc<dyn Observer>,
        clock: Clock,
        payload_bytes_max: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            runner,
            observer,
            clock,
            payload_bytes_max: AtomicUsize::new(payload_bytes_max),
            table: HookTable::default(),
            breakers: Mutex::default(),
            shadows: Arc::new(Semaphore::new(SHADOWS_MAX)),
            versions: OnceLock::new(),
        })
    }

    /// Changes the largest payload that a hook may make, in bytes.
    pub fn set_payload_bytes_max(&self, bytes: usize) {
        self.payload_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Puts `bindings` in force as all there are in `namespace`. Runs that began before end on what they
    /// began with.
    pub fn replace(&self, namespace: &Namespace, bindings: Vec<Arc<Bound>>) {
        self.table.replace(namespace, bindings);
        let bound = self.table.bound(namespace);
        let forgotten = self.breakers.lock().keep_only(namespace, &bound);
        for hook in forgotten {
            self.observer.breaker_gone(namespace, &hook);
        }
    }

    /// Says where versions are found that are asked for by name. Only the first word counts.
    pub fn find_versions_with(&self, versions: Versions) {
        let _ = self.versions.set(versions);
    }

    /// The bindings of `namespace`, those that are off included, in the order they run.
    pub fn bound(&self, namespace: &Namespace) -> Vec<Arc<Bound>> {
        self.table.bound(namespace)
    }

    /// The breakers of the versions in `namespace` that were called lately.
    pub fn breakers(&self, namespace: &Namespace) -> Vec<BreakerState> {
        let now_ms = self.clock.monotonic().0;
        self.breakers.lock().states(namespace, now_ms)
    }
}

/// What is wrong with what `version` said of the one item of a call, as a chain would find it.
pub(super) fn problem(
    said: &Verdicts,
    item: &HookItem,
    version: &Version,
    context: &Arc<HookContext>,
    payload_bytes_max: usize,
) -> Option<String> {
    let run = Run {
        context,
        room: None,
        payload_bytes_max,
    };
    match said {
        Verdicts::Kept(..) => None,
        Verdicts::Enqueue(said) => {
            let verdict = said.first()?.as_ref().ok()?.clone();
            Inward::rule(run, version, item, verdict).err()
        }
        Verdicts::Dequeue(said) => {
            let verdict = said.first()?.as_ref().ok()?.clone();
            Outward::rule(run, version, item, verdict).err()
        }
    }
}

#[async_trait]
impl Hooks for Chains {
    fn chain(&self, topic: &TopicKey, side: Side) -> Option<Chain> {
        self.table.chain(topic, side)
    }

    fn named(&self, namespace: &Namespace, hook: &HookRef) -> Option<Chain> {
        let active = self.versions.get()?(namespace, hook)?;
        let binding = Binding {
            id: hook.hook.clone(),
            topic: TopicPattern::Prefix("".into()),
            side: Side::Enqueue,
            position: 0,
            hook: hook.hook.clone(),
            version: hook.version,
            previous: None,
            canary: None,
            shadow: None,
            shadow_percent: 100,
            policies: Policies::all(Policy::Closed),
            auto_rollback: false,
            enabled: true,
            activated_at: self.clock.now(),
            revision: 0,
        };
        Some(Chain(Arc::new([Arc::new(Bound {
            namespace: namespace.clone(),
            binding,
            active,
            canary: None,
            shadow: None,
            previous: None,
        })])))
    }

    fn resting(&self, topic: &TopicKey, side: Side, item: ItemId) -> Option<(HookRef, i64)> {
        let chain = self.table.chain(topic, side)?;
        let now_ms = self.clock.monotonic().0;
        let breakers = self.breakers.lock();
        chain.0.iter().find_map(|bound| {
            let version = bound.version_for(item);
            let rest_ms = breakers.rest_ms(version, now_ms)?;
            let stands_in = |previous: &Arc<Version>| breakers.rest_ms(previous, now_ms).is_none();
            let passes = match bound.binding.policies.overload {
                Policy::Open => true,
                Policy::RetryPrevious => bound.previous.as_ref().is_some_and(stands_in),
                Policy::Closed | Policy::DeadLetter => false,
            };
            (!passes).then(|| (version.hook.clone(), rest_ms))
        })
    }

    async fn on_enqueue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
        room: &Room,
    ) -> Decided<EnqueueOutcome> {
        self.run_enqueue(chain, &Arc::new(context), items, room).await
    }

    async fn on_dequeue(
        &self,
        chain: &Chain,
        context: HookContext,
        items: Arc<[HookItem]>,
    ) -> Decided<DequeueOutcome> {
        self.run_dequeue(chain, &Arc::new(context), items).await
    }
}
