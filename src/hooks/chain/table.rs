//! The bindings in force, found by topic.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::hooks::{Bound, Chain};
use crate::model::{Namespace, Side, TopicKey, TopicName};

/// Most topics of a namespace whose chains are remembered.
const MEMO_MAX: usize = 4_096;

/// All bindings of all namespaces. Reading takes a load; with nothing bound anywhere that is all.
#[derive(Debug, Default)]
pub(super) struct HookTable(ArcSwap<HashMap<Namespace, Arc<Bindings>>>);

/// The bindings of one namespace.
#[derive(Debug)]
struct Bindings {
    all: Vec<Arc<Bound>>,
    /// By topic: the chain of each side.
    memo: RwLock<HashMap<TopicName, [Option<Chain>; 2]>>,
}

impl HookTable {
    pub(super) fn replace(&self, namespace: &Namespace, mut bindings: Vec<Arc<Bound>>) {
        bindings.sort_by(|a, b| {
            let place = |bound: &Bound| (bound.binding.position, bound.binding.id.clone());
            place(a).cmp(&place(b))
        });
        let bindings = (!bindings.is_empty()).then(|| {
            Arc::new(Bindings {
                all: bindings,
                memo: RwLock::default(),
            })
        });
        self.0.rcu(|table| {
            let mut table = HashMap::clone(table);
            match &bindings {
                Some(bindings) => table.insert(namespace.clone(), bindings.clone()),
                None => table.remove(namespace),
            };
            table
        });
    }

    pub(super) fn bound(&self, namespace: &Namespace) -> Vec<Arc<Bound>> {
        let table = self.0.load();
        table
            .get(namespace)
            .map(|found| found.all.clone())
            .unwrap_or_default()
    }

    pub(super) fn chain(&self, topic: &TopicKey, side: Side) -> Option<Chain> {
        let table = self.0.load();
        if table.is_empty() {
            return None;
        }
        table.get(topic.namespace())?.chain(topic.topic(), side)
    }
}

impl Bindings {
    fn chain(&self, topic: &TopicName, side: Side) -> Option<Chain> {
        if let Some(chains) = self.memo.read().get(topic) {
            return chains[side as usize].clone();
        }
        let chains = Side::ALL.map(|side| {
            let runs = |bound: &&Arc<Bound>| {
                let binding = &bound.binding;
                binding.enabled && binding.side == side && binding.topic.matches(topic)
            };
            let chain: Arc<[_]> = self.all.iter().filter(runs).cloned().collect();
            (!chain.is_empty()).then_some(Chain(chain))
        });
        let found = chains[side as usize].clone();
        let mut memo = self.memo.write();
        if memo.len() >= MEMO_MAX {
            memo.clear();
        }
        memo.insert(topic.clone(), chains);
        found
    }
}
