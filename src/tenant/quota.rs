//! Quotas per namespace: which are in force, and the rate of enqueues, counted per item. They are swapped
//! while in force, and what was spent stays spent.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::Ticks;
use super::bucket::Bucket;
use super::shared::SharedBuckets;
use crate::clock::Clock;
use crate::model::{Namespace, Quota, QuotaPatch, Rate, SharedGrant};

/// Most namespaces whose use is remembered at once; idle ones are forgotten first.
const BUCKETS_MAX: usize = 100_000;

/// The quotas of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaTable {
    /// Under those of single namespaces.
    pub default: Quota,
    /// For single namespaces.
    pub namespaces: HashMap<Namespace, QuotaPatch>,
}

/// The quotas of single namespaces that are stored beside the configuration, over it.
pub type StoredQuotas = HashMap<Namespace, QuotaPatch>;

/// How much of a rate is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The rate.
    pub rate: Rate,
    /// Items that may be enqueued at once now.
    pub remaining: u32,
    /// Time until all of it is there again that may be enqueued at once.
    pub reset: Duration,
}

/// The answer to a request for items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// How many of the items may be enqueued: the first ones.
    pub granted: usize,
    /// Time until the rest may come; none when all were granted.
    pub retry_after: Option<Duration>,
    /// What is left; none without a rate.
    pub usage: Option<Usage>,
    /// Shown when some of what was granted comes to nothing.
    pub receipt: Receipt,
}

/// When and of what items were taken, so that they can be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// When this node's bucket granted them, in milliseconds.
    pub(super) own_ms: u64,
    /// What the rate that all nodes share said of when; none when it was not asked.
    pub(super) shared: Option<u64>,
}

impl Grant {
    /// The answer to a request of which this node's own bucket granted this, and the cluster's `shared`.
    fn limited_to(self, shared: SharedGrant) -> Self {
        Self {
            granted: self.granted.min(shared.granted as usize),
            retry_after: shared.retry_after.max(self.retry_after),
            usage: self.usage.map(|usage| Usage {
                remaining: usage.remaining.min(shared.remaining),
                reset: usage.reset.max(shared.reset),
                ..usage
            }),
            receipt: Receipt {
                shared: Some(shared.at),
                ..self.receipt
            },
        }
    }
}

/// Which quotas are in force, and what of the rates is spent on this node.
///
/// Alone, each node enforces the rate by itself; with [`SharedBuckets`] it holds for all nodes together.
pub struct Quotas {
    rules: ArcSwap<Rules>,
    /// Held while rules are changed, so that no change overwrites another.
    editing: Mutex<()>,
    buckets: RwLock<HashMap<Namespace, Arc<Bucket>>>,
    shared: OnceLock<Arc<dyn SharedBuckets>>,
    clock: Ticks,
}

#[derive(Debug, Clone, Default)]
struct Rules {
    configured: Arc<QuotaTable>,
    stored: Arc<StoredQuotas>,
}

impl Rules {
    fn of(&self, namespace: &Namespace) -> Quota {
        let layers = [
            self.configured.namespaces.get(namespace),
            self.stored.get(namespace),
        ];
        let over = |base, patch: &QuotaPatch| patch.over(&base);
        layers.into_iter().flatten().fold(self.configured.default, over)
    }
}

impl std::fmt::Debug for Quotas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Quotas({:?})", self.rules.load())
    }
}

impl Quotas {
    /// Quotas as `table` says, none of them spent.
    pub fn new(table: QuotaTable, clock: Clock) -> Self {
        let rules = Rules {
            configured: Arc::new(table),
            ..Rules::default()
        };
        Self {
            rules: ArcSwap::from_pointee(rules),
            editing: Mutex::new(()),
            buckets: RwLock::default(),
            shared: OnceLock::new(),
            clock: Ticks(clock),
        }
    }

    /// From now on rates hold for all nodes that take from `shared`. Only the first counts.
    pub fn share(&self, shared: Arc<dyn SharedBuckets>) {
        let _ = self.shared.set(shared);
    }

    /// Puts another configuration in force.
    pub fn configure(&self, table: QuotaTable) {
        self.change(|rules| rules.configured = Arc::new(table));
    }

    /// Puts `stored` in force over the configuration, in place of those of before.
    pub fn set_stored(&self, stored: StoredQuotas) {
        self.change(|rules| rules.stored = Arc::new(stored));
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        let _editing = self.editing.lock();
        let mut rules = Rules::clone(&self.rules.load());
        change(&mut rules);
        self.rules.store(Arc::new(rules));
    }

    /// The quota in force for `namespace`.
    pub fn of(&self, namespace: &Namespace) -> Quota {
        self.rules.load().of(namespace)
    }

    /// What is stored for `namespace` beside the configuration.
    pub fn stored(&self, namespace: &Namespace) -> Option<QuotaPatch> {
        self.rules.load().stored.get(namespace).copied()
    }

    /// The namespaces that have a quota of their own, in no order.
    pub fn named(&self) -> Vec<Namespace> {
        let rules = self.rules.load();
        let configured = rules.configured.namespaces.keys();
        let stored = rules.stored.keys();
        let more = stored.filter(|namespace| !rules.configured.namespaces.contains_key(*namespace));
        configured.chain(more).cloned().collect()
    }

    /// Takes up to `wanted` items from the rate of `namespace`, as many as it has.
    pub async fn take(&self, namespace: &Namespace, wanted: usize) -> Grant {
        let Some(bucket) = self.bucket(namespace).filter(|_| wanted > 0) else {
            return Grant {
                granted: wanted,
                retry_after: None,
                usage: None,
                receipt: Receipt::default(),
            };
        };
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        if let Some(refusal) = bucket.refusal(wanted, &self.clock) {
            return refusal;
        }
        let local = bucket.take(wanted, &self.clock);
        match self.shared.get() {
            // What this node alone spent too fast, the cluster need not be asked for.
            Some(shared) if local.granted > 0 => {
                let asked = u32::try_from(local.granted).unwrap_or(u32::MAX);
                let answer = shared.take(namespace, bucket.rate, asked).await;
                bucket.note_shared(answer, &self.clock);
                let Some(shared) = answer else { return local };
                // What others spent is not spent here.
                bucket.give_back(asked - shared.granted.min(asked), local.receipt.own_ms);
                local.limited_to(shared)
            }
            _ => local,
        }
    }

    /// Gives back `count` of the items that were granted to `namespace` with `receipt`, because nothing came of them:
    /// as far as they still count.
    pub async fn give_back(&self, namespace: &Namespace, count: usize, receipt: Receipt) {
        let Some(rate) = self.of(namespace).rate.filter(|_| count > 0) else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let bucket = self.current(namespace, rate);
        if let Some(bucket) = &bucket {
            bucket.give_back(count, receipt.own_ms);
        }
        if let (Some(shared), Some(at)) = (self.shared.get(), receipt.shared) {
            shared.give_back(namespace, rate, count, at).await;
            if let Some(bucket) = bucket {
                bucket.note_given_back(count);
            }
        }
    }

    /// What is left of the rate of `namespace`, as far as this node knows of what others spent; nothing when it
    /// has none.
    pub fn usage(&self, namespace: &Namespace) -> Option<Usage> {
        let rate = self.of(namespace).rate?;
        Some(match self.current(namespace, rate) {
            Some(bucket) => bucket.usage(&self.clock),
            None => Usage {
                rate,
                remaining: rate.at_once().get(),
                reset: Duration::ZERO,
            },
        })
    }

    /// Forgets namespaces that have all again that they may enqueue at once; call it now and then.
    pub fn evict_idle(&self) {
        let clock = &self.clock;
        self.buckets
            .write()
            .retain(|_, bucket| bucket.usage(clock).remaining < bucket.rate.at_once().get());
    }

    /// How many namespaces' use is remembered.
    pub fn tracked(&self) -> usize {
        self.buckets.read().len()
    }

    fn bucket(&self, namespace: &Namespace) -> Option<Arc<Bucket>> {
        let rate = self.of(namespace).rate?;
        if let Some(bucket) = self.buckets.read().get(namespace)
            && bucket.rate == rate
        {
            return Some(bucket.clone());
        }
        if self.tracked() >= BUCKETS_MAX {
            self.evict_idle();
        }
        Some(self.renewed(&mut self.buckets.write(), namespace, rate))
    }

    /// The bucket of `namespace`, brought to `rate`, when anything was spent of it.
    fn current(&self, namespace: &Namespace, rate: Rate) -> Option<Arc<Bucket>> {
        match self.buckets.read().get(namespace) {
            None => return None,
            Some(bucket) if bucket.rate == rate => return Some(bucket.clone()),
            Some(_) => {}
        }
        let mut buckets = self.buckets.write();
        buckets
            .contains_key(namespace)
            .then(|| self.renewed(&mut buckets, namespace, rate))
    }

    fn renewed(
        &self,
        buckets: &mut HashMap<Namespace, Arc<Bucket>>,
        namespace: &Namespace,
        rate: Rate,
    ) -> Arc<Bucket> {
        let bucket = match buckets.get(namespace) {
            Some(bucket) if bucket.rate == rate => return bucket.clone(),
            Some(bucket) => Arc::new(bucket.succeeded_by(rate, &self.clock)),
            None => Arc::new(Bucket::new(rate, &self.clock)),
        };
        buckets.insert(namespace.clone(), bucket.clone());
        bucket
    }
}

#[cfg(test)]
mod tests;
