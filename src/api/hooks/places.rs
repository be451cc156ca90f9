//! How many of something may be under way at once, in all and for one namespace.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::super::problem::{Code, Problem};
use crate::model::Namespace;

/// Places for work that a namespace may not have too much of.
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<Namespace, usize>>>,
    most: usize,
    most_per_namespace: usize,
}

/// A place; free again when this is dropped.
pub(super) struct Place {
    taken: Arc<Mutex<HashMap<Namespace, usize>>>,
    namespace: Namespace,
}

impl Places {
    /// `most` places in all, of which one namespace gets `most_per_namespace`.
    pub(super) fn new(most: usize, most_per_namespace: usize) -> Self {
        Self {
            taken: Arc::default(),
            most,
            most_per_namespace,
        }
    }

    /// A place for `namespace`.
    ///
    /// # Errors
    /// 429 when there is none; `what` says of what.
    pub(super) fn take(&self, namespace: &Namespace, what: &str) -> Result<Place, Problem> {
        let mut taken = self.taken.lock();
        let all: usize = taken.values().sum();
        let own = taken.get(namespace).copied().unwrap_or(0);
        if own >= self.most_per_namespace || all >= self.most {
            let whose = if own >= self.most_per_namespace {
                "of this namespace"
            } else {
                "on this node"
            };
            let detail =
                format!("as many {what} {whose} are under way as may be; try again when one is done");
            return Err(Problem::new(Code::HooksBusy, detail).retry_after(Duration::from_secs(1)));
        }
        taken.insert(namespace.clone(), own + 1);
        Ok(Place {
            taken: self.taken.clone(),
            namespace: namespace.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.namespace) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each() {
        let (a, b, c): (Namespace, Namespace, Namespace) =
            ("a".parse().unwrap(), "b".parse().unwrap(), "c".parse().unwrap());
        let places = Places::new(2, 1);
        let first = places.take(&a, "uploads").unwrap_or_else(|e| panic!("{e}"));
        let refused = |namespace| places.take(namespace, "uploads").err().map(|e| e.to_string());
        assert!(refused(&a).unwrap().contains("of this namespace"));
        let second = places.take(&b, "uploads").ok();
        assert!(second.is_some());
        assert!(refused(&c).unwrap().contains("on this node"));
        drop(first);
        assert!(refused(&c).is_none());
        drop(second);
        assert!(places.taken.lock().is_empty());
    }
}
