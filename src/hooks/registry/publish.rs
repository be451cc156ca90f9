//! What is in force: bindings go to the chains when the modules they name are compiled here, each for itself. One
//! that waits for its module keeps what it was before, and holds up no other.

use std::sync::Arc;

use super::Registry;
use super::state::State;
use crate::hooks::{Bound, LogLevel, Version};
use crate::model::{Binding, Digest, Namespace};

/// How long a module that could not be compiled is not waited for again, in milliseconds.
const FAILED_MS: i64 = 10 * 60 * 1_000;

impl Registry {
    /// Tells the chains which bindings of `namespace` are in force. Bindings that did not change are the very
    /// same as before.
    pub(super) fn publish(&self, namespace: &Namespace) {
        for version in self.publish_what(namespace, |bound| !self.is_awaited(bound)) {
            self.compile_soon(version);
        }
    }

    /// The same, without waiting for any module; whoever starts a node has them compiled.
    pub(super) fn publish_at_once(&self, namespace: &Namespace) {
        self.publish_what(namespace, |_| true);
    }

    /// Publishes what `is_due`, and the rest as it was before. Returns the versions that are not compiled here.
    fn publish_what(&self, namespace: &Namespace, is_due: impl Fn(&Bound) -> bool) -> Vec<Arc<Version>> {
        let mut missing = Vec::new();
        let Some(sink) = self.sink.get() else {
            return missing;
        };
        // Held while the sink is called: two publications must not overtake each other.
        let mut published = self.published.lock();
        let bound: Vec<Arc<Bound>> = {
            let state = self.state.read();
            let old = published.get(namespace).map_or(&[][..], Vec::as_slice);
            let tenant = state.tenants.get(namespace);
            let bindings = tenant.into_iter().flat_map(|tenant| tenant.bindings.values());
            let on = bindings.filter(|binding| binding.enabled);
            let mut in_force = |bound: Bound| {
                let before = old.iter().find(|old| old.binding.id == bound.binding.id);
                if let Some(before) = before.filter(|before| same(before, &bound)) {
                    return Some(before.clone());
                }
                let is_missing = |version: &&Arc<Version>| !self.preparer.is_ready(version.digest);
                missing.extend(bound.versions().filter(is_missing).cloned());
                match is_due(&bound) {
                    true => Some(Arc::new(bound)),
                    false => before.cloned(),
                }
            };
            on.filter_map(|binding| bind(&state, namespace, binding))
                .filter_map(&mut in_force)
                .collect()
        };
        let named = bound.iter().flat_map(|bound| bound.versions());
        for version in named.filter(|version| version.quarantined) {
            self.activity.forgive(version);
        }
        sink(namespace, bound.clone());
        if bound.is_empty() {
            published.remove(namespace);
        } else {
            published.insert(namespace.clone(), bound);
        }
        missing
    }

    /// Whether `binding` is in force here as it is, and what it runs is compiled.
    pub fn is_ready(&self, namespace: &Namespace, binding: &Binding) -> bool {
        let published = self.published.lock();
        let known = published.get(namespace).map_or(&[][..], Vec::as_slice);
        let is_ready = |version: &Arc<Version>| self.preparer.is_ready(version.digest);
        !binding.enabled
            || known
                .iter()
                .any(|bound| bound.binding == *binding && bound.runs().all(is_ready))
    }

    /// Whether what `bound` runs is still to be compiled. What could not be lately is not waited for: calls of it are
    /// overloads, and have it tried again.
    fn is_awaited(&self, bound: &Bound) -> bool {
        bound
            .runs()
            .any(|version| !self.preparer.is_ready(version.digest) && !self.has_failed(version.digest))
    }

    fn has_failed(&self, digest: Digest) -> bool {
        let now = self.clock.monotonic();
        let mut failed = self.failed.lock();
        failed.retain(|_, at| now.0 - at.0 < FAILED_MS);
        failed.contains_key(&digest)
    }

    /// Compiles the module of `version` behind everybody's back, unless that failed lately, and then looks again what
    /// can be in force.
    fn compile_soon(&self, version: Arc<Version>) {
        let Some(registry) = self.myself.upgrade() else {
            return;
        };
        let awaited = (version.namespace.clone(), version.digest);
        if self.has_failed(version.digest) || !self.awaited.lock().insert(awaited.clone()) {
            return;
        }
        self.runtime.spawn(async move {
            registry.compile(&version).await;
            registry.awaited.lock().remove(&awaited);
            registry.publish(&version.namespace);
        });
    }

    /// Compiles the module of `version` unless it is; its owner is told when it cannot be.
    pub(super) async fn compile(&self, version: &Version) {
        if self.preparer.is_ready(version.digest) {
            return;
        }
        let (namespace, hook) = (&version.namespace, &version.hook);
        if let Err(error) = self.preparer.ensure(version.digest, namespace).await {
            self.failed.lock().insert(version.digest, self.clock.monotonic());
            tracing::error!(%namespace, %hook, %error, "a bound hook cannot be compiled");
            let line = format!("{hook} cannot be compiled on this node: {error}");
            self.activity.say(namespace, &hook.hook, LogLevel::Error, &line);
        }
    }
}

/// A binding with its versions; none when the version in force is missing, which the registry never lets be.
fn bind(state: &State, namespace: &Namespace, binding: &Binding) -> Option<Bound> {
    let version = |number: u32| {
        let stored = state.stored(namespace, &binding.hook, number)?;
        Some(stored.version.clone())
    };
    Some(Bound {
        namespace: namespace.clone(),
        binding: binding.clone(),
        active: version(binding.version)?,
        canary: binding.canary.and_then(|canary| version(canary.version)),
        shadow: binding.shadow.and_then(version),
        previous: binding.previous.and_then(version),
    })
}

fn same(one: &Bound, other: &Bound) -> bool {
    // A catalog brought back from a copy may have other versions under the same numbers.
    let mut versions = one.versions().zip(other.versions());
    one.binding == other.binding && versions.all(|(one, other)| Arc::ptr_eq(one, other))
}
