//! Which hooks have a place in the plugins folder of this node, and what was wrong with it.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::model::{HookName, Namespace};

/// Hooks by their place in the folder, with why it was refused as it is now.
#[derive(Debug, Default)]
pub(super) struct Folders(Mutex<BTreeMap<(Namespace, HookName), Option<String>>>);

impl Folders {
    pub(super) fn names(&self, namespace: &Namespace) -> Vec<HookName> {
        let places = self.0.lock();
        let of_namespace = places.keys().filter(|(of, _)| of == namespace);
        of_namespace.map(|(_, hook)| hook.clone()).collect()
    }

    pub(super) fn has(&self, namespace: &Namespace, hook: &HookName) -> bool {
        self.0.lock().contains_key(&(namespace.clone(), hook.clone()))
    }

    pub(super) fn rejected(&self, namespace: &Namespace, hook: &HookName) -> Option<String> {
        let places = self.0.lock();
        places.get(&(namespace.clone(), hook.clone())).cloned().flatten()
    }

    pub(super) fn rejected_count(&self) -> usize {
        self.0.lock().values().flatten().count()
    }

    pub(super) fn places(&self) -> Vec<(Namespace, HookName)> {
        self.0.lock().keys().cloned().collect()
    }

    /// Notes that the hook has a place in the folder.
    pub(super) fn add(&self, namespace: &Namespace, hook: &HookName) {
        let mut places = self.0.lock();
        places.entry((namespace.clone(), hook.clone())).or_default();
    }

    /// Notes that the hook has a place in the folder; true when what is wrong with it is new.
    pub(super) fn set(&self, namespace: &Namespace, hook: &HookName, rejected: Option<String>) -> bool {
        let old = self
            .0
            .lock()
            .insert((namespace.clone(), hook.clone()), rejected.clone());
        old.flatten() != rejected
    }

    pub(super) fn remove(&self, namespace: &Namespace, hook: &HookName) {
        self.0.lock().remove(&(namespace.clone(), hook.clone()));
    }
}
