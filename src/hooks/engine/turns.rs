//! Whose turn it is at what runs beside the hook threads: few at once on this node, and of one namespace only one.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::Namespace;

/// The turns of rehearsals, or of the compiler.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    own: Arc<Mutex<HashMap<Namespace, Arc<Semaphore>>>>,
}

/// Whoever holds this may go on.
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    own: Option<OwnedSemaphorePermit>,
    owners: Arc<Mutex<HashMap<Namespace, Arc<Semaphore>>>>,
}

impl Turns {
    /// For `count` at once.
    pub(super) fn new(count: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(count)),
            own: Arc::default(),
        }
    }

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
        let turns = Turns::new(2);
        let now = |namespace| turns.turn(namespace).now_or_never().flatten();
        let first = now(&a);
        assert!(first.is_some() && now(&a).is_none());
        let other = now(&b);
        assert!(other.is_some());
        drop(first);
        assert!(now(&a).is_some());
        drop(other);
        assert!(turns.own.lock().is_empty());
    }
}
