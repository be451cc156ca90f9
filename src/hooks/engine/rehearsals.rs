//! Whose rehearsal is next: few at once on this node, and of one namespace only one.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::Namespace;

/// Rehearsals at once.
const REHEARSALS_MAX: usize = 2;

/// The turns of rehearsals.
pub(super) struct Rehearsals {
    all: Arc<Semaphore>,
    own: Arc<Mutex<HashMap<Namespace, Arc<Semaphore>>>>,
}

/// A rehearsal may run for as long as this is held.
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    own: Option<OwnedSemaphorePermit>,
    owners: Arc<Mutex<HashMap<Namespace, Arc<Semaphore>>>>,
}

impl Default for Rehearsals {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(REHEARSALS_MAX)),
            own: Arc::default(),
        }
    }
}

impl Rehearsals {
    /// Waits for a turn of `namespace`; none when the node stops.
    pub(super) async fn turn(&self, namespace: &Namespace) -> Option<Turn> {
        let own = {
            let mut own = self.own.lock();
            let one = own
                .entry_ref(namespace)
                .or_insert_with(|| Arc::new(Semaphore::new(1)));
            one.clone()
        };
        let own = own.acquire_owned().await.ok()?;
        Some(Turn {
            _all: self.all.clone().acquire_owned().await.ok()?,
            own: Some(own),
            owners: self.own.clone(),
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.own = None;
        // Those whom nobody waits for are forgotten.
        self.owners.lock().retain(|_, own| Arc::strong_count(own) > 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_namespace_has_one_turn_at_a_time_and_leaves_one_to_the_others() {
        let (a, b): (Namespace, Namespace) = ("a".parse().unwrap(), "b".parse().unwrap());
        let rehearsals = Rehearsals::default();
        let now = |namespace| rehearsals.turn(namespace).now_or_never().flatten();
        let first = now(&a);
        assert!(first.is_some() && now(&a).is_none());
        let other = now(&b);
        assert!(other.is_some());
        drop(first);
        assert!(now(&a).is_some());
        drop(other);
        assert!(rehearsals.own.lock().is_empty());
    }
}
