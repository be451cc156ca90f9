//! What each namespace has, summed over its topics as they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::topic::Topic;
use crate::hot::Holdings;
use crate::model::Namespace;

impl Topic {
    /// What the topic's namespace has of it.
    pub(super) fn holdings(&self) -> Holdings {
        Holdings {
            bytes: self.stored_bytes + self.cold.bytes(),
            leased: self.tally.leased,
        }
    }
}

/// The sums of every namespace with a topic in memory.
#[derive(Debug, Default)]
pub(super) struct AllHoldings(RwLock<HashMap<Namespace, Arc<Sums>>>);

/// The sums of one namespace. Signed: topics that change at the same time may be summed in any order.
#[derive(Debug, Default)]
pub(super) struct Sums {
    bytes: AtomicI64,
    leased: AtomicI64,
}

impl Sums {
    /// A topic had `before` and has `after`.
    pub(super) fn change(&self, before: Holdings, after: Holdings) {
        let add = |sum: &AtomicI64, before: u64, after: u64| {
            if before != after {
                sum.fetch_add(after as i64 - before as i64, Ordering::Relaxed);
            }
        };
        add(&self.bytes, before.bytes, after.bytes);
        add(&self.leased, before.leased, after.leased);
    }
}

impl AllHoldings {
    /// The sums of `namespace`, for a topic to change.
    pub(super) fn of(&self, namespace: &Namespace) -> Arc<Sums> {
        if let Some(sums) = self.0.read().get(namespace) {
            return sums.clone();
        }
        self.0.write().entry(namespace.clone()).or_default().clone()
    }

    /// What `namespace` has.
    pub(super) fn read(&self, namespace: &Namespace) -> Holdings {
        let sums = self.0.read().get(namespace).cloned().unwrap_or_default();
        let read = |sum: &AtomicI64| u64::try_from(sum.load(Ordering::Relaxed)).unwrap_or(0);
        Holdings {
            bytes: read(&sums.bytes),
            leased: read(&sums.leased),
        }
    }

    /// Forgets a namespace without topics.
    pub(super) fn forget(&self, namespace: &Namespace) {
        self.0.write().remove(namespace);
    }
}
