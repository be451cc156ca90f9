//! Quotas as the queue enforces and keeps them: bytes before items are accepted, leases when they are handed
//! out, and the quotas that are set while the servers run.

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::core::{Core, Queue};
use super::error::QueueError;
use super::request::NewItem;
use crate::hot::Holdings;
use crate::model::{Author, Namespace, Quota, QuotaPatch};
use crate::tenant::Usage;

/// A namespace's quota and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaState {
    /// The quota in force.
    pub quota: Quota,
    /// What is stored for the namespace, over the configuration.
    pub stored: Option<QuotaPatch>,
    /// What is left of the rate, as far as this node knows of what other nodes spent.
    pub rate: Option<Usage>,
    /// What the namespace holds; none when the hot tier does not count by namespace.
    pub held: Option<Holdings>,
}

impl Queue {
    /// The quota of `namespace` and how much of it is used.
    pub fn quota(&self, namespace: &Namespace) -> QuotaState {
        let core = &self.core;
        QuotaState {
            quota: core.quotas.of(namespace),
            stored: core.quotas.stored(namespace),
            rate: core.quotas.usage(namespace),
            held: core.hot.holdings(namespace),
        }
    }

    /// The namespaces that have a quota of their own, each with its state, in no order.
    pub fn named_quotas(&self) -> Vec<(Namespace, QuotaState)> {
        let named = self.core.quotas.named().into_iter();
        named
            .map(|namespace| {
                let state = self.quota(&namespace);
                (namespace, state)
            })
            .collect()
    }

    /// How many of the first of `items` fit into what `namespace` may hold. What others bring at the same moment
    /// is not counted yet.
    pub fn fitting(&self, namespace: &Namespace, items: &[NewItem]) -> usize {
        let Some(most) = self.core.quotas.of(namespace).stored_bytes else {
            return items.len();
        };
        let Some(held) = self.core.hot.holdings(namespace) else {
            return items.len();
        };
        let mut room = most.saturating_sub(held.bytes);
        let fits = |item: &&NewItem| match room.checked_sub(item.stored_bytes()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        items.iter().take_while(fits).count()
    }

    /// Whether as many items of `namespace` are with consumers as may be.
    pub fn is_out_of_leases(&self, namespace: &Namespace) -> bool {
        let core = &self.core;
        // Most have no such quota, and counting what they hold is not free.
        let Some(most) = core.quotas.of(namespace).leases else {
            return false;
        };
        core.hot
            .holdings(namespace)
            .is_some_and(|held| held.leased >= most)
    }

    /// Stores the quota of `namespace` over the configuration, or forgets it, in the name of `by`.
    ///
    /// # Errors
    /// [`QueueError::Invalid`] for a value out of range.
    pub async fn put_quota(
        &self,
        namespace: &Namespace,
        quota: Option<QuotaPatch>,
        by: &Author,
    ) -> Result<(), QueueError> {
        let core = &self.core;
        if let Some((field, detail)) = quota.as_ref().and_then(QuotaPatch::problem) {
            return Err(QueueError::invalid(field, detail));
        }
        let _editing = core.topics.editing.lock().await;
        let change = (core.quotas.stored(namespace), quota);
        core.catalog
            .put_quota(namespace, change, by, core.clock.now())
            .await?;
        self.refresh_quotas().await
    }

    /// Reads the stored quotas, which other nodes may have changed.
    pub async fn refresh_quotas(&self) -> Result<(), QueueError> {
        let stored = self.core.catalog.quotas().await?;
        self.core.quotas.set_stored(stored.into_iter().collect());
        self.core.measure_namespaces().await
    }
}

/// Namespaces of which it is known what their items in the shards take.
#[derive(Debug, Default)]
pub(super) struct Measured(Mutex<HashSet<Namespace>>);

impl Core {
    /// Looks how large the items are that were in the shards at the start, once for each namespace that may hold so
    /// many bytes: most have no such quota, and need not wait for it.
    async fn measure_namespaces(&self) -> Result<(), QueueError> {
        let topics = self.topics.all();
        let is_new = |namespace: &Namespace| {
            self.quotas.of(namespace).stored_bytes.is_some() && !self.measured.0.lock().contains(namespace)
        };
        let namespaces: HashSet<&Namespace> = topics.iter().map(|handle| handle.key.namespace()).collect();
        let limited: HashSet<&Namespace> = namespaces
            .into_iter()
            .filter(|namespace| is_new(namespace))
            .collect();
        for handle in &topics {
            if limited.contains(handle.key.namespace()) {
                let item_bytes = self.shard(&handle.key).item_bytes(&handle.key).await?;
                self.hot.measure_cold(&handle.key, item_bytes);
            }
        }
        self.measured.0.lock().extend(limited.into_iter().cloned());
        Ok(())
    }
}

/// Leases that are being handed out, by namespace: they count before the hot tier counts them.
#[derive(Debug, Default)]
pub(super) struct LeasesInHand(Mutex<HashMap<Namespace, usize>>);

/// The right to hand out some leases; gone when it is dropped, and then the tier counts those that were.
pub(super) struct LeaseRoom<'a> {
    core: &'a Core,
    namespace: &'a Namespace,
    /// How many.
    pub(super) room: usize,
    is_limited: bool,
}

impl Core {
    /// Room for up to `wanted` more leases in `namespace`, as far as its quota has it.
    pub(super) fn lease_room<'a>(&'a self, namespace: &'a Namespace, wanted: usize) -> LeaseRoom<'a> {
        let mut lease_room = LeaseRoom {
            core: self,
            namespace,
            room: wanted,
            is_limited: false,
        };
        if let Some(most) = self.quotas.of(namespace).leases {
            let mut all = self.leases_in_hand.0.lock();
            // The tier is asked under the lock: nobody lets go of what it does not count yet.
            if let Some(held) = self.hot.holdings(namespace) {
                let in_hand = all.entry(namespace.clone()).or_default();
                let room = most.saturating_sub(held.leased).saturating_sub(*in_hand as u64);
                lease_room.room = wanted.min(usize::try_from(room).unwrap_or(usize::MAX));
                lease_room.is_limited = true;
                *in_hand += lease_room.room;
            }
        }
        lease_room
    }
}

impl Drop for LeaseRoom<'_> {
    fn drop(&mut self) {
        if !self.is_limited {
            return;
        }
        let mut all = self.core.leases_in_hand.0.lock();
        if let Some(in_hand) = all.get_mut(self.namespace) {
            *in_hand = in_hand.saturating_sub(self.room);
            if *in_hand == 0 {
                all.remove(self.namespace);
            }
        }
    }
}
